"""Functions of statistics and number theory: error and gamma functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import is_whole, short
from lucid.autograd import Tensor
from lucid.ops._common import Array, floating
from lucid.ops._elementwise._exponential import exp
from lucid.ops._elementwise._table import named_as, numpys, unary

__all__ = ["digamma", "erfc", "erfinv", "lgamma", "polygamma"]


def by_element(function: Callable[[float], float], at_poles: float) -> Callable[[Array], Array]:
    """Return a function of Python's, which computes in float64, as one of arrays."""

    def value(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return at_poles
        except OverflowError:
            return math.inf

    def of_array(x: Array) -> Array:
        return np.asarray(np.frompyfunc(value, 1, 1)(x.astype(np.float64))).astype(x.dtype)

    return of_array


erfc = numpys(
    by_element(math.erfc, math.nan),
    "Return ``1 - erf(input)``, exact also where that is small.",
    lambda g, x: g * (exp(-(x * x)) * (-2 / math.sqrt(math.pi))),
    "erfc",
)


@unary(lambda grad, y: grad * (exp(y * y) * (math.sqrt(math.pi) / 2)), keep="output")
def erfinv(x: Array) -> Array:
    """Return the inverse of :func:`erf`: a quotient of polynomials, and two steps of Newton's."""
    y = x.astype(np.float64)
    square = y * y
    middle = y * np.polyval((-0.140543331, 0.914624893, -1.645349621, 0.886226899), square)
    middle /= np.polyval((0.012229801, -0.329097515, 1.442710462, -2.118377725, 1), square)
    root = np.sqrt(-np.log((1 - np.abs(y)) / 2))
    tail = np.polyval((1.641345311, 3.429567803, -1.624906493, -1.970840454), root)
    tail /= np.polyval((1.637067800, 3.543889200, 1), root)
    result = np.where(np.abs(y) <= 0.7, middle, np.copysign(tail, y))
    for _ in range(2):
        result -= (kernels.active().erf(result) - y) / (
            2 / math.sqrt(math.pi) * np.exp(-result * result)
        )
    return np.where(np.abs(y) == 1, np.copysign(np.inf, y), result).astype(x.dtype)


@unary(lambda grad, x: grad * polygamma(1, x), keep="input")
def digamma(x: Array) -> Array:
    """Return the derivative of ``lgamma``: its asymptotic series (DLMF 5.11.2) from 10 on."""
    z = np.where(x < 0.5, 1 - x.astype(np.float64), x)
    result = np.zeros_like(z)
    for _ in range(10):
        small = z < 10
        result -= np.where(small, 1 / z, 0)
        z = z + small
    square = 1 / (z * z)
    series = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12, 0)
    result += np.log(z) - 0.5 / z - np.polyval(series, square)
    angle = np.pi * np.remainder(x.astype(np.float64), 1)
    result = np.where(x < 0.5, result - np.pi / np.tan(angle), result)
    result = np.where((x < 0) & (x == np.floor(x)), np.nan, result)
    return np.where(x == 0, np.copysign(np.inf, -x), result).astype(x.dtype)


lgamma = numpys(
    by_element(math.lgamma, math.inf),
    "Return the logarithm of the absolute value of the gamma function.",
    lambda g, x: g * digamma(x),
    "lgamma",
)

# The first whole number whose factorial is too large for a float64.
_FACTORIALS = 171

# The Bernoulli numbers B2, B4 and so on.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def zeta_of(s: float, q: Array) -> Array:
    """Return Hurwitz's zeta function by Euler and Maclaurin's sum (DLMF 25.11.28).

    The sum is of use from numbers well above ``s`` on. Where the terms before these have become
    negligible it is left out.
    """
    total, end = np.zeros_like(q), np.where(q < -1e4, np.nan, q)
    enough = 12 + s
    while True:
        term = end**-s
        more = (end < enough) & ((end <= 0) | (np.abs(term) > np.abs(total) * 2.0**-60))
        if not more.any():
            break
        total += np.where(more, term, 0)
        end = end + more
    rest = end ** (1 - s) / (s - 1) + 0.5 * term
    factor = s * end ** (-s - 1) / 2
    for k, bernoulli in enumerate(_BERNOULLI):
        rest += bernoulli * factor
        factor = (
            factor * ((s + 2 * k + 1) * (s + 2 * k + 2)) / ((2 * k + 3) * (2 * k + 4) * end * end)
        )
    return total + np.where(end < enough, 0, rest)


def _polygamma(n: int) -> Any:
    """Return the operation for one order."""

    def compute(x: Array) -> Array:
        z = x.astype(np.float64)
        if n == 1:  # by reflection below 1/2
            below = z < 0.5
            value = zeta_of(2.0, np.where(below, 1 - z, z))
            return np.where(below, (np.pi / np.sin(np.pi * z)) ** 2 - value, value).astype(x.dtype)
        factorial = math.factorial(n) if n < _FACTORIALS else math.inf
        return ((-1) ** (n + 1) * factorial * zeta_of(n + 1.0, z)).astype(x.dtype)

    named_as(compute, "polygamma", "")
    return unary(lambda grad, x: grad * polygamma(n + 1, x), keep="input")(compute)


def polygamma(n: int, input: Any) -> Tensor:
    """Return the derivative of order ``n`` of :func:`digamma`.

    Raises:
        TypeError: if the order is no integer.
        ValueError: if the order is negative, or too large for 64 bits.
    """
    if not is_whole(n):
        raise TypeError(f"polygamma: the order must be an integer, got {short(n)}")
    if not 0 <= n < 2**63:
        raise ValueError(f"polygamma: the order must not be negative or 2**63, got {short(n)}")
    x = floating(input, "polygamma")
    return digamma(x) if n == 0 else _polygamma(n)(x)
