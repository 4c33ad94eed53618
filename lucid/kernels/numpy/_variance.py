"""The variance, which is neither a difference of sums nor blind to how its mean was rounded."""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.kernels._memory import empty_like
from lucid.kernels.numpy._rows import BLOCK, rows_together
from lucid.kernels.numpy._sums import FEW, sums

Array = np.ndarray

# Over so many slices an array is cut across rather than into them: a part has runs of 16 KiB.
_SLICES = 128

# Up to so many numbers the scratch is malloc's.
_SMALL = 1 << 17

# Up to so many deviations a mean is exact enough where it is rounded.
_ALIKE = 32


def variance(x: Array, axes: tuple[int, ...], divisor: float) -> Array:
    """Return the squared distances from the mean over ``axes``, added up and divided.

    The axes are kept, with size 1. The result may be in float64, and of float16 is not in that: the
    caller rounds it.

    Args:
        x: floating-point numbers, in any layout.
        axes: from the front, each once.
        divisor: what to divide by.
    """
    values = x.astype(np.float32) if x.dtype == np.float16 else x
    parts = [values]
    if values.size > BLOCK:
        cut = _outermost(values, axes)
        size = x.shape[cut]
        step = -(-size // -(-x.size // BLOCK))  # parts of one size
        parts = [values[_along(cut, slice(i, i + step))] for i in range(0, size, step)]
        if cut not in axes:
            return np.concatenate([variance(part, axes, divisor) for part in parts], cut)
    total = sums(values, axes, True)
    count = x.size // max(1, total.size)
    pivot = np.asarray(total / count, values.dtype)
    squares = _total(_square_sums, parts, pivot, axes)
    if np.count_nonzero(np.square(pivot) * (count / _ALIKE**2) > squares):
        shift = _total(sums, parts, pivot, axes) / count  # as the mean was rounded
        squares = np.maximum(squares - count * np.square(shift), 0)
    return np.asarray(squares / divisor)


def _outermost(x: Array, axes: tuple[int, ...]) -> int:
    """Return the axis to cut an array along: not one of ``axes`` if that gives long runs."""

    def rank(axis: int) -> tuple[bool, bool, int]:
        size, stride = x.shape[axis], x.strides[axis]
        return size > 1, axis not in axes and _SLICES * size * stride >= x.nbytes, stride

    return max(range(x.ndim), key=rank)


def _total(
    of: Callable[[Array, tuple[int, ...]], Any],
    parts: Sequence[Array],
    pivot: Array,
    axes: tuple[int, ...],
) -> Array:
    """Return the sums of the distances from the pivot, or of their squares, in its shape."""
    first = parts[0]
    # To recycle memory costs small arrays more than they gain: 6 of 40 µs.
    scratch = np.empty_like(first) if first.size <= _SMALL else empty_like(first)
    total: Any = 0
    for part in parts:
        distances = scratch if part is first else scratch[tuple(map(slice, part.shape))]
        _distances(part, pivot, axes, distances)
        some = of(distances, axes)
        total = some if len(parts) == 1 else np.add(total, some, dtype=np.float64)
    return np.asarray(total).reshape(pivot.shape)


def _square_sums(x: Array, axes: tuple[int, ...]) -> Any:
    """Return the sums of the squares of ``x``, which may be written to."""
    formula = _formula(x.shape, axes)
    return sums(np.square(x, out=x), axes) if formula is None else np.einsum(formula, x, x)


@functools.lru_cache
def _formula(shape: tuple[int, ...], axes: tuple[int, ...]) -> str | None:
    """Return how ``einsum`` adds up squares: in one pass, which takes 0.5 to 0.95 of two's time.

    It adds one by one; None where those are many.
    """
    letters = string.ascii_letters[: len(shape)]
    if len(letters) < len(shape) or math.prod([shape[axis] for axis in axes]) >= FEW:
        return None
    kept = [letter for axis, letter in enumerate(letters) if axis not in axes]
    return f"{letters},{letters}->{''.join(kept)}"


def _distances(x: Array, pivot: Array, axes: tuple[int, ...], out: Array) -> None:
    """Write ``x - pivot`` to ``out``; short rows as long ones, which takes half the time."""
    columns = pivot.size
    if columns > 1 and x.flags.c_contiguous and axes == tuple(range(len(axes))):
        together = rows_together(x.size // columns, columns)
        if together > 1:
            repeated = np.empty((together, columns), x.dtype)
            repeated[...] = pivot.reshape(columns)
            shape = -1, together * columns
            np.subtract(x.reshape(shape), repeated.reshape(-1), out=out.reshape(shape))
            return
    np.subtract(x, pivot, out=out)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)
