"""Activations, and softmax.

Those with a kernel of their own are operations here; the others are written in operations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid import kernels
from lucid._random import generator
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import (
    Array,
    as_float,
    floating,
    normalize_axis,
    operand,
    sum_to,
    wanted,
    with_axis,
)
from lucid.ops._elementwise import clamp, erf, exp, sigmoid, tanh, where

__all__ = [
    "celu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "selu",
    "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanhshrink", "threshold",
]  # fmt: skip

# -- ReLU and its kin ---------------------------------------------------------------------------


class Clip(Function):
    """``min(max(x, low), high)``: ReLU, ReLU6 and Hardtanh. Keeps its output."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, low: float, high: float) -> Array:
        y: Array = kernels.active().clip(x.data, low, high)
        ctx.save_for_backward(y)
        ctx.bounds = low, high
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return ClipGrad.apply(grad, y.detach(), *ctx.bounds)


class ClipGrad(Function):
    """Linear in ``grad``; the output only chooses where it passes, so it is its own derivative."""

    @staticmethod
    def forward(ctx: Node, grad: Tensor, y: Tensor, low: float, high: float) -> Array:
        ctx.save_for_backward(y)
        ctx.bounds = low, high
        return kernels.active().clip_grad(grad.data, y.data, low, high)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return ClipGrad.apply(grad, y, *ctx.bounds)


def _clip(input: Any, low: float, high: float, who: str) -> Tensor:
    """Return ``input`` within bounds; integers stay integers, within the bounds' whole parts."""
    x = operand(input, who)
    kind = x.dtype.kind
    if kind == "f":
        return Clip.apply(x, low, high)
    if kind == "b" or (kind == "u" and low < 0):
        raise TypeError(
            f"{who}: {x.dtype} cannot be limited to the range from {low} to {high}; "
            "convert with float()"
        )
    return wrap(np.clip(x.data, int(low), None if math.isinf(high) else int(high)))


def relu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``max(x, 0)``.

    Args:
        input: any shape, of floats or integers, which it keeps.
        inplace: accepted as in PyTorch, and without effect: the result is always new.

    Raises:
        TypeError: for booleans.
    """
    return _clip(input, 0.0, math.inf, "relu")


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """Return ``min(max(x, 0), 6)`` (Krizhevsky 2010). See :func:`relu`."""
    return _clip(input, 0.0, 6.0, "relu6")


def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Return ``min(max(x, min_val), max_val)``. For the other arguments see :func:`relu`.

    The gradient is 0 at the bounds, where ``clamp``'s is 1.

    Raises:
        ValueError: if ``min_val`` is larger than ``max_val``.
        TypeError: for booleans, and for unsigned integers if ``min_val`` is negative.
    """
    low, high = as_float(min_val, "min_val", "hardtanh"), as_float(max_val, "max_val", "hardtanh")
    if low > high:
        raise ValueError(f"hardtanh: expected min_val <= max_val, got {min_val} and {max_val}")
    return _clip(input, low, high, "hardtanh")


class LeakyReLU(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, slope: float) -> Array:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return x.data * _slopes(x.data, slope)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * wrap(_slopes(x.data, ctx.slope))


def _slopes(x: Array, slope: float) -> Array:
    """Return 1 where ``x`` is positive, else ``slope``."""
    positive = x > 0
    if 0 <= slope <= 1:  # ten times as fast as choosing
        return np.maximum(positive.astype(x.dtype), x.dtype.type(slope))
    return np.where(positive, x.dtype.type(1), x.dtype.type(slope))


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return ``x`` where positive, else ``x`` times ``negative_slope``. See :func:`relu`."""
    return LeakyReLU.apply(
        floating(input, "leaky_relu"), as_float(negative_slope, "negative_slope", "leaky_relu")
    )


class PReLU(Function):
    """``weight * x`` where ``x`` is not positive; the weight broadcasts to the shape of ``x``."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, weight: Tensor) -> Array:
        ctx.save_for_backward(x, weight)
        clip = kernels.active().clip
        y: Array = clip(x.data, -math.inf, 0.0) * weight.data
        y += clip(x.data, 0.0, math.inf)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        positive = x.data > 0
        return wanted(
            ctx,
            lambda: where(positive, grad, grad * weight),
            lambda: sum_to(where(positive, 0.0, grad * x), weight.shape),
        )


def prelu(input: Any, weight: Any) -> Tensor:
    """Return ``x`` where positive, else ``weight * x`` (He et al. 2015).

    Args:
        input: ``(N, C, *)`` or, with a single weight, any shape.
        weight: ``(1,)`` or ``(C,)``.

    Raises:
        ValueError: if the number of weights is neither 1 nor C.
    """
    x, w = floating(input, "prelu"), floating(weight, "prelu")
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.data.size not in (1, channels):
        raise ValueError(
            f"prelu: expected one weight, or one for each of the {channels} channels (axis 1), got "
            f"weights of shape {w.shape} for an input of shape {x.shape}"
        )
    w = w.reshape(*((1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (1,) * x.ndim))
    return PReLU.apply(x, w)


# -- exponential ones ---------------------------------------------------------------------------


class ELU(Function):
    """``positive * x`` above 0, else ``negative * (e^(inner * x) - 1)``: ELU, SELU and CELU."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, negative: float, positive: float, inner: float) -> Array:
        ctx.save_for_backward(x)
        ctx.factors = negative, positive, inner
        clip = kernels.active().clip  # faster than np.minimum and np.maximum
        y, above = clip(x.data, -math.inf, 0.0), clip(x.data, 0.0, math.inf)
        y *= inner
        np.expm1(y, out=y)
        y *= negative
        above *= positive
        y += above
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if not is_grad_enabled():
            return wrap(kernels.active().elu_grad(grad.data, x.data, *ctx.factors))
        negative, positive, inner = ctx.factors
        # From the input: the output plus its limit is 0 long before e^x is.
        slope = exp(where(x.data < 0, x, 0.0) * inner) * (negative * inner)
        return grad * where(x.data <= 0, slope, positive)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``x`` where positive, else ``alpha * (e^x - 1)`` (Clevert et al. 2015).

    ``alpha`` is minus the limit below; for the other arguments see :func:`relu`.
    """
    return ELU.apply(floating(input, "elu"), as_float(alpha, "alpha", "elu"), 1.0, 1.0)


# Klambauer et al. 2017: with these, mean 0 and variance 1 are a fixed point.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``1.0507 * elu(x, 1.6733)`` (Klambauer et al. 2017). See :func:`relu`."""
    x = floating(input, "selu")
    return ELU.apply(x, _SELU_ALPHA * _SELU_SCALE, _SELU_SCALE, 1.0)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``x`` where positive, else ``alpha * (e^(x/alpha) - 1)`` (Barron 2017).

    For the other arguments see :func:`relu`.

    Raises:
        ValueError: if ``alpha`` is 0.
    """
    alpha = as_float(alpha, "alpha", "celu")
    if alpha == 0:
        raise ValueError("celu: alpha must not be zero")
    return ELU.apply(floating(input, "celu"), alpha, 1.0, 1 / alpha)


class SiLU(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor) -> Array:
        ctx.save_for_backward(x)
        return kernels.active().silu(x.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if is_grad_enabled():
            s = sigmoid(x)
            return grad * (s * (x * (1.0 - s) + 1.0))
        return wrap(kernels.active().silu_grad(grad.data, x.data))


def silu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``x * sigmoid(x)``, also called swish (Hendrycks & Gimpel 2016). See :func:`relu`."""
    return SiLU.apply(floating(input, "silu"))


class Hardswish(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor) -> Array:
        ctx.save_for_backward(x)
        return kernels.active().hardswish(x.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if is_grad_enabled():
            slope = where(x.data < 3, x / 3.0 + 0.5, 1.0)
            return where(x.data <= -3, 0.0, grad * slope)
        return wrap(kernels.active().hardswish_grad(grad.data, x.data))


def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """Return ``x * relu6(x + 3) / 6`` (Howard et al. 2019). See :func:`relu`."""
    return Hardswish.apply(floating(input, "hardswish"))


class Hardsigmoid(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor) -> Array:
        y: Array = kernels.active().clip(x.data + 3, 0.0, 6.0)
        y /= 6
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        number = y.data
        if np.isnan(number.max(initial=0)):
            number = np.fmax(number, 0)  # at NaN PyTorch's is 0, unlike relu6's
        return ClipGrad.apply(grad / 6.0, wrap(number), 0.0, 1.0)


def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """Return ``relu6(x + 3) / 6`` (Howard et al. 2019). See :func:`relu`."""
    return Hardsigmoid.apply(floating(input, "hardsigmoid"))


class GELU(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, approximate: bool) -> Array:
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return kernels.active().gelu(x.data, approximate)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if not is_grad_enabled():
            return wrap(kernels.active().gelu_grad(grad.data, x.data, ctx.approximate))
        if ctx.approximate:
            scale, cube = math.sqrt(2 / math.pi), 0.044715
            t = tanh((x + x * x * x * cube) * scale)
            inner = (x * x * (3 * cube) + 1.0) * scale
            return grad * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * inner)
        density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return grad * ((erf(x * math.sqrt(0.5)) + 1.0) * 0.5 + x * density)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    r"""Return :math:`x\,\Phi(x)`, with the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        input: any shape; integers are taken as float32.
        approximate: ``"none"``, or ``"tanh"`` for
            :math:`\tfrac{x}{2}\left(1 + \tanh\sqrt{2/\pi}\,(x + 0.044715\,x^3)\right)`.

    Raises:
        ValueError: if ``approximate`` is something else.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return GELU.apply(floating(input, "gelu"), approximate == "tanh")


class Softplus(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, beta: float, threshold: float) -> Array:
        ctx.save_for_backward(x)
        ctx.how = beta, threshold
        scaled = np.asarray(x.data * beta)
        # log(1 + e^s) = max(s, 0) + log(1 + e^-|s|), which cannot overflow.
        y: Array = np.abs(scaled, out=np.empty_like(scaled))
        np.negative(y, out=y)
        np.exp(y, out=y)
        np.log1p(y, out=y)
        y += kernels.active().clip(scaled, 0.0, math.inf)
        y /= beta
        if threshold < math.inf:
            np.copyto(y, x.data, where=scaled > threshold)  # np.where takes 7 times as long
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        beta, threshold = ctx.how
        scaled = x * beta
        slope = sigmoid(scaled)
        if threshold < math.inf and (beyond := scaled.data > threshold).any():
            slope = where(beyond, 1.0, slope)
        return grad * slope


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return ``log(1 + e^(beta·x)) / beta``, and ``x`` itself where ``beta·x > threshold``.

    ``beta`` is the sharpness of the bend, ``threshold`` where it becomes the identity.
    """
    return Softplus.apply(
        floating(input, "softplus"),
        as_float(beta, "beta", "softplus"),
        as_float(threshold, "threshold", "softplus"),
    )


def mish(input: Any, inplace: bool = False) -> Tensor:
    """Return ``x * tanh(softplus(x))`` (Misra 2019). See :func:`relu`."""
    x = floating(input, "mish")
    return x * tanh(softplus(x))


def logsigmoid(input: Any) -> Tensor:
    """Return ``log(sigmoid(x))`` without overflow."""
    return -softplus(-floating(input, "logsigmoid"), threshold=math.inf)


def softsign(input: Any) -> Tensor:
    """Return ``x / (1 + |x|)``."""
    x = floating(input, "softsign")
    return x / (x.abs() + 1.0)


def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """Return ``x``, and 0 where it is from ``-lambd`` to ``lambd``."""
    x = floating(input, "hardshrink")
    bound = as_float(lambd, "lambd", "hardshrink")
    return where((x >= -bound) & (x <= bound), 0.0, x)


def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """Return ``x`` nearer to 0 by ``lambd``, and 0 where it is not farther away.

    Raises:
        ValueError: if ``lambd`` is negative.
    """
    x = floating(input, "softshrink")
    bound = as_float(lambd, "lambd", "softshrink")
    if bound < 0:
        raise ValueError(f"softshrink: lambd must be at least 0, got {lambd}")
    return x - clamp(x, -bound, bound)


def tanhshrink(input: Any) -> Tensor:
    """Return ``x - tanh(x)``."""
    x = floating(input, "tanhshrink")
    return x - tanh(x)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return ``x`` where it is above ``threshold``, else ``value``. See :func:`relu`."""
    x = operand(input, "threshold")
    low, other = (
        as_float(v, n, "threshold") for v, n in ((threshold, "threshold"), (value, "value"))
    )
    return where(x <= low, wrap(np.array(other).astype(x.dtype)), x)


def glu(input: Any, dim: int = -1) -> Tensor:
    """Return ``a * sigmoid(b)``, where a and b are the halves of the input (Dauphin et al. 2017).

    Raises:
        ValueError: if the axis ``dim`` does not have an even size.
        IndexError: if there is no such axis.
    """
    x = floating(input, "glu")
    dim = normalize_axis(dim, x.ndim, "glu")
    if x.shape[dim] % 2:
        raise ValueError(f"glu: expected an even size along axis {dim}, got shape {x.shape}")
    a, b = x.chunk(2, dim) if x.shape[dim] else (x, x)
    return a * sigmoid(b)


# -- softmax ------------------------------------------------------------------------------------


class Softmax(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, dim: int) -> Array:
        y: Array = kernels.active().softmax(x.data, dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if is_grad_enabled():
            return y * (grad - (grad * y).sum(ctx.dim, keepdim=True))
        return wrap(kernels.active().softmax_grad(grad.data, y.data, ctx.dim))


class LogSoftmax(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, dim: int) -> Array:
        y: Array = kernels.active().log_softmax(x.data, dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        if is_grad_enabled():
            return grad - exp(y) * grad.sum(ctx.dim, keepdim=True)
        return wrap(kernels.active().log_softmax_grad(grad.data, y.data, ctx.dim))


def _softmax(
    operation: type[Function], input: Any, dim: int | None, dtype: Any, who: str
) -> Tensor:
    x = floating(input, who)
    if dtype is not None:
        x = x.astype(dtype)
    if dim is None:
        raise TypeError(f"{who}: pass the axis to normalise along as dim=")
    vector, axis = with_axis(x, dim, who)
    y: Tensor = operation.apply(vector, axis)
    return y if x.ndim else y.reshape(())


def softmax(input: Any, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    r"""Return :math:`e^{x_i} / \sum_j e^{x_j}` along the axis ``dim``; the results add up to 1.

    Args:
        input: any shape.
        dim: the axis. It must be given; PyTorch guesses and warns.
        dtype: convert the input first.

    Raises:
        TypeError: if ``dim`` is missing.
        IndexError: if there is no such axis.
    """
    return _softmax(Softmax, input, dim, dtype, "softmax")


def log_softmax(input: Any, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    r"""Return :math:`x_i - \ln\sum_j e^{x_j}` along the axis ``dim``.

    Arguments as in :func:`softmax`.
    """
    return _softmax(LogSoftmax, input, dim, dtype, "log_softmax")


def softmin(input: Any, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """Return ``softmax(-input)``. Arguments as in :func:`softmax`."""
    return _softmax(Softmax, -floating(input, "softmin"), dim, dtype, "softmin")


def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Return a random choice that has a gradient: softmax of logits and noise (Jang et al. 2017).

    Args:
        logits: any shape.
        tau: the temperature; the smaller, the nearer to one-hot vectors.
        hard: return one-hot vectors, with the gradient of the soft ones.
        eps: without effect, as in PyTorch.
        dim: the axis of the choices.
    """
    x = floating(logits, "gumbel_softmax")
    noise = generator().gumbel(size=x.shape).astype(x.dtype)
    soft = softmax((x + wrap(noise)) / tau, dim)
    if not hard:
        return soft
    chosen = np.zeros(x.shape, x.dtype)
    np.put_along_axis(chosen, soft.data.argmax(dim, keepdims=True), 1, dim)
    return wrap(chosen) - soft.detach() + soft
