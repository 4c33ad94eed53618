"""Softmax and its logarithm along contiguous rows; see the NumPy backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._formula import vector_exp
from lucid.kernels.numba.machine._native import FLOAT, WIDTH, Kernel, kernel, piece, share
from lucid.kernels.numba.machine._vector import (
    largest,
    load,
    load_or,
    maximum,
    spread,
    store,
    total,
)
from lucid.kernels.numpy import _softmax as reference

Array = np.ndarray

_LOWEST = np.float32(-np.inf)

# Elements worth a chunk: with their exponentials some 10 µs.
WORTH = 1 << 14


@piece
def row_maximum(x, count):
    """The largest of the floats at an address; NaN is passed over."""
    lowest = spread(_LOWEST)
    first = second = lowest  # two, as each waits for the one before it
    i = 0
    while i + 2 * WIDTH <= count:
        first = maximum(first, load(x + i * FLOAT, WIDTH))
        second = maximum(second, load(x + (i + WIDTH) * FLOAT, WIDTH))
        i += 2 * WIDTH
    while i < count:
        first = maximum(first, load_or(x + i * FLOAT, count - i, lowest))
        i += WIDTH
    return largest(maximum(first, second))


@piece
def exponentials(x, y, count):
    """Write ``e^(x - max(x))`` of a row to ``y``, or in place, and return its sum."""
    lowest = spread(_LOWEST)
    centre = spread(row_maximum(x, count))
    sums = spread(np.float32(0))
    for i in range(0, count, WIDTH):
        rest = count - i
        # What is not there counts as minus infinity, whose exponential adds nothing.
        power = vector_exp(load_or(x + i * FLOAT, rest, lowest) - centre)
        store(y + i * FLOAT, power, rest)
        sums = sums + power
    return total(sums)


@piece
def scale_row(x, count, factor):
    """Multiply a row by a number, in place."""
    factors = spread(factor)
    for i in range(0, count, WIDTH):
        at, rest = x + i * FLOAT, count - i
        store(at, load(at, rest) * factors, rest)


@piece
def log_softmax_row(x, y, count):
    """Write ``x - log(sum(e^x))`` of a row to ``y``."""
    lowest = spread(_LOWEST)
    centre = spread(row_maximum(x, count))
    sums = spread(np.float32(0))
    for i in range(0, count, WIDTH):
        sums = sums + vector_exp(load_or(x + i * FLOAT, count - i, lowest) - centre)
    shift = spread(np.float32(math.log(total(sums))))
    for i in range(0, count, WIDTH):
        store(y + i * FLOAT, load(x + i * FLOAT, count - i) - centre - shift, count - i)


def _over_rows(function: Callable[..., None]) -> Kernel:
    """Return the kernel that calls ``function(x, y, out, columns)`` for each row of arrays.

    Its docstring says what is computed.
    """
    of_row = piece(function)

    def over_rows(chunk, thread, rows, columns, chunks, x, y, out):
        start, stop = share(rows, chunk, chunks)
        for row in range(start, stop):
            offset = row * columns * FLOAT
            of_row(x + offset, y + offset, out + offset, columns)

    over_rows.__qualname__ = f"rows_of{function.__qualname__}"
    return kernel(over_rows)


@_over_rows
def _softmax(x, y, out, columns):
    """e^x / sum(e^x)."""
    scale_row(out, columns, np.float32(1) / exponentials(x, out, columns))


@_over_rows
def _log_softmax(x, y, out, columns):
    """X - log(sum(e^x))."""
    log_softmax_row(x, out, columns)


@_over_rows
def _softmax_grad(grad, y, out, columns):
    """Y · (grad - sum(grad · y))."""
    sums = spread(np.float32(0))
    for i in range(0, columns, WIDTH):
        at, rest = i * FLOAT, columns - i
        sums = sums + load(grad + at, rest) * load(y + at, rest)
    mean = spread(total(sums))
    for i in range(0, columns, WIDTH):
        at, rest = i * FLOAT, columns - i
        store(out + at, load(y + at, rest) * (load(grad + at, rest) - mean), rest)


@_over_rows
def _log_softmax_grad(grad, y, out, columns):
    """Grad - e^y · sum(grad)."""
    sums = spread(np.float32(0))
    for i in range(0, columns, WIDTH):
        sums = sums + load(grad + i * FLOAT, columns - i)
    mean = spread(total(sums))
    for i in range(0, columns, WIDTH):
        at, rest = i * FLOAT, columns - i
        store(out + at, load(grad + at, rest) - vector_exp(load(y + at, rest)) * mean, rest)


def _apply(function: Kernel, axis: int, x: Array, y: Array | None = None) -> Any:
    """Return what a kernel writes, if the axis is the innermost in the memory of all arrays."""
    if x.size == 0 or x.ndim == 0:
        return NotImplemented
    arrays: list[Array] = []
    for array in (x,) if y is None else (x, y):
        if array.dtype != np.float32 or array.shape != x.shape:
            return NotImplemented
        if array.ndim > 1 and axis not in (-1, array.ndim - 1):
            array = np.moveaxis(array, axis, -1)  # such as channels, which lie last
        if not array.flags.c_contiguous:
            return NotImplemented
        arrays.append(array)
    out = np.empty(arrays[0].shape, np.float32)
    columns = arrays[0].shape[-1]
    rows = out.size // columns
    chunks = _threads.chunks_of(out.size, WORTH, rows)
    _threads.launch(
        function.pack(chunks, rows=rows, columns=columns, x=arrays[0], y=arrays[-1], out=out)
    )
    return out if axis in (-1, out.ndim - 1) else np.moveaxis(out, -1, axis)


@accelerates(reference.softmax)
def softmax(x: Array, axis: int) -> Array:
    return _apply(_softmax, axis, x)


@accelerates(reference.softmax_grad)
def softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    return _apply(_softmax_grad, axis, grad, y)


@accelerates(reference.log_softmax)
def log_softmax(x: Array, axis: int) -> Array:
    return _apply(_log_softmax, axis, x)


@accelerates(reference.log_softmax_grad)
def log_softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    return _apply(_log_softmax_grad, axis, grad, y)
