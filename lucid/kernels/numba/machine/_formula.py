"""Formulas on vectors: exp, erf, and the activations made of them, with their gradients.

A formula is a Python function of :class:`Value`; calling it writes LLVM's instructions for a vector
of WIDTH floats. Products followed by a sum become one multiply-add.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lucid.kernels.numba.machine import _emit
from lucid.kernels.numba.machine._emit import Value
from lucid.kernels.numba.machine._native import VECTOR, WIDTH, emits, i32
from lucid.kernels.numpy._erf import _FLOAT32_P, _FLOAT32_Q

_INTS = ir.VectorType(i32, WIDTH)


def _polynomial(coefficients: tuple[float, ...], x: Value) -> Value:
    """Horner's rule, highest power first."""
    result = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * x + coefficient
    return result


# -- functions ------------------------------------------------------------------------------------

# Added to a float of moderate size it leaves the nearest integer in the low bits.
_ROUNDER = 1.5 * 2**23
_ROUNDER_BITS = struct.unpack("<i", struct.pack("<f", _ROUNDER))[0]
# log(2) in two floats: the first times an integer of a few bits is exact.
_LOG2_HIGH, _LOG2_LOW = 0.693359375, -2.12194440e-4
# (e^r - 1 - r) / r² for |r| <= log(2)/2, from the Cephes library (S. L. Moshier, expf).
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
        4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)  # fmt: skip


def exp(x: Value, highest: float = 89.0) -> Value:
    """e^x = 2^n · e^r with the integer n nearest to x / log(2); error below 1.5 units.

    Beyond ``highest`` it stays as it is there.
    """
    builder, given = x.builder, x
    # Below -104 it is 0, from 89 on infinite. The 0 is put in at the end: a product that underflows
    # costs the processor as much as the rest.
    x = x.choose("<", -104.0, 0.0, x)
    x = x.choose(">", highest, highest, x)
    shifted = x * (1 / math.log(2)) + _ROUNDER
    n = shifted - _ROUNDER
    r = x - n * _LOG2_HIGH
    r = r - n * _LOG2_LOW
    power = _polynomial(_EXP, r) * (r * r) + r + 1.0
    bits = builder.bitcast(shifted.ir, _INTS)
    whole = builder.sub(bits, ir.Constant(_INTS, [_ROUNDER_BITS] * WIDTH))
    # 2^n as two factors, as n itself may be beyond the exponents of normal floats.
    half = builder.ashr(whole, ir.Constant(_INTS, [1] * WIDTH))
    for part in (half, builder.sub(whole, half)):
        exponent = builder.add(part, ir.Constant(_INTS, [127] * WIDTH))
        factor = builder.shl(exponent, ir.Constant(_INTS, [23] * WIDTH))
        power = power * Value(builder, builder.bitcast(factor, VECTOR))
    return given.choose("<", -104.0, 0.0, power)


def erf(x: Value) -> Value:
    """The NumPy backend's ratio of polynomials, and exactly ±1 beyond 4: gelu(-1000) is 0."""
    inner = x.clip(-4.0, 4.0)
    square = inner * inner
    result = _polynomial(_FLOAT32_P, square) / _polynomial(_FLOAT32_Q, square) * inner
    return x.choose(">", 4.0, 1.0, x.choose("<", -4.0, -1.0, result))


def sigmoid(x: Value) -> Value:
    """e^x / (1 + e^x): small values are as exact as e^x. From 40 on it rounds to 1."""
    power = exp(x, 40.0)
    return power / (power + 1.0)


def silu(x: Value) -> Value:
    """X / (1 + e^-x), as it stands: 0.92 of the time of x times sigmoid."""
    return x / (exp(x * -1.0) + 1.0)


def silu_grad(grad: Value, x: Value) -> Value:
    """With s = 1 / (1 + e^-x) the slope is s·(1 + x·(1 - s))."""
    s = sigmoid(x)
    return ((1.0 - s) * x + 1.0) * s * grad


def hardswish(x: Value) -> Value:
    """X · min(max(x + 3, 0), 6) / 6."""
    return (x + 3.0).clip(0.0, 6.0) * x / 6.0


def hardswish_grad(grad: Value, x: Value) -> Value:
    """x/3 + 1/2 between the bends, 0 before and 1 after."""
    slope = x.choose("<", 3.0, x / 3.0 + 0.5, 1.0)
    return x.choose("<=", -3.0, 0.0, slope * grad)


_SQRT_HALF = math.sqrt(0.5)
_DENSITY = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def gelu(x: Value) -> Value:
    """X times the normal distribution function at x."""
    return (erf(x * _SQRT_HALF) + 1.0) * x * 0.5


def gelu_grad(grad: Value, x: Value) -> Value:
    """The distribution function plus x times the density."""
    density = exp(x * x * -0.5) * _DENSITY
    return grad * (0.5 * (1.0 + erf(x * _SQRT_HALF)) + x * density)


def _tanh_argument(x: Value) -> Value:
    return (x * x * x * _TANH_CUBE + x) * _TANH_SCALE


def gelu_tanh(x: Value) -> Value:
    """x/2 · (1 + tanh(u)), and (1 + tanh(u)) / 2 is 1 / (1 + e^-2u): nothing cancels."""
    return x * sigmoid(_tanh_argument(x) * 2.0)


def gelu_tanh_grad(grad: Value, x: Value) -> Value:
    """With s = 1 / (1 + e^-2u) the slope is s + x · 2s·(1 - s) · du/dx."""
    s = sigmoid(_tanh_argument(x) * 2.0)
    inner = (x * x * (3 * _TANH_CUBE) + 1.0) * _TANH_SCALE
    return grad * (s + x * (s * (1.0 - s) * 2.0 * inner))


def compiled_formula(formula: Callable[..., Value], count: int) -> Any:
    """Return a formula of so many vectors as a function for compiled code."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * count)
    name = f"lucid_formula_{formula.__name__}"

    def write(builder: Any, *args: Any) -> Any:
        return formula(*[Value(builder, arg) for arg in args]).ir

    @emits(*[VECTOR] * count)
    def function(builder: Any, *args: Any) -> Any:
        made = _emit.function(builder.module, name, kind, "alwaysinline", write)
        return builder.call(made, args)

    return function


vector_exp = compiled_formula(exp, 1)
