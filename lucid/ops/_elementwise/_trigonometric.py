"""Functions of angles, and the hyperbolic ones."""

from __future__ import annotations

import numpy as np

from lucid.ops._common import Array
from lucid.ops._elementwise._table import unary

__all__ = ["cos", "sin", "tan", "tanh"]


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
