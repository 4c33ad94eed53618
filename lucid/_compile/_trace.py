"""What a model computes: its operations in order, found by running it.

Two copies of the model run, on different random inputs. They read the model's own weights; only if
it wants to write into those, each has its own. Where operations do not tell the whole story, the
module around that place is taken as one opaque step, which runs as itself:

- values are read by anything but an operation: a choice, a comparison, a detour by way of NumPy;
- a computed value is changed in place;
- the copies disagree in more than computed values.

If that module still reaches beyond what it is given and returns, it is the module around it. A
model that keeps state from call to call, draws random numbers or has hooks of the user's is one
opaque step as a whole.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lucid._compile._blank import LookedAtError, blank, blank_result, complete
from lucid._compile._fuse import BY_IMAGE
from lucid._compile._state import no_random_numbers_lost, same_state, same_values
from lucid._compile._watch import Values, watched
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import array_of, version, wrap
from lucid.graph import Call, Graph, Operation, Recorder, Value, leaves, mapped
from lucid.nn import Module
from lucid.ops._elementwise._comparison import Compare
from lucid.ops._embedding import Rows
from lucid.ops._reduce import Arg

# So many times the model is run again with more opaque modules; then the whole model is opaque.
_ROUNDS = 12
_DRAWN = 4099  # numbers that are repeated where some are wanted


def faithful_graph(model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Graph | None:
    """Return the graph of ``model`` on an input of ``shape``; None if it does not tell it all.

    The weights and the opaque modules in it are those of a copy in evaluation mode: the model is
    left untouched.

    Raises:
        TypeError, RuntimeError: if the model cannot be copied.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return None  # they want to see each call
    for blanks, lends in ((True, True), (False, True), (False, False)):
        weights = [parameter.data for parameter in model.parameters() if lends]
        views = {id(array): np.broadcast_to(array, array.shape) for array in weights}  # read-only
        own = copied(model, views).eval()
        lent = {id(view): view for view in views.values()}
        try:
            graph = _graph_of(own, shape, dtype, lent, blanks=blanks)
        except (Exception, LookedAtError):
            if not lends:
                raise
            continue
        if graph is not None or not lends:
            break
    opaque = [] if graph is None else [op for op in graph.operations if isinstance(op.kind, Module)]
    for operation, module in zip(opaque, copy.deepcopy([op.kind for op in opaque])):
        operation.kind = module  # with weights of its own
    return graph


def copied(model: Module, shared: Mapping[int, np.ndarray] | None = None) -> Module:
    """Return a deep copy of ``model``, without gradients, with the arrays ``shared`` by ids.

    Raises:
        TypeError, RuntimeError: if it cannot be copied.
    """
    gradients = {id(p.grad): p.grad for p in model.parameters() if p.grad is not None}
    try:
        result = copy.deepcopy(model, {**gradients, **(shared or {})})
    except (TypeError, RuntimeError) as error:
        raise type(error)(
            f"compile: expected a model that can be copied, got {type(model).__name__}: {error}"
        ) from error
    for parameter in result.parameters():
        parameter.grad = None
    return result


def _graph_of(
    before: Module,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    lent: Mapping[int, np.ndarray],
    *,
    blanks: bool,
) -> Graph | None:
    """Return what :func:`faithful_graph` does.

    Args:
        before: the model in the state in which copies of it begin: a second one is made where the
            first run changes the first.
        shape: of the input.
        dtype: of the input.
        lent: the weights that the copies share, by their ids.
        blanks: whether nothing is computed that goes image by image; None if that is not enough.
    """
    opaque: set[str] = set()
    first_state, copies = before, [copy.deepcopy(before, dict(lent))]
    rng = np.random.default_rng(0)

    def recorded(model: Module, scale: int) -> tuple[FaithfulRecorder, Graph]:
        drawn = rng.standard_normal(_DRAWN if blanks else shape, np.float32)
        drawn = np.multiply(drawn, scale, out=drawn).astype(dtype, copy=False)
        given = blank(shape, range(len(shape)), drawn) if blanks else drawn
        recorder = FaithfulRecorder(model, opaque, drawn if blanks else None)
        return recorder, recorder.run(wrap(given))

    with no_random_numbers_lost() as were_drawn:
        for _ in range(1 if blanks else _ROUNDS):
            if "" in opaque:
                return None
            first, graph = recorded(copies[0], 1)
            if len(copies) == 1 and not same_state(copies[0], before):
                copies.append(copy.deepcopy(before, dict(lent)))
            try:  # a larger input, as a choice may depend on the size
                second, other = recorded(copies[-1], 10)
            except Exception:  # the model looks at values, and does not take these
                return None
            if were_drawn():
                return None
            culprits = first.culprits | second.culprits | _differences(graph, other)
            if not all(same_state(each, before) for each in copies):
                # What depends on no value, such as a table made in the first call, does not count.
                changed = len(copies) == 1 or not same_state(*copies)  # by the second run alone
                if before is not first_state or opaque or culprits or changed:
                    return None
                before = copy.deepcopy(copies[0], dict(lent))
            elif not culprits:
                return graph
            opaque |= {_around(name, opaque) for name in culprits}
    return None


def _around(name: str, opaque: set[str]) -> str:
    """Return the module of that name, or the nearest around it that is not yet opaque."""
    while name in opaque and name:
        name = name.rpartition(".")[0]
    return name


# -- one run ----------------------------------------------------------------------------------


class _Opened(NamedTuple):
    """The opaque module that is running."""

    call: Call
    caller: str
    args: list[Any]
    given: list[Tensor]
    values: list[np.ndarray]  # of those, before it ran


class FaithfulRecorder(Recorder):
    """Records a run, and in which modules something happens that no operation shows.

    Attributes:
        culprits: the names of those modules: they are to be opaque.
        choices: operations that are taken for reading their arguments.
        numbers: those of blanks; None where all is computed.
    """

    choices: frozenset[type[Function]] = frozenset({Compare, Arg, Rows})

    def __init__(self, model: Module, opaque: set[str], numbers: np.ndarray | None = None) -> None:
        super().__init__(model)
        self.opaque, self.numbers = opaque, numbers
        self.culprits: set[str] = set()
        self.versions: dict[int, int] = {}  # of computed tensors, by their ids
        self.settled: set[Value] = set()  # those that do not depend on the input
        self.constants: list[tuple[Tensor, int]] = []  # with their versions when they were used
        self.opened: _Opened | None = None
        self.watched = watched(self.read, self.detached, self.assigned)

    def run(self, *inputs: Tensor) -> Graph:
        graph = super().run(*inputs)
        if not all(map(_is_simple, leaves(graph.result))):
            self.culprits.add("")
        # An input may have been changed after its last use, and so may constants.
        self.replaced(list(inputs))
        if any(version(tensor) != before for tensor, before in self.constants):
            self.culprits.add("")
        for known in self.made.values():
            tensor = known.thing()
            if type(tensor) is self.watched:
                tensor.__class__ = Tensor
        # The class of watched tensors refers to this in a circle: what it noted goes now.
        del self.graph, self.made, self.constants
        return graph

    # What is known of tensors.

    def know(self, tensor: Tensor, value: Value, *, array: bool = True) -> None:
        super().know(tensor, value, array=False)  # a watched tensor tells when it is detached
        self.versions[id(tensor)] = version(tensor)
        if type(tensor) is Tensor:
            tensor.__class__ = self.watched

    def find(self, tensor: Tensor) -> Value | None:
        known = self.made.get(id(tensor))
        return known.value if known is not None and known.thing() is tensor else None

    def detached(self, other: Tensor, tensor: Tensor) -> None:
        if self.opened is None and (value := self.find(tensor)) is not None:
            self.know(other, value)

    def assigned(self, tensor: Tensor, result: Tensor) -> bool:
        """Return whether it may count as computed that a tensor takes over what a result holds."""
        return False

    def read(self, tensor: Tensor) -> None:
        """Note that the values of a tensor are read by something else than an operation."""
        value = self.find(tensor)
        if value is None or value in self.settled:
            return
        if self.numbers is not None:  # at once: a loop that waits for a number might not end
            self.culprits.add(self.here)  # a model may catch whatever it is
            raise LookedAtError
        if self.opened is None:
            self.culprits.add(self.here)
        elif not any(tensor is given for given in self.opened.given):
            self.culprits.add(self.opened.caller)

    def _replaced(self, leaf: Any) -> Any:
        if isinstance(leaf, Values):  # of a computed tensor, such as an index
            leaf.noted()
            return leaf.view(np.ndarray)
        value = super()._replaced(leaf)
        if isinstance(value, Value):
            if version(leaf) != self.versions[id(leaf)]:
                self.culprits.add(self.here)
        elif isinstance(leaf, Tensor):
            self.constants.append((leaf, version(leaf)))
        return value

    # What happens.

    def runner(self, kind: type[Function], ctx: Node, *args: Any) -> Any:
        """Return what an operation computes, or a blank where that will do."""
        values = [self.find(arg) for arg in args[: BY_IMAGE.get(kind, 0)]]
        if self.numbers is not None and {*values} - {None} - self.settled:
            result = blank_result(kind, args, self.numbers)
            if result is not None:
                return result
        complete(args)
        return kind.forward(ctx, *args)

    def add(
        self, kind: type[Function] | Module, args: list[Any], outputs: list[Value], **more: Any
    ) -> None:
        super().add(kind, args, outputs, **more)
        if not isinstance(kind, Module) and self.settled.issuperset(leaves(args, Value)):
            self.settled.update(outputs)

    def operation(
        self, kind: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        if self.opened is None and kind not in self.choices:
            super().operation(kind, args, outputs)
            return
        # Of an opaque module: does it use more than the module was given? A choice counts as one.
        for tensor in leaves(args, Tensor):
            self.read(tensor)

    def enter(
        self, name: str, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        caller = self.here
        super().enter(name, module, args, kwargs)
        if name not in self.opaque or self.opened is not None:
            return
        if kwargs or not all(map(_is_simple, leaves(args))):
            self.culprits.add(caller)
        given = leaves(args, Tensor)
        values = [array_of(tensor).copy(order="K") for tensor in given]
        self.opened = _Opened(self.open[-1], caller, self.replaced(list(args)), given, values)

    def leave(
        self,
        name: str,
        module: Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> None:
        call = self.close(module, output)
        opened = self.opened
        if opened is not None and (call is opened.call or opened.call not in self.open):
            self.opened = None
            results = leaves(output, Tensor)
            if (
                call is not opened.call
                or not all(map(same_values, map(array_of, opened.given), opened.values))
                or not all(
                    leaf is None or isinstance(leaf, (Tensor, str)) for leaf in leaves(output)
                )
                # What it was given comes back: the caller may mean either when it uses that.
                or any(self.find(tensor) is not None for tensor in results)
            ):
                self.culprits.add(opened.caller)
            values = [self.add_value(tensor) for tensor in results]
            self.add(module, opened.args, values, structure=self.replaced(output))
        self.open.pop()


def _is_simple(leaf: Any) -> bool:
    """Whether a value holds no tensor that cannot be seen."""
    seen = (Tensor, Value, bool, int, float, str, np.ndarray, np.generic)
    return leaf is None or isinstance(leaf, seen)


# -- two runs compared ------------------------------------------------------------------------


def _differences(a: Graph, b: Graph) -> set[str]:
    """Return the modules in which the runs of two copies differ in more than computed values."""
    found: set[str] = set()
    for one, other in itertools.zip_longest(a.operations, b.operations):
        if one is None or other is None or _frame(one) != _frame(other):
            return {*found, (one or other).module}  # from here on they are out of step
        if not same_state(*(_numbered([each.args, each.structure]) for each in (one, other))):
            found.add(one.module)
    return found if same_state(_numbered(a.result), _numbered(b.result)) else {*found, ""}


def _frame(operation: Operation) -> tuple[Any, ...]:
    """Return what an operation is, apart from its arguments."""
    kind = operation.kind if isinstance(operation.kind, type) else Module
    return kind, operation.module, [value.number for value in operation.outputs]


def _numbered(nested: Any) -> Any:
    """Return a nested value with numbers in the place of values."""
    return mapped(lambda leaf: (Value, leaf.number) if isinstance(leaf, Value) else leaf, nested)
