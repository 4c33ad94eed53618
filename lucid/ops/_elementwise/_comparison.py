"""Comparisons, tests, logic and bits: without gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._function import is_observed
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import Array, operand, operands
from lucid.ops._elementwise._table import Binary, Unary, named_as

__all__ = [
    "allclose", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "eq", "equal", "gcd", "ge", "gt", "heaviside",
    "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "isreal", "lcm", "le",
    "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
    "signbit",
]  # fmt: skip


class Compare(Function):
    """A comparison, a test or logic, which has no gradient: an operation for observers alone."""

    @staticmethod
    def forward(ctx: Node, ufunc: Any, *given: Any) -> Array:
        result: Array = ufunc(*[x.data if isinstance(x, Tensor) else x for x in given])
        return result


def _compare(a: Any, b: Any, ufunc: Any, who: str) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, (int, float)):
        try:
            if is_observed():
                return _observed(ufunc, a, b)
            if -60000 < b < 60000:  # in the range of every floating dtype
                return wrap(ufunc(a.data, b))
            with np.errstate(over="ignore"):  # a number may lie beyond the dtype's range
                return wrap(ufunc(a.data, b))
        except OverflowError:
            raise ValueError(f"{who}: the number is beyond all floats") from None
    a, b = operands(a, b, who)
    return _observed(ufunc, a, b) if is_observed() else wrap(ufunc(a.data, b.data))


def _observed(*args: Any) -> Tensor:
    with no_grad():
        found: Tensor = Compare.apply(*args)
    return found


def _bitwise(a: Any, b: Any, ufunc: Any, who: str) -> Tensor:
    a, b = operands(a, b, who)
    given = _whole(a, who), _whole(b, who)
    return _observed(ufunc, a, b) if is_observed() else wrap(ufunc(*given))


def _whole(x: Tensor, who: str) -> Array:
    if x.data.dtype.kind == "f":
        raise TypeError(f"{who}: expected integers or booleans, got {x.dtype}")
    return x.data


def _binary(compute: Callable[..., Tensor], ufunc: Any, doc: str, name: str = "") -> Binary:
    who = name or ufunc.__name__

    def operation(input: Any, other: Any) -> Tensor:
        return compute(input, other, ufunc, who)

    return named_as(operation, who, doc)


def _test(ufunc: Any, doc: str) -> Unary:
    who = ufunc.__name__.lstrip("_")

    def operation(input: Any) -> Tensor:
        x = operand(input, who)
        return _observed(ufunc, x) if is_observed() else wrap(ufunc(x.data))

    return named_as(operation, who, doc)


eq = _binary(_compare, np.equal, "Return where they are equal, as booleans.", "eq")
ne = _binary(_compare, np.not_equal, "Return where they differ, as booleans.", "ne")
lt = _binary(_compare, np.less, "Return where ``input < other``, as booleans.", "lt")
le = _binary(_compare, np.less_equal, "Return where ``input <= other``, as booleans.", "le")
gt = _binary(_compare, np.greater, "Return where ``input > other``, as booleans.", "gt")
ge = _binary(_compare, np.greater_equal, "Return where ``input >= other``, as booleans.", "ge")

logical_not = _test(np.logical_not, "Return where ``input`` is zero or False.")
logical_and = _binary(_compare, np.logical_and, "Return where both are nonzero or True.")
logical_or = _binary(_compare, np.logical_or, "Return where at least one is nonzero or True.")
logical_xor = _binary(_compare, np.logical_xor, "Return where exactly one is nonzero or True.")

bitwise_and = _binary(_bitwise, np.bitwise_and, "Return ``input & other``; not of floats.")
bitwise_or = _binary(_bitwise, np.bitwise_or, "Return ``input | other``; not of floats.")
bitwise_xor = _binary(_bitwise, np.bitwise_xor, "Return ``input ^ other``; not of floats.")

isnan = _test(np.isnan, "Return where ``input`` is NaN.")
isinf = _test(np.isinf, "Return where ``input`` is an infinity.")
isfinite = _test(np.isfinite, "Return where ``input`` is neither NaN nor an infinity.")


def _numbers(a: Any, b: Any, ufunc: Any, who: str) -> Tensor:
    a, b = operands(a, b, who)
    if a.data.dtype.kind == "b":
        raise TypeError(f"{who}: expected integers, got {a.dtype}")
    return _bitwise(a, b, ufunc, who)


bitwise_left_shift = _binary(
    _numbers, np.left_shift, "Return ``input << other``, of integers.", "bitwise_left_shift"
)
bitwise_right_shift = _binary(
    _numbers, np.right_shift, "Return ``input >> other``, of integers.", "bitwise_right_shift"
)
gcd = _binary(_numbers, np.gcd, "Return the greatest common divisor of two integers.")
lcm = _binary(_numbers, np.lcm, "Return the least common multiple of two integers.")


def _heaviside(a: Array, b: Array) -> Array:
    return np.where(a == 0, b, (a > 0).astype(b.dtype))


def heaviside(input: Any, values: Any) -> Tensor:
    """Return 0 below 0, 1 above and ``values`` at 0; both are of one dtype."""
    a, b = operand(input, "heaviside"), operand(values, "heaviside")
    if a.data.dtype != b.data.dtype:
        raise TypeError(
            f"heaviside: expected two tensors of one dtype, got {a.dtype} and {b.dtype}"
        )
    return _compare(a, b, _heaviside, "heaviside")


def _signbit(x: Array) -> Array:
    return np.signbit(x) if x.dtype.kind == "f" else np.less(x, 0)


def _isposinf(x: Array) -> Array:
    return np.equal(x, np.inf)


def _isneginf(x: Array) -> Array:
    return np.equal(x, -np.inf)


signbit = _test(_signbit, "Return where the sign is minus, that of -0.0 too.")
isposinf = _test(_isposinf, "Return where ``input`` is plus infinity.")
isneginf = _test(_isneginf, "Return where ``input`` is minus infinity.")
isreal = _test(np.isreal, "Return where ``input`` is real: everywhere.")


def bitwise_not(input: Any) -> Tensor:
    """Return ``~input``, for integers and booleans, of which it is ``logical_not``."""
    x = operand(input, "bitwise_not")
    given = _whole(x, "bitwise_not")
    return _observed(np.invert, x) if is_observed() else wrap(np.invert(given))


def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return where ``|input - other| <= atol + rtol * |other|``.

    Args:
        input: a tensor, an array or a number.
        other: another; the shapes broadcast.
        rtol: the tolerance relative to ``other``.
        atol: the absolute tolerance.
        equal_nan: let NaN equal NaN.

    Raises:
        ValueError: if the shapes do not broadcast, or a tolerance is negative.
    """
    input, other = operands(input, other, "isclose")
    if rtol < 0 or atol < 0:
        raise ValueError(f"isclose: rtol and atol must not be negative, got {rtol} and {atol}")
    return wrap(np.isclose(input.data, other.data, rtol, atol, equal_nan))


def allclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Return whether :func:`isclose` holds everywhere, as input Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


def equal(input: Any, other: Any) -> bool:
    """Return whether two tensors have the same shape and values, as a Python bool."""
    return bool(np.array_equal(operand(input, "equal").data, operand(other, "equal").data))
