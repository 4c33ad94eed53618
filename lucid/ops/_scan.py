"""Scans: sums and other results of the elements up to each one, and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import ValuesIndices
from lucid.kernels._memory import empty_like
from lucid.ops._common import (
    Array,
    at_axis,
    normalize_axis,
    operand,
    wide,
    with_axes,
    with_axis,
    with_dtype,
)
from lucid.ops._elementwise import logical_xor
from lucid.ops._gather import values_and_indices
from lucid.ops._join import cat

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "diff"]

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


class Cumprod(Function):
    """The products up to each element, none of which is 0: their share in the gradient is 1/x."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axis: int) -> Array:
        ctx.axis = axis
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
        y = np.cumprod(wide(x.data), axis, dtype=wide(np.empty(0, dtype)).dtype)
        y = y.astype(dtype, copy=False)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return Cumsum.apply(grad * y, ctx.axis, True) / x


def cumprod(input: Any, dim: int, dtype: DTypeLike | None = None) -> Tensor:
    """Return the products of the elements up to each one along axis ``dim``; integers give int64.

    With ``dtype`` the elements are converted to it first. The gradient is right at zeros too.
    """
    input = with_dtype(operand(input, "cumprod"), dtype, "cumprod")
    vector, axis = with_axis(input, dim, "cumprod")
    if input.requires_grad and is_grad_enabled() and (input.data == 0).any():
        products, step = vector, 1
        while step < vector.shape[axis]:  # of 2, 4, 8 ... elements, by multiplication alone
            before, after = _ends(products, axis, step)
            products = cat([products[at_axis(axis, slice(step))], before * after], axis)
            step *= 2
    else:
        products = with_dtype(Cumprod.apply(vector, axis), dtype, "cumprod")
    return products if input.ndim else products.reshape(())


def _ends(x: Tensor, axis: int, step: int = 1) -> tuple[Tensor, Tensor]:
    """Return the elements along an axis without the last ``step``, and without the first."""
    return x[at_axis(axis, slice(0, -step))], x[at_axis(axis, slice(step, None))]


def _running_extremum(input: Any, dim: int, ufunc: np.ufunc, who: str) -> ValuesIndices:
    input = operand(input, who)
    vector, axis = with_axis(input, dim, who)
    extreme = ufunc.accumulate(vector.data, axis)
    with np.errstate(invalid="ignore"):
        new = (vector.data == extreme) | (vector.data != vector.data)
    places = np.arange(vector.shape[axis]).reshape((-1,) + (1,) * (vector.ndim - axis - 1))
    latest = np.maximum.accumulate(np.where(new, places, 0), axis)
    return values_and_indices(vector, axis, latest, input.ndim > 0)


def cummax(input: Any, dim: int) -> ValuesIndices:
    """Return the largest of the elements up to each one along axis ``dim``, and where it is.

    A named tuple ``(values, indices)``; of equal elements the last counts, and NaN as largest.
    """
    return _running_extremum(input, dim, np.maximum, "cummax")


def cummin(input: Any, dim: int) -> ValuesIndices:
    """Return the smallest of the elements up to each one along ``dim``: see :func:`cummax`."""
    return _running_extremum(input, dim, np.minimum, "cummin")


# -- neighbours -----------------------------------------------------------------------------------


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """Return differences of neighbours along ``dim``, ``n`` times; of booleans, if they differ.

    ``prepend`` and ``append`` are joined to the ends first.
    """
    input = with_axes(input, "diff", 1)
    axis, n = normalize_axis(dim, input.ndim, "diff"), count(n, "n", "diff", 0)
    if n == 0:  # nothing is joined either
        return input
    x = cat([part for part in (prepend, input, append) if part is not None], axis)
    for _ in range(min(n, x.shape[axis])):
        before, after = _ends(x, axis)
        x = logical_xor(before, after) if x.dtype == np.bool_ else after - before
    return x
