"""Batch normalisation over rows ``(M, C)``: statistics, value, gradient; see the NumPy backend.

The statistics take one pass, the gradient two. A vector of columns is summed over GROUP rows in
registers in float32, the groups' sums in float64.
"""

from __future__ import annotations

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._native import WIDTH, address, empty, f64s, floats, kernel
from lucid.kernels.numba._vector import add, fused, load, spread, store, subtract
from lucid.kernels.numpy import _batch_norm as reference

Array = np.ndarray

_GROUP = 64

# Floats of an activation worth a chunk: 128 KiB, some 10 µs.
_WORTH = 1 << 15


def _chunks(x: Array, most: int = _threads.MAX_CHUNKS) -> int:
    return max(1, min(most, x.size // _WORTH, len(x) // _GROUP))


@kernel
def sums(args, chunk, thread):
    """Column sums of ``x - pivot`` and its square, or of ``grad`` and ``grad · (x - pivot)``."""
    x, grad, rows, columns, pivot = args[0], args[1], args[2], args[3], args[4]
    chunks = args[7]
    out = f64s(args[5] + chunk * 2 * columns * 8)
    scratch = args[6] + chunk * 2 * columns * 4
    firsts, seconds = floats(scratch), floats(scratch + columns * 4)
    for j in range(2 * columns):
        out[j] = 0.0
    start, stop = rows * chunk // chunks, rows * (chunk + 1) // chunks
    step = columns * 4
    for group in range(start, stop, _GROUP):
        last = min(stop, group + _GROUP)
        for j in range(0, columns, WIDTH):
            count = columns - j
            centre = load(pivot + j * 4, count)
            first = second = spread(np.float32(0))
            # Two sums each: an addition takes some cycles, and the next one of a sum waits for it.
            first_b = second_b = spread(np.float32(0))
            at = x + (group * columns + j) * 4
            if grad == 0:
                for _row in range(group, last - 1, 2):
                    a = subtract(load(at, count), centre)
                    b = subtract(load(at + step, count), centre)
                    first, first_b = add(first, a), add(first_b, b)
                    second, second_b = fused(a, a, second), fused(b, b, second_b)
                    at += 2 * step
                if (last - group) % 2:
                    a = subtract(load(at, count), centre)
                    first, second = add(first, a), fused(a, a, second)
            else:
                other = grad + (group * columns + j) * 4
                for _row in range(group, last - 1, 2):
                    a = subtract(load(at, count), centre)
                    b = subtract(load(at + step, count), centre)
                    ga, gb = load(other, count), load(other + step, count)
                    first, first_b = add(first, ga), add(first_b, gb)
                    second, second_b = fused(ga, a, second), fused(gb, b, second_b)
                    at += 2 * step
                    other += 2 * step
                if (last - group) % 2:
                    ga = load(other, count)
                    first = add(first, ga)
                    second = fused(ga, subtract(load(at, count), centre), second)
            store(scratch + j * 4, add(first, first_b), count)
            store(scratch + (columns + j) * 4, add(second, second_b), count)
        for j in range(columns):
            out[j] += firsts[j]
            out[columns + j] += seconds[j]


def _sums(x: Array, grad: Array | None, pivot: Array) -> Array:
    """Return the two column sums ``(2, C)`` in float64."""
    rows, columns = x.shape
    chunks = _chunks(x, 64)
    parts = np.empty((chunks, 2, columns))
    scratch = empty((chunks, 2, columns))
    _threads.run(
        _threads.plan(
            (
                sums.address,
                chunks,
                address(x),
                0 if grad is None else address(grad),
                rows,
                columns,
                address(pivot),
                address(parts),
                address(scratch),
                chunks,
            )
        )
    )
    total: Array = parts.sum(axis=0) if chunks > 1 else parts[0]
    return total


def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    """Return the mean and the biased variance of each column of ``x`` ``(M, C)``, in float64."""
    if x.dtype != np.float32 or x.size == 0:
        return reference.batch_norm_stats(x)
    # The mean of some rows as the pivot: nothing cancels where the mean is large.
    pivot = x[:_GROUP].mean(axis=0, dtype=np.float64).astype(np.float32)
    shift, squares = _sums(x, None, pivot) / len(x)
    return pivot + shift, np.maximum(squares - shift * shift, 0)


@kernel
def affine(args, chunk, thread):
    """``out = x · scale + shift``, or ``grad · a + (x - mean) · b + c``, for some rows."""
    x, out, rows, columns, chunks = args[0], args[1], args[2], args[3], args[4]
    scale, shift, grad, mean, factor = args[5], args[6], args[7], args[8], args[9]
    start, stop = rows * chunk // chunks, rows * (chunk + 1) // chunks
    step = columns * 4
    for group in range(start, stop, _GROUP):
        last = min(stop, group + _GROUP)
        for j in range(0, columns, WIDTH):
            count = columns - j
            a, c = load(scale + j * 4, count), load(shift + j * 4, count)
            offset = (group * columns + j) * 4
            source, target = x + offset, out + offset
            if grad == 0:
                for _row in range(group, last):
                    store(target, fused(load(source, count), a, c), count)
                    source += step
                    target += step
            else:
                centre, b = load(mean + j * 4, count), load(factor + j * 4, count)
                other = grad + offset
                for _row in range(group, last):
                    value = fused(subtract(load(source, count), centre), b, c)
                    store(target, fused(load(other, count), a, value), count)
                    source += step
                    target += step
                    other += step


def scale_shift(x: Array, scale: Array, shift: Array) -> Array:
    """Return ``x * scale + shift`` for rows ``(M, C)`` and columns' factors ``(C,)``."""
    if not x.dtype == scale.dtype == shift.dtype == np.float32 or x.size == 0:
        return reference.scale_shift(x, scale, shift)
    y = empty(x.shape)
    scale, shift = np.ascontiguousarray(scale), np.ascontiguousarray(shift)
    chunks = _chunks(x)
    _threads.run(
        _threads.plan(
            (
                affine.address,
                chunks,
                address(x),
                address(y),
                *x.shape,
                chunks,
                address(scale),
                address(shift),
            )
        )
    )
    return y


def batch_norm_grad(
    grad: Array, x: Array, mean: Array, inverse_std: Array, weight: Array | None
) -> tuple[Array, Array, Array]:
    """Return the gradients of ``x``, of the weight and of the bias in training mode."""
    if not x.dtype == grad.dtype == mean.dtype == np.float32 or x.size == 0:
        return reference.batch_norm_grad(grad, x, mean, inverse_std, weight)
    mean = np.ascontiguousarray(mean)
    dbias, dweight = _sums(x, grad, mean)
    dweight = dweight * inverse_std
    factor = inverse_std if weight is None else inverse_std * weight
    a = np.ascontiguousarray(factor, np.float32)
    b = (-factor * inverse_std * dweight / len(x)).astype(np.float32)
    c = (-factor * dbias / len(x)).astype(np.float32)
    gx = empty(x.shape)
    chunks = _chunks(x)
    _threads.run(
        _threads.plan(
            (
                affine.address,
                chunks,
                address(x),
                address(gx),
                *x.shape,
                chunks,
                address(a),
                address(c),
                address(grad),
                address(mean),
                address(b),
            )
        )
    )
    return gx, dweight.astype(np.float32), dbias.astype(np.float32)
