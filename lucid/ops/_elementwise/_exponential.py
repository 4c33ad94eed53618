"""Exponentials, logarithms and what is made of them."""

from __future__ import annotations

import math

import numpy as np

from lucid import kernels
from lucid.ops._common import Array
from lucid.ops._elementwise._table import unary

__all__ = ["erf", "exp", "expm1", "log", "log1p", "sigmoid"]


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
