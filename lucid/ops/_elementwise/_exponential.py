"""Exponentials, logarithms and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import kernels
from lucid.autograd import Tensor
from lucid.ops._common import Array, floating
from lucid.ops._elementwise._choice import clamp, where
from lucid.ops._elementwise._table import Binary, Unary, elementwise_pair, numpys, unary

__all__ = [
    "erf",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "logit",
    "sigmoid",
    "xlogy",
]  # fmt: skip


@unary(lambda grad, y: grad * y, keep="output")
def exp(x: Array) -> Array:
    """Return :math:`e^x`, element by element; integers are taken as float32."""
    return np.exp(x)


@unary(lambda grad, y: grad * (y + 1.0), keep="output")
def expm1(x: Array) -> Array:
    """Return :math:`e^x - 1`, exact also near 0."""
    return np.expm1(x)


@unary(lambda grad, x: grad / x, keep="input")
def log(x: Array) -> Array:
    """Return the natural logarithm; 0 gives -inf and negative numbers NaN."""
    return np.log(x)


@unary(lambda grad, x: grad / (x + 1.0), keep="input")
def log1p(x: Array) -> Array:
    r"""Return :math:`\ln(1 + x)`, exact also near 0."""
    return np.log1p(x)


@unary(lambda grad, y: grad * (y * (1.0 - y)), keep="output")
def sigmoid(x: Array) -> Array:
    r"""Return :math:`1 / (1 + e^{-x})`."""
    return kernels.active().sigmoid(x)


@unary(lambda grad, x: grad * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi))), keep="input")
def erf(x: Array) -> Array:
    r"""Return the error function :math:`\frac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt`."""
    return kernels.active().erf(x)


exp2: Unary = numpys(np.exp2, "Return 2 to that power.", lambda g, x: g * (exp2(x) * math.log(2)))
log2 = numpys(np.log2, "Return the logarithm to base 2.", lambda g, x: g / (x * math.log(2)))
log10 = numpys(np.log10, "Return the logarithm to base 10.", lambda g, x: g / (x * math.log(10)))
logaddexp = elementwise_pair(
    np.logaddexp,
    "Return the logarithm of the sum of the exponentials, without overflow.",
    lambda g, a, b: g / (exp(b - a) + 1),
    lambda g, a, b: g / (exp(a - b) + 1),
)
logaddexp2 = elementwise_pair(
    np.logaddexp2,
    "Return the logarithm of the sum of powers, to base 2.",
    lambda g, a, b: g / (exp2(b - a) + 1),
    lambda g, a, b: g / (exp2(a - b) + 1),
)


def _xlogy(a: Array, b: Array) -> Array:
    return np.where((a == 0) & ~np.isnan(b), np.zeros_like(a), a * np.log(b))


xlogy: Binary = elementwise_pair(
    _xlogy,
    "Return ``input * log(other)``, and 0 where ``input`` is 0.",
    lambda g, a, b: where((a.data == 0) & (b.data <= 0), 0.0, xlogy(g, b)),
    lambda g, a, b: g * (a / b),
    "xlogy",
)


def _logit_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return where((x.data >= 0) & (x.data <= 1), grad / (x * (1 - x)), math.nan)


@unary(_logit_gradient, keep="input")
def _logit(x: Array) -> Array:
    return np.log(x / (1 - x))


def logit(input: Any, eps: float | None = None) -> Tensor:
    r"""Return :math:`\ln(x / (1 - x))` of ``input``, limited to ``[eps, 1 - eps]`` by ``eps``."""
    input = floating(input, "logit")
    # Clamped is a copy: in place, the tensor itself does not keep its value.
    return _logit(input if eps is None else clamp(input.clone(), eps, 1 - eps))
