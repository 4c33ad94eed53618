"""Activations, element by element; see the NumPy backend."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._native import address, bits_to_float, float_bits, floats, kernel
from lucid.kernels.numpy import _activation as reference

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
    """The gradient where the output is between the bounds, else 0."""
    size, chunks = args[0], args[1]
    grad, y, out = floats(args[2]), floats(args[3]), floats(args[4])
    low, high = bits_to_float(args[5]), bits_to_float(args[6])
    for i in range(size * chunk // chunks, size * (chunk + 1) // chunks):
        out[i] = grad[i] if (y[i] > low) & (not y[i] >= high) else np.float32(0)


def clip_grad(grad: Array, y: Array, low: float, high: float) -> Array:
    """Return ``grad`` where the output ``y`` of :func:`clip` is between the bounds, else 0."""
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
