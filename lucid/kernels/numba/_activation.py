"""Activations, element by element; see the NumPy backend."""

from __future__ import annotations

import numpy as np
from numba import njit

from lucid.kernels.numba import _formula, _threads
from lucid.kernels.numba._native import WIDTH, address, bits_to_float, float_bits, floats, kernel
from lucid.kernels.numba._vector import add, load, store
from lucid.kernels.numpy import _activation as reference
from lucid.kernels.numpy import _erf as erf_reference

Array = np.ndarray

# Elements worth a chunk: 128 KiB.
_WORTH = 1 << 15


def _out(x: Array, *others: Array) -> Array | None:
    """Return an array like ``x``, or None where the arrays are not gapless in the same order."""
    if x.dtype != np.float32 or x.size < 256:
        return None
    y = np.empty_like(x)
    for array in (x, *others):
        if array.dtype != np.float32 or array.shape != y.shape:
            return None
        if any(a != b and n > 1 for a, b, n in zip(array.strides, y.strides, y.shape)):
            return None
    return y


def _run(function: int, size: int, *arguments: int) -> None:
    chunks = max(1, min(_threads.MAX_CHUNKS, size // _WORTH))
    _threads.run(_threads.plan((function, chunks, size, chunks, *arguments)))


@kernel
def clip_part(args, chunk, thread):
    """``y = min(max(x, low), high)``; NaN passes."""
    size, chunks = args[0], args[1]
    x, y = floats(args[2]), floats(args[3])
    low, high = bits_to_float(args[4]), bits_to_float(args[5])
    for i in range(size * chunk // chunks, size * (chunk + 1) // chunks):
        value = x[i]
        value = low if value < low else value
        y[i] = high if value > high else value


def clip(x: Array, low: float, high: float) -> Array:
    """Return ``min(max(x, low), high)``; ``high`` may be infinite. ReLU is ``clip(x, 0, inf)``."""
    y = _out(x)
    if y is None:
        return reference.clip(x, low, high)
    _run(clip_part.address, x.size, address(x), address(y), float_bits(low), float_bits(high))
    return y


@kernel
def clip_grad_part(args, chunk, thread):
    """0 where the output is at a bound, else the gradient: also at NaN."""
    size, chunks = args[0], args[1]
    grad, y, out = floats(args[2]), floats(args[3]), floats(args[4])
    low, high = bits_to_float(args[5]), bits_to_float(args[6])
    for i in range(size * chunk // chunks, size * (chunk + 1) // chunks):
        out[i] = np.float32(0) if (y[i] <= low) | (y[i] >= high) else grad[i]


def clip_grad(grad: Array, y: Array, low: float, high: float) -> Array:
    """Return 0 where the output ``y`` of :func:`clip` is at a bound, else ``grad``: also at NaN."""
    out = _out(grad, y)
    if out is None:
        return reference.clip_grad(grad, y, low, high)
    _run(
        clip_grad_part.address,
        grad.size,
        address(grad),
        address(y),
        address(out),
        float_bits(low),
        float_bits(np.nan if high == np.inf else high),  # nothing reaches NaN
    )
    return out


# -- smooth ones ----------------------------------------------------------------------------------

# How compiled code names them; 0 is none.
SILU, HARDSWISH, GELU, GELU_TANH, SIGMOID, ERF = range(1, 7)
KINDS = {
    ("silu",): SILU,
    ("hardswish",): HARDSWISH,
    ("gelu", False): GELU,
    ("gelu", True): GELU_TANH,
}

_silu, _silu_grad = _formula.of_one(_formula.silu), _formula.of_two(_formula.silu_grad)
_hardswish = _formula.of_one(_formula.hardswish)
_hardswish_grad = _formula.of_two(_formula.hardswish_grad)
_gelu, _gelu_grad = _formula.of_one(_formula.gelu), _formula.of_two(_formula.gelu_grad)
_gelu_tanh = _formula.of_one(_formula.gelu_tanh)
_gelu_tanh_grad = _formula.of_two(_formula.gelu_tanh_grad)
_sigmoid, _erf = _formula.of_one(_formula.sigmoid), _formula.of_one(_formula.erf)


@njit
def activate(kind, x, y, count):
    """Write the activation of ``count`` floats at an address to another, or to the same."""
    if kind == SILU:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _silu(load(x + i * 4, count - i)), count - i)
    elif kind == HARDSWISH:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _hardswish(load(x + i * 4, count - i)), count - i)
    elif kind == GELU:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _gelu(load(x + i * 4, count - i)), count - i)
    elif kind == GELU_TANH:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _gelu_tanh(load(x + i * 4, count - i)), count - i)
    elif kind == SIGMOID:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _sigmoid(load(x + i * 4, count - i)), count - i)
    elif kind == ERF:
        for i in range(0, count, WIDTH):
            store(y + i * 4, _erf(load(x + i * 4, count - i)), count - i)


@njit
def finish(kind, rows, columns, out, out_row, residual, residual_row):
    """Apply an activation to some rows in place, then add those of a residual (0: none)."""
    for row in range(rows):
        at = out + row * out_row
        activate(kind, at, at, columns)
        if residual != 0:
            other = residual + row * residual_row
            for j in range(0, columns, WIDTH):
                rest = columns - j
                value = add(load(at + j * 4, rest), load(other + j * 4, rest))
                store(at + j * 4, value, rest)


@kernel
def activation_part(args, chunk, thread):
    """One part of an array through an activation."""
    size, chunks, kind = args[0], args[1], args[2]
    start, stop = size * chunk // chunks, size * (chunk + 1) // chunks
    activate(kind, args[3] + start * 4, args[4] + start * 4, stop - start)


@kernel
def activation_grad_part(args, chunk, thread):
    """One part of a gradient through an activation: its slope at ``x``, times ``grad``."""
    size, chunks, kind = args[0], args[1], args[2]
    start, stop = size * chunk // chunks, size * (chunk + 1) // chunks
    grad, x, out = args[3] + start * 4, args[4] + start * 4, args[5] + start * 4
    count = stop - start
    if kind == SILU:
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            store(out + at, _silu_grad(load(grad + at, rest), load(x + at, rest)), rest)
    elif kind == HARDSWISH:
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            store(out + at, _hardswish_grad(load(grad + at, rest), load(x + at, rest)), rest)
    elif kind == GELU:
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            store(out + at, _gelu_grad(load(grad + at, rest), load(x + at, rest)), rest)
    elif kind == GELU_TANH:
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            store(out + at, _gelu_tanh_grad(load(grad + at, rest), load(x + at, rest)), rest)


def _forward(kind: int, x: Array) -> Array | None:
    y = _out(x)
    if y is not None:
        _run(activation_part.address, x.size, kind, address(x), address(y))
    return y


def _backward(kind: int, grad: Array, x: Array) -> Array | None:
    out = _out(grad, x)
    if out is not None:
        _run(activation_grad_part.address, x.size, kind, address(grad), address(x), address(out))
    return out


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + e^-x)``, also small values to the dtype's precision."""
    y = _forward(SIGMOID, x)
    return reference.sigmoid(x) if y is None else y


def silu(x: Array) -> Array:
    """Return ``x / (1 + e^-x)``."""
    y = _forward(SILU, x)
    return reference.silu(x) if y is None else y


def silu_grad(grad: Array, x: Array) -> Array:
    """Return the gradient of :func:`silu` at ``x`` times ``grad``."""
    result = _backward(SILU, grad, x)
    return reference.silu_grad(grad, x) if result is None else result


def hardswish(x: Array) -> Array:
    """Return ``x * min(max(x + 3, 0), 6) / 6``."""
    y = _forward(HARDSWISH, x)
    return reference.hardswish(x) if y is None else y


def hardswish_grad(grad: Array, x: Array) -> Array:
    """Return the gradient of :func:`hardswish` at ``x`` times ``grad``."""
    result = _backward(HARDSWISH, grad, x)
    return reference.hardswish_grad(grad, x) if result is None else result


def gelu(x: Array, tanh: bool) -> Array:
    """Return ``x`` times the normal distribution function at ``x``, or its tanh approximation."""
    y = _forward(GELU_TANH if tanh else GELU, x)
    return reference.gelu(x, tanh) if y is None else y


def gelu_grad(grad: Array, x: Array, tanh: bool) -> Array:
    """Return the gradient of :func:`gelu` at ``x`` times ``grad``."""
    result = _backward(GELU_TANH if tanh else GELU, grad, x)
    return reference.gelu_grad(grad, x, tanh) if result is None else result


def erf(x: Array) -> Array:
    """Return the error function of a floating-point array, accurate to its dtype."""
    y = _forward(ERF, x)
    return erf_reference.erf(x) if y is None else y
