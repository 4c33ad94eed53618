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

from lucid.autograd import Function, Tensor
from lucid.autograd._function import Accumulate, Cast, CopyIntoView, Scale
from lucid.graph import Operation, Value, leaves
from lucid.kernels.geometry import Conv
from lucid.onnx import _emit_choices as choices
from lucid.onnx import _emit_shapes as shapes
from lucid.onnx._context import Context
from lucid.onnx._traced import Array, ExportError, Size, Traced, Varying, place
from lucid.ops import _activation as activation
from lucid.ops import _index as index
from lucid.ops import _join as join
from lucid.ops import _loss as loss
from lucid.ops import _pool as pool
from lucid.ops import _reduce as reduce
from lucid.ops import _scan as scan
from lucid.ops import _shape as shape
from lucid.ops._batch_norm import BatchNormInference, BatchNormTraining
from lucid.ops._common import SumTo
from lucid.ops._conv import Conv2d, ConvInputGrad, ConvWeightGrad
from lucid.ops._conv_norm_act import ConvNormAct
from lucid.ops._dropout import Dropout
from lucid.ops._elementwise._arithmetic import Add, Div, Mul, Remainder, Sub
from lucid.ops._elementwise._choice import Clamp, Maximum, Where
from lucid.ops._elementwise._comparison import Compare
from lucid.ops._elementwise._powers import Pow, PowScalar
from lucid.ops._elementwise._rounding import Step
from lucid.ops._elementwise._table import Elementwise
from lucid.ops._embedding import Rows
from lucid.ops._inplace import Overwrite
from lucid.ops._layer_norm import Standardize
from lucid.ops._linear import Linear
from lucid.ops._matmul import Einsum, MatMul
from lucid.ops._pool import MaxPool2d, SumPool2d
from lucid.quantization._fake_quantize import FakeQuantize, integers

Emitter = Callable[..., Any]


def _plain(kind: str) -> Emitter:
    """Return the emitter of an operation that is an operator of the same arguments."""
    return lambda context, *args: context.node(kind, *args)


# -- convolution, linear, norms -----------------------------------------------------------------


def _conv(context: Context, x: Value, weight: Any, bias: Any, conv: Conv) -> str:
    return context.node(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=list(weight.shape[2:]),
        strides=list(conv.stride),
        pads=_pads(context, conv.padding),
        dilations=list(conv.dilation),
        group=conv.groups,
    )


def _conv_transpose(context: Context, x: Value, weight: Any, size: Any, conv: Conv) -> str:
    kernel, ends, extra = weight.shape[2:], [], []
    for axis, (before, after) in enumerate(conv.padding):
        reach = conv.dilation[axis] * (kernel[axis] - 1) + 1
        after = (x.shape[2 + axis] - 1) * conv.stride[axis] + reach - before - size[axis]
        ends.append((before, max(after, 0)))
        extra.append(max(-after, 0))
    return context.node(
        "ConvTranspose",
        x,
        weight,
        kernel_shape=list(kernel),
        strides=list(conv.stride),
        pads=_pads(context, tuple(ends)),
        output_padding=extra,
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


def _standardized(context: Context, x: Value, axes: Any, eps: float) -> str:
    sizes = [size for size in context.shape(x)[min(axes) :] if isinstance(size, int)]
    last = list(axes) == list(range(x.ndim - len(sizes), x.ndim))
    if context.opset >= 17 and last:
        ones = np.ones(sizes, x.dtype)
        return context.node("LayerNormalization", x, ones, axis=min(axes), epsilon=eps)
    centred, squares = _centred(context, x, axes)
    variance = _reduced(context, "ReduceMean", squares, axes, True)
    root = context.node("Sqrt", context.node("Add", variance, context.like(eps, x)))
    return context.node("Div", centred, root)


def _batch_norm_training(
    context: Context, x: Value, weight: Any, bias: Any, eps: float
) -> tuple[str, ...]:
    axes = (0, *range(2, x.ndim))
    shape = np.array([-1] + [1] * (x.ndim - 2))
    centred, squares = _centred(context, x, axes)
    variance = _reduced(context, "ReduceMean", squares, axes, True)
    root = context.node("Sqrt", context.node("Add", variance, context.like(eps, x)))
    y = context.node("Div", centred, root)
    for kind, each in (("Mul", weight), ("Add", bias)):
        y = y if each is None else context.node(kind, y, context.node("Reshape", each, shape))
    mean = _reduced(context, "ReduceMean", x, axes, False)
    return y, mean, context.node("Reshape", variance, np.array([-1]))


# -- integers -----------------------------------------------------------------------------------


def _fake_quantize(
    context: Context, x: Any, scale: Array, zero: Array, axis: int | None, qmin: int, qmax: int
) -> str:
    """Add DequantizeLinear of the integers, which a file holds of a constant."""
    if axis is not None:
        context.need(13, "a scale for each channel")
    if isinstance(x, Value):
        rounded = context.once("QuantizeLinear", x, scale, zero, axis=axis)
        return context.once("DequantizeLinear", rounded, scale, zero, axis=axis)
    array = x.data if isinstance(x, Tensor) else x
    name = context.traced.names.get(id(array), "")
    stored = context.constant(integers(array, scale, zero, axis, qmin, qmax), name)
    # Of a bias the runtimes want no zero point.
    return context.node("DequantizeLinear", stored, scale, zero if zero.any() else None, axis=axis)


# -- pools --------------------------------------------------------------------------------------


def _pads(context: Context, padding: Any) -> list[int]:
    (top, bottom), (left, right) = context.fixed(padding, "its padding")
    return [top, left, bottom, right]


def _max_pool(
    context: Context, x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
) -> str:
    return context.node(
        "MaxPool",
        x,
        kernel_shape=list(context.fixed(kernel, "its window")),
        strides=list(stride),
        pads=_pads(context, padding),
        dilations=list(dilation),
    )


def _average_pool(context: Context, x: Value, kernel: Any, stride: Any, padding: Any) -> str:
    return context.node(
        "AveragePool",
        x,
        kernel_shape=list(context.fixed(kernel, "its window")),
        strides=list(stride),
        pads=_pads(context, padding),
        count_include_pad=1,
    )


def _sum_pool(context: Context, x: Value, kernel: Any, stride: Any, padding: Any, size: Any) -> str:
    mean = _average_pool(context, x, kernel, stride, padding)
    return context.node("Mul", mean, context.like(math.prod(kernel), x))


# -- reductions -----------------------------------------------------------------------------------


def _reduced(context: Context, kind: str, x: Any, axes: Iterable[int], keepdim: bool) -> str:
    """Add a reduction; its axes were an attribute before opset 13, of most before opset 18."""
    axes, keep = [int(axis) for axis in axes], int(keepdim)
    if not axes:  # which would mean all of them
        return context.node("Identity", x)
    if context.opset >= (13 if kind == "ReduceSum" else 18):
        return context.node(kind, x, np.array(axes, np.int64), keepdims=keep)
    return context.node(kind, x, axes=axes, keepdims=keep)


def _reduction(kind: str) -> Emitter:
    """Return the emitter of a reduction, of whole numbers as int64."""

    def emit(context: Context, x: Any, axes: Iterable[int], keepdim: bool) -> str:
        given = x if x.dtype.kind == "f" else context.cast(x, np.int64)
        return _reduced(context, kind, given, axes, keepdim)

    return emit


def _extremum(context: Context, x: Value, axes: Any, keepdim: bool, ufunc: Any) -> str:
    kind = "ReduceMax" if ufunc is np.maximum else "ReduceMin"
    return _reduced(context, kind, x, axes, keepdim)


def _mean(context: Context, x: Value, axes: Any, keepdim: bool) -> str:
    if sorted(axes) == [2, 3] and x.ndim == 4 and keepdim:
        return context.node("GlobalAveragePool", x)
    return _reduced(context, "ReduceMean", x, axes, keepdim)


def _centred(context: Context, x: Any, axes: Any) -> tuple[str, str]:
    """Add the distances of ``x`` from its mean; return them and their squares."""
    centred = context.node("Sub", x, _reduced(context, "ReduceMean", x, axes, True))
    return centred, context.node("Mul", centred, centred)


def _variance(context: Context, x: Value, axes: Any, keepdim: bool, correction: float) -> str:
    _, squares = _centred(context, x, axes)
    mean = _reduced(context, "ReduceMean", squares, axes, keepdim)
    if not correction:
        return mean
    sizes = context.fixed([context.shape(x)[axis] for axis in axes], "its correction")
    count = math.prod(sizes)
    with np.errstate(all="ignore"):
        factor = np.divide(count, max(count - correction, 0.0))
    return context.node("Mul", mean, context.like(factor, x))


def _deviation(context: Context, *args: Any) -> str:
    return context.node("Sqrt", _variance(context, *args))


def _norm(context: Context, x: Value, p: float, axes: Any, keepdim: bool) -> str:
    if p == 2 and axes:
        return _reduced(context, "ReduceL2", x, axes, keepdim)
    powers = context.node("Pow", context.node("Abs", x), context.like(p, x))
    total = _reduced(context, "ReduceSum", powers, axes, keepdim)
    return context.node("Pow", total, context.like(1 / p, x))


def _cumsum(context: Context, x: Value, axis: int, backwards: bool) -> str:
    given = x if x.dtype.kind == "f" else context.cast(x, np.int64)
    return context.node("CumSum", given, np.array(axis, np.int64), reverse=int(backwards))


# -- element by element -------------------------------------------------------------------------


def _divided(context: Context, a: Any, b: Any) -> str:
    maker = context.makers.get(a)
    if maker is not None and maker.kind is SumPool2d:
        x, kernel, stride, padding, _ = maker.args
        if _number(b) == math.prod(kernel):
            return _average_pool(context, x, kernel, stride, padding)
    return context.node("Div", a, b)


def _number(constant: Any) -> float | None:
    """Return the one number that fills a constant, if there is one."""
    runs = constant.runs if isinstance(constant, Varying) else (constant,)
    arrays = [run.data if isinstance(run, Tensor) else run for run in runs]
    if not all(isinstance(array, np.ndarray) and array.size for array in arrays):
        return None
    first = arrays[0].flat[0]
    return float(first) if all((array == first).all() for array in arrays) else None


def _power(context: Context, x: Value, exponent: float) -> str:
    if exponent == 2:
        return context.node("Mul", x, x)
    return context.node("Pow", x, context.like(exponent, x))


def _remainder(context: Context, a: Any, b: Any) -> str:
    if a.dtype.kind != "f":
        return context.node("Mod", a, b)
    floor = context.node("Floor", context.node("Div", a, b))
    return context.node("Sub", a, context.node("Mul", b, floor))


def _step(context: Context, x: Value, ufunc: Any) -> str:
    kinds = {np.floor: "Floor", np.ceil: "Ceil", np.rint: "Round", np.trunc: "Floor"}
    if x.dtype.kind == "b" or (x.dtype.kind != "f" and ufunc in kinds):
        return context.node("Identity", x)
    if ufunc is np.trunc:
        floor = context.node("Floor", context.node("Abs", x))
        return context.node("Mul", floor, context.node("Sign", x))
    return context.node(kinds.get(ufunc, "Sign"), x)


def _larger(context: Context, a: Any, b: Any, ufunc: Any) -> str:
    return context.node("Max" if ufunc is np.maximum else "Min", a, b)


def _clamp(context: Context, x: Any, low: Any, high: Any) -> str:
    bounds = [bound for bound in (low, high) if bound is not None]
    if all(isinstance(bound, Tensor) and not bound.ndim for bound in bounds):
        return context.node("Clip", x, low, high)
    for kind, bound in (("Max", low), ("Min", high)):
        x = x if bound is None else context.node(kind, x, bound)
    return x


def _reciprocal_root(context: Context, x: Value) -> str:
    return context.node("Reciprocal", context.node("Sqrt", x))


def _exp_minus_one(context: Context, x: Any, like: Any = None) -> str:
    return context.node("Sub", context.node("Exp", x), context.like(1, x if like is None else like))


def _log_of_one_more(context: Context, x: Value) -> str:
    return context.node("Log", context.node("Add", x, context.like(1, x)))


def _einsum(context: Context, inputs: Any, output: str, *operands: Any) -> str:
    context.need(12, "Einsum")
    return context.node("Einsum", *operands, equation=f"{','.join(inputs)}->{output}")


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


def _leaky_relu(context: Context, x: Value, slope: float) -> str:
    return context.node("LeakyRelu", x, alpha=slope)


def _elu(context: Context, x: Value, negative: float, positive: float, inner: float) -> str:
    if positive == inner == 1:
        return context.node("Elu", x, alpha=negative)
    if inner == 1:
        return context.node("Selu", x, alpha=negative / positive, gamma=positive)
    least = context.node("Min", x, context.like(0, x))
    curve = _exp_minus_one(context, context.node("Mul", least, context.like(inner, x)), x)
    above = context.node("Mul", context.node("Relu", x), context.like(positive, x))
    return context.node("Add", above, context.node("Mul", curve, context.like(negative, x)))


def _softplus(context: Context, x: Value, beta: float, threshold: float) -> str:
    scaled: Any = x if beta == 1 else context.node("Mul", x, context.like(beta, x))
    y = context.node("Softplus", scaled)
    if beta != 1:
        y = context.node("Div", y, context.like(beta, x))
    if threshold >= 20:  # from there on the two differ by less than what float32 tells apart
        return y
    return context.node("Where", context.node("Greater", scaled, context.like(threshold, x)), x, y)


def softmax_of(context: Context, x: Any, ndim: int, axis: int, kind: str = "Softmax") -> str:
    """Add a softmax: before opset 13 it is over all axes from the one that is given."""
    if context.opset >= 13 or axis == ndim - 1:
        return context.node(kind, x, axis=axis)
    swap = list(range(ndim))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    turned = context.node(kind, context.node("Transpose", x, perm=swap), axis=ndim - 1)
    return context.node("Transpose", turned, perm=swap)


def _normalized(kind: str) -> Emitter:
    return lambda context, x, axis: softmax_of(context, x, x.ndim, axis, kind)


# -- the table ------------------------------------------------------------------------------------


def _unary(**emitters: str | Emitter) -> dict[type[Function], Emitter]:
    """Return entries of operations that were made of functions, which know their classes alone."""
    kinds = {kind.__name__: kind for kind in Elementwise.__subclasses__()}
    return {
        kinds[name]: _plain(emitter) if isinstance(emitter, str) else emitter
        for name, emitter in emitters.items()
    }


# Operations on each element that ONNX has under the same name.
# fmt: off
_SAME = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log",
    "Neg", "Reciprocal", "Sigmoid", "Sin", "Sinh", "Sqrt", "Tan", "Tanh",
)
# fmt: on

EMITTERS: dict[type[Function], Emitter] = {
    # Layers.
    Conv2d: _conv,
    ConvInputGrad: _conv_transpose,
    Linear: _linear,
    BatchNormInference: _batch_norm,
    FakeQuantize: _fake_quantize,
    BatchNormTraining: _batch_norm_training,
    Standardize: _standardized,
    MaxPool2d: _max_pool,
    SumPool2d: _sum_pool,
    # Activations.
    activation.Clip: _clip,
    activation.LeakyReLU: _leaky_relu,
    activation.PReLU: _plain("PRelu"),
    activation.ELU: _elu,
    activation.SiLU: _silu,
    activation.Hardswish: _hard_swish,
    activation.Hardsigmoid: _hard_sigmoid,
    activation.GELU: _gelu,
    activation.Softplus: _softplus,
    activation.Softmax: lambda context, x, axis: softmax_of(context, x, x.ndim, axis),
    activation.LogSoftmax: lambda context, x, axis: softmax_of(
        context, x, x.ndim, axis, "LogSoftmax"
    ),
    # Products.
    MatMul: _plain("MatMul"),
    Einsum: _einsum,
    # Element by element.
    Add: _plain("Add"),
    Sub: _plain("Sub"),
    Mul: _plain("Mul"),
    Div: _divided,
    Remainder: _remainder,
    Pow: _plain("Pow"),
    PowScalar: _power,
    Step: _step,
    Where: _plain("Where"),
    Compare: choices.compare,
    Maximum: _larger,
    Clamp: _clamp,
    **_unary(Rsqrt=_reciprocal_root, Expm1=_exp_minus_one, Log1p=_log_of_one_more),
    **_unary(**{name: name for name in _SAME}),
    Cast: lambda context, x, dtype: context.cast(x, dtype),
    # Reductions.
    reduce.Sum: _reduction("ReduceSum"),
    reduce.Mean: _mean,
    reduce.Var: _variance,
    reduce.Std: _deviation,
    reduce.Norm: _norm,
    reduce.Prod: _reduction("ReduceProd"),
    scan.Cumsum: _cumsum,
    reduce.Extremum: _extremum,
    reduce.LogSumExp: _reduction("ReduceLogSumExp"),
    reduce.Arg: choices.arg,
    # Shapes and indices.
    shape.Reshape: shapes.reshape,
    shape.Permute: shapes.permute,
    shape.Expand: shapes.expand,
    shape.Copy: lambda context, x, order: context.node("Identity", x),
    shape.Flip: shapes.flip,
    shape.Roll: shapes.roll,
    join.Cat: shapes.cat,
    shape.ConstantPad: shapes.pad,
    Rows: choices.rows,
    index.GetItem: shapes.get_item,
    index.SetItem: shapes.set_item,
    index.PutAdd: shapes.put_add,
    Overwrite: shapes.overwrite,
}

_GRADIENT = "is part of a gradient; export what is computed forward alone"
_LOSS = "is a loss; export the model without it"
_RANDOM = "draws random numbers; leave it out in evaluation"

# Why others have no entry, where there is more to say than that the exporter does not know them.
REFUSED: dict[type[Function], str] = {
    Accumulate: _GRADIENT,
    CopyIntoView: _GRADIENT,
    Scale: _GRADIENT,
    SumTo: _GRADIENT,
    ConvWeightGrad: _GRADIENT,
    activation.ClipGrad: _GRADIENT,
    pool.MaxPool2dGrad: _GRADIENT,
    pool.MaxPool2dTake: _GRADIENT,
    pool.SumPool2dGrad: _GRADIENT,
    ConvNormAct: "is a step of training; export the model in evaluation mode",
    Dropout: _RANDOM,
    loss.Huber: _LOSS,
    loss.BinaryCrossEntropy: _LOSS,
    loss.CrossEntropy: _LOSS,
    loss.KLDivergence: _LOSS,
}


# Operations that are nodes also where all their arguments are constants.
KEPT: set[type[Function]] = {FakeQuantize}

# Operations whose arguments may depend on the input's size: their emitters ask for that.
_SIZED = {MaxPool2d, SumPool2d, shape.Reshape, shape.Expand, index.GetItem, index.PutAdd}


def check_emitted(traced: Traced) -> None:
    """Raise ExportError, naming the place, if there is an operation that no file can say."""
    problems = []
    for operation in traced.operations:
        kind: Any = operation.kind
        where = f"{place(operation.module)} {operation.name}"
        if kind not in EMITTERS:
            why = REFUSED.get(kind, "is no operation that the exporter knows")
            problems.append(f"{where} {why}")
        elif kind not in _SIZED and any(isinstance(leaf, Size) for leaf in leaves(operation.args)):
            problems.append(f"{where} is by a number that depends on the input's size")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ExportError(f"export: {problems[0]}{more}")


def emit(context: Context, operation: Operation) -> None:
    """Add the nodes of an operation, and give its outputs their names."""
    kind: Any = operation.kind
    context.operation = operation
    made = EMITTERS[kind](context, *operation.args)
    for value, name in zip(operation.outputs, made if isinstance(made, tuple) else (made,)):
        context.define(value, name)
