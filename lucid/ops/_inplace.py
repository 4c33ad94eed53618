"""Operations in place: the ordinary result, written into the tensor's own memory.

PyTorch's rules hold: a leaf that requires grad cannot be changed while operations are recorded,
the result must fit the tensor's shape and dtype, and backward refuses values that it needs but
that were changed since.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import assign
from lucid.ops import _elementwise as elementwise
from lucid.ops._common import Array, broadcasts_to, one_number, operand, sum_to

__all__ = ["add_", "clamp_", "copy_", "div_", "fill_", "mul_", "pow_", "sub_", "zero_"]


def add_(input: Tensor, other: Any) -> Tensor:
    """Add ``other`` in place."""
    return assign(input, elementwise.add(input, other))


def sub_(input: Tensor, other: Any) -> Tensor:
    """Subtract ``other`` in place."""
    return assign(input, elementwise.sub(input, other))


def mul_(input: Tensor, other: Any) -> Tensor:
    """Multiply by ``other`` in place."""
    return assign(input, elementwise.mul(input, other))


def div_(input: Tensor, other: Any) -> Tensor:
    """Divide by ``other`` in place."""
    return assign(input, elementwise.div(input, other))


def pow_(input: Tensor, exponent: Any) -> Tensor:
    """Raise to the power ``exponent`` in place."""
    return assign(input, elementwise.pow(input, exponent))


def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit to ``[min, max]`` in place."""
    return assign(input, elementwise.clamp(input, min, max))


class Overwrite(Function):
    """``value`` in the shape and dtype of ``x``, whose own value no longer counts."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, value: Tensor) -> Array:
        ctx.shape = value.shape
        return np.broadcast_to(value.data, x.shape).astype(x.dtype)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, sum_to(grad, ctx.shape) if ctx.needs_input_grad[1] else None


def copy_(input: Tensor, src: Any) -> Tensor:
    """Take over the values of ``src``, which broadcasts and is converted to the dtype.

    Raises:
        ValueError: if its shape does not broadcast to that of the tensor.
    """
    value = operand(src, "copy_")
    if not broadcasts_to(value.shape, input.shape):
        raise ValueError(
            f"copy_: a source of shape {value.shape} does not fit into shape {input.shape}"
        )
    return assign(input, Overwrite.apply(input, value))


def fill_(input: Tensor, value: Any) -> Tensor:
    """Set every element to ``value``, a number or a tensor with zero axes."""
    return copy_(input, one_number(value, input.data.dtype, "fill_"))


def zero_(input: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(input, 0)
