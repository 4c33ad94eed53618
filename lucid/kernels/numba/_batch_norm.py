"""Batch normalisation over rows ``(M, C)``: statistics, value, gradient; see the NumPy backend.

Each pass over an activation is cut into chunks of rows, and reads them in the order in which they
lie: the memory delivers that up to twice as fast as one vector of columns of some rows after the
other. Sums are added up over a group of rows in float32, the groups' sums in float64. Statistics
alone are taken of what a convolution has just written to the cache: there a vector's sums stay in
registers over GROUP rows, as it takes longer to add them up in memory. Clipping comes for nothing:
the value is bounded while it is in a register, and the gradient's mask is computed again from what
was normalised, which the pass reads anyway.

The functions that end in ``_instruction`` say what to launch, so that a convolution with its batch
norm and activation is one launch (``_conv_norm_act``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels.exchange import Exchange
from lucid.kernels.geometry import NO_BOUNDS, Bounds
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    WIDTH,
    Instruction,
    Kernel,
    bits_to_float,
    empty,
    f64s,
    floats,
    kernel,
    piece,
    share,
    workspace,
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


# -- how rows are passed over ---------------------------------------------------------------------
#
# What a column needs (its factor, its mean) is ``vectors``: rows of C float32. A formula gets those
# of some columns that lie side by side, as a tuple of vectors from ``known``.


def _row_map(known: Callable[..., Any], formula: Callable[..., Any], name: str) -> Kernel:
    """Return the kernel that writes a formula of each row of ``x``, with what columns need."""
    known, formula = piece(known), piece(formula)

    def row_map(chunk, thread, x, grad, out, rows, columns, vectors, low, high, chunks):
        least, most = spread(bits_to_float(low)), spread(bits_to_float(high))
        start, stop = share(rows, chunk, chunks)
        step = columns * FLOAT
        for at in range(start * step, stop * step, step):
            for j in range(0, columns, WIDTH):
                count, here = columns - j, at + j * FLOAT
                of_columns = known(vectors + j * FLOAT, step, count)
                value = load(x + here, count)
                result = formula(value, grad + here, count, of_columns, least, most)
                store(out + here, result, count)

    row_map.__qualname__ = name
    return kernel(row_map)


def _sum_in_cache(known: Callable[..., Any], formula: Callable[..., Any]) -> Any:
    """Return a function that sums over a group of rows, some columns after the others."""

    @piece
    def group_sums(scratch, count, x, grad, step, first, last, vectors, least, most):
        for j in range(0, count, WIDTH):
            left = count - j
            of_columns = known(vectors + j * FLOAT, step, left)
            # Two sums each: an addition takes some cycles, and the next of a sum waits for it.
            first_a = first_b = second_a = second_b = spread(np.float32(0))
            at = first * step + j * FLOAT
            for _row in range(first, last - 1, 2):
                a, b = load(x + at, left), load(x + at + step, left)
                one, two = formula(a, grad + at, left, of_columns, least, most)
                first_a, second_a = first_a + one, second_a + two
                one, two = formula(b, grad + at + step, left, of_columns, least, most)
                first_b, second_b = first_b + one, second_b + two
                at += 2 * step
            if (last - first) % 2:
                a = load(x + at, left)
                one, two = formula(a, grad + at, left, of_columns, least, most)
                first_a, second_a = first_a + one, second_a + two
            store(scratch + j * FLOAT, first_a + first_b, left)
            store(scratch + (count + j) * FLOAT, second_a + second_b, left)

    return group_sums


def _sum_in_order(known: Callable[..., Any], formula: Callable[..., Any]) -> Any:
    """Return the same by rows in order: with one sum each, so a group has half as many rows."""

    @piece
    def group_sums(scratch, count, x, grad, step, first, last, vectors, least, most):
        sums = floats(scratch)
        for j in range(2 * count):
            sums[j] = np.float32(0)
        for at in range(first * step, last * step, step):
            for j in range(0, count, WIDTH):
                left, here = count - j, at + j * FLOAT
                of_columns = known(vectors + j * FLOAT, step, left)
                value = load(x + here, left)
                one, two = formula(value, grad + here, left, of_columns, least, most)
                place, other = scratch + j * FLOAT, scratch + (count + j) * FLOAT
                store(place, load(place, left) + one, left)
                store(other, load(other, left) + two, left)

    return group_sums


def _column_sums(group_sums: Any, group_rows: int, exactly: Callable[..., Any]) -> Any:
    """Return a function that sums two results of a formula over rows, column by column.

    Args:
        group_sums: writes the sums of a group of rows in float32, two for each column.
        group_rows: how many rows a group has at most.
        exactly: returns the formula's two for one column of a row, in float64.
    """
    exactly = piece(exactly)

    @piece
    def sums(firsts, seconds, scratch, count, x, grad, step, rows, vectors, low, high):
        """Write the sums of ``count`` columns, with ``step`` bytes from row to row, in float64."""
        first, second = f64s(firsts), f64s(seconds)
        group_first, group_second = floats(scratch), floats(scratch + count * FLOAT)
        least, most = spread(bits_to_float(low)), spread(bits_to_float(high))
        for j in range(count):
            first[j] = 0.0
            second[j] = 0.0
        for group in range(0, rows, group_rows):
            last = min(rows, group + group_rows)
            group_sums(scratch, count, x, grad, step, group, last, vectors, least, most)
            for j in range(count):
                first[j] += group_first[j]
                second[j] += group_second[j]
        for j in range(count):
            if not (math.isfinite(first[j]) and math.isfinite(second[j])):  # float32 overflowed
                first[j] = second[j] = 0.0
                for row in range(rows):
                    at = row * step + j * FLOAT
                    value, column = floats(x + at)[0], vectors + j * FLOAT
                    one, two = exactly(value, grad + at, column, step, low, high)
                    first[j] += one
                    second[j] += two

    return sums


# -- statistics -----------------------------------------------------------------------------------
#
# Each chunk of rows has a record of float64: how many rows it has, the columns' means, their
# squared deviations, and scratch memory.


class Records:
    """The records of what a kernel writes; it decides how many there are."""

    array: Array


def record_arguments(records: Records | None, parts: int, columns: int) -> dict[str, Any]:
    """Make so many records, if any are wanted, and return a kernel's arguments for them."""
    if records is None:
        return {"records": None, "record_size": 0}
    size = 8 + -(-3 * columns // 8) * 8
    records.array = workspace.empty((parts, 2 * size)).view(np.float64)
    return {"records": records.array, "record_size": records.array.shape[1]}


def _pivot(vectors, step, count):
    return (load(vectors, count),)


def _moments(x, grad_at, count, of_columns, least, most):
    (mean,) = of_columns
    difference = x - mean
    return difference, difference * difference


def _exact_moments(x, grad_at, vectors, step, low, high):
    difference = np.float64(x) - np.float64(floats(vectors)[0])
    return difference, difference * difference


_sum_moments = _column_sums(_sum_in_cache(piece(_pivot), piece(_moments)), _GROUP, _exact_moments)


@piece
def write_record(record, columns, first, count, x, step, rows):
    """Write the means and squared deviations of ``count`` columns of a block of rows.

    The block starts at ``x``, with ``step`` bytes from row to row; its first column is column
    ``first`` of the record. Its first row is the pivot: nothing cancels where a mean is large.
    """
    f64s(record)[0] = np.float64(rows)
    mean_at = record + (8 + first) * 8
    square_at = mean_at + columns * 8
    scratch = square_at + columns * 8
    _sum_moments(mean_at, square_at, scratch, count, x, 0, step, rows, x, 0, 0)
    means, squares, pivot = f64s(mean_at), f64s(square_at), floats(x)
    for j in range(count):
        shift = means[j] / rows
        squares[j] = max(0.0, squares[j] - shift * means[j])
        means[j] = pivot[j] + shift


@kernel
def statistics(chunk, thread, x, rows, columns, records, record_size, chunks):
    """The record of one chunk of rows."""
    start, stop = share(rows, chunk, chunks)
    step = columns * FLOAT
    record = records + chunk * record_size * 8
    write_record(record, columns, 0, columns, x + start * step, step, stop - start)


@piece
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
    chunk,
    thread,
    records,
    record_size,
    count,
    columns,
    rows,
    statistics,
    factors,
    weight,
    bias,
    eps,
):
    """Mean and variance from the records (Chan et al. 1983); batch norm's factor and summand."""
    means, variances = f64s(statistics), f64s(statistics + columns * 8)
    scales, shifts = floats(factors), floats(factors + columns * FLOAT)
    start, stop = chunk * _COLUMNS, min(columns, (chunk + 1) * _COLUMNS)
    for j in range(start, stop):
        means[j] = variances[j] = 0.0
    # Columns inside: the records were written by other cores, and are read line by line.
    for part in range(count):
        record = f64s(records + part * record_size * 8)
        for j in range(start, stop):
            means[j] += record[0] * record[8 + j]
    for j in range(start, stop):
        means[j] /= rows
    for part in range(count):
        record = f64s(records + part * record_size * 8)
        for j in range(start, stop):
            difference = record[8 + j] - means[j]
            variances[j] += record[8 + columns + j] + record[0] * difference * difference
    for j in range(start, stop):
        variances[j] /= rows
        if factors != 0:
            scales[j], shifts[j] = _scale_shift(means[j], variances[j], eps, weight, bias, j)


def merge_instruction(
    records: Records,
    rows: int,
    statistics: Array,
    factors: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: Array | None = None,
) -> Instruction:
    """Return the instruction that puts the statistics of ``records`` together.

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
        record_size=size,
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
    workspace.start()
    records = Records()
    kept = record_arguments(records, chunks, columns)
    result = np.empty((2, columns))
    _threads.launch(
        statistics.pack(chunks, x=x, rows=rows, columns=columns, **kept),
        merge_instruction(records, rows, result),
    )
    return result[0], result[1]


# -- value ----------------------------------------------------------------------------------------


def _scale_and_shift(vectors, step, count):
    return load(vectors, count), load(vectors + step, count)


def _scaled(x, grad_at, count, of_columns, least, most):
    scale, shift = of_columns
    return bounded(x * scale + shift, least, most)


_affine = _row_map(_scale_and_shift, _scaled, "affine")


def affine_instruction(
    x: Array, out: Array, factors: Array, bounds: Bounds = NO_BOUNDS
) -> Instruction:
    """Return the instruction for ``out = clip(x · scale + shift, *bounds)`` of rows.

    ``factors`` ``(2, C)`` hold scale and shift.
    """
    rows, columns = x.shape
    low, high = bounds
    return _affine.pack(
        _chunks(x),
        x=x,
        grad=None,
        out=out,
        rows=rows,
        columns=columns,
        vectors=factors,
        low=low,
        high=high,
    )


@accelerates(reference.scale_shift)
def scale_shift(x: Array, scale: Array, shift: Array) -> Array:
    if not x.dtype == scale.dtype == shift.dtype == np.float32 or x.size == 0:
        return NotImplemented
    y = empty(x.shape)
    factors = np.empty((2, x.shape[1]), np.float32)
    factors[0], factors[1] = scale, shift
    _threads.launch(affine_instruction(x, y, factors))
    return y


# -- gradient -------------------------------------------------------------------------------------

# What the two passes of the gradient read, one row of C float32 each.
_SCALE, _SHIFT, _MEAN, _A, _B, _C = range(6)


def _scale_shift_mean(vectors, step, count):
    return load(vectors, count), load(vectors + step, count), load(vectors + 2 * step, count)


def _masked(x, grad_at, count, of_columns, least, most):
    """Return ``g`` and ``g · (x - mean)``.

    ``g`` is 0 where ``x · scale + shift`` is not between the bounds, else the gradient.
    """
    scale, shift, mean = of_columns
    g = where_inside(load(grad_at, count), x * scale + shift, least, most)
    return g, g * (x - mean)


def _exactly_masked(x, grad_at, vectors, step, low, high):
    scale, shift = floats(vectors)[0], floats(vectors + step)[0]
    place = x * scale + shift
    if place <= bits_to_float(low) or place >= bits_to_float(high):
        return 0.0, 0.0
    g = np.float64(floats(grad_at)[0])
    return g, g * (np.float64(x) - np.float64(floats(vectors + 2 * step)[0]))


_sum_masked = _column_sums(
    _sum_in_order(piece(_scale_shift_mean), piece(_masked)), _GROUP // 2, _exactly_masked
)


@kernel
def gradient_sums(
    chunk, thread, x, grad, rows, columns, vectors, low, high, records, record_size, chunks
):
    """Column sums of ``g`` and of ``g · (x - mean)``, in float64, over one chunk of rows."""
    first = records + chunk * record_size * 8
    second, scratch = first + columns * 8, first + 2 * columns * 8
    start, stop = share(rows, chunk, chunks)
    step = columns * FLOAT
    x, grad, rows = x + start * step, grad + start * step, stop - start
    _sum_masked(first, second, scratch, columns, x, grad, step, rows, vectors, low, high)


@kernel
def gradient_factors(
    chunk, thread, records, record_size, count, columns, rows, mean, variance, eps, weight,
    vectors, dweight, dbias,
):  # fmt: skip
    """The sums of all parts: the gradients of weight and bias, and the factors for x's.

    ``dx = a · g + (x - mean) · b + c``, see the NumPy backend.
    """
    results = floats(vectors)
    start, stop = chunk * _COLUMNS, min(columns, (chunk + 1) * _COLUMNS)
    firsts, seconds = f64s(records), f64s(records + columns * 8)  # of all parts, at the end
    for part in range(1, count):
        record = f64s(records + part * record_size * 8)
        for j in range(start, stop):
            firsts[j] += record[j]
            seconds[j] += record[columns + j]
    for j in range(start, stop):
        first, second = firsts[j], seconds[j]
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


def _six(vectors, step, count):
    return (
        load(vectors, count),
        load(vectors + step, count),
        load(vectors + 2 * step, count),
        load(vectors + 3 * step, count),
        load(vectors + 4 * step, count),
        load(vectors + 5 * step, count),
    )


def _of_input(x, grad_at, count, of_columns, least, most):
    """Return ``a · g + (x - mean) · b + c``."""
    scale, shift, mean, a, b, c = of_columns
    g = where_inside(load(grad_at, count), x * scale + shift, least, most)
    return g * a + ((x - mean) * b + c)


_gradient = _row_map(_six, _of_input, "gradient")


class Gradient:
    """The gradient of ``clip(batch_norm(x), *bounds)`` in instructions, for rows ``(M, C)``.

    ``sums`` are the instructions that come first; then the gradients of weight and bias are in
    ``results`` ``(2, C)``. ``whole`` gives x's gradient. All arrays are contiguous, the statistics
    and ``eps`` ``(1,)`` float64; the caller keeps them until the instructions have run.
    """

    def __init__(
        self,
        grad: Array,
        x: Array,
        mean: Array,
        variance: Array,
        eps: Array,
        results: Array,
        weight: Array | None,
        bias: Array | None = None,
        bounds: Bounds = (math.nan, math.nan),  # nothing reaches NaN
    ) -> None:
        rows, columns = x.shape
        chunks = _chunks(x, _MOST_PARTS)
        records = workspace.empty((chunks, 6 * columns)).view(np.float64)
        vectors = workspace.empty((6, columns))
        low, high = bounds
        size = {"rows": rows, "columns": columns, "vectors": vectors}
        high = math.nan if high == math.inf else high
        self._passed: dict[str, Any] = {"x": x, "grad": grad, **size, "low": low, "high": high}
        known = {"mean": mean, "variance": variance, "eps": eps, "weight": weight}
        kept = {"records": records, "record_size": records.shape[1]}
        self.sums: list[Instruction] = [
            gradient_vectors.pack(1, columns=columns, bias=bias, vectors=vectors, **known),
            gradient_sums.pack(chunks, **self._passed, **kept),
            gradient_factors.pack(
                -(-columns // _COLUMNS),
                count=chunks,
                dweight=results[0],
                dbias=results[1],
                **size,
                **known,
                **kept,
            ),
        ]
        self._of_norm = variance, eps, weight
        self._vectors, self._results = vectors, results

    def exchange(self, exchange: Exchange) -> None:
        """Launch the sums, and let x's gradient be by those of all parts."""
        _threads.launch(*self.sums)
        variance, eps, weight = self._of_norm
        results = self._results
        dweight, dbias, rows = exchange.sums(results[0], results[1], self._passed["rows"])
        inverse_std = 1 / np.sqrt(variance + eps)
        factor = inverse_std if weight is None else inverse_std * weight
        self._vectors[_B] = -factor * inverse_std * dweight / rows
        self._vectors[_C] = -factor * dbias / rows
        self.sums = []

    def whole(self, out: Array) -> Instruction:
        """Return the instruction that writes x's gradient into ``out`` ``(M, C)``."""
        return _gradient.pack(_chunks(self._passed["x"]), out=out, **self._passed)


def factors_of(
    mean: Array, variance: Array, eps: float, weight: Array | None, bias: Array | None
) -> Array:
    """Return batch norm's factor and summand ``(2, C)``, as :class:`Gradient` takes them."""
    vectors = np.empty((6, len(mean)), np.float32)
    known = {"mean": mean, "variance": variance, "eps": np.array([eps])}
    _threads.launch(
        gradient_vectors.pack(
            1, columns=len(mean), weight=weight, bias=bias, vectors=vectors, **known
        )
    )
    return vectors[:2]


@accelerates(reference.batch_norm_grad)
def batch_norm_grad(
    grad: Array,
    x: Array,
    mean: Array,
    inverse_std: Array,
    weight: Array | None,
    exchange: Exchange | None = None,
) -> tuple[Array, Array, Array]:
    if not x.dtype == grad.dtype == mean.dtype == np.float32 or x.size == 0:
        return NotImplemented
    weight = None if weight is None else np.ascontiguousarray(weight)
    variance = inverse_std.astype(np.float64) ** -2.0
    results = np.empty((2, x.shape[1]), np.float32)
    workspace.start()
    mean = mean.astype(np.float64)
    norm = Gradient(grad, x, mean, variance, np.zeros(1), results, weight)
    gx = empty(x.shape)
    if exchange is not None:
        norm.exchange(exchange)
    _threads.launch(*norm.sums, norm.whole(gx))
    return gx, results[0], results[1]
