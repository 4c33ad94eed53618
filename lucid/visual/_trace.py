"""Which module and operation works on the results of which: seen by running a model once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._function import observe
from lucid.nn import Module
from lucid.nn._evaluation import evaluation
from lucid.visual._macs import Shape


@dataclass(eq=False)
class Op:
    """One operation, and those whose results it works on.

    The model's inputs are operations without a call. Where a call returns what it was given, or
    something that no operation was seen to make, an operation ``"identity"`` stands for it.
    """

    name: str
    call: Call | None
    sources: list[Op]


@dataclass(eq=False)
class Call:
    """One call of a module.

    Attributes:
        sources: what made its arguments.
        parts: what it called and computed, in that order.
    """

    module: Module
    parent: Call | None
    sources: list[Op] = field(default_factory=list)
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    parts: list[Call | Op] = field(default_factory=list)


@dataclass
class Output:
    """One tensor that the model returned: where in the result it stands, and what made it."""

    key: str
    shape: Shape
    source: Op | None


@dataclass
class Trace:
    """One run of a model."""

    root: Call
    inputs: list[Op]
    outputs: list[Output]


def trace(model: Module, shapes: Sequence[Shape], dtype: DTypeLike) -> Trace:
    """Run ``model`` in evaluation mode on zeros and return what called and fed what.

    Nothing is recorded for backward; training flags, buffers and hooks come back as they were.
    """
    inputs = [Tensor(np.zeros(shape, dtype), dtype=dtype) for shape in shapes]
    recorder = _Recorder(model, inputs)
    with _undisturbed(model), recorder, observe(recorder.operation), no_grad():
        result = model(*inputs)
    outputs = [
        Output(key, tensor.shape, recorder.source(tensor)) for key, tensor in _tensors(result)
    ]
    return Trace(recorder.root, recorder.inputs, outputs)


@contextmanager
def _undisturbed(model: Module) -> Iterator[None]:
    """Run what is inside in evaluation mode, and put flags and buffers back afterwards."""
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.data.copy())
        for module in model.modules()
        for name, buffer in module._own("buffer")
    ]
    try:
        with evaluation(model):
            yield
    finally:
        for module, name, buffer, values in buffers:
            setattr(module, name, buffer)
            if buffer is not None and values is not None and (buffer.data != values).any():
                with no_grad():
                    buffer._assign(Tensor._wrap(values))


class _Recorder:
    """Builds the tree of calls by hooks on every module, and notes who made each tensor."""

    def __init__(self, model: Module, inputs: Sequence[Tensor]) -> None:
        self._model = model
        # Tensors and arrays by id, as long as they live, and what made them.
        self._made: dict[int, tuple[weakref.ref[Any], Op]] = {}
        # Tensors by id, and their version: what was last computed of them.
        self._used: dict[tuple[int, int], tuple[weakref.ref[Tensor], Op]] = {}
        self._handles: list[Any] = []
        self.inputs = [Op("input", None, []) for _ in inputs]
        for tensor, op in zip(inputs, self.inputs):
            self._note(tensor, op)
        self._open: list[Call] = []
        self.root = Call(model, None)

    def __enter__(self) -> None:
        for module in self._model.modules():
            self._handles += [
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave, with_kwargs=True),
            ]

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    # -- who made what ----------------------------------------------------------------------

    def source(self, tensor: Tensor) -> Op | None:
        """Return what made ``tensor``; None for a constant or a parameter."""
        # An operation in place computes of the tensor, then makes that its next version.
        version = tensor._version.count
        user, op_in_place = self._used.get((id(tensor), version - 1), (None, None))
        if user is not None and user() is tensor:
            return op_in_place
        # Not every new tensor comes of an operation: detach() returns one around the same array.
        for thing in (tensor, tensor.data):
            reference, op = self._made.get(id(thing), (None, None))
            if reference is not None and reference() is thing:
                return op
        return None

    def _note(self, tensor: Tensor, op: Op) -> None:
        for thing in (tensor, tensor.data):
            self._made[id(thing)] = (weakref.ref(thing), op)

    def _sources(self, values: Any) -> list[Op]:
        found = (self.source(tensor) for _, tensor in _tensors(values))
        return list(dict.fromkeys(op for op in found if op is not None))

    # -- what happens -----------------------------------------------------------------------

    def operation(
        self, function: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """Note an operation."""
        if not self._open:
            return
        op = self._add(function.__name__, self._sources(args))
        if args and isinstance(args[0], Tensor):
            tensor = args[0]
            self._used[id(tensor), tensor._version.count] = (weakref.ref(tensor), op)
        for tensor in outputs:
            self._note(tensor, op)

    def _add(self, name: str, sources: list[Op]) -> Op:
        op = Op(name, self._open[-1], sources)
        self._open[-1].parts.append(op)
        return op

    def _enter(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parent = self._open[-1] if self._open else None
        values = (args, kwargs)
        call = Call(module, parent, self._sources(values), _first_shape(values))
        if parent is None:
            self.root = call
        else:
            parent.parts.append(call)
        self._open.append(call)

    def _leave(
        self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        call = self._open[-1]
        call.output_shape = _first_shape(output)
        for _, tensor in _tensors(output):
            source = self.source(tensor)
            if source is not None and _within(source, call):
                continue
            if source is None:  # made out of sight: of the last thing in sight, most likely
                last = _last_op(call)
                sources = self._sources((args, kwargs)) if last is None else [last]
            else:
                sources = [source]
            op = self._add("identity", sources)
            if tensor is output:
                # Where the caller still holds what it gave, that must not seem to be from here.
                output = tensor.detach()
                self._note_tensor(output, op)
            else:
                self._note(tensor, op)
        self._open.pop()
        return output

    def _note_tensor(self, tensor: Tensor, op: Op) -> None:
        self._made[id(tensor)] = (weakref.ref(tensor), op)


def _within(op: Op, call: Call) -> bool:
    inner = op.call
    while inner is not None and inner is not call:
        inner = inner.parent
    return inner is call


def _last_op(call: Call) -> Op | None:
    for part in reversed(call.parts):
        op = part if isinstance(part, Op) else _last_op(part)
        if op is not None:
            return op
    return None


def _first_shape(values: Any) -> Shape | None:
    return next((tensor.shape for _, tensor in _tensors(values)), None)


def _tensors(value: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested lists, tuples and dictionaries, with where they stand."""
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensors(item, f"{key}.{index}" if key else str(index))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _tensors(item, f"{key}.{name}" if key else str(name))
