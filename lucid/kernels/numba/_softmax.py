"""Softmax and its logarithm along contiguous rows; see the NumPy backend."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lucid.kernels.numba import _threads
from lucid.kernels.numba._formula import vector_exp
from lucid.kernels.numba._native import WIDTH, address, kernel
from lucid.kernels.numba._vector import (
    add,
    fused,
    largest,
    load,
    load_or,
    maximum,
    multiply,
    spread,
    store,
    subtract,
    total,
)
from lucid.kernels.numpy import _activation as reference

Array = np.ndarray

_LOWEST = np.float32(-np.inf)

# Elements worth a chunk: with their exponentials some 10 µs.
_WORTH = 1 << 14


@njit
def row_maximum(x, count):
    """The largest of the floats at an address; NaN is passed over."""
    lowest = spread(_LOWEST)
    first = second = lowest  # two, as each waits for the one before it
    i = 0
    while i + 2 * WIDTH <= count:
        first = maximum(first, load(x + i * 4, WIDTH))
        second = maximum(second, load(x + (i + WIDTH) * 4, WIDTH))
        i += 2 * WIDTH
    while i < count:
        first = maximum(first, load_or(x + i * 4, count - i, lowest))
        i += WIDTH
    return largest(maximum(first, second))


@njit
def exponentials(x, y, count):
    """Write ``e^(x - max(x))`` of a row to ``y``, or in place, and return its sum."""
    lowest = spread(_LOWEST)
    centre = spread(row_maximum(x, count))
    sums = spread(np.float32(0))
    for i in range(0, count, WIDTH):
        rest = count - i
        # What is not there counts as minus infinity, whose exponential adds nothing.
        power = vector_exp(subtract(load_or(x + i * 4, rest, lowest), centre))
        store(y + i * 4, power, rest)
        sums = add(sums, power)
    return total(sums)


@njit
def log_softmax_row(x, y, count):
    """Write ``x - log(sum(e^x))`` of a row to ``y``."""
    lowest = spread(_LOWEST)
    centre = spread(row_maximum(x, count))
    sums = spread(np.float32(0))
    for i in range(0, count, WIDTH):
        sums = add(sums, vector_exp(subtract(load_or(x + i * 4, count - i, lowest), centre)))
    shift = spread(np.float32(math.log(total(sums))))
    for i in range(0, count, WIDTH):
        value = subtract(subtract(load(x + i * 4, count - i), centre), shift)
        store(y + i * 4, value, count - i)


@kernel
def softmax_rows(args, chunk, thread):
    """Some rows of ``e^x / sum(e^x)``."""
    x, y, rows, columns, chunks = args[0], args[1], args[2], args[3], args[4]
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        out = y + row * columns * 4
        sums = exponentials(x + row * columns * 4, out, columns)
        factor = spread(np.float32(1) / sums)
        for i in range(0, columns, WIDTH):
            at, rest = out + i * 4, columns - i
            store(at, multiply(load(at, rest), factor), rest)


@kernel
def log_softmax_rows(args, chunk, thread):
    """Some rows of ``x - log(sum(e^x))``."""
    x, y, rows, columns, chunks = args[0], args[1], args[2], args[3], args[4]
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        log_softmax_row(x + row * columns * 4, y + row * columns * 4, columns)


@kernel
def softmax_grad_rows(args, chunk, thread):
    """Some rows of ``y · (grad - sum(grad · y))``."""
    grad, y, out, rows, columns, chunks = args[0], args[1], args[2], args[3], args[4], args[5]
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        offset = row * columns * 4
        sums = spread(np.float32(0))
        for i in range(0, columns, WIDTH):
            at, rest = offset + i * 4, columns - i
            sums = fused(load(grad + at, rest), load(y + at, rest), sums)
        mean = spread(total(sums))
        for i in range(0, columns, WIDTH):
            at, rest = offset + i * 4, columns - i
            slope = subtract(load(grad + at, rest), mean)
            store(out + at, multiply(load(y + at, rest), slope), rest)


@kernel
def log_softmax_grad_rows(args, chunk, thread):
    """Some rows of ``grad - e^y · sum(grad)``."""
    grad, y, out, rows, columns, chunks = args[0], args[1], args[2], args[3], args[4], args[5]
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        offset = row * columns * 4
        sums = spread(np.float32(0))
        for i in range(0, columns, WIDTH):
            sums = add(sums, load(grad + offset + i * 4, columns - i))
        mean = spread(-total(sums))
        for i in range(0, columns, WIDTH):
            at, rest = offset + i * 4, columns - i
            value = fused(vector_exp(load(y + at, rest)), mean, load(grad + at, rest))
            store(out + at, value, rest)


def _rows(axis: int, *arrays: Array) -> list[Array] | None:
    """Return the arrays as they lie, if in all of them the axis is the innermost in memory."""
    first = arrays[0]
    if first.size == 0 or first.ndim == 0:
        return None
    moved = []
    for array in arrays:
        if array.dtype != np.float32 or array.shape != first.shape:
            return None
        if array.ndim > 1 and axis not in (-1, array.ndim - 1):
            array = np.moveaxis(array, axis, -1)  # such as channels, which lie last
        if not array.flags.c_contiguous:
            return None
        moved.append(array)
    return moved


def _run(kernel_address: int, arrays: list[Array], axis: int) -> Array:
    x = arrays[0]
    y = np.empty(x.shape, np.float32)
    columns = x.shape[-1]
    rows = x.size // columns
    chunks = max(1, min(_threads.MAX_CHUNKS, rows, x.size // _WORTH))
    addresses = [address(array) for array in arrays]
    _threads.run(
        _threads.plan((kernel_address, chunks, *addresses, address(y), rows, columns, chunks))
    )
    return y if axis in (-1, y.ndim - 1) else np.moveaxis(y, -1, axis)


def softmax(x: Array, axis: int) -> Array:
    """Return ``e^x / sum(e^x)`` along ``axis``. A slice of minus infinities gives NaN."""
    rows = _rows(axis, x)
    return reference.softmax(x, axis) if rows is None else _run(softmax_rows.address, rows, axis)


def softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """Return the gradient of :func:`softmax` in its input, given its output ``y``."""
    rows = _rows(axis, grad, y)
    if rows is None:
        return reference.softmax_grad(grad, y, axis)
    return _run(softmax_grad_rows.address, rows, axis)


def log_softmax(x: Array, axis: int) -> Array:
    """Return ``x - log(sum(e^x))`` along ``axis``."""
    rows = _rows(axis, x)
    if rows is None:
        return reference.log_softmax(x, axis)
    return _run(log_softmax_rows.address, rows, axis)


def log_softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """Return the gradient of :func:`log_softmax` in its input, given its output ``y``."""
    rows = _rows(axis, grad, y)
    if rows is None:
        return reference.log_softmax_grad(grad, y, axis)
    return _run(log_softmax_grad_rows.address, rows, axis)
