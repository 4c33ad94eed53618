"""Functions of angles, and the hyperbolic ones."""

from __future__ import annotations

import math

import numpy as np

from lucid.autograd import Tensor
from lucid.ops._common import Array, wide
from lucid.ops._elementwise._choice import where
from lucid.ops._elementwise._table import Binary, Unary, elementwise_pair, numpys, unary

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "deg2rad",
    "hypot", "rad2deg", "sin", "sinc", "sinh", "tan", "tanh",
]  # fmt: skip


@unary(lambda grad, x: grad * x.cos(), keep="input")
def sin(x: Array) -> Array:
    """Return the sine of an angle in radians."""
    return np.sin(x)


@unary(lambda grad, x: -grad * x.sin(), keep="input")
def cos(x: Array) -> Array:
    """Return the cosine of an angle in radians."""
    return np.cos(x)


@unary(lambda grad, y: grad * (y * y + 1.0), keep="output")
def tan(x: Array) -> Array:
    """Return the tangent of an angle in radians."""
    return np.tan(x)


@unary(lambda grad, y: grad * (1.0 - y * y), keep="output")
def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


asin = numpys(
    np.arcsin, "Return the angle whose sine it is.", lambda g, x: g * (1 - x * x).rsqrt(), "asin"
)
acos = numpys(
    np.arccos, "Return the angle whose cosine it is.", lambda g, x: -g * (1 - x * x).rsqrt(), "acos"
)
atan = numpys(
    np.arctan, "Return the angle whose tangent it is.", lambda g, x: g / (x * x + 1), "atan"
)
sinh = numpys(np.sinh, "Return the hyperbolic sine.", lambda g, x: g * cosh(x))
cosh: Unary = numpys(np.cosh, "Return the hyperbolic cosine.", lambda g, x: g * sinh(x))
asinh = numpys(
    np.arcsinh, "Return the inverse of sinh.", lambda g, x: g * (x * x + 1).rsqrt(), "asinh"
)
acosh = numpys(
    np.arccosh, "Return the inverse of cosh.", lambda g, x: g * (x * x - 1).rsqrt(), "acosh"
)
atanh = numpys(np.arctanh, "Return the inverse of tanh.", lambda g, x: g / (1 - x * x), "atanh")
deg2rad = numpys(
    np.deg2rad, "Return an angle in degrees in radians.", lambda g, x: g * (math.pi / 180)
)
rad2deg = numpys(
    np.rad2deg, "Return an angle in radians in degrees.", lambda g, x: g * (180 / math.pi)
)
atan2 = elementwise_pair(
    np.arctan2,
    "Return the angle of the point (``other``, ``input``), from -pi to pi.",
    lambda g, a, b: g * (b / where((a.data == 0) & (b.data == 0), 1.0, a * a + b * b)),
    lambda g, a, b: g * (-a / where((a.data == 0) & (b.data == 0), 1.0, a * a + b * b)),
    "atan2",
)
hypot: Binary = elementwise_pair(
    np.hypot,
    "Return the length of the hypotenuse, without overflow.",
    lambda g, a, b: g * (a / hypot(a, b)),
    lambda g, a, b: g * (b / hypot(a, b)),
)


def _sinc_gradient(grad: Tensor, x: Tensor) -> Tensor:
    angle = x * math.pi
    return where(x.data == 0, 0.0, grad * ((angle * cos(angle) - sin(angle)) / (angle * x)))


@unary(_sinc_gradient, keep="input")
def sinc(x: Array) -> Array:
    r"""Return :math:`\sin(\pi x) / (\pi x)`, 1 at 0."""
    return np.sinc(wide(x)).astype(x.dtype)
