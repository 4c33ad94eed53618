"""Powers and roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating, operand, operands, sum_to, wanted
from lucid.ops._elementwise._choice import where
from lucid.ops._elementwise._dtype import astype
from lucid.ops._elementwise._exponential import log
from lucid.ops._elementwise._table import unary

__all__ = ["float_power", "ldexp", "pow", "reciprocal", "rsqrt", "sqrt", "square"]


class Pow(Function):
    r"""Has the gradients :math:`b a^{b-1}` (0 at b = 0) and :math:`a^b \ln a` (0 at a = 0)."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        y = _power(a.data, b.data)
        ctx.save_for_backward(a, b, y if ctx.needs_input_grad[1] else None)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, y = ctx.saved_tensors
        zero = (a.data == 0) & (b.data >= 0)
        return wanted(
            ctx,
            lambda: sum_to(where(b.data == 0, 0.0, grad * (b * pow(a, b - 1))), a.shape),
            lambda: sum_to(where(zero, 0.0, grad * (y * log(where(zero, 1.0, a)))), b.shape),
        )


def _power(a: Array, b: Array) -> Array:
    """Return ``a ** b``; NumPy refuses negative powers of integers."""
    if b.dtype.kind != "i" or not (b < 0).any():
        return np.asarray(np.power(a, b), a.dtype)  # NumPy makes int8 of booleans
    inverse = np.where(a == 1, 1, np.where(a == -1, np.where(b % 2, -1, 1), 0))
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0))).astype(b.dtype)


class PowScalar(Function):
    """A power with a fixed number: NumPy has short cuts for 2, 0.5 and -1."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, exponent: float) -> Array:
        ctx.exponent = exponent
        ctx.save_for_backward(x)
        return x.data**exponent

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        exponent = ctx.exponent
        if exponent == 0:
            return grad * 0.0
        if exponent == 1:
            return grad
        return grad * (pow(x, exponent - 1) * exponent if exponent != 2 else x * 2.0)


def pow(input: Any, exponent: Any) -> Tensor:
    """Return ``input`` to the power ``exponent``, broadcasting as NumPy does.

    Args:
        input: the base, a tensor or a number.
        exponent: a tensor or a number whose shape broadcasts with it.

    Raises:
        ValueError: if the shapes do not broadcast, or integers are raised to a negative integer.
            A tensor of exponents may hold negative ones, as in PyTorch: the result is cut off to
            0, unless the base is 1 or -1.
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        input = operand(input, "pow")
        if isinstance(exponent, float) or input.data.dtype.kind == "f":
            return PowScalar.apply(floating(input, "pow"), exponent)
        if exponent < 0:
            raise ValueError(
                "pow: integers to negative integer powers are not integers; convert with float()"
            )
    return Pow.apply(*operands(input, exponent, "pow"))


def square(input: Any) -> Tensor:
    """Return ``input * input``."""
    return pow(input, 2)


@unary(lambda grad, y: grad / (y * 2.0), keep="output")
def sqrt(x: Array) -> Array:
    """Return the square root; negative numbers give NaN, and the gradient at 0 is infinite."""
    return np.sqrt(x)


@unary(lambda grad, y: grad * (y * y * y) * -0.5, keep="output")
def rsqrt(x: Array) -> Array:
    r"""Return :math:`1 / \sqrt{x}`."""
    return 1 / np.sqrt(x)


@unary(lambda grad, y: -grad * (y * y), keep="output")
def reciprocal(x: Array) -> Array:
    """Return ``1 / input``; integers are taken as float32."""
    return np.reciprocal(x)


def float_power(input: Any, exponent: Any) -> Tensor:
    """Return ``input`` to the power of ``exponent``, computed in float64."""
    base, power = operand(input, "float_power"), operand(exponent, "float_power")
    return pow(astype(base, np.float64), astype(power, np.float64))


def ldexp(input: Any, other: Any) -> Tensor:
    """Return ``input * 2**other``."""
    return floating(input, "ldexp") * pow(2.0, other)
