"""Scans: sums and other results of the elements up to each one along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.kernels._memory import empty_like
from lucid.ops._common import Array, operand, with_axis, with_dtype

__all__ = ["cumsum"]

# So many numbers at a time, with what is made of them, stay in the second-level cache.
_BLOCK = 1 << 17

# Slices of so many numbers are worth a call, also across rows that are so short.
_LONG, _SHORT = 1 << 9, 16


def _running_sums(x: Array, axis: int, backwards: bool) -> Array:
    """Return the sums of floating-point numbers up to each one, added one by one in float64.

    In float32 that of 2^24 ones would stay there. NumPy adds at the pace of one chain of additions,
    so whole slices are added where they are long, and two rows as the parts of complex numbers.
    """
    y = empty_like(x)
    order = (..., slice(None, None, -1 if backwards else 1))
    rows, sums = x.swapaxes(axis, -1)[order], y.swapaxes(axis, -1)[order]
    count = x.shape[axis]
    scattered = count > _SHORT and abs(x.strides[axis]) == x.itemsize
    if x.size >= _LONG * count and count > 1 and not scattered:
        total = np.zeros(rows.shape[:-1])
        for i in range(count):
            total += rows[..., i]
            sums[..., i] = total
        return y
    done = 0
    if x.ndim > 1 and x.size >= _LONG:
        most = max(1, _BLOCK // 4 * len(rows) // x.size)
        pairs = np.empty((most, *rows.shape[1:]), np.complex128)
        while half := min(most, (len(rows) - done) // 2):
            first, second = slice(done, done + half), slice(done + half, done + 2 * half)
            both = pairs[:half]
            both.real, both.imag = rows[first], rows[second]
            np.cumsum(both, -1, out=both)
            sums[first], sums[second] = both.real, both.imag
            done += 2 * half
    if done < len(rows):
        single = rows[done:].astype(np.float64)
        sums[done:] = np.cumsum(single, -1, out=single)
    return y


class Cumsum(Function):
    """The sums up to each element, or ``backwards`` from the end."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axis: int, backwards: bool) -> Array:
        ctx.how = axis, backwards
        if x.dtype.kind != "f":
            return np.cumsum(x.data, axis, dtype=np.int64)
        return _running_sums(x.data, axis, backwards)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        axis, backwards = ctx.how
        return Cumsum.apply(grad, axis, not backwards)


def cumsum(input: Any, dim: int, dtype: DTypeLike | None = None) -> Tensor:
    """Return the sums of the elements up to each one along axis ``dim``; integers give int64.

    With ``dtype`` the elements are converted to it first, and the result has it too.
    """
    input = with_dtype(operand(input, "cumsum"), dtype, "cumsum")
    vector, axis = with_axis(input, dim, "cumsum")
    sums = with_dtype(Cumsum.apply(vector, axis, False), dtype, "cumsum")
    return sums if input.ndim else sums.reshape(())
