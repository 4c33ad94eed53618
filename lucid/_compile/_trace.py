"""What a model computes: its operations in order, found by running it.

Two copies of the model run, on different random inputs. Where operations do not tell the whole
story, the module around that place is taken as one opaque step, which runs as itself:

- values are read by anything but an operation: a choice, a comparison, a detour by way of NumPy;
- a computed value is changed in place;
- the copies disagree in more than computed values.

If that module still reaches beyond what it is given and returns, it is the module around it. A
model that keeps state from call to call, draws random numbers or has hooks of the user's is one
opaque step as a whole.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lucid._compile._nesting import leaves, mapped
from lucid._compile._state import no_random_numbers_lost, same_state, same_values
from lucid._compile._watch import Values, plain, watched
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._function import observe, observing
from lucid.nn import Module

# So many times the model is run again with more opaque modules; then the whole model is opaque.
_ROUNDS = 12


@dataclass(frozen=True)
class Ref:
    """Stands for the value of that number in an operation's arguments."""

    index: int


def refs(value: Any) -> list[Ref]:
    """Return the references in a value, whatever it is nested in."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Ref)]


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, whatever it is nested in."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


@dataclass
class Operation:
    """One step: an operation or an opaque module, its arguments, the numbers of its outputs."""

    kind: type[Function] | Module
    args: list[Any]  # Ref for computed values; tensors and everything else are constants
    outputs: list[int]
    module: str  # the innermost module it ran in
    structure: Any = None  # of an opaque module's output


@dataclass
class Trace:
    """The operations of a model, and what it returns: numbers of values in their nesting."""

    operations: list[Operation] = field(default_factory=list)
    result: Any = None
    # Of the layout that they had in the traced run; what they hold means nothing.
    values: list[np.ndarray] = field(default_factory=list)
    views: dict[int, list[int]] = field(default_factory=dict)  # the arguments a value may view
    culprits: set[str] = field(default_factory=set)  # modules that are to be opaque


def trace(model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Trace | None:
    """Return the operations of ``model`` on an input of ``shape``; None if they do not tell it all.

    The opaque modules in it are those of a copy: the model is left untouched.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return None  # they want to see each call
    opaque: set[str] = set()
    copies = [copy.deepcopy(model) for _ in range(2)]
    before = model
    rng = np.random.default_rng(0)
    with no_random_numbers_lost() as numbers:
        for _ in range(_ROUNDS):
            if "" in opaque:
                return None
            first = _run(copies[0], rng.standard_normal(shape).astype(dtype), opaque)
            try:  # a larger input, as a choice may depend on the size
                large = 10 * rng.standard_normal(shape)
                second = _run(copies[1], large.astype(dtype), opaque)
            except Exception:  # the model looks at values, and does not take these
                return None
            if numbers.were_drawn():
                return None
            culprits = first.culprits | second.culprits | _differences(first, second)
            if not all(same_state(each, before) for each in copies):
                # What depends on no value, such as a table made in the first call, does not count.
                if before is not model or opaque or culprits or not same_state(*copies):
                    return None
                before = copy.deepcopy(copies[0])
            elif not culprits:
                return first
            opaque |= {_around(name, opaque) for name in culprits}
    return None


def _around(name: str, opaque: set[str]) -> str:
    """Return the module of that name, or the nearest around it that is not yet opaque."""
    while name in opaque and name:
        name = name.rpartition(".")[0]
    return name


# -- one run ----------------------------------------------------------------------------------


class _Computed(NamedTuple):
    """The number of a computed tensor's value, and the tensor's version then."""

    number: int
    version: int
    tensor: weakref.ref[Tensor]


class _Opened(NamedTuple):
    """The opaque module that is running."""

    name: str
    depth: int  # of the path
    caller: str
    args: list[Any]
    given: list[Tensor]
    values: list[np.ndarray]  # of those, before it ran


class _Recorder:
    def __init__(self, opaque: set[str]) -> None:
        self.trace = Trace()
        self.opaque = opaque
        self.computed: dict[int, _Computed] = {}  # by the id of the tensor
        self.varying: set[int] = set()  # numbers of values that depend on the input
        self.constants: list[tuple[Tensor, int]] = []  # with their versions when they were used
        self.path: list[str] = []
        self.opened: _Opened | None = None
        self.watched = watched(self.read, self.detached)

    @property
    def here(self) -> str:
        return self.path[-1] if self.path else ""

    # What is known of tensors.

    def add_value(self, tensor: Tensor, args: Iterable[Any] = (), varies: bool = True) -> int:
        number = len(self.trace.values)
        array = plain(tensor)
        self.trace.views[number] = [
            computed.number
            for arg in tensors(list(args))
            if (computed := self.find(arg)) and np.may_share_memory(array, plain(arg))
        ]
        if varies:
            self.varying.add(number)
        self._know(tensor, number)
        # Memory that is never touched is none: the map itself may go when the model lets it go.
        self.trace.values.append(np.empty_like(array))
        return number

    def _know(self, tensor: Tensor, number: int) -> None:
        self.computed[id(tensor)] = _Computed(number, tensor._version.count, weakref.ref(tensor))
        if type(tensor) is Tensor:
            tensor.__class__ = self.watched

    def find(self, tensor: Tensor) -> _Computed | None:
        """Return what is known of a computed tensor; None of another, in a dead one's place too."""
        computed = self.computed.get(id(tensor))
        return computed if computed is not None and computed.tensor() is tensor else None

    def detached(self, other: Tensor, tensor: Tensor) -> None:
        if self.opened is None and (computed := self.find(tensor)) is not None:
            self._know(other, computed.number)

    def read(self, tensor: Tensor) -> None:
        """Note that the values of a tensor are read by something else than an operation."""
        computed = self.find(tensor)
        if computed is None or computed.number not in self.varying:
            return
        if self.opened is None:
            self.trace.culprits.add(self.here)
        elif not any(tensor is given for given in self.opened.given):
            self.trace.culprits.add(self.opened.caller)

    def replace(self, value: Any) -> Any:
        """Return an argument with computed tensors as references."""
        return mapped(self._replaced, value)

    def _replaced(self, leaf: Any) -> Any:
        if isinstance(leaf, Values):  # of a computed tensor, such as an index
            leaf.noted()
            return leaf.view(np.ndarray)
        if not isinstance(leaf, Tensor):
            return leaf
        computed = self.find(leaf)
        if computed is None:
            self.constants.append((leaf, leaf._version.count))
            return leaf
        if leaf._version.count != computed.version:
            self.trace.culprits.add(self.here)
        return Ref(computed.number)

    # Operations.

    def operation(
        self, kind: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        replaced = [self.replace(arg) for arg in args]
        varies = any(ref.index in self.varying for ref in refs(replaced))
        numbers = [self.add_value(output, args, varies) for output in outputs]
        self.trace.operations.append(Operation(kind, replaced, numbers, self.here))

    def inside(
        self, kind: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """Look at an operation of an opaque module: does it use more than the module was given."""
        for tensor in tensors(args):
            self.read(tensor)

    # Hooks around each module: where operations run, and opaque ones as one operation.

    def enter(
        self, name: str, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        caller = self.here
        self.path.append(name)
        if name not in self.opaque or self.opened is not None:
            return
        if kwargs or not all(_is_simple(leaf) for leaf in leaves(args)):
            self.trace.culprits.add(caller)
        given = tensors(args)
        self.opened = _Opened(
            name, len(self.path), caller, [self.replace(arg) for arg in args], given,
            [plain(tensor).copy(order="K") for tensor in given],
        )  # fmt: skip
        observing.observer = self.inside

    def leave(self, name: str, module: Module, args: tuple[Any, ...], output: Any) -> None:
        while self.path.pop() != name:  # one that raised, which somebody caught
            pass
        opened = self.opened
        if opened is None or len(self.path) >= opened.depth:
            return
        self.opened = None
        observing.observer = self.operation
        changed = not all(map(same_values, map(plain, opened.given), opened.values))
        if changed or opened.name != name:
            self.trace.culprits.add(opened.caller)
        if not all(leaf is None or isinstance(leaf, (Tensor, str)) for leaf in leaves(output)):
            self.trace.culprits.add(opened.caller)
        if any(self.find(tensor) is not None for tensor in tensors(output)):
            # What it was given comes back: the caller may mean either when it uses that.
            self.trace.culprits.add(opened.caller)
        numbers = [self.add_value(tensor) for tensor in tensors(output)]
        self.trace.operations.append(
            Operation(module, opened.args, numbers, name, self.replace(output))
        )

    def finish(self, x: Tensor, output: Any) -> Trace:
        """Return what was recorded, when the model has returned ``output`` for ``x``."""
        self.path = []
        self.trace.result = self.replace(output)
        if not all(_is_simple(leaf) for leaf in leaves(output)):
            self.trace.culprits.add("")
        self.replace(x)  # it may have been changed after its last use, and so may constants
        if any(tensor._version.count != version for tensor, version in self.constants):
            self.trace.culprits.add("")
        for computed in self.computed.values():
            tensor = computed.tensor()
            if type(tensor) is self.watched:
                tensor.__class__ = Tensor
        return self.trace


def _is_simple(leaf: Any) -> bool:
    """Whether a value holds no tensor that cannot be seen."""
    return leaf is None or isinstance(leaf, (Tensor, bool, int, float, str, np.ndarray, np.generic))


def _run(model: Module, array: np.ndarray, opaque: set[str]) -> Trace:
    recorder = _Recorder(opaque)
    x = Tensor._wrap(array)
    recorder.add_value(x)
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(
                lambda *args, name=name: recorder.enter(name, *args), prepend=True, with_kwargs=True
            )
            after = module.register_forward_hook(
                lambda *args, name=name: recorder.leave(name, *args)
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        # The hooks keep the layers from being fused, so each runs as its own operations.
        with no_grad(), observe(recorder.operation):
            output = model(x)
    return recorder.finish(x, output)


# -- two runs compared ------------------------------------------------------------------------


def _differences(a: Trace, b: Trace) -> set[str]:
    """Return the modules in which the runs of two copies differ in more than computed values."""
    found: set[str] = set()
    for one, other in zip(a.operations, b.operations):
        kinds = {each.kind if isinstance(each.kind, type) else Module for each in (one, other)}
        if len(kinds) > 1 or one.module != other.module or one.outputs != other.outputs:
            return {*found, one.module}  # from here on they are out of step
        if not same_state([one.args, one.structure], [other.args, other.structure]):
            found.add(one.module)
    if len(a.operations) != len(b.operations):
        longer = max(a.operations, b.operations, key=len)
        found.add(longer[min(len(a.operations), len(b.operations))].module)
    elif not same_state(a.result, b.result):
        found.add("")
    return found
