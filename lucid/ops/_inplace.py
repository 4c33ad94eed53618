"""Operations in place: the ordinary result, written into the tensor's own memory.

PyTorch's rules hold: a leaf that requires grad cannot be changed while operations are recorded,
the result must fit the tensor's shape and dtype, and backward refuses values that it needs but
that were changed since.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import assign
from lucid.ops import _activation as activation
from lucid.ops import _elementwise as elementwise
from lucid.ops import _index as index
from lucid.ops import _scan as scan
from lucid.ops import _scatter as scatter
from lucid.ops._common import Array, broadcasts_to, one_number, operand, sum_to

# The operations that PyTorch has in place too, by the file they are in.
OPERATIONS: dict[Any, str] = {
    activation: "relu",
    elementwise: """
        abs absolute acos acosh add addcdiv addcmul arccos arccosh arcsin arcsinh arctan arctan2
        arctanh asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or
        bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip copysign cos cosh
        deg2rad digamma div divide eq erf erfc erfinv exp exp2 expm1 fix floor floor_divide fmod
        frac gcd ge greater greater_equal gt heaviside hypot lcm ldexp le lerp less less_equal
        lgamma log log10 log1p log2 logical_and logical_not logical_or logical_xor logit lt
        masked_fill mul multiply nan_to_num ne neg negative nextafter not_equal pow rad2deg
        reciprocal remainder round rsqrt sgn sigmoid sign sin sinc sinh sqrt square sub subtract
        tan tanh true_divide trunc xlogy
    """,
    index: "tril triu",
    scan: "cumsum",
    scatter: """
        index_add index_copy index_fill index_put masked_scatter scatter scatter_add scatter_reduce
    """,
}


def in_place(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form of an operation that writes the result into its first argument."""

    @functools.wraps(operation)
    def changed(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return assign(input, operation(input, *args, **kwargs))

    name = operation.__name__
    changed.__name__ = changed.__qualname__ = f"{name}_"
    changed.__doc__ = f"Write the result of :func:`lucid.{name}` into the tensor, and return it."
    return changed


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


METHODS: dict[str, Callable[..., Tensor]] = {
    **{
        f"{name}_": in_place(getattr(file, name))
        for file, names in OPERATIONS.items()
        for name in names.split()
    },
    "copy_": copy_,
    "fill_": fill_,
    "zero_": zero_,
}
