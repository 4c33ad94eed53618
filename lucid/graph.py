"""What a model computes: its values, operations and calls of modules, found by running it once.

Everything that asks what a model does (plans, summaries, diagrams, the times of layers) reads the
:class:`Graph` that :func:`trace` returns, or builds one with its :class:`Recorder`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._function import observe
from lucid.autograd._tensor import array_of, assign, version, wrap
from lucid.nn import Module
from lucid.ops._conv import Conv2d, ConvInputGrad
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul

Shape = tuple[int, ...]


# -- nested values --------------------------------------------------------------------------------


def items(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is in lists, tuples and dictionaries, with where it stands, such as ``"0.mean"``.

    Named tuples count as tuples; what is in nothing has the key ``""``.

    Args:
        value: nested as deep as it likes.
        key: where it stands itself, put before every other key.
    """
    if isinstance(value, dict):
        inside: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    else:
        yield key, value
        return
    for name, item in inside:
        yield from items(item, f"{key}.{name}" if key else str(name))


def leaves(value: Any, kind: type | tuple[type, ...] = object) -> list[Any]:
    """Return what is in ``value``, whatever it is nested in, if it is of the class ``kind``."""
    if isinstance(value, (list, tuple, dict)):
        inside = value.values() if isinstance(value, dict) else value
        return [leaf for each in inside for leaf in leaves(each, kind)]
    return [value] if isinstance(value, kind) else []


def mapped(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Return ``function`` of each leaf of ``value``, nested as it is; so are the ``others``."""
    if isinstance(value, dict):
        result = copy.copy(value)  # of the same class, and in the same order
        for key in value:
            result[key] = mapped(function, value[key], *[other[key] for other in others])
        return result
    if isinstance(value, (list, tuple)):
        inside = [mapped(function, *each) for each in zip(value, *others)]
        return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
    return function(value, *others)


# -- the graph ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Value:
    """A tensor that the model was given or has computed: all of it but its numbers.

    Attributes:
        number: counts the values of a graph in the order they were made.
        shape, dtype: of the tensor.
        strides: bytes from element to element along each axis, as in the traced run.
        views: the arguments of its operation whose memory it may share.
    """

    number: int
    shape: Shape
    dtype: np.dtype[Any]
    strides: Shape
    views: list[Value] = field(default_factory=list, repr=False)
    # The graph holds its operations, with the model's weights; a value that outlives it does not.
    _producer: Callable[[], Operation | None] = field(default=lambda: None, repr=False)

    @property
    def producer(self) -> Operation | None:
        """The operation that made it; None of an input."""
        return self._producer()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self) -> np.ndarray:
        """Return an array of this layout; what it holds means nothing."""
        like = np.lib.stride_tricks.as_strided(np.empty(0, self.dtype), self.shape, self.strides)
        return np.empty_like(like)  # which asks for the layout alone


@dataclass(eq=False)
class Operation:
    """One operation of the run, or a part that operations cannot explain.

    Attributes:
        kind: the operation; for an opaque part the module that does it.
        args: values where tensors were computed; other tensors and all the rest are constants.
        outputs: what it made.
        module: the path of the innermost module it ran in.
        macs: multiply-adds: one multiplication with the addition that follows it. Only products
            count, of what is computed and of what the model has registered: convolutions, linear
            maps, products of matrices. The rest counts as nothing, as is usual in papers.
        structure: of an opaque part: what it returned, with values in the place of tensors.
    """

    kind: type[Function] | Module
    args: list[Any]
    outputs: list[Value]
    module: str
    macs: int = 0
    structure: Any = None

    @property
    def name(self) -> str:
        """The name of the operation; of an opaque part that of its module's class."""
        return self.kind.__name__ if isinstance(self.kind, type) else type(self.kind).__name__

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments under the names that the operation's ``forward`` gives them."""
        if isinstance(self.kind, Module):
            return dict(inspect.signature(self.kind.forward).bind(*self.args).arguments)
        bound = inspect.signature(self.kind.forward).bind(None, *self.args).arguments
        return dict(list(bound.items())[1:])


@dataclass(eq=False)
class Call:
    """One call of a module.

    Attributes:
        name: the path of the module in the model, as in ``named_modules()``.
        module: the module that was called.
        inputs: the values among its arguments.
        input_shapes: the shapes of all tensors among its arguments.
        output_shapes: the shapes of all tensors that it returned.
        parts: what it called and computed, in that order.
        first: the number of the first value made in it.
    """

    name: str
    module: Module
    inputs: list[Value] = field(default_factory=list)
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    parts: list[Call | Operation] = field(default_factory=list)
    first: int = 0

    @property
    def input_shape(self) -> Shape | None:
        """The shape of its first tensor argument, None if it has none."""
        return self.input_shapes[0] if self.input_shapes else None

    @property
    def output_shape(self) -> Shape | None:
        """The shape of its first result, None if it returned no tensor."""
        return self.output_shapes[0] if self.output_shapes else None

    @property
    def calls(self) -> list[Call]:
        """The calls of other modules that it made itself."""
        return [part for part in self.parts if isinstance(part, Call)]

    @property
    def macs(self) -> int:
        """Multiply-adds of this call, without those of the modules it calls.

        A module may bring its own count as a method ``macs(input_shapes, output_shape)``.
        """
        own = getattr(self.module, "macs", None)
        if callable(own):
            return int(own(self.input_shapes, self.output_shape)) if self.output_shapes else 0
        return sum(part.macs for part in self.parts if isinstance(part, Operation))

    def walk(self) -> Iterator[Call]:
        """Yield this call and all within, in the order they began."""
        yield self
        for call in self.calls:
            yield from call.walk()


@dataclass(eq=False)
class Graph:
    """One run of a model.

    Attributes:
        root: the call of the model itself; those of its modules are inside.
        names: of the model's parameters and buffers by the ids of their tensors, for the constants
            among arguments.
        inputs: the values it was run on.
        operations: in the order they ran.
        result: what the model returned, with values in the place of computed tensors.
    """

    root: Call
    names: dict[int, str] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    result: Any = None


# -- recording ------------------------------------------------------------------------------------


@contextlib.contextmanager
def evaluation(model: Module) -> Iterator[None]:
    """Have all modules of ``model`` in evaluation mode, then give each its own mode back.

    ``model.train()`` afterwards would thaw the layers that somebody froze with ``eval()``.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def called(
    modules: Iterable[tuple[str, Module]],
    enter: Callable[..., None] | None = None,
    leave: Callable[..., Any] | None = None,
) -> Iterator[None]:
    """Have functions called around each call of modules.

    The hooks keep layers from being fused, so each runs as its own operations.

    Args:
        modules: with their names, as ``named_modules()`` gives them.
        enter: ``enter(name, module, args, kwargs)``.
        leave: ``leave(name, module, args, kwargs, output)``; what it returns, if not None, takes
            the place of the output.
    """
    with contextlib.ExitStack() as stack:
        for name, module in modules:
            for function, register in (
                (enter, module.register_forward_pre_hook),
                (leave, module.register_forward_hook),
            ):
                if function is not None:
                    hook = functools.partial(function, name)
                    stack.callback(register(hook, with_kwargs=True).remove)
        yield


def trace(model: Module, *inputs: Tensor) -> Graph:
    """Run ``model`` in evaluation mode on ``inputs`` and return what it computed.

    Nothing is recorded for backward; training flags, buffers and hooks come back as they were.
    Where a module returns what it was given, or something that no operation was seen to make, the
    graph has an operation that stands for the module: an opaque part.

    Example:
        >>> from lucid.graph import trace
        >>> graph = trace(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), lucid.zeros(1, 4))
        >>> [(operation.name, operation.module) for operation in graph.operations]
        [('Linear', '0'), ('Clip', '1')]
        >>> list(graph.operations[0].arguments), graph.root.calls[0].macs
        (['x', 'weight', 'bias'], 8)
    """
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.data.copy())
        for module in model.modules()
        for name, buffer in module._own("buffer")
    ]
    try:
        with evaluation(model):
            return Recorder(model).run(*inputs)
    finally:
        for module, name, buffer, values in buffers:
            setattr(module, name, buffer)
            if buffer is not None and values is not None and (buffer.data != values).any():
                with no_grad():
                    assign(buffer, wrap(values))


class _Known(NamedTuple):
    """A tensor, or its array, as long as it lives, and its value."""

    thing: weakref.ref[Any]
    value: Value


class Recorder:
    """Builds the graph of a run, by hooks on every module and by observing the operations."""

    runner: Any = None  # what runs the operations in their place

    def __init__(self, model: Module) -> None:
        tensors = (*model.named_parameters(), *model.named_buffers())
        self.graph = Graph(Call("", model), {id(tensor): name for name, tensor in tensors})
        self.count = 0  # of values
        self.open: list[Call] = []  # the calls under way, outermost first
        self.made: dict[int, _Known] = {}  # tensors and arrays by id
        # Tensors by id, and their version: what was last computed of them.
        self._used: dict[tuple[int, int], _Known] = {}

    def run(self, *inputs: Tensor) -> Graph:
        """Return the graph of the model's run on ``inputs``."""
        model = self.graph.root.module
        self.graph.inputs = [self.add_value(tensor) for tensor in inputs]
        hooks = called(model.named_modules(), self.enter, self.leave)
        with hooks, observe(self.operation, self.runner), no_grad():
            result = model(*inputs)
        self.graph.result = self.replaced(result)
        return self.graph

    # What is known of tensors.

    def find(self, tensor: Tensor) -> Value | None:
        """Return the value of ``tensor``; None for a constant or a parameter."""
        # An operation in place computes of the tensor, then makes that its next version.
        known = self._used.get((id(tensor), version(tensor) - 1))
        if known is not None and known.thing() is tensor:
            return known.value
        # Not every new tensor comes of an operation: detach() returns one around the same array.
        for thing in (tensor, tensor.data):
            known = self.made.get(id(thing))
            if known is not None and known.thing() is thing:
                return known.value
        return None

    def know(self, tensor: Tensor, value: Value, *, array: bool = True) -> None:
        """Note that ``tensor`` holds ``value``; and so does its array, unless others had it."""
        for thing in (tensor, tensor.data) if array else (tensor,):
            self.made[id(thing)] = _Known(weakref.ref(thing), value)

    def add_value(self, tensor: Tensor, args: Any = (), *, array: bool = True) -> Value:
        """Return a new value, that of a tensor which was computed of ``args``."""
        data = array_of(tensor)
        views = [
            value
            for arg in leaves(args, Tensor)
            if (value := self.find(arg)) is not None and np.may_share_memory(data, array_of(arg))
        ]
        value = Value(self.count, data.shape, data.dtype, data.strides, views)
        self.count += 1
        self.know(tensor, value, array=array)
        return value

    def replaced(self, value: Any) -> Any:
        """Return a nested value with values in the place of computed tensors."""
        return mapped(self._replaced, value)

    def _replaced(self, leaf: Any) -> Any:
        value = self.find(leaf) if isinstance(leaf, Tensor) else None
        return leaf if value is None else value

    def _values(self, nested: Any) -> list[Value]:
        found = (self.find(tensor) for tensor in leaves(nested, Tensor))
        return [value for value in found if value is not None]

    # What happens.

    @property
    def here(self) -> str:
        """The path of the innermost module that is running."""
        return self.open[-1].name if self.open else ""

    def add(
        self, kind: type[Function] | Module, args: list[Any], outputs: list[Value], **more: Any
    ) -> None:
        """Add an operation."""
        macs = self._count_macs(kind, args, outputs)
        operation = Operation(kind, args, outputs, self.here, macs, **more)
        for value in outputs:
            value._producer = weakref.ref(operation)
        self.graph.operations.append(operation)
        if self.open:
            self.open[-1].parts.append(operation)

    def _count_macs(self, kind: Any, args: list[Any], outputs: list[Value]) -> int:
        if kind not in (Conv2d, ConvInputGrad, Linear, MatMul):
            return 0
        x, other, *_ = args
        if not all(isinstance(each, Value) or id(each) in self.graph.names for each in (x, other)):
            return 0  # by numbers that are no part of the model, such as weights of pixels
        # A convolution's weight is (O, I / groups, kh, kw), and an output a sum over all but O;
        # transposed, it is each input that meets as many.
        if kind is ConvInputGrad:
            return math.prod(x.shape) * math.prod(other.shape[1:])
        summands = math.prod(other.shape[1:]) if kind is Conv2d else x.shape[-1]
        return math.prod(outputs[0].shape) * summands

    def operation(
        self, kind: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """Note an operation."""
        if not self.open:
            return  # of a hook around the model
        replaced = self.replaced(list(args))
        values = [self.add_value(output, args) for output in outputs]
        self.add(kind, replaced, values)
        if values and args and isinstance(args[0], Tensor):
            key = id(args[0]), version(args[0])
            self._used[key] = _Known(weakref.ref(args[0]), values[0])

    def enter(
        self, name: str, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note that a module is called."""
        given = (args, kwargs)
        call = Call(name, module, self._values(given), _shapes(given), first=self.count)
        if self.open:
            self.open[-1].parts.append(call)
        else:
            self.graph.root = call
        self.open.append(call)

    def close(self, module: Module, output: Any) -> Call:
        """Return the innermost call of ``module``, which has returned, with its output's shapes."""
        while self.open[-1].module is not module:  # one that raised, which somebody caught
            self.open.pop()
        call = self.open[-1]
        call.output_shapes = _shapes(output)
        return call

    def leave(
        self, name: str, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Note what a module returned; what was not made in it becomes an opaque part's."""
        call = self.close(module, output)
        for tensor in leaves(output, Tensor):
            value = self.find(tensor)
            if value is not None and value.number >= call.first:
                continue
            if value is not None:
                sources = [value]
            elif self.count > call.first:  # made out of the last thing in sight, most likely
                sources = self.graph.operations[-1].outputs
            else:
                sources = self._values((args, kwargs))
            alone = tensor is output
            if alone:
                # Where the caller still holds what it gave, that must not seem to be from here.
                output = tensor = tensor.detach()
            made = self.add_value(tensor, array=not alone)
            self.add(module, list(sources), [made], structure=made)
        self.open.pop()
        return output


def _shapes(nested: Any) -> tuple[Shape, ...]:
    return tuple(tensor.shape for tensor in leaves(nested, Tensor))
