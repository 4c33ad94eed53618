"""Batch normalisation over rows ``(M, C)``: statistics, value, gradient; see the NumPy backend.

Each pass over an activation is cut into parts of the rows. A vector of columns is summed over
GROUP rows in registers in float32, the groups' sums in float64. Clipping comes with it for nothing:
the value is bounded while it is in a register, and the gradient's mask is computed again from what
was normalised, which the pass reads anyway.

The functions that end in ``_row`` give rows of a plan, so that a convolution with its batch norm
and activation is one launch (``_conv_norm_act``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    WIDTH,
    address,
    bits_to_float,
    empty,
    f64s,
    float_bits,
    floats,
    kernel,
    share,
)
from lucid.kernels.numba.machine._vector import bounded, load, spread, store, where_inside
from lucid.kernels.numpy import _batch_norm as reference

Array = np.ndarray

_GROUP = 64

# Floats of an activation worth a chunk: 128 KiB, some 10 µs.
_WORTH = 1 << 15
# Parts of which the sums are kept: each is some memory, and time to put together.
_MOST_PARTS = 64
# Columns that a chunk of the small kernels takes.
_COLUMNS = 64


def _chunks(x: Array, most: int = _threads.MAX_CHUNKS) -> int:
    return _threads.chunks_of(x.size, _WORTH, min(most, len(x) // _GROUP))


# -- statistics -----------------------------------------------------------------------------------
#
# Each part of the rows has a record of float64: how many rows it has, the columns' means, their
# squared deviations, and scratch memory.


class Records:
    """The records of what a kernel writes; it decides how many there are."""

    array: Array

    def make(self, parts: int, columns: int) -> tuple[int, int]:
        """Return the address of so many records of so many columns, and the size of one."""
        self.array = np.empty((parts, 8 + -(-3 * columns // 8) * 8))
        return address(self.array), self.array.shape[1]


@njit
def write_record(record, columns, first, count, x, step, rows):
    """Write the means and squared deviations of ``count`` columns of a block of rows.

    The block starts at ``x``, with ``step`` bytes from row to row; its first column is column
    ``first`` of the record. Its first row is the pivot: nothing cancels where a mean is large.
    """
    f64s(record)[0] = np.float64(rows)
    means = f64s(record + (8 + first) * 8)
    squares = f64s(record + (8 + columns + first) * 8)
    scratch = record + (8 + 2 * columns + first) * 8
    firsts, seconds = floats(scratch), floats(scratch + count * 4)
    pivot = floats(x)
    for j in range(count):
        means[j] = 0.0
        squares[j] = 0.0
    for group in range(0, rows, _GROUP):
        last = min(rows, group + _GROUP)
        for j in range(0, count, WIDTH):
            left = count - j
            centre = load(x + j * 4, left)
            # Two sums each: an addition takes some cycles, and the next one of a sum waits for it.
            first_a = first_b = second_a = second_b = spread(np.float32(0))
            at = x + group * step + j * 4
            for _row in range(group, last - 1, 2):
                a = load(at, left) - centre
                b = load(at + step, left) - centre
                first_a, first_b = first_a + a, first_b + b
                second_a, second_b = a * a + second_a, b * b + second_b
                at += 2 * step
            if (last - group) % 2:
                a = load(at, left) - centre
                first_a, second_a = first_a + a, a * a + second_a
            store(scratch + j * 4, first_a + first_b, left)
            store(scratch + (count + j) * 4, second_a + second_b, left)
        for j in range(count):
            means[j] += firsts[j]
            squares[j] += seconds[j]
    for j in range(count):
        if not (math.isfinite(means[j]) and math.isfinite(squares[j])):  # float32 overflowed
            means[j] = squares[j] = 0.0
            for row in range(rows):
                a = np.float64(floats(x + row * step)[j]) - np.float64(pivot[j])
                means[j] += a
                squares[j] += a * a
        shift = means[j] / rows
        squares[j] = max(0.0, squares[j] - shift * means[j])
        means[j] = pivot[j] + shift


@kernel
def statistics(chunk, thread, x, rows, columns, records, size, chunks):
    """The record of one part of the rows."""
    start, stop = share(rows, chunk, chunks)
    step = columns * 4
    record = records + chunk * size * 8
    write_record(record, columns, 0, columns, x + start * step, step, stop - start)


@njit
def _scale_shift(mean, variance, eps, weight, bias, j):
    """Batch norm's factor and summand of a channel."""
    scale = 1.0 / math.sqrt(variance + f64s(eps)[0])
    if weight != 0:
        scale *= floats(weight)[j]
    offset = -mean * scale
    if bias != 0:
        offset += floats(bias)[j]
    return np.float32(scale), np.float32(offset)


@kernel
def merge(
    chunk, thread, records, size, count, columns, rows, statistics, factors, weight, bias, eps
):
    """Mean and variance from the records (Chan et al. 1983); batch norm's factor and summand."""
    means, variances = f64s(statistics), f64s(statistics + columns * 8)
    scales, shifts = floats(factors), floats(factors + columns * 4)
    for j in range(chunk * _COLUMNS, min(columns, (chunk + 1) * _COLUMNS)):
        mean = 0.0
        for part in range(count):
            record = f64s(records + part * size * 8)
            mean += record[0] * record[8 + j]
        mean /= rows
        squares = 0.0
        for part in range(count):
            record = f64s(records + part * size * 8)
            difference = record[8 + j] - mean
            squares += record[8 + columns + j] + record[0] * difference * difference
        means[j] = mean
        variances[j] = squares / rows
        if factors != 0:
            scales[j], shifts[j] = _scale_shift(mean, squares / rows, eps, weight, bias, j)


def merge_row(
    records: Records,
    rows: int,
    statistics: Array,
    factors: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: Array | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan that puts the statistics of ``records`` together.

    Args:
        records: written before.
        rows: how many rows there are in all.
        statistics: ``(2, C)`` in float64, to be written: mean and variance.
        factors: ``(2, C)`` in float32, to be written: batch norm's factor and summand.
        weight: ``(C,)`` in float32, or None for 1.
        bias: ``(C,)`` in float32, or None for 0.
        eps: one number in float64.
    """
    count, size = records.array.shape
    columns = statistics.shape[1]
    return merge.pack(
        -(-columns // _COLUMNS),
        records=records.array,
        size=size,
        count=count,
        columns=columns,
        rows=rows,
        statistics=statistics,
        factors=factors,
        weight=weight,
        bias=bias,
        eps=eps,
    )


@accelerates(reference.batch_norm_stats)
def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    if x.dtype != np.float32 or x.size == 0:
        return NotImplemented
    rows, columns = x.shape
    chunks = _chunks(x, _MOST_PARTS)
    records = Records()
    _, size = records.make(chunks, columns)
    result = np.empty((2, columns))
    _threads.launch(
        statistics.pack(chunks, x=x, rows=rows, columns=columns, records=records.array, size=size),
        merge_row(records, rows, result),
    )
    return result[0], result[1]


# -- value ----------------------------------------------------------------------------------------


@kernel
def affine(chunk, thread, x, out, rows, columns, chunks, scale, shift, low, high):
    """``out = clip(x · scale + shift, low, high)`` for some rows."""
    least, most = spread(bits_to_float(low)), spread(bits_to_float(high))
    start, stop = share(rows, chunk, chunks)
    step = columns * 4
    for group in range(start, stop, _GROUP):
        last = min(stop, group + _GROUP)
        for j in range(0, columns, WIDTH):
            count = columns - j
            a, c = load(scale + j * 4, count), load(shift + j * 4, count)
            offset = (group * columns + j) * 4
            source, target = x + offset, out + offset
            for _row in range(group, last):
                store(target, bounded(load(source, count) * a + c, least, most), count)
                source += step
                target += step


def affine_row(
    x: Array,
    out: Array,
    scale: Array,
    shift: Array,
    low: float | None = None,
    high: float | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan for ``out = clip(x · scale + shift, low, high)`` of rows."""
    rows, columns = x.shape
    return affine.pack(
        _chunks(x),
        x=x,
        out=out,
        rows=rows,
        columns=columns,
        scale=scale,
        shift=shift,
        low=float_bits(-math.inf if low is None else low),
        high=float_bits(math.inf if high is None else high),
    )


@accelerates(reference.scale_shift)
def scale_shift(x: Array, scale: Array, shift: Array) -> Array:
    if not x.dtype == scale.dtype == shift.dtype == np.float32 or x.size == 0:
        return NotImplemented
    y = empty(x.shape)
    scale, shift = np.ascontiguousarray(scale), np.ascontiguousarray(shift)
    _threads.launch(affine_row(x, y, scale, shift))
    return y


# -- gradient -------------------------------------------------------------------------------------

# What the two passes of the gradient read, one row of C float32 each.
_SCALE, _SHIFT, _MEAN, _A, _B, _C = range(6)


@kernel
def gradient_sums(chunk, thread, x, grad, rows, columns, vectors, low, high, records, size, chunks):
    """Column sums of ``g`` and of ``g · (x - mean)``, in float64, over one part of the rows.

    ``g`` is 0 where ``x · scale + shift`` is not between the bounds, else the gradient.
    """
    least, most = spread(bits_to_float(low)), spread(bits_to_float(high))
    record = records + chunk * size * 8
    out, scratch = f64s(record), record + 2 * columns * 8
    firsts, seconds = floats(scratch), floats(scratch + columns * 4)
    for j in range(2 * columns):
        out[j] = 0.0
    start, stop = share(rows, chunk, chunks)
    step = columns * 4
    for group in range(start, stop, _GROUP):
        last = min(stop, group + _GROUP)
        for j in range(0, columns, WIDTH):
            count = columns - j
            scale = load(vectors + (_SCALE * columns + j) * 4, count)
            shift = load(vectors + (_SHIFT * columns + j) * 4, count)
            mean = load(vectors + (_MEAN * columns + j) * 4, count)
            first_a = first_b = second_a = second_b = spread(np.float32(0))
            at, other = x + (group * columns + j) * 4, grad + (group * columns + j) * 4
            for _row in range(group, last - 1, 2):
                a, b = load(at, count), load(at + step, count)
                ga = where_inside(load(other, count), a * scale + shift, least, most)
                gb = where_inside(load(other + step, count), b * scale + shift, least, most)
                first_a, first_b = first_a + ga, first_b + gb
                second_a = ga * (a - mean) + second_a
                second_b = gb * (b - mean) + second_b
                at += 2 * step
                other += 2 * step
            if (last - group) % 2:
                a = load(at, count)
                ga = where_inside(load(other, count), a * scale + shift, least, most)
                first_a, second_a = first_a + ga, ga * (a - mean) + second_a
            store(scratch + j * 4, first_a + first_b, count)
            store(scratch + (columns + j) * 4, second_a + second_b, count)
        for j in range(columns):
            out[j] += firsts[j]
            out[columns + j] += seconds[j]
    for j in range(columns):
        if not (math.isfinite(out[j]) and math.isfinite(out[columns + j])):  # float32 overflowed
            out[j] = out[columns + j] = 0.0
            scale_j, shift_j = floats(vectors)[j], floats(vectors)[_SHIFT * columns + j]
            mean_j = np.float64(floats(vectors)[_MEAN * columns + j])
            for row in range(start, stop):
                value = floats(x + row * step)[j]
                place = value * scale_j + shift_j
                if not (place <= bits_to_float(low) or place >= bits_to_float(high)):
                    g = np.float64(floats(grad + row * step)[j])
                    out[j] += g
                    out[columns + j] += g * (np.float64(value) - mean_j)


@kernel
def gradient_factors(
    chunk, thread, records, size, count, columns, rows, mean, variance, eps, weight, vectors,
    dweight, dbias,
):  # fmt: skip
    """The sums of all parts: the gradients of weight and bias, and the factors for x's.

    ``dx = a · g + (x - mean) · b + c``, see the NumPy backend.
    """
    results = floats(vectors)
    for j in range(chunk * _COLUMNS, min(columns, (chunk + 1) * _COLUMNS)):
        first = second = 0.0
        for part in range(count):
            record = f64s(records + part * size * 8)
            first += record[j]
            second += record[columns + j]
        inverse_std = 1.0 / math.sqrt(f64s(variance)[j] + f64s(eps)[0])
        # The pass took the float32 mean for the mean.
        second += first * (np.float64(results[_MEAN * columns + j]) - f64s(mean)[j])
        second *= inverse_std
        factor = inverse_std * (floats(weight)[j] if weight != 0 else np.float32(1))
        results[_A * columns + j] = np.float32(factor)
        results[_B * columns + j] = np.float32(-factor * inverse_std * second / rows)
        results[_C * columns + j] = np.float32(-factor * first / rows)
        floats(dweight)[j] = np.float32(second)
        floats(dbias)[j] = np.float32(first)


@kernel
def gradient_vectors(chunk, thread, columns, mean, variance, eps, weight, bias, vectors):
    """Batch norm's factor, summand and mean of each channel in float32, as the forward had them."""
    results = floats(vectors)
    for j in range(columns):
        scale, shift = _scale_shift(f64s(mean)[j], f64s(variance)[j], eps, weight, bias, j)
        results[_SCALE * columns + j], results[_SHIFT * columns + j] = scale, shift
        results[_MEAN * columns + j] = np.float32(f64s(mean)[j])


@kernel
def gradient(chunk, thread, x, grad, out, rows, columns, vectors, low, high, chunks):
    """``out = a · g + (x - mean) · b + c`` for some rows."""
    least, most = spread(bits_to_float(low)), spread(bits_to_float(high))
    start, stop = share(rows, chunk, chunks)
    step = columns * 4
    for group in range(start, stop, _GROUP):
        last = min(stop, group + _GROUP)
        for j in range(0, columns, WIDTH):
            count = columns - j
            scale = load(vectors + (_SCALE * columns + j) * 4, count)
            shift = load(vectors + (_SHIFT * columns + j) * 4, count)
            mean = load(vectors + (_MEAN * columns + j) * 4, count)
            a = load(vectors + (_A * columns + j) * 4, count)
            b = load(vectors + (_B * columns + j) * 4, count)
            c = load(vectors + (_C * columns + j) * 4, count)
            offset = group * step + j * 4
            for _row in range(group, last):
                value = load(x + offset, count)
                g = where_inside(load(grad + offset, count), value * scale + shift, least, most)
                store(out + offset, g * a + ((value - mean) * b + c), count)
                offset += step


class Gradient:
    """The gradient of ``clip(batch_norm(x), low, high)`` in rows of a plan, for rows ``(M, C)``.

    ``sums`` are the rows of the plan that come first; then ``dweight`` and ``dbias`` are there.
    ``whole_row`` gives x's gradient.
    """

    def __init__(
        self,
        grad: Array,
        x: Array,
        statistics: tuple[Array, Array],
        eps: float,
        weight: Array | None,
        bias: Array | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        rows, columns = x.shape
        self.x = x
        chunks = _chunks(x, _MOST_PARTS)
        records = np.empty((chunks, 3 * columns))
        # All vectors and results in one array: fewer calls at small sizes.
        numbers = np.empty((8, columns), np.float32)
        self.vectors = numbers[:6]
        self.dweight, self.dbias = numbers[6], numbers[7]
        mean, variance = (np.ascontiguousarray(array, np.float64) for array in statistics)
        epsilon = np.array([eps])
        # Nothing reaches NaN.
        bounds = {
            "low": float_bits(math.nan if low is None else low),
            "high": float_bits(math.nan if high is None or high == math.inf else high),
        }
        size: dict[str, Any] = {"rows": rows, "columns": columns, "vectors": self.vectors}
        self._passed = {"x": x, "grad": grad, **size, **bounds}
        known: dict[str, Any] = {
            "mean": mean, "variance": variance, "eps": epsilon, "weight": weight
        }  # fmt: skip
        kept: dict[str, Any] = {"records": records, "size": records.shape[1]}
        self.sums: list[tuple[int, ...]] = [
            gradient_vectors.pack(1, columns=columns, bias=bias, vectors=self.vectors, **known),
            gradient_sums.pack(chunks, **self._passed, **kept),
            gradient_factors.pack(
                -(-columns // _COLUMNS),
                count=chunks,
                dweight=self.dweight,
                dbias=self.dbias,
                **size,
                **known,
                **kept,
            ),
        ]
        self._inputs = records, mean, variance, epsilon, weight, bias

    def whole_row(self, out: Array) -> tuple[int, ...]:
        """Return the row of a plan that writes x's gradient into ``out`` ``(M, C)``."""
        return gradient.pack(_chunks(self.x), out=out, **self._passed)


@accelerates(reference.batch_norm_grad)
def batch_norm_grad(
    grad: Array, x: Array, mean: Array, inverse_std: Array, weight: Array | None
) -> tuple[Array, Array, Array]:
    if not x.dtype == grad.dtype == mean.dtype == np.float32 or x.size == 0:
        return NotImplemented
    weight = None if weight is None else np.ascontiguousarray(weight)
    variance = inverse_std.astype(np.float64) ** -2.0
    result = Gradient(grad, x, (mean, variance), 0.0, weight)
    gx = empty(x.shape)
    _threads.launch(*result.sums, result.whole_row(gx))
    return gx, result.dweight, result.dbias
