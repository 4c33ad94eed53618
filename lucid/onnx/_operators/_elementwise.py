"""Arithmetic, comparisons, choices and activations, element by element."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid import nn, ops
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.onnx._operators._table import (
    Built,
    Weight,
    array,
    array_dtype,
    operator,
    scalar,
    tensor,
    unsupported,
    whole,
)
from lucid.onnx._read import Node

# -- of one tensor ------------------------------------------------------------------------------

_UNARY: dict[str, Callable[[Any], Tensor]] = {
    "Abs": ops.abs,
    "Ceil": ops.ceil,
    "Cos": ops.cos,
    "Erf": ops.erf,
    "Exp": ops.exp,
    "Floor": ops.floor,
    "IsNaN": ops.isnan,
    "Log": ops.log,
    "Neg": ops.neg,
    "Not": ops.logical_not,
    "Reciprocal": ops.reciprocal,
    "Round": ops.round,
    "Sign": ops.sign,
    "Sin": ops.sin,
    "Sqrt": ops.sqrt,
    "Tan": ops.tan,
    "BitwiseNot": ops.bitwise_not,
}

# Activations without settings: the function, and the layer that a node of them becomes.
_ACTIVATIONS: dict[str, tuple[Callable[[Any], Tensor], type[nn.Module]]] = {
    "HardSwish": (F.hardswish, nn.Hardswish),
    "Mish": (F.mish, nn.Mish),
    "Relu": (F.relu, nn.ReLU),
    "Sigmoid": (F.sigmoid, nn.Sigmoid),
    "Softsign": (F.softsign, nn.Softsign),
    "Tanh": (F.tanh, nn.Tanh),
}


def _plain_layer(node: Node, rank: int | None, *, made: type[nn.Module]) -> Built:
    return made(), {}


class _OfOne:
    """``compute(node, x)`` for a function of one tensor."""

    def __init__(self, function: Callable[[Any], Tensor]) -> None:
        self.function = function

    def __call__(self, node: Node, x: Any) -> Tensor:
        return self.function(tensor(x))


for _name, _function in _UNARY.items():
    operator(_name, text=f"`lucid.{_function.__name__}`")(_OfOne(_function))
for _name, (_function, _layer) in _ACTIVATIONS.items():
    operator(
        _name,
        text=f"`nn.{_layer.__name__}`",
        layer=functools.partial(_plain_layer, made=_layer),
        size=None,
    )(_OfOne(_function))


@operator("Sinh")
def sinh(node: Node, x: Any) -> Any:
    """From exponentials."""
    x = tensor(x)
    return (ops.exp(x) - ops.exp(-x)) * 0.5


@operator("Cosh")
def cosh(node: Node, x: Any) -> Any:
    """From exponentials."""
    x = tensor(x)
    return (ops.exp(x) + ops.exp(-x)) * 0.5


@operator("Asinh")
def asinh(node: Node, x: Any) -> Any:
    """From a logarithm."""
    x = tensor(x)
    return ops.sign(x) * ops.log(ops.abs(x) + ops.sqrt(x * x + 1.0))


@operator("Acosh")
def acosh(node: Node, x: Any) -> Any:
    """From a logarithm."""
    x = tensor(x)
    return ops.log(x + ops.sqrt(x * x - 1.0))


@operator("Atanh")
def atanh(node: Node, x: Any) -> Any:
    """From logarithms."""
    x = tensor(x)
    return (ops.log1p(x) - ops.log1p(-x)) * 0.5


@operator("IsInf")
def is_inf(node: Node, x: Any) -> Any:
    """`lucid.isinf`, of one sign or both."""
    x = tensor(x)
    found = ops.isinf(x)
    if not node.integer("detect_negative", 1):
        found = ops.logical_and(found, x > 0)
    if not node.integer("detect_positive", 1):
        found = ops.logical_and(found, x < 0)
    return found


def _slope_layer(node: Node, rank: int | None) -> Built:
    return nn.LeakyReLU(node.number("alpha", 0.01)), {}


@operator("LeakyRelu", layer=_slope_layer, size=None, text="`nn.LeakyReLU`")
def leaky_relu(node: Node, x: Any) -> Any:
    """`nn.LeakyReLU`."""
    return F.leaky_relu(x, node.number("alpha", 0.01))


def _elu_layer(node: Node, rank: int | None) -> Built:
    return nn.ELU(node.number("alpha", 1.0)), {}


@operator("Elu", layer=_elu_layer, size=None)
def elu(node: Node, x: Any) -> Any:
    """`nn.ELU`."""
    return F.elu(x, node.number("alpha", 1.0))


@operator("Celu", size=None)
def celu(node: Node, x: Any) -> Any:
    """`nn.functional.celu`."""
    return F.celu(x, node.number("alpha", 1.0))


_SELU = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's own defaults


def _selu_layer(node: Node, rank: int | None) -> Built | None:
    usual = math.isclose(node.number("alpha", _SELU[0]), _SELU[0], rel_tol=1e-6) and math.isclose(
        node.number("gamma", _SELU[1]), _SELU[1], rel_tol=1e-6
    )
    return (nn.SELU(), {}) if usual else None


@operator("Selu", layer=_selu_layer, size=None)
def selu(node: Node, x: Any) -> Any:
    """`nn.SELU`; with other constants from `nn.functional.elu`."""
    x = tensor(x)
    return F.elu(x, node.number("alpha", _SELU[0])) * node.number("gamma", _SELU[1])


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Any) -> Any:
    """`lucid.where`."""
    x = tensor(x)
    return ops.where(x > node.number("alpha", 1.0), x, 0.0)


@operator("Shrink")
def shrink(node: Node, x: Any) -> Any:
    """`lucid.where`."""
    x, bias, limit = tensor(x), node.number("bias"), node.number("lambd", 0.5)
    small = ops.where(x > limit, x - bias, x * 0)
    return ops.where(x < -limit, x + bias, small)


def _hard_sigmoid_layer(node: Node, rank: int | None) -> Built | None:
    usual = math.isclose(node.number("alpha", 0.2), 1 / 6, rel_tol=1e-4)
    return (nn.Hardsigmoid(), {}) if usual and node.number("beta", 0.5) == 0.5 else None


@operator("HardSigmoid", layer=_hard_sigmoid_layer, size=None)
def hard_sigmoid(node: Node, x: Any) -> Any:
    """`nn.Hardsigmoid`; with other slopes `lucid.clamp`."""
    return ops.clamp(tensor(x) * node.number("alpha", 0.2) + node.number("beta", 0.5), 0.0, 1.0)


def _gelu_layer(node: Node, rank: int | None) -> Built:
    return nn.GELU(node.text("approximate", "none")), {}


@operator("Gelu", layer=_gelu_layer, size=None)
def gelu(node: Node, x: Any) -> Any:
    """`nn.GELU`, exact or by tanh."""
    return F.gelu(x, node.text("approximate", "none"))


def _swish_layer(node: Node, rank: int | None) -> Built | None:
    return (nn.SiLU(), {}) if node.number("alpha", 1.0) == 1 else None


@operator("Swish", layer=_swish_layer, size=None)
def swish(node: Node, x: Any) -> Any:
    """`nn.SiLU`; with another slope from `lucid.sigmoid`."""
    x = tensor(x)
    return x * ops.sigmoid(x * node.number("alpha", 1.0))


def _softplus_layer(node: Node, rank: int | None) -> Built:
    return nn.Softplus(threshold=math.inf), {}


@operator("Softplus", layer=_softplus_layer, size=None)
def softplus(node: Node, x: Any) -> Any:
    """`nn.Softplus`."""
    return F.softplus(x, threshold=math.inf)


def _prelu_layer(node: Node, rank: int | None, slope: Weight) -> Built | None:
    shape = slope.array.shape
    if slope.array.dtype.kind != "f" or rank is None or rank < 2:
        return None
    # A slope for each channel, or one: sizes 1 behind the channels' axis, as PyTorch exports it.
    if slope.array.size != 1 and not (len(shape) == rank - 1 and max(shape[1:], default=1) == 1):
        return None
    flat = Weight(f"{slope.name} flat", slope.array.reshape(-1))
    return nn.PReLU(slope.array.size), {"weight": flat}


@operator("PRelu", layer=_prelu_layer, size=None)
def prelu(node: Node, x: Any, slope: Any) -> Any:
    """`nn.PReLU`; with other slopes `lucid.where`."""
    x = tensor(x)
    return ops.where(x > 0, x, x * slope)


def _clip_layer(
    node: Node, rank: int | None, low: Weight | None = None, high: Weight | None = None
) -> Built | None:
    ends = node.attributes.get("min"), node.attributes.get("max")
    if low is not None and high is not None and low.array.dtype.kind == "f":
        ends = scalar(low.array), scalar(high.array)
    return (nn.ReLU6(), {}) if ends == (0, 6) else None


@operator("Clip", layer=_clip_layer, fixed=(1, 2))
def clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    """`nn.ReLU6` from 0 to 6, else `lucid.clamp`."""
    x = tensor(x)
    low = node.attributes.get("min") if low is None else array(low)
    high = node.attributes.get("max") if high is None else array(high)
    return x if low is None and high is None else ops.clamp(x, low, high)


def _dropout_layer(
    node: Node, rank: int | None, ratio: Weight | None = None, training: Weight | None = None
) -> Built | None:
    if node.wants(1):
        return None
    rate = node.number("ratio", 0.5) if ratio is None else float(scalar(ratio.array))
    return nn.Dropout(rate), {}


@operator("Dropout", layer=_dropout_layer, size=None, fixed=(1, 2))
def dropout(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """`nn.Dropout`, which drops in training mode alone."""
    if training is not None and scalar(training) and (ratio is None or scalar(ratio) > 0):
        raise unsupported(node, "a mask of what is dropped in training")
    x = tensor(x)
    return (x, wrap_ones(x)) if node.wants(1) else x


def wrap_ones(x: Tensor) -> np.ndarray:
    """Return booleans of a shape, all true."""
    return np.ones(x.shape, bool)


# -- of several ---------------------------------------------------------------------------------

_BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "Add": ops.add,
    "And": ops.logical_and,
    "BitwiseAnd": ops.bitwise_and,
    "BitwiseOr": ops.bitwise_or,
    "BitwiseXor": ops.bitwise_xor,
    "Equal": ops.eq,
    "Greater": ops.gt,
    "GreaterOrEqual": ops.ge,
    "Less": ops.lt,
    "LessOrEqual": ops.le,
    "Mul": ops.mul,
    "Or": ops.logical_or,
    "Sub": ops.sub,
    "Xor": ops.logical_xor,
}


class _OfTwo:
    """``compute(node, a, b)`` for a function of two tensors."""

    def __init__(self, function: Callable[[Any, Any], Tensor]) -> None:
        self.function = function

    def __call__(self, node: Node, a: Any, b: Any) -> Tensor:
        return self.function(tensor(a), tensor(b))


for _name, _binary in _BINARY.items():
    operator(_name, text=f"`lucid.{_binary.__name__}`")(_OfTwo(_binary))


@operator("Div")
def div(node: Node, a: Any, b: Any) -> Any:
    """`lucid.div`; integers are divided and cut off towards 0."""
    if not whole(a):
        return ops.div(tensor(a), tensor(b))
    quotient = ops.floor_divide(tensor(a), tensor(b))
    inexact = ops.remainder(tensor(a), tensor(b)) != 0
    return quotient + ops.logical_and(quotient < 0, inexact).astype(quotient.dtype)


@operator("Mod")
def mod(node: Node, a: Any, b: Any) -> Any:
    """`lucid.remainder`; with `fmod` NumPy's, of the sign of the dividend, without gradient."""
    if node.integer("fmod"):
        with np.errstate(all="ignore"):
            return np.fmod(array(a), array(b))
    return ops.remainder(tensor(a), tensor(b))


@operator("Pow")
def power(node: Node, a: Any, b: Any) -> Any:
    """`lucid.pow`, in the dtype of the base."""
    x = tensor(a)
    if isinstance(b, np.ndarray) and b.size == 1 and b.ndim <= x.ndim and not whole(x):
        return ops.pow(x, float(scalar(b)))
    exponent = tensor(b)
    if whole(x) and not whole(exponent):
        return ops.pow(x.astype(np.float64), exponent).astype(x.dtype)
    return ops.pow(x, exponent.astype(x.dtype) if not whole(x) else exponent).astype(x.dtype)


def _fold(function: Callable[[Any, Any], Tensor]) -> Callable[..., Any]:
    def compute(node: Node, *values: Any) -> Any:
        if not values:
            raise ValueError(f"{node}: expected at least 1 input, got none")
        return functools.reduce(function, map(tensor, values))

    return compute


operator("Max", text="`lucid.maximum`")(_fold(ops.maximum))
operator("Min", text="`lucid.minimum`")(_fold(ops.minimum))
operator("Sum", text="`lucid.add`")(_fold(ops.add))


@operator("Mean")
def mean(node: Node, *values: Any) -> Any:
    """The sum, divided by the number of inputs."""
    return _fold(ops.add)(node, *values) / float(len(values))


@operator("Where")
def where(node: Node, condition: Any, a: Any, b: Any) -> Any:
    """`lucid.where`."""
    return ops.where(tensor(condition), tensor(a), tensor(b))


# -- dtypes -------------------------------------------------------------------------------------

DTYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
}


@operator("Cast")
def cast(node: Node, x: Any) -> Any:
    """`Tensor.astype`."""
    code = node.integer("to")
    if code not in DTYPES:
        raise unsupported(node, f"the data type {code}")
    with np.errstate(all="ignore"):
        return tensor(x).astype(DTYPES[code])


@operator("CastLike")
def cast_like(node: Node, x: Any, like: Any) -> Any:
    """`Tensor.astype`."""
    with np.errstate(all="ignore"):
        return tensor(x).astype(array_dtype(like))


@operator("Identity")
def identity(node: Node, x: Any) -> Any:
    """Its input."""
    return x
