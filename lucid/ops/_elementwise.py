"""Element by element: arithmetic, powers, exponentials, comparisons, choices.

Each operation is a class with its value and its gradient side by side, and a function that
checks the arguments and applies it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating, operand, operands, sum_to

# -- arithmetic -------------------------------------------------------------------------------


class Add(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        return a.data + b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return (
            sum_to(grad, a) if ctx.needs_input_grad[0] else None,
            sum_to(grad, b) if ctx.needs_input_grad[1] else None,
        )


def add(a: Any, b: Any) -> Tensor:
    """Return ``a + b``, broadcasting as NumPy does; the gradient of each is summed back to its shape.

    Args:
        a, b: tensors, arrays or numbers. An integer operand takes the other's floating dtype.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    return Add.apply(*operands(a, b, "add"))


class Mul(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(
            a if ctx.needs_input_grad[1] else None, b if ctx.needs_input_grad[0] else None
        )
        return a.data * b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        return (
            sum_to(grad * b, ctx.shapes[0]) if ctx.needs_input_grad[0] else None,
            sum_to(grad * a, ctx.shapes[1]) if ctx.needs_input_grad[1] else None,
        )


def mul(a: Any, b: Any) -> Tensor:
    """Return ``a * b`` element by element, broadcasting as NumPy does.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    return Mul.apply(*operands(a, b, "mul"))


# -- exponentials -----------------------------------------------------------------------------


class Exp(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor) -> Array:
        y = np.exp(x.data)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y


def exp(x: Any) -> Tensor:
    """Return :math:`e^x`, element by element; integers are taken as float32."""
    return Exp.apply(floating(x, "exp"))
