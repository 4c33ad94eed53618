"""What a model computes: its operations in order, found by running it.

The model runs twice, on different random inputs. A tensor that no observed operation made is a
constant; if it differs between the runs, the module that uses it does something with its input
that operations do not show (NumPy on raw arrays, a choice by value). Such a module is then taken
as one opaque step, which runs as itself.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._function import observe, observing
from lucid.nn import Module
from lucid.nn._evaluation import evaluation


@dataclass(frozen=True)
class Ref:
    """Stands for the value of that number in an operation's arguments."""

    index: int


def refs(value: Any) -> list[Ref]:
    """Return the references in a value, whatever it is nested in."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [ref for item in value for ref in refs(item)]
    return []


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
    changed_in: str | None = None  # the module that changed a computed value in place


def trace(model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Trace:
    """Return the operations of ``model`` in evaluation mode on an input of ``shape``."""
    opaque: set[str] = set()
    rng = np.random.default_rng(0)
    while True:
        first, second = (
            _run(model, Tensor._wrap(rng.standard_normal(shape).astype(dtype)), opaque)
            for _ in range(2)
        )
        culprit = first.changed_in
        if culprit is None:
            culprit = _first_difference(first, second)
        if culprit is None:
            return first
        opaque.add(culprit)


# -- one run ----------------------------------------------------------------------------------


class _Computed(NamedTuple):
    """The number of a computed tensor's value, and the tensor's version then."""

    number: int
    version: int
    tensor: weakref.ref[Tensor]


class _Recorder:
    def __init__(self, opaque: set[str]) -> None:
        self.trace = Trace()
        self.opaque = opaque
        self.computed: dict[int, _Computed] = {}  # by the id of the tensor
        self.path: list[str] = []
        self.opened = ""  # the opaque module that is running
        self.changed_in: str | None = None  # a module that changes a computed value in place

    def add_value(self, tensor: Tensor, args: Iterable[Any] = ()) -> int:
        number = len(self.trace.values)
        self.trace.views[number] = [
            computed.number
            for arg in tensors(list(args))
            if (computed := self.find(arg)) and np.may_share_memory(tensor.data, arg.data)
        ]
        self.computed[id(tensor)] = _Computed(number, tensor._version.count, weakref.ref(tensor))
        # Memory that is never touched is none: the map itself may go when the model lets it go.
        self.trace.values.append(np.empty_like(tensor.data))
        return number

    def find(self, tensor: Tensor) -> _Computed | None:
        """Return what is known of a computed tensor; None of another, in a dead one's place too."""
        computed = self.computed.get(id(tensor))
        return computed if computed is not None and computed.tensor() is tensor else None

    def replace(self, value: Any) -> Any:
        """Return an argument with computed tensors as references."""
        if isinstance(value, Tensor):
            computed = self.find(value)
            if computed is None:
                return value
            if self.changed_in is None and value._version.count != computed.version:
                self.changed_in = self.path[-1] if self.path else ""
            return Ref(computed.number)
        if isinstance(value, (list, tuple)):
            return type(value)([self.replace(item) for item in value]) if value else value
        if isinstance(value, dict):
            return {key: self.replace(item) for key, item in value.items()}
        return value

    def operation(
        self, kind: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        replaced = [self.replace(arg) for arg in args]
        numbers = [self.add_value(output, args) for output in outputs]
        self.trace.operations.append(
            Operation(kind, replaced, numbers, self.path[-1] if self.path else "")
        )

    # Hooks around each module: where operations run, and opaque ones as one operation.

    def enter(self, name: str, module: Module, args: tuple[Any, ...]) -> None:
        self.path.append(name)
        if name in self.opaque and observing.observer is not None:
            observing.observer = None
            self.opened = name

    def leave(self, name: str, module: Module, args: tuple[Any, ...], output: Any) -> None:
        self.path.pop()
        if name in self.opaque and self.opened == name:
            self.opened = ""
            observing.observer = self.operation
            results = list(tensors(output))
            replaced = [self.replace(arg) for arg in args]
            numbers = [self.add_value(tensor, args) for tensor in results]
            self.trace.operations.append(
                Operation(module, replaced, numbers, name, self.replace(output))
            )


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, whatever it is nested in."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def _run(model: Module, x: Tensor, opaque: set[str]) -> Trace:
    recorder = _Recorder(opaque)
    recorder.add_value(x)
    with evaluation(model), contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(
                lambda module, args, name=name: recorder.enter(name, module, args)
            )
            after = module.register_forward_hook(
                lambda module, args, output, name=name: recorder.leave(name, module, args, output)
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        # The hooks keep the layers from being fused, so each runs as its own operations.
        with no_grad(), observe(recorder.operation):
            output = model(x)
    recorder.trace.result = recorder.replace(output)
    recorder.trace.changed_in = recorder.changed_in
    return recorder.trace


# -- two runs compared ------------------------------------------------------------------------


def _first_difference(a: Trace, b: Trace) -> str | None:
    """Return the module in which the runs first differ in more than the values, or None."""
    for one, other in zip(a.operations, b.operations):
        if one.kind is not other.kind or one.module != other.module:
            return one.module
        if not _same(one.args, other.args) or one.outputs != other.outputs:
            return one.module
    if len(a.operations) != len(b.operations):
        longer = max(a.operations, b.operations, key=len)
        return longer[min(len(a.operations), len(b.operations))].module
    return None if _same(a.result, b.result) else ""


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a is b or np.array_equal(a.data, b.data, equal_nan=a.data.dtype.kind == "f")
    if isinstance(a, np.ndarray):
        return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a is b or a == b)


def frozen(module: Module) -> Module:
    """Return a copy of an opaque module in evaluation mode, independent of the model."""
    return copy.deepcopy(module).eval()
