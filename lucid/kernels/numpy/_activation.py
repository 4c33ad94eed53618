"""Activations, element by element, with their gradients.

All take arrays of any memory layout and return the layout of the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels._memory import empty_like
from lucid.kernels.numpy._calls import HERE, Calls
from lucid.kernels.numpy._erf import erf
from lucid.kernels.numpy._threads import in_parts

Array = np.ndarray

# So many elements at a time, with the temporaries made of them, stay in the caches. A formula of
# ten steps over a large array is otherwise ten trips to main memory. On one thread GELU of
# 16×56×56×96 took 8.8 ms with blocks of 1 << 14, 6.7 with this and 23 with twice this.
_BLOCK = 1 << 18


def in_blocks(fn: Callable[..., Array], *arrays: Array, takes_out: bool = False) -> Array:
    """Return ``fn(*arrays)``, an element-wise function of arrays of one shape, block by block.

    float16 is computed in float32 and rounded once. With ``takes_out`` the function writes to the
    memory that it is given as one argument more: a copy of each block is spared.
    """
    first = arrays[0]
    if first.dtype == np.float16:
        wide = [array.astype(np.float32) for array in arrays]
        return in_blocks(fn, *wide).astype(np.float16)
    if first.ndim == 0:  # NumPy's functions make numbers of them, which cannot be changed
        return fn(*[array.reshape(1) for array in arrays]).reshape(())
    if first.size <= _BLOCK:
        return fn(*arrays)
    if first.strides.count(0):  # a broadcast view has no order of its own
        first = np.ascontiguousarray(first)
    out = empty_like(first)
    flat = [first.ravel(order="K")]
    for other in arrays[1:]:
        if other.strides != first.strides:
            ordered = np.empty_like(first, dtype=other.dtype)
            ordered[...] = other
            other = ordered
        flat.append(other.ravel(order="K"))
    flat_out = out.ravel(order="K")  # a view: empty_like leaves no gaps

    def part(elements: slice) -> None:
        for start in range(elements.start, elements.stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, elements.stop))
            given = [array[block] for array in flat]
            if takes_out:
                fn(*given, flat_out[block])
            else:
                flat_out[block] = fn(*given)

    in_parts(part, first.size, first.size)
    return out


# -- ReLU, ReLU6, Hardtanh ----------------------------------------------------------------------


def clip(x: Array, low: float, high: float) -> Array:
    """Return ``min(max(x, low), high)``; ``high`` may be infinite. ReLU is ``clip(x, 0, inf)``."""
    bounds = x.dtype.type(low), x.dtype.type(high)
    if x.ndim == 0:
        return np.asarray(np.clip(x, *bounds))
    y = empty_like(x)
    if x.size <= _BLOCK:
        return np.clip(x, *bounds, out=y)

    def part(rows: slice) -> None:
        np.clip(x[rows], *bounds, out=y[rows])  # also with infinity faster than np.maximum

    in_parts(part, len(x), x.size)
    return y


def clip_grad(grad: Array, y: Array, low: float, high: float) -> Array:
    """Return 0 where the output ``y`` of :func:`clip` is at a bound, else ``grad``: also at NaN."""
    bounds = y.dtype.type(low), y.dtype.type(high)  # as they were compared

    def block(grad: Array, y: Array, out: Array | None = None) -> Array:
        inside = y != bounds[0]
        if high != np.inf:
            inside &= y != bounds[1]
        return select(grad, inside, out)

    return in_blocks(block, grad, y, takes_out=True)


def select(grad: Array, mask: Array, out: Array | None = None) -> Array:
    """Return ``grad`` where the boolean ``mask`` holds, else 0, also for infinity and NaN.

    The bits are multiplied: a product of floats leaves NaN, and ``np.where`` takes six times as
    long. ``out`` is ``grad`` itself or memory apart from it.
    """
    bits = np.dtype(f"i{grad.itemsize}")
    target = None if out is None else out.view(bits)
    if target is not None and out is not grad:
        np.copyto(target, mask)  # by itself NumPy converts piece by piece: a third more time
        mask = target
    result: Array = np.multiply(grad.view(bits), mask, out=target)
    return result.view(grad.dtype)


def elu_grad(grad: Array, x: Array, negative: float, positive: float, inner: float) -> Array:
    """Return ``grad`` times ``positive``, or ``negative * inner * e^(inner x)`` up to ``x = 0``."""

    def block(grad: Array, x: Array) -> Array:
        below = x <= 0
        slope = np.clip(x, -math.inf, 0)  # np.minimum takes three times as long
        if inner != 1:
            slope *= inner
        np.exp(slope, out=slope)
        slope *= negative * inner
        select(slope, below, out=slope)
        # np.where takes several times as long, as it branches.
        slope += np.multiply(~below, slope.dtype.type(positive))
        slope *= grad
        return slope

    return in_blocks(block, grad, x)


# -- smooth ones --------------------------------------------------------------------------------


def _has_fast_expm1() -> bool:
    """Whether NumPy computes ``expm1`` of float32 by vectors here: in 0.7 of the time of ``exp``.

    It does with AVX-512; elsewhere that takes twelve times as long.
    """
    introspect = getattr(np.lib, "introspect", None)  # since NumPy 2.2
    if introspect is None:
        return False
    found = introspect.opt_func_info(func_name="^expm1$", signature="float32")
    return any(
        "AVX512" in how["current"] or how["current"] == "X86_V4"
        for loops in found.values()
        for how in loops.values()
    )


_FAST_EXPM1 = _has_fast_expm1()


def _one_and_power(x: Array, out: Array | None = None) -> Array:
    # Where the quotient by it is small it is as exact as e^x. By way of tanh it would be 0 there.
    # The power may be infinite, and the quotient 0, as in PyTorch.
    y: Array = np.negative(x, out=out)
    if _FAST_EXPM1 and y.dtype == np.float32:
        np.expm1(y, out=y)
        y += 2
    else:
        np.exp(y, out=y)
        y += 1
    return y


def _sigmoid(x: Array, out: Array | None = None) -> Array:
    y = _one_and_power(x, out)
    return np.divide(1, y, out=y)  # faster than np.reciprocal


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + e^-x)``, also small values to the dtype's precision."""
    return in_blocks(_sigmoid, x, takes_out=True)


def silu(x: Array) -> Array:
    """Return ``x / (1 + e^-x)``."""

    def block(x: Array, out: Array | None = None) -> Array:
        y = _one_and_power(x, out)
        return np.divide(x, y, out=y)

    return in_blocks(block, x, takes_out=True)


def silu_grad(grad: Array, x: Array) -> Array:
    """Return the gradient of :func:`silu` at ``x`` times ``grad``."""

    def block(grad: Array, x: Array) -> Array:
        y = _one_and_power(x)
        slope = x / y
        np.subtract(x, slope, out=slope)
        slope += 1
        slope /= y
        slope *= grad
        return slope

    return in_blocks(block, grad, x)


def hardswish(x: Array) -> Array:
    """Return ``x * min(max(x + 3, 0), 6) / 6``."""

    def block(x: Array) -> Array:
        y = x + 3
        np.clip(y, 0, 6, out=y)
        y *= x
        y /= 6
        return y

    return in_blocks(block, x)


def hardswish_grad(grad: Array, x: Array) -> Array:
    """Return the gradient of :func:`hardswish` at ``x`` times ``grad``."""

    def block(grad: Array, x: Array) -> Array:
        # x / 3 + 1/2 between the bends, 0 before and 1 after.
        slope = x / 3
        slope += 0.5
        inside = x < 3
        select(slope, inside, out=slope)
        slope += ~inside  # np.where takes up to six times as long, as it branches
        slope *= grad
        return select(slope, ~(x <= -3), out=slope)

    return in_blocks(block, grad, x)


_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


# The normal distribution function is 1 / (1 + e^(x P(x^2))). P was fitted by least squares, with
# weights changed until the largest errors were alike: 3.4e-8 of the result for x up to 6.2, less
# than what float32 rounds. Powers of x^2, the highest first.
_LOG_ODDS = tuple(map(np.float32, (
    -3.40395463e-09, 2.60499479e-07, -7.8764848e-06, 0.000110305768,
    6.59746812e-05, -0.0726669486, -1.59576968,
)))  # fmt: skip
_ONE = np.float32(1)


def gelu(x: Array, tanh: bool) -> Array:
    """Return ``x`` times the normal distribution function at ``x``, or its tanh approximation."""
    if x.dtype != np.float64 and not tanh:
        return in_blocks(_gelu_float32, x, takes_out=True)

    def block(x: Array) -> Array:
        y = np.tanh(_TANH_SCALE * (x + _TANH_CUBE * (x * x * x))) if tanh else erf(x * _SQRT_HALF)
        y += 1
        y *= x
        y *= 0.5
        return y

    return in_blocks(block, x)


def _gelu_float32(x: Array, out: Array | None = None) -> Array:
    # ``out`` may be x. No recycled memory: its Python costs two threads more than malloc's.
    square, y = np.empty_like(x), np.empty_like(x)
    out = y if out is None else out
    _issue_gelu(HERE, x, square, y, out)
    return out


def _issue_gelu(calls: Calls, x: Array, square: Array, y: Array, out: Array) -> None:
    # 20 steps where those by way of erf are 30, and exact also where x is far below 0.
    calls.do(np.multiply, x, x, out=square)
    calls.do(np.multiply, square, _LOG_ODDS[0], out=y)
    for coefficient in _LOG_ODDS[1:-1]:
        calls.do(np.add, y, coefficient, out=y)
        calls.do(np.multiply, y, square, out=y)
    calls.do(np.add, y, _LOG_ODDS[-1], out=y)
    calls.do(np.multiply, y, x, out=y)
    calls.do(np.exp, y, out=y)
    calls.do(np.add, y, _ONE, out=y)
    calls.do(np.divide, x, y, out=out)


def gelu_grad(grad: Array, x: Array, tanh: bool) -> Array:
    """Return the gradient of :func:`gelu` at ``x`` times ``grad``."""

    def block(grad: Array, x: Array) -> Array:
        square = x * x
        if tanh:
            t = np.tanh(_TANH_SCALE * (x + _TANH_CUBE * (square * x)))
            inner = _TANH_SCALE * (1 + 3 * _TANH_CUBE * square)
            return grad * (0.5 * (1 + t) + (0.5 * x) * ((1 - t * t) * inner))
        return grad * (0.5 * (1 + erf(x * _SQRT_HALF)) + x * (_DENSITY * np.exp(-0.5 * square)))

    return in_blocks(block, grad, x)


_BY_NAME = {"gelu": gelu, "silu": silu, "hardswish": hardswish}


def issue(calls: Calls, block: Array, name: str, *settings: Any) -> None:
    """Issue the calls that write an activation over its input, a contiguous array or a matrix."""
    rows = block.reshape(-1) if block.flags.c_contiguous else block
    step = max(1, _BLOCK // max(1, rows.size // max(1, len(rows))))
    for start in range(0, len(rows), step):
        x = rows[start : start + step]
        if name == "gelu" and settings == (False,) and x.dtype == np.float32:
            square, y = calls.empty(x.shape, x.dtype), calls.empty(x.shape, x.dtype)
            _issue_gelu(calls, x, square, y, x)
            calls.give(square)
            calls.give(y)
        else:
            calls.do(_write, x, _BY_NAME[name], *settings)


def _write(x: Array, function: Callable[..., Array], *settings: Any) -> None:
    x[...] = function(x, *settings)
