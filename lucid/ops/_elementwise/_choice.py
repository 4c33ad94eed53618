"""Choices between values, by a condition or by their size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import (
    Array,
    check_broadcast,
    one_number,
    operand,
    operands,
    promoted,
    sum_to,
    wanted,
)
from lucid.ops._elementwise._table import elementwise_pair

__all__ = [
    "clamp", "clamp_max", "clamp_min", "fmax", "fmin", "masked_fill", "maximum", "minimum",
    "nan_to_num", "where",
]  # fmt: skip


class Where(Function):
    @staticmethod
    def forward(ctx: Node, condition: Tensor, a: Tensor, b: Tensor) -> Array:
        ctx.condition = condition.data
        ctx.shapes = a.shape, b.shape
        return np.where(ctx.condition, a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Chosen, not multiplied by a mask: a NaN of the branch not taken stays out.
        a, b = ctx.shapes
        return (
            None,
            sum_to(where(ctx.condition, grad, 0.0), a) if ctx.needs_input_grad[1] else None,
            sum_to(where(ctx.condition, 0.0, grad), b) if ctx.needs_input_grad[2] else None,
        )


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Return ``input`` where ``condition`` holds and ``other`` elsewhere; all three broadcast.

    With the condition alone, return the indices of its nonzero elements: one integer tensor an
    axis, as ``nonzero(as_tuple=True)`` in PyTorch.

    Args:
        condition: booleans.
        input: values where it holds.
        other: values elsewhere.

    Raises:
        TypeError: if the condition is not boolean.
        ValueError: if the shapes do not broadcast, or only one of two choices is given.
    """
    mask = operand(condition, "where")
    if input is None and other is None:
        return tuple([wrap(index) for index in np.nonzero(mask.data)])
    if input is None or other is None:
        raise ValueError("where: expected both choices or neither, got one")
    if mask.dtype.kind != "b":
        raise TypeError(
            f"where: the condition must be boolean, got {mask.dtype}; compare it with 0"
        )
    a, b = operands(input, other, "where")
    try:
        np.broadcast_shapes(mask.shape, a.shape, b.shape)
    except ValueError:
        raise ValueError(
            f"where: the condition's shape {mask.shape} does not broadcast with the choices' "
            f"shapes {a.shape} and {b.shape}"
        ) from None
    return Where.apply(mask, a, b)


def masked_fill(input: Any, mask: Any, value: Any) -> Tensor:
    """Return ``input`` with ``value`` where the boolean ``mask``, which broadcasts, holds.

    Args:
        input: any shape.
        mask: booleans whose shape broadcasts with it.
        value: a number, or a tensor with zero axes; it is converted to the dtype of ``input``.

    Raises:
        ValueError: if the number is out of the dtype's range.
    """
    input = operand(input, "masked_fill")
    return where(mask, one_number(value, input.data.dtype, "masked_fill"), input)


class Maximum(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor, ufunc: Any) -> Array:
        ctx.save_for_backward(a, b)
        ctx.loses = np.less if ufunc is np.maximum else np.greater
        return ufunc(a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        grad = where(a.data == b.data, grad * 0.5, grad)
        return wanted(
            ctx,
            lambda: sum_to(where(ctx.loses(a.data, b.data), 0.0, grad), a.shape),
            lambda: sum_to(where(ctx.loses(b.data, a.data), 0.0, grad), b.shape),
        )


def maximum(input: Any, other: Any) -> Tensor:
    """Return the larger of two elements, NaN if one is; equal ones halve the gradient."""
    return Maximum.apply(*operands(input, other, "maximum"), np.maximum)


def minimum(input: Any, other: Any) -> Tensor:
    """Return the smaller of two elements. See :func:`maximum`."""
    return Maximum.apply(*operands(input, other, "minimum"), np.minimum)


class Clamp(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, low: Tensor | None, high: Tensor | None) -> Array:
        ctx.save_for_backward(x, low, high)
        y = x.data
        if low is not None:
            y = np.maximum(y, low.data)
        if high is not None:
            y = np.minimum(y, high.data)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, high = ctx.saved_tensors
        above = np.False_ if high is None else x.data > high.data
        below = np.False_ if low is None else x.data < low.data
        inside = (low is None or x.data >= low.data) & (high is None or x.data <= high.data)
        if low is not None and high is not None:  # where the bounds meet or cross, high counts
            above, below = above | (high.data < low.data), below & (low.data < high.data)
        return wanted(
            ctx,
            lambda: sum_to(where(inside, grad, 0.0), x.shape),
            lambda: sum_to(where(below, grad, 0.0), low.shape),
            lambda: sum_to(where(above, grad, 0.0), high.shape),
        )


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Return ``input`` limited to ``[min, max]``; where the bounds cross, ``max`` counts.

    The gradient passes where ``min <= input <= max``, the bounds themselves included.

    Args:
        input: the values.
        min: the lower bound, a number or a tensor that broadcasts; None for none.
        max: the upper bound likewise.

    Raises:
        ValueError: if both bounds are None, or the shapes do not broadcast.
    """
    if min is None and max is None:
        raise ValueError("clamp: expected min, max or both, got neither")
    values = promoted("clamp", operand(input, "clamp"), *[v for v in (min, max) if v is not None])
    for bound in values[1:]:
        check_broadcast(values[0], bound, "clamp")
    low, high = None if min is None else values[1], None if max is None else values[-1]
    return Clamp.apply(values[0], low, high)


def clamp_min(input: Any, min: Any) -> Tensor:
    """Return ``input``, and ``min`` where it is smaller: see :func:`clamp`."""
    return clamp(input, min)


def clamp_max(input: Any, max: Any) -> Tensor:
    """Return ``input``, and ``max`` where it is larger: see :func:`clamp`."""
    return clamp(input, None, max)


def _first_is_larger(a: Tensor, b: Tensor) -> Array:
    return (a.data >= b.data) | np.isnan(b.data)


def _first_is_smaller(a: Tensor, b: Tensor) -> Array:
    return (a.data <= b.data) | np.isnan(b.data)


fmax = elementwise_pair(
    np.fmax,
    "Return the larger of two elements, and if one is NaN the other.",
    lambda g, a, b: where(_first_is_larger(a, b), g, 0.0),
    lambda g, a, b: where(_first_is_larger(a, b), 0.0, g),
    whole=True,
)
fmin = elementwise_pair(
    np.fmin,
    "Return the smaller of two elements, and if one is NaN the other.",
    lambda g, a, b: where(_first_is_smaller(a, b), g, 0.0),
    lambda g, a, b: where(_first_is_smaller(a, b), 0.0, g),
    whole=True,
)


def nan_to_num(
    input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Return ``input`` with numbers in place of NaN and infinities.

    They are ``nan`` (0 if None), ``posinf`` and ``neginf`` (the dtype's extremes if None).
    """
    x = operand(input, "nan_to_num")
    if x.data.dtype.kind != "f":
        return wrap(x.data.copy())
    largest = float(np.finfo(x.data.dtype).max)
    y = where(np.isnan(x.data), nan or 0.0, x)
    y = where(x.data == math.inf, largest if posinf is None else posinf, y)
    return where(x.data == -math.inf, -largest if neginf is None else neginf, y)
