"""How each operation of lucid is said in ONNX: one table, an entry an operation.

An emitter is a function ``emit(context, *args)``: it gets the arguments of the operation's
``forward``, adds nodes with ``context.node`` and returns the name of the output, or a tuple of
them. A value or a constant among the arguments is given to a node as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lucid.autograd import Function
from lucid.graph import Operation, Value
from lucid.kernels.geometry import Conv
from lucid.onnx._context import Context
from lucid.onnx._traced import Array, Size
from lucid.ops import _activation as activation
from lucid.ops import _elementwise as elementwise
from lucid.ops import _reduce as reduce
from lucid.ops import _shape as shape
from lucid.ops._batch_norm import BatchNormInference
from lucid.ops._conv import Conv2d
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul
from lucid.ops._pool import MaxPool2d, SumPool2d

Emitter = Callable[..., Any]

# Of a slice to the very end, in either direction.
_FAR = np.iinfo(np.int64).max


def _plain(kind: str) -> Emitter:
    """Return the emitter of an operation that is an operator of the same arguments."""
    return lambda context, *args: context.node(kind, *args)


# -- convolution, linear, norms -----------------------------------------------------------------


def _conv(context: Context, x: Value, weight: Any, bias: Any, conv: Conv) -> str:
    (top, bottom), (left, right) = conv.padding
    return context.node(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=list(weight.shape[2:]),
        strides=list(conv.stride),
        pads=[top, left, bottom, right],
        dilations=list(conv.dilation),
        group=conv.groups,
    )


def _linear(context: Context, x: Value, weight: Any, bias: Any) -> str:
    if x.ndim == 2:
        return context.node("Gemm", x, weight, bias, transB=1)
    product = context.node("MatMul", x, context.node("Transpose", weight, perm=[1, 0]))
    return product if bias is None else context.node("Add", product, bias)


def _batch_norm(
    context: Context, x: Value, weight: Any, bias: Any, mean: Array, variance: Array, eps: float
) -> str:
    scale = np.ones(mean.shape, x.dtype) if weight is None else weight
    shift = np.zeros(mean.shape, x.dtype) if bias is None else bias
    return context.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=eps)


def _standardized(context: Context, x: Value, axes: Iterable[int], eps: float) -> str:
    mean = _reduced(context, "ReduceMean", x, axes, True)
    centred = context.node("Sub", x, mean)
    squares = context.node("Mul", centred, centred)
    variance = _reduced(context, "ReduceMean", squares, axes, True)
    root = context.node("Sqrt", context.node("Add", variance, context.like(eps, x)))
    return context.node("Div", centred, root)


# -- pools --------------------------------------------------------------------------------------


def _pads(padding: Any) -> list[int]:
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def _max_pool(
    context: Context, x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
) -> str:
    return context.node(
        "MaxPool",
        x,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=_pads(padding),
        dilations=list(dilation),
    )


def _average_pool(context: Context, x: Value, kernel: Any, stride: Any, padding: Any) -> str:
    return context.node(
        "AveragePool",
        x,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=_pads(padding),
        count_include_pad=1,
    )


def _sum_pool(context: Context, x: Value, kernel: Any, stride: Any, padding: Any, size: Any) -> str:
    mean = _average_pool(context, x, kernel, stride, padding)
    return context.node("Mul", mean, context.like(math.prod(kernel), x))


# -- reductions -----------------------------------------------------------------------------------


def _reduced(context: Context, kind: str, x: Any, axes: Iterable[int], keepdim: bool) -> str:
    axes, keep = [int(axis) for axis in axes], int(keepdim)
    if context.opset >= (13 if kind == "ReduceSum" else 18):
        if not axes:
            return context.node("Identity", x)
        return context.node(kind, x, np.array(axes, np.int64), keepdims=keep)
    return context.node(kind, x, axes=axes, keepdims=keep)


def _mean(context: Context, x: Value, axes: Any, keepdim: bool) -> str:
    if sorted(axes) == [2, 3] and x.ndim == 4 and keepdim:
        return context.node("GlobalAveragePool", x)
    return _reduced(context, "ReduceMean", x, axes, keepdim)


# -- shapes ---------------------------------------------------------------------------------------


def _reshape(context: Context, x: Value, target: Any) -> str:
    source = context.shape(x)
    if x.ndim > 2 and len(target) == 2 and target[0] == source[0]:
        return context.node("Flatten", x, axis=1)
    sizes: list[int | Size] = list(target)
    for axis, size in enumerate(sizes):
        if isinstance(size, Size) and axis < len(source) and size == source[axis]:
            sizes[axis] = 0  # as it was
    unknown = [axis for axis, size in enumerate(sizes) if isinstance(size, Size)]
    if unknown and 0 not in target:
        sizes[unknown[0]] = -1
    return context.node("Reshape", x, context.sizes(sizes))


def _permute(context: Context, x: Value, axes: Any) -> str:
    return context.node("Transpose", x, perm=list(axes))


# -- activations ----------------------------------------------------------------------------------


def _clip(context: Context, x: Value, low: float, high: float) -> str:
    if (low, high) == (0.0, math.inf):
        return context.node("Relu", x)
    bounds = [None if math.isinf(each) else context.like(each, x) for each in (low, high)]
    return context.node("Clip", x, *bounds)


def _gelu(context: Context, x: Value, approximate: bool) -> str:
    if context.opset >= 20:
        return context.node("Gelu", x, approximate="tanh" if approximate else "none")
    if approximate:
        cube = context.node("Mul", context.node("Mul", x, x), x)
        inner = context.node("Add", x, context.node("Mul", cube, context.like(0.044715, x)))
        scaled = context.node("Mul", inner, context.like(math.sqrt(2 / math.pi), x))
        bend = context.node("Tanh", scaled)
    else:
        bend = context.node("Erf", context.node("Mul", x, context.like(math.sqrt(0.5), x)))
    half = context.node("Mul", x, context.like(0.5, x))
    return context.node("Mul", half, context.node("Add", bend, context.like(1, x)))


def _silu(context: Context, x: Value) -> str:
    return context.node("Mul", x, context.node("Sigmoid", x))


def _hard_sigmoid(context: Context, x: Value) -> str:
    return context.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _hard_swish(context: Context, x: Value) -> str:
    if context.opset >= 14:
        return context.node("HardSwish", x)
    return context.node("Mul", x, _hard_sigmoid(context, x))


def softmax(context: Context, x: Any, ndim: int, axis: int, kind: str = "Softmax") -> str:
    """Add a softmax: before opset 13 it is over all axes from the one that is given."""
    if context.opset >= 13 or axis == ndim - 1:
        return context.node(kind, x, axis=axis)
    swap = list(range(ndim))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    turned = context.node(kind, context.node("Transpose", x, perm=swap), axis=ndim - 1)
    return context.node("Transpose", turned, perm=swap)


# -- the table ------------------------------------------------------------------------------------

EMITTERS: dict[type[Function], Emitter] = {
    Conv2d: _conv,
    Linear: _linear,
    MatMul: _plain("MatMul"),
    BatchNormInference: _batch_norm,
    MaxPool2d: _max_pool,
    SumPool2d: _sum_pool,
    reduce.Mean: _mean,
    shape.Reshape: _reshape,
    shape.Permute: _permute,
    elementwise.Add: _plain("Add"),
    elementwise.Sub: _plain("Sub"),
    elementwise.Mul: _plain("Mul"),
    elementwise.Div: _plain("Div"),
    activation.Clip: _clip,
    activation.GELU: _gelu,
    activation.SiLU: _silu,
    activation.Hardswish: _hard_swish,
    activation.Hardsigmoid: _hard_sigmoid,
    activation.Softmax: lambda context, x, axis: softmax(context, x, x.ndim, axis),
}


def emitter_of(operation: Operation) -> Emitter | None:
    """Return how an operation is said; None if it cannot be."""
    return EMITTERS.get(operation.kind) if isinstance(operation.kind, type) else None


# Operations that are nodes also where all their arguments are constants.
KEPT: set[type[Function]] = set()

# Operations whose arguments may depend on the input's size: their emitters ask for that.
SIZED: set[type[Function]] = {
    MaxPool2d, SumPool2d, shape.Reshape,
}  # fmt: skip
