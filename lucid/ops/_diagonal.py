"""Diagonals: of matrices that lie along two axes, and matrices made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, normalize_axis, operand
from lucid.ops._reduce import sum as total
from lucid.ops._shape import clone, each_tensor, flatten

__all__ = ["diag", "diag_embed", "diagflat", "diagonal", "trace"]


def _diagonal(x: Array, offset: int, axes: tuple[int, int]) -> Array:
    """Return a diagonal as a view that can be written to, if ``x`` can be."""
    y = x.diagonal(offset, *axes)
    y.flags.writeable = x.flags.writeable
    return y


class Diagonal(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, offset: int, axes: tuple[int, int]) -> Array:
        ctx.how = x.shape, offset, axes
        ctx.view = lambda tensor: Diagonal.apply(tensor, offset, axes)
        return _diagonal(x.data, offset, axes)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return DiagonalEmbed.apply(grad, *ctx.how)


class DiagonalEmbed(Function):
    """Zeros of a shape with ``x`` as their diagonal."""

    @staticmethod
    def forward(
        ctx: Node, x: Tensor, shape: tuple[int, ...], offset: int, axes: tuple[int, int]
    ) -> Array:
        ctx.how = offset, axes
        y = np.zeros(shape, x.dtype)
        _diagonal(y, offset, axes)[...] = x.data
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Diagonal.apply(grad, *ctx.how)


def _matrix_axes(dim1: int, dim2: int, ndim: int, who: str) -> tuple[int, int]:
    axes = normalize_axis(dim1, ndim, who), normalize_axis(dim2, ndim, who)
    if axes[0] == axes[1]:
        raise ValueError(f"{who}: expected two axes, got {dim1} and {dim2}, which are one")
    return axes


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonals of the matrices along two axes, as the last axis.

    Args:
        input: two axes or more.
        offset: how far above the main diagonal; negative numbers are below it.
        dim1: the axis of the rows.
        dim2: the axis of the columns.
    """
    input = operand(input, "diagonal")
    return Diagonal.apply(input, offset, _matrix_axes(dim1, dim2, input.ndim, "diagonal"))


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return matrices along two new axes, with the last axis of ``input`` as diagonals, else 0.

    Arguments as in :func:`diagonal`; the axes are those of the result.
    """
    (input,) = each_tensor((input,), "diag_embed", least=1)
    axes = _matrix_axes(dim1, dim2, input.ndim + 1, "diag_embed")
    size = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for axis in sorted(axes):
        shape.insert(axis, size)
    return DiagonalEmbed.apply(input, tuple(shape), offset, axes)


def diag(input: Any, diagonal: int = 0) -> Tensor:
    """Return the matrix with a vector as its diagonal, or a copy of the diagonal of a matrix.

    Args:
        input: ``(n,)`` or ``(m, n)``.
        diagonal: how far above the main diagonal; negative numbers are below it.
    """
    (input,) = each_tensor((input,), "diag", least=1, most=2)
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    return clone(Diagonal.apply(input, diagonal, (0, 1)))


def diagflat(input: Any, offset: int = 0) -> Tensor:
    """Return the matrix with all elements as its diagonal, ``offset`` above the main one."""
    return diag_embed(flatten(input), offset)


def trace(input: Any) -> Tensor:
    """Return the sum of the main diagonal of a matrix."""
    (input,) = each_tensor((input,), "trace", least=2, most=2)
    return total(Diagonal.apply(input, 0, (0, 1)))
