"""Softmax and its logarithm along an axis, with their gradients."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._sums import sums

Array = np.ndarray


def _sum(x: Array, axis: int) -> Array:
    total: Array = sums(x, (axis % x.ndim,), True)
    return total.astype(x.dtype, copy=False)


@in_float32
def softmax(x: Array, axis: int) -> Array:
    """Return ``e^x / sum(e^x)`` along ``axis``. A slice of minus infinities gives NaN."""
    if x.size == 0:
        return np.empty_like(x)
    with np.errstate(invalid="ignore"):
        y: Array = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= _sum(y, axis)
    return y


@in_float32
def softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """Return the gradient of :func:`softmax` in its input, given its output ``y``."""
    result: Array = grad * y
    result -= y * _sum(result, axis)
    return result


@in_float32
def log_softmax(x: Array, axis: int) -> Array:
    """Return ``x - log(sum(e^x))`` along ``axis``."""
    if x.size == 0:
        return np.empty_like(x)
    with np.errstate(invalid="ignore"):
        y: Array = x - x.max(axis=axis, keepdims=True)
    y -= np.log(_sum(np.exp(y), axis))
    return y


@in_float32
def log_softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """Return the gradient of :func:`log_softmax` in its input, given its output ``y``."""
    result: Array = np.exp(y)
    result *= -_sum(grad, axis)
    result += grad
    return result
