"""Sums that do not lose what they add, over any axes of an array in any layout.

NumPy adds in pairs only along an axis that is contiguous in memory. Along the others it adds one
by one: after 2^20 numbers of one size a float32 sum grows in steps of an eighth of them, and the
mean of 64 × 224 × 224 pixels of 0.45 came out as 0.4564.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray

# So many are added one by one, in the array's own precision; what is left is added in float64.
_GROUP = 64

# Fewer are left to NumPy: adding one by one costs them some ten units in the last place.
_FEW = 256


def sums(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Any:
    """Return the sums of floating-point numbers over ``axes``, as exact as they were added.

    Where many are added the result may be in float64, also for float32, and for float16 it is:
    the caller rounds it when it has computed what it wants. Measured against NumPy's own sums, it
    takes 1.07 to 0.04 times as long, least where few columns follow each other in memory; against
    those with ``dtype=float64``, half as long.

    Args:
        x: in any layout.
        axes: from the front, each once.
        keepdims: keep them, with size 1.
    """
    if x.dtype == np.float16:
        return x.sum(axis=axes, keepdims=keepdims, dtype=np.float64)
    if (
        x.size < _FEW
        or math.prod([x.shape[axis] for axis in axes]) < _FEW
        # What lies in one piece NumPy adds in pairs.
        or (x.flags.c_contiguous and min(axes) == x.ndim - len(axes))
    ):
        return x.sum(axis=axes, keepdims=keepdims)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    # The axes in the order of memory; neighbours that are alike and follow each other are one.
    shape: list[int] = []
    reduced: list[bool] = []
    step = 0
    for axis in order:
        size = x.shape[axis]
        if size == 1:
            continue
        if shape and reduced[-1] == (axis in axes) and step == x.strides[axis] * size:
            shape[-1] *= size
        else:
            shape.append(size)
            reduced.append(axis in axes)
        step = x.strides[axis]
    if reduced.index(True) == len(reduced) - 1:
        return x.sum(axis=axes, keepdims=keepdims)  # in one piece, in another order
    y: Array = x.transpose(order).reshape(shape)
    for axis in range(len(shape) - 1, -1, -1):
        if reduced[axis]:
            y = y.sum(axis=-1) if axis == len(shape) - 1 else _sum_strips(y, axis)
    kept = [axis for axis in order if axis not in axes]
    y = np.asarray(y).reshape([x.shape[axis] for axis in kept])
    y = y.transpose(sorted(range(len(kept)), key=kept.__getitem__))
    if keepdims:
        y = y.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
    return y


def _sum_strips(x: Array, axis: int) -> Array:
    """Return the sums along an axis that is not the last.

    It is cut into some 64 strips, each of slices that follow each other, and the strips are added
    up: long rows, which NumPy adds quickly whatever the slices' size. The sum of the strips is
    much smaller, and summed in the same way in float64.
    """
    size = x.shape[axis]
    if size < 2 * _GROUP:
        return np.asarray(x.sum(axis=axis))
    length = size // _GROUP
    strips = size // length

    def at_axis(part: slice) -> tuple[slice, ...]:
        return (*(slice(None),) * axis, part)

    shape = (*x.shape[:axis], strips, length, *x.shape[axis + 1 :])
    part = x[at_axis(slice(strips * length))].reshape(shape).sum(axis=axis)
    total = _sum_strips(part.astype(np.float64, copy=False), axis)
    if strips * length < size:
        total = total + x[at_axis(slice(strips * length, None))].sum(axis=axis)
    return total
