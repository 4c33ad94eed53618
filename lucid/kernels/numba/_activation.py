"""Activations, element by element; see the NumPy backend."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _formula, _threads
from lucid.kernels.numba.machine._emit import Value
from lucid.kernels.numba.machine._formula import compiled_formula
from lucid.kernels.numba.machine._native import (
    FLOAT,
    TILE_ROWS,
    WIDTH,
    Kernel,
    bits_to_float,
    compiled,
    floats,
    kernel,
    piece,
    share,
)
from lucid.kernels.numba.machine._tile import AT, TILES, tile
from lucid.kernels.numba.machine._vector import load, store
from lucid.kernels.numpy import _activation as reference
from lucid.kernels.numpy import _erf as erf_reference

Array = np.ndarray

# Elements worth a chunk: 128 KiB.
_WORTH = 1 << 15


def _apply(function: Kernel, **arguments: Any) -> Any:
    """Return what a kernel writes for arrays ``x`` and ``y``; one with gaps is copied first."""
    x = arguments["x"]
    if x.dtype != np.float32 or x.size < 256:
        return NotImplemented
    out = np.empty_like(x)
    for name in ("x", "y") if "y" in arguments else ("x",):
        array = arguments[name]
        if array.dtype != np.float32 or array.shape != out.shape:
            return NotImplemented
        if array.strides != out.strides and any(
            a != b and n > 1 for a, b, n in zip(array.strides, out.strides, out.shape)
        ):
            arguments[name] = np.empty_like(out)
            arguments[name][...] = array
    chunks = _threads.chunks_of(x.size, _WORTH)
    _threads.launch(function.pack(chunks, size=x.size, out=out, **arguments))
    return out


# Loops over floats: LLVM's vectors, several at a time, are 5 % faster here than ours.


@kernel
def clip_part(chunk, thread, size, chunks, x, out, low, high):
    """``out = min(max(x, low), high)``; NaN passes."""
    start, stop = share(size, chunk, chunks)
    values, results = floats(x), floats(out)
    least, most = bits_to_float(low), bits_to_float(high)
    for i in range(start, stop):
        value = values[i]
        value = least if value < least else value
        results[i] = most if value > most else value


@kernel
def clip_grad_part(chunk, thread, size, chunks, x, y, out, low, high):
    """0 where the output ``y`` is at a bound, else the gradient ``x``: also at NaN."""
    start, stop = share(size, chunk, chunks)
    grad, values, results = floats(x), floats(y), floats(out)
    least, most = bits_to_float(low), bits_to_float(high)
    for i in range(start, stop):
        results[i] = np.float32(0) if (values[i] <= least) | (values[i] >= most) else grad[i]


@accelerates(reference.clip)
def clip(x: Array, low: float, high: float) -> Array:
    return _apply(clip_part, x=x, low=float(low), high=float(high))


@accelerates(reference.clip_grad)
def clip_grad(grad: Array, y: Array, low: float, high: float) -> Array:
    highest = math.nan if high == math.inf else float(high)  # nothing reaches NaN
    return _apply(clip_grad_part, x=grad, y=y, low=float(low), high=highest)


# -- smooth ones ----------------------------------------------------------------------------------


def _map(formula: Callable[..., Value]) -> Kernel:
    """Return the kernel for a formula of one array's elements, or of two arrays'."""
    count = len(inspect.signature(formula).parameters)
    function = compiled_formula(formula, count)

    def of_one(chunk, thread, size, chunks, x, out):
        start, stop = share(size, chunk, chunks)
        for i in range(start, stop, WIDTH):
            at, rest = i * FLOAT, stop - i
            store(out + at, function(load(x + at, rest)), rest)

    def of_two(chunk, thread, size, chunks, x, y, out):
        start, stop = share(size, chunk, chunks)
        for i in range(start, stop, WIDTH):
            at, rest = i * FLOAT, stop - i
            store(out + at, function(load(x + at, rest), load(y + at, rest)), rest)

    mapped = of_one if count == 1 else of_two
    mapped.__qualname__ = f"mapped_{formula.__name__}"
    return kernel(mapped)


_sigmoid, _erf = _map(_formula.sigmoid), _map(_formula.erf)
_silu, _silu_grad = _map(_formula.silu), _map(_formula.silu_grad)
_hardswish, _hardswish_grad = _map(_formula.hardswish), _map(_formula.hardswish_grad)
_gelu, _gelu_grad = _map(_formula.gelu), _map(_formula.gelu_grad)
_gelu_tanh, _gelu_tanh_grad = _map(_formula.gelu_tanh), _map(_formula.gelu_tanh_grad)


@accelerates(reference.sigmoid)
def sigmoid(x: Array) -> Array:
    return _apply(_sigmoid, x=x)


@accelerates(reference.silu)
def silu(x: Array) -> Array:
    return _apply(_silu, x=x)


@accelerates(reference.silu_grad)
def silu_grad(grad: Array, x: Array) -> Array:
    return _apply(_silu_grad, x=grad, y=x)


@accelerates(reference.hardswish)
def hardswish(x: Array) -> Array:
    return _apply(_hardswish, x=x)


@accelerates(reference.hardswish_grad)
def hardswish_grad(grad: Array, x: Array) -> Array:
    return _apply(_hardswish_grad, x=grad, y=x)


@accelerates(reference.gelu)
def gelu(x: Array, tanh: bool) -> Array:
    return _apply(_gelu_tanh if tanh else _gelu, x=x)


@accelerates(reference.gelu_grad)
def gelu_grad(grad: Array, x: Array, tanh: bool) -> Array:
    return _apply(_gelu_tanh_grad if tanh else _gelu_grad, x=grad, y=x)


@accelerates(erf_reference.erf)
def erf(x: Array) -> Array:
    return _apply(_erf, x=x)


# -- behind a convolution -------------------------------------------------------------------------

# How the kernels of convolutions name an activation; 0 is none.
KINDS = {("silu",): 1, ("hardswish",): 2, ("gelu", False): 3, ("gelu", True): 4}
_SILU, _HARDSWISH, _GELU, _ = KINDS.values()

_of_silu, _of_hardswish, _of_gelu, _of_gelu_tanh = (
    compiled_formula(formula, 1)
    for formula in (_formula.silu, _formula.hardswish, _formula.gelu, _formula.gelu_tanh)
)


@piece
def _activated(kind, value):
    if kind == _SILU:
        return _of_silu(value)
    if kind == _HARDSWISH:
        return _of_hardswish(value)
    if kind == _GELU:
        return _of_gelu(value)
    return _of_gelu_tanh(value)


@piece
def finish(kind, rows, columns, out, out_row, residual, residual_row):
    """Apply an activation to some rows in place, then add those of a residual (0: none)."""
    for row in range(rows):
        start, other = out + row * out_row, residual + row * residual_row
        for j in range(0, columns, WIDTH):
            at, rest = j * FLOAT, columns - j
            value = _activated(kind, load(start + at, rest))
            if residual != 0:
                value = value + load(other + at, rest)
            store(start + at, value, rest)


@compiled(TILES)
def tiles_activated(settings, kind, rows, a, b, c, residual, columns):
    """Compute some rows of a panel's product, tile by tile; see :func:`tile` for the arguments.

    An activation, if there is a ``kind``, is applied to a tile while it is in the nearest cache.
    """
    # Tiles of nearly equal height: a last one of few rows would leave the multipliers idle.
    count = (rows + TILE_ROWS - 1) // TILE_ROWS
    # Each asks for its part of the panel that is to be read ahead.
    steps = settings[AT.segments] * settings[AT.length]
    ahead_step = settings[AT.b_step] // count
    ahead = b + settings[AT.b_panel]
    for index in range(count):
        row, stop = share(rows, index, count)
        a_at, c_at = a + row * settings[AT.a_row], c + row * settings[AT.c_row]
        other = residual + row * settings[AT.residual_row] if residual != 0 else 0
        inside = other if kind == 0 else 0
        tile(stop - row, a_at, b, c_at, inside, columns, ahead, ahead_step, settings)
        ahead += ahead_step * steps
        if kind != 0:
            c_row, residual_row = settings[AT.c_row], settings[AT.residual_row]
            finish(kind, stop - row, columns, c_at, c_row, other, residual_row)
