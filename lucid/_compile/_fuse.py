"""Passes over the operations: constants computed once, batch norm folded, neighbours fused."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lucid._compile._steps import Affine, Attention, Average, Convolution, Step
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.graph import Graph, Operation, Value, leaves, mapped
from lucid.kernels.geometry import NO_BOUNDS, PLAIN, Conv, Epilogue
from lucid.nn import Module
from lucid.ops._activation import (
    ELU,
    GELU,
    Clip,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    SiLU,
    Softmax,
    Softplus,
)
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d
from lucid.ops._elementwise._arithmetic import Add, Div, Mul, Sub
from lucid.ops._elementwise._table import Elementwise
from lucid.ops._join import Cat
from lucid.ops._layer_norm import Standardize
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul
from lucid.ops._pool import MaxPool2d, SumPool2d
from lucid.ops._reduce import Mean, Sum
from lucid.ops._shape import ConstantPad, Permute, Reshape

# The activations that a kernel may end with; their settings are those of the operation.
_ACTIVATIONS = {GELU: "gelu", SiLU: "silu", Hardswish: "hardswish"}

# Operations that go image by image: how many of their first arguments are images.
BY_IMAGE = dict.fromkeys((Conv2d, SumPool2d, BatchNormInference, Clip, *_ACTIVATIONS), 1)
BY_IMAGE |= dict.fromkeys((ELU, Hardsigmoid, LeakyReLU, Softplus), 1)
BY_IMAGE |= dict.fromkeys((Add, Sub, Mul, Div), 2)

# Operations over axes, which their second argument names.
_OVER_AXES = (Softmax, LogSoftmax, Mean, Sum, Standardize)


def simplify(graph: Graph) -> tuple[list[Step], Any]:
    """Return the steps of inference that compute what ``graph`` does, and what they return."""
    folded, result = fold_constants(graph)
    operations = _fuse_attention(folded, result)
    uses = _count_uses(operations, result)
    steps: list[Step] = []
    made: dict[Value, Convolution] = {}  # value -> the convolution that makes it
    for operation in operations:
        if isinstance(operation, Attention):
            steps.append(operation)
            continue
        convolution = _extended(operation, made, uses)
        if convolution is not None:
            del made[convolution.output]
            convolution.output = operation.outputs[0]
            if len(convolution.args) > 1:
                # The residual may be younger than the convolution: run where the addition was.
                steps.remove(convolution)
                steps.append(convolution)
        else:
            convolution = _started(operation)
            steps.append(convolution or _average(operation) or _affine(operation) or operation)
        if convolution is not None:
            made[convolution.output] = convolution
    return steps, result


def _started(operation: Operation) -> Convolution | None:
    """Return a convolution or a linear layer as the beginning of a fused step.

    Sums over windows are a convolution by ones.
    """
    if operation.kind is SumPool2d and _is_map(operation.args[0]):
        x, kernel_size, stride, padding, _ = operation.args
        ones = np.ones((x.shape[1], 1, *kernel_size), x.dtype)
        conv = Conv(stride, padding, groups=x.shape[1])
        operation = replace(operation, kind=Conv2d, args=[x, wrap(ones), None, conv])
    if operation.kind not in (Conv2d, Linear):
        return None
    x, weight, bias, *rest = operation.args
    if not isinstance(x, Value) or not isinstance(weight, Tensor) or isinstance(bias, Value):
        return None
    if weight.data.size == 0:  # a map of no channels has no place in the arena
        return None
    kernel = weight.data
    if operation.kind is Linear:
        if x.ndim != 2:
            return None
        kernel = kernel.reshape(*kernel.shape, 1, 1)
    summand = np.zeros(len(kernel), kernel.dtype) if bias is None else bias.data.copy()
    conv = rest[0] if rest else PLAIN
    return Convolution([x], *_of(operation), kernel, conv, Epilogue(shift=summand))


def _of(operation: Operation) -> tuple[Value, str, int]:
    """Return what a step takes over from the operation whose output it makes."""
    return operation.outputs[0], operation.module, operation.macs


def _average(operation: Operation) -> Average | None:
    """Return the mean over all positions as a step of its own."""
    if operation.kind is not Mean or not _is_map(operation.args[0]):
        return None
    x, axes = operation.args[0], operation.args[1]
    return Average([x], *_of(operation)) if sorted(axes) == [2, 3] else None


def _affine(operation: Operation) -> Affine | None:
    """Return a batch norm of maps as a step of its own."""
    if operation.kind is not BatchNormInference or not _is_map(operation.args[0]):
        return None
    x, weight, bias, mean, variance, eps = operation.args
    if isinstance(weight, Value) or isinstance(bias, Value):
        return None
    scale, shift = scale_and_shift(weight, bias, mean, variance, eps, mean.dtype)
    return Affine([x], *_of(operation), scale, shift)


def _is_map(arg: Any) -> bool:
    return isinstance(arg, Value) and arg.ndim == 4


def fold_constants(
    graph: Graph, kept: Iterable[type[Function]] = ()
) -> tuple[list[Operation], Any]:
    """Run operations that depend on no input now, but for those that are to be ``kept``.

    Returns:
        The other operations and the result, with constants in the place of those values. What was
        made of one parameter alone has its name in the graph from now on.
    """
    known: dict[Value, Tensor] = {}

    def settled(leaf: Any) -> Any:
        return known.get(leaf, leaf) if isinstance(leaf, Value) else leaf

    operations = []
    for operation in graph.operations:
        args = mapped(settled, operation.args)
        if isinstance(operation.kind, Module) or operation.kind in kept or leaves(args, Value):
            operations.append(replace(operation, args=args))
            continue
        with no_grad():
            results = operation.kind.forward(Node(operation.kind, (False,) * len(args)), *args)
        for value, result in zip(
            operation.outputs, results if isinstance(results, tuple) else (results,)
        ):
            known[value] = wrap(result.data if isinstance(result, Tensor) else result)
            sources = leaves(args, Tensor)
            if len(sources) == 1 and id(sources[0]) in graph.names:
                graph.names[id(known[value])] = graph.names[id(sources[0])]
    return operations, mapped(settled, graph.result)


# -- attention ------------------------------------------------------------------------------------


def _fuse_attention(operations: list[Operation], result: Any) -> list[Operation | Attention]:
    """Put one step in the place of each product, softmax and product that are used only there."""
    uses = _count_uses(operations, result)
    makers = {value: operation for operation in operations for value in operation.outputs}

    def only_for_this(value: Any, kind: type[Function]) -> Operation | None:
        """Return the operation of that kind that makes ``value`` if nothing else uses it."""
        if not isinstance(value, Value) or uses[value] != 1 or value not in makers:
            return None
        maker = makers[value]
        return maker if maker.kind is kind else None

    gone: set[int] = set()  # ids of operations

    def unscaled(given: Value) -> tuple[Value, float]:
        """Return a map without its factor, maybe before changes of its shape, and the factor."""
        shapes: list[Operation] = []
        value = given
        while (view := only_for_this(value, Reshape) or only_for_this(value, Permute)) is not None:
            shapes.append(view)
            value = view.args[0]
        scaled = only_for_this(value, Mul)
        if scaled is None or (factor := _factor(scaled)) is None:
            return given, 1.0
        gone.add(id(scaled))
        return _reshaped(scaled.args[0], shapes), factor

    fused: dict[int, Attention] = {}
    for operation in operations:
        if operation.kind is not MatMul or not isinstance(operation.args[1], Value):
            continue
        softmax = only_for_this(operation.args[0], Softmax)
        if softmax is None or softmax.args[1] != softmax.outputs[0].ndim - 1:
            continue
        scale, scores = 1.0, softmax.args[0]
        used = [softmax]
        scaled = only_for_this(scores, Mul)
        if scaled is not None and (factor := _factor(scaled)) is not None:
            scale, scores = factor, scaled.args[0]
            used.append(scaled)
        product = only_for_this(scores, MatMul)
        if product is None or not all(isinstance(arg, Value) for arg in product.args):
            continue
        q, k = product.args
        if len({value.dtype for value in (q, k, operation.args[1])}) > 1:
            continue
        gone |= {id(step) for step in (*used, product)}
        (q, of_queries), (k, of_keys) = unscaled(q), unscaled(k)
        scale *= of_queries * of_keys
        attention = Attention([q, k, operation.args[1]], *_of(operation), scale)
        attention.macs += product.macs
        fused[id(operation)] = attention
    return [fused.get(id(step), step) for step in operations if id(step) not in gone]


def _factor(product: Operation) -> float | None:
    """Return the number with which a product multiplies its first argument, if it is one."""
    x, other = product.args
    if (
        isinstance(x, Value)
        and isinstance(other, Tensor)
        and other.data.size == 1
        and other.ndim < 2
    ):
        return float(other.data.reshape(()))
    return None


def _reshaped(source: Value, shapes: list[Operation]) -> Value:
    """Let changes of shape, the last first, start from ``source``, and return their result."""
    result = source
    for view in reversed(shapes):
        view.args[0] = result
        before = result.empty()
        settings = [wrap(before), *view.args[1:]]
        # The plan asks which of the values may share memory.
        assert not isinstance(view.kind, Module)
        after = view.kind.forward(Node(view.kind, (False,) * len(settings)), *settings)
        (made,) = view.outputs
        made.strides, made.views = after.strides, []
        if np.may_share_memory(after, before):
            made.views = [result]
        result = made
    return result


def _count_uses(operations: Sequence[Operation | Attention], result: Any) -> Counter[Value]:
    read = [operation.args for operation in operations]
    return Counter(leaves([read, result], Value))


def _extended(
    operation: Operation, made: dict[Value, Convolution], uses: Counter[Value]
) -> Convolution | None:
    """Take ``operation`` into the convolution that makes its argument, and return that one.

    None if there is no such convolution, if others use its value too, or if it cannot be done.
    """
    for position, arg in enumerate(operation.args[:2]):
        if isinstance(arg, Value) and arg in made and uses[arg] == 1:
            convolution = made[arg]
            if len(convolution.args) == 1 and _take(convolution, operation, position):
                return convolution
    return None


def _take(convolution: Convolution, operation: Operation, position: int) -> bool:
    kind, args = operation.kind, operation.args
    if kind is Add and _is_residual(args[1 - position], args[position]):
        convolution.args.append(args[1 - position])
        return True
    epilogue = convolution.epilogue
    if epilogue.bounds != NO_BOUNDS or epilogue.activation is not None:
        return False
    if kind is BatchNormInference:
        if position != 0:
            return False
        _, weight, bias, mean, variance, eps = args
        scale, shift = scale_and_shift(weight, bias, mean, variance, eps, mean.dtype)
        convolution.scale(scale, shift)
        return True
    if kind is Mul and _is_per_channel(args[1 - position], args[position]):
        convolution.scale(args[1 - position].data.reshape(-1))
        return True
    if kind is Div and position == 0 and _is_one_number(args[1], args[0]):
        convolution.scale(1 / args[1].data.reshape(-1)[:1])
        return True
    if kind is Clip:
        convolution.epilogue = epilogue._replace(bounds=(args[1], args[2]))
        return True
    if kind in _ACTIVATIONS:
        convolution.epilogue = epilogue._replace(activation=(_ACTIVATIONS[kind], *args[1:]))
        return True
    return False


def _is_residual(other: Any, value: Value) -> bool:
    """Whether ``other`` is another computed map of the same shape and dtype."""
    if not isinstance(other, Value) or other is value:
        return False
    return other.shape == value.shape and other.dtype == value.dtype


def _is_per_channel(other: Any, value: Value) -> bool:
    """Whether ``other`` is a constant with one factor for each channel of ``value``."""
    shape = (1, value.shape[1]) + (1,) * (value.ndim - 2)
    return isinstance(other, Tensor) and other.shape == shape


def _is_one_number(other: Any, value: Value) -> bool:
    """Whether ``other`` is a constant of one number, not 0, for the whole of ``value``.

    So is the number of elements in the windows of a pooling without padding.
    """
    if not isinstance(other, Tensor) or other.data.size == 0 or other.dtype != value.dtype:
        return False
    first = other.data.reshape(-1)[0]
    within = np.broadcast_shapes(other.shape, value.shape) == value.shape
    return within and first != 0 and bool((other.data == first).all())


def freeze(steps: list[Step], result: Any) -> Any:
    """Give constant tensors to the plan as copies, as others may change them; return the result."""
    for step in steps:
        if isinstance(step, Operation):
            step.args = mapped(_copied, step.args)
    return mapped(_copied, result)


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return wrap(leaf.data.copy(order="K"))
    return leaf.copy(order="K") if isinstance(leaf, np.ndarray) else leaf


# -- parts of a batch ------------------------------------------------------------------------------


def goes_by_image(images: Value, steps: Sequence[Step], result: Any) -> bool:
    """Return whether it is plain that parts of a batch give parts of the result."""
    values = leaves([[[step.args, step.outputs] for step in steps], result], Value)
    aligned = all(value.shape[:1] == images.shape[:1] for value in values)
    return aligned and not leaves(result, (Tensor, np.ndarray)) and all(map(_goes_by_image, steps))


def _goes_by_image(step: Step) -> bool:
    if isinstance(step, Attention):
        return len({value.ndim for value in step.args}) == 1 and step.output.ndim > 2
    if not isinstance(step, Operation) or step.kind is Reshape:
        return True
    kind, args, axes = step.kind, step.args, step.outputs[0].ndim
    if kind is Permute:
        return bool(args[1][0] == 0)
    if kind is Cat:
        return bool(args[0] % axes) and all(isinstance(arg, Value) for arg in args[1:])
    if kind is ConstantPad:
        return bool(args[1][0] == (0, 0))
    if kind in _OVER_AXES:
        over = args[1] if isinstance(args[1], tuple) else (args[1],)
        return all(axis % args[0].ndim for axis in over)
    count = BY_IMAGE.get(kind, 0) or _more_by_image(kind, axes)  # type: ignore[arg-type]
    return (
        count > 0
        and not leaves(args[count:], Value)
        and all(
            arg.ndim == axes if isinstance(arg, Value) else arg.ndim < axes or len(arg) == 1
            for arg in args[:count]
        )
    )


def _more_by_image(kind: Any, axes: int) -> int:
    if kind is MatMul:
        return 2 if axes > 2 else 0  # of two axes the first may be of one factor alone
    plain = isinstance(kind, type) and issubclass(kind, (Elementwise, MaxPool2d, Linear))
    return int(plain)


def for_part(
    count: int, images: Value, steps: list[Step], result: Any
) -> tuple[Value, list[Step], Any]:
    """Return input, steps and result for so many of the images; weights are shared."""
    if count == images.shape[0]:
        return images, steps, result
    made: dict[Value, Value] = {}

    def part(leaf: Any) -> Any:
        if isinstance(leaf, Value) and leaf not in made:
            shape = (count, *leaf.shape[1:])
            made[leaf] = replace(leaf, shape=shape, views=mapped(part, leaf.views))
        return made[leaf] if isinstance(leaf, Value) else leaf

    taken = []
    for step in map(copy.copy, steps):
        args: Any = mapped(part, step.args)
        if isinstance(step, Operation):
            step.outputs = mapped(part, step.outputs)
            if step.kind is Reshape:
                args[1] = step.outputs[0].shape
        else:
            step.output = part(step.output)
        step.args, step.macs = args, step.macs * count // images.shape[0]
        taken.append(step)
    return part(images), taken, mapped(part, result)
