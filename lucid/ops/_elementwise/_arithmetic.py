"""Sums, products, quotients, remainders, signs."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from lucid._check import one_of
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating, operand, operands, save_factors, sum_to, wanted, wide
from lucid.ops._elementwise._choice import where
from lucid.ops._elementwise._rounding import sign
from lucid.ops._elementwise._table import elementwise_pair, unary

__all__ = [
    "abs", "add", "addcdiv", "addcmul", "copysign", "div", "floor_divide", "fmod", "lerp",
    "mul", "neg", "positive", "remainder", "sub", "true_divide",
]  # fmt: skip


class Add(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        return a.data + b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad, a), lambda: sum_to(grad, b))


def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return ``input + alpha * other``, broadcasting as NumPy does.

    Args:
        input: a tensor, an array or a number. Booleans beside integers become integers, and both
            beside floats floats. A tensor with zero axes or a number counts for the dtype only
            if its kind is higher. Unlike in PyTorch a number must be in the dtype's range.
        other: the same.
        alpha: a number, whole if both are.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    if alpha != 1 or isinstance(alpha, bool):
        input, other = _scaled(input, other, alpha, "add")
    return Add.apply(*operands(input, other, "add"))


class Sub(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        return a.data - b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad, a), lambda: -sum_to(grad, b))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """Return ``input - alpha * other``: see :func:`add`.

    Raises:
        TypeError: if one is boolean: use ``logical_xor`` or ``logical_not``.
    """
    for value in (input, other):
        if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
            raise TypeError("sub: booleans cannot be subtracted; use logical_xor() or astype()")
    if alpha != 1 or isinstance(alpha, bool):
        input, other = _scaled(input, other, alpha, "sub")
    return Sub.apply(*operands(input, other, "sub"))


def _scaled(input: Any, other: Any, alpha: Any, who: str) -> tuple[Tensor, Tensor]:
    """Return two operands of their common dtype, the second one times ``alpha``."""
    input, other = operands(input, other, who)
    kind = other.data.dtype.kind
    if isinstance(alpha, bool) != (kind == "b") or (isinstance(alpha, float) and kind != "f"):
        raise TypeError(f"{who}: alpha must be of the kind of {other.dtype}, got {alpha!r}")
    return input, mul(other, alpha)


class Mul(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        save_factors(ctx, a, b)
        return a.data * b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        shape_a, shape_b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad * b, shape_a), lambda: sum_to(grad * a, shape_b))


def mul(input: Any, other: Any) -> Tensor:
    """Return ``input * other`` element by element, broadcasting as NumPy does."""
    return Mul.apply(*operands(input, other, "mul"))


class Div(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(a if ctx.needs_input_grad[1] else None, b)
        return a.data / b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        shape_a, shape_b = ctx.shapes
        grad_a = grad / b
        return wanted(
            ctx, lambda: sum_to(grad_a, shape_a), lambda: sum_to(-grad_a * (a / b), shape_b)
        )


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Return ``input / other`` element by element; two integers are divided as float32.

    Division by zero gives an infinity or NaN, silently.

    Args:
        input: a tensor, an array or a number.
        other: the divisor.
        rounding_mode: ``"floor"`` or ``"trunc"`` give a whole number, of integers in their dtype.

    Raises:
        ZeroDivisionError: if integers are divided by zero with a rounding mode.
    """
    if rounding_mode is not None:
        one_of(rounding_mode, ("floor", "trunc"), "rounding_mode", "div")
        return _divide_rounded(input, other, rounding_mode, "div")
    input, other = operands(input, other, "div")
    if input.data.dtype.kind != "f" and other.data.dtype.kind != "f":
        input, other = floating(input, "div"), floating(other, "div")
    return Div.apply(input, other)


def true_divide(input: Any, other: Any) -> Tensor:
    """Return ``input / other``: see :func:`div`."""
    return div(input, other)


def floor_divide(input: Any, other: Any) -> Tensor:
    """Return the largest whole number not above ``input / other``; the gradient is 0.

    Raises:
        ZeroDivisionError: if an integer is divided by zero.
    """
    return _divide_rounded(input, other, "floor", "floor_divide")


class DivideRounded(Function):
    """A quotient rounded down or towards 0: piecewise constant."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor, mode: str) -> Array:
        ctx.shapes = a.shape, b.shape
        if mode == "floor":
            return np.floor_divide(a.data, b.data)
        if a.data.dtype.kind == "f":
            return np.trunc((wide(a.data) / wide(b.data)).astype(a.data.dtype))
        return (a.data - np.fmod(a.data, b.data)) // b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad * 0.0, a), lambda: sum_to(grad * 0.0, b))


def _divide_rounded(input: Any, other: Any, mode: str, who: str) -> Tensor:
    input, other = operands(input, other, who)
    _check_integer_division(input, other, who)
    return DivideRounded.apply(input, other, mode)


class Remainder(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(*((a, b) if ctx.needs_input_grad[1] else (None, None)))
        return np.remainder(a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: sum_to(grad, ctx.shapes[0]),
            lambda: sum_to(-grad * floor_divide(a, b), ctx.shapes[1]),
        )


def remainder(input: Any, other: Any) -> Tensor:
    """Return ``input - other * floor(input / other)``: it has the sign of ``other``.

    Raises:
        ZeroDivisionError: if an integer is divided by zero.
    """
    input, other = operands(input, other, "remainder")
    _check_integer_division(input, other, "remainder")
    return Remainder.apply(input, other)


_fmod = elementwise_pair(
    np.fmod,
    "",
    lambda g, a, b: g,
    lambda g, a, b: -g * div(a, b, rounding_mode="trunc"),
    "fmod",
    whole=True,
)


def fmod(input: Any, other: Any) -> Tensor:
    """Return ``input - other * trunc(input / other)``: it has the sign of ``input``.

    Raises:
        ZeroDivisionError: if an integer is divided by zero.
    """
    input, other = operands(input, other, "fmod")
    _check_integer_division(input, other, "fmod")
    return _fmod(input, other)


def _check_integer_division(a: Tensor, b: Tensor, who: str) -> None:
    if a.data.dtype.kind == "b" and b.data.dtype.kind == "b":
        raise TypeError(f"{who}: expected numbers, got two boolean tensors")
    if a.data.dtype.kind != "f" and b.data.dtype.kind != "f" and not b.data.all():
        raise ZeroDivisionError(f"{who}: an integer is divided by zero")


def _signed(x: Any, who: str) -> Tensor:
    x = operand(x, who)
    if x.data.dtype.kind == "b":
        raise TypeError(f"{who}: a boolean tensor has no negative; use logical_not() or ~")
    return x


@unary(lambda grad: -grad, keep="nothing", taken=_signed)
def neg(x: Array) -> Array:
    """Return ``-input``; booleans raise TypeError, for which there is ``logical_not``."""
    return np.negative(x)


def positive(input: Any) -> Tensor:
    """Return ``input`` itself: ``+input``."""
    return operand(input, "positive")


@unary(lambda grad, x: grad * sign(x), keep="input", taken=operand)
def abs(x: Array) -> Array:
    """Return the absolute value; the gradient at 0 is 0."""
    return np.abs(x)


copysign = elementwise_pair(
    np.copysign,
    "Return ``input`` with the sign of ``other``.",
    lambda g, a, b: where(a.data == 0, 0.0, g * div(np.copysign(a.data, b.data), a.data)),
    lambda g, a, b: g * 0.0,
)


# -- of three -----------------------------------------------------------------------------------


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """Return ``input + value * tensor1 * tensor2``, for a number ``value``."""
    return add(input, mul(mul(tensor1, tensor2), value))


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """Return ``input + value * tensor1 / tensor2``, for a number ``value``."""
    return add(input, mul(div(tensor1, tensor2), value))


def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """Return ``input + weight * (end - input)``: exactly ``end`` for a ``weight`` of 1."""
    step = sub(end, input)
    near, far = add(input, mul(step, weight)), sub(end, mul(step, sub(1.0, weight)))
    if isinstance(weight, (int, float)):
        return near if builtins.abs(weight) < 0.5 else far
    return where(np.abs(operand(weight, "lerp").data) < 0.5, near, far)
