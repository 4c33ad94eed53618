"""Activations, element by element; see the NumPy backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _formula, _threads
from lucid.kernels.numba.machine._native import WIDTH, Kernel, bits_to_float, floats, kernel, share
from lucid.kernels.numba.machine._vector import load, store
from lucid.kernels.numpy import _activation as reference
from lucid.kernels.numpy import _erf as erf_reference

Array = np.ndarray

# Elements worth a chunk: 128 KiB.
_WORTH = 1 << 15


def _apply(function: Kernel, **arguments: Any) -> Any:
    """Return what a kernel writes for arrays ``x`` and ``y`` that lie alike and without gaps."""
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
            return NotImplemented
    chunks = _threads.chunks_of(x.size, _WORTH)
    _threads.launch(function.pack(chunks, size=x.size, out=out, **arguments))
    return out


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


def _map_one(formula: Callable[..., _formula.Value]) -> Kernel:
    """Return the kernel for a formula of an array's elements."""
    function = _formula.of_one(formula)

    def mapped(chunk, thread, size, chunks, x, out):
        start, stop = share(size, chunk, chunks)
        for i in range(start, stop, WIDTH):
            store(out + i * 4, function(load(x + i * 4, stop - i)), stop - i)

    mapped.__qualname__ = f"mapped_{formula.__name__}"
    return kernel(mapped)


def _map_two(formula: Callable[..., _formula.Value]) -> Kernel:
    """Return the kernel for a formula of two arrays' elements."""
    function = _formula.of_two(formula)

    def mapped(chunk, thread, size, chunks, x, y, out):
        start, stop = share(size, chunk, chunks)
        for i in range(start, stop, WIDTH):
            value = function(load(x + i * 4, stop - i), load(y + i * 4, stop - i))
            store(out + i * 4, value, stop - i)

    mapped.__qualname__ = f"mapped_{formula.__name__}"
    return kernel(mapped)


_sigmoid, _erf = _map_one(_formula.sigmoid), _map_one(_formula.erf)
_silu, _silu_grad = _map_one(_formula.silu), _map_two(_formula.silu_grad)
_hardswish, _hardswish_grad = _map_one(_formula.hardswish), _map_two(_formula.hardswish_grad)
_gelu, _gelu_grad = _map_one(_formula.gelu), _map_two(_formula.gelu_grad)
_gelu_tanh, _gelu_tanh_grad = _map_one(_formula.gelu_tanh), _map_two(_formula.gelu_tanh_grad)


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

_of_silu, _of_hardswish = _formula.of_one(_formula.silu), _formula.of_one(_formula.hardswish)
_of_gelu, _of_gelu_tanh = _formula.of_one(_formula.gelu), _formula.of_one(_formula.gelu_tanh)


@njit
def _activated(kind, value):
    if kind == _SILU:
        return _of_silu(value)
    if kind == _HARDSWISH:
        return _of_hardswish(value)
    if kind == _GELU:
        return _of_gelu(value)
    return _of_gelu_tanh(value)


@njit
def finish(kind, rows, columns, out, out_row, residual, residual_row):
    """Apply an activation to some rows in place, then add those of a residual (0: none)."""
    for row in range(rows):
        at, other = out + row * out_row, residual + row * residual_row
        for j in range(0, columns, WIDTH):
            rest = columns - j
            value = _activated(kind, load(at + j * 4, rest))
            if residual != 0:
                value = value + load(other + j * 4, rest)
            store(at + j * 4, value, rest)
