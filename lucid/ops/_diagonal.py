"""Diagonals: of matrices that lie along two axes, and matrices made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, normalize_axes, operand, with_axes
from lucid.ops._reduce import sum as total
from lucid.ops._shape import clone, flatten

__all__ = ["diag", "diag_embed", "diagflat", "diagonal", "trace"]


def _diagonal(x: Array, offset: int, axes: tuple[int, ...]) -> Array:
    """Return a diagonal as a view that can be written to, if ``x`` can be."""
    y = x.diagonal(offset, *axes)
    y.flags.writeable = x.flags.writeable
    return y


class Diagonal(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, offset: int, axes: tuple[int, ...]) -> Array:
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
        ctx: Node, x: Tensor, shape: tuple[int, ...], offset: int, axes: tuple[int, ...]
    ) -> Array:
        ctx.how = offset, axes
        y = np.zeros(shape, x.dtype)
        _diagonal(y, offset, axes)[...] = x.data
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Diagonal.apply(grad, *ctx.how)


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonals of the matrices along two axes, as the last axis.

    Args:
        input: two axes or more.
        offset: how far above the main diagonal; negative numbers are below it.
        dim1: the axis of the rows.
        dim2: the axis of the columns.
    """
    input = operand(input, "diagonal")
    axes = normalize_axes((dim1, dim2), input.ndim, "diagonal")
    return Diagonal.apply(input, offset, axes)


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return matrices with the last axis of ``input`` as diagonals: see :func:`diagonal`."""
    input = with_axes(input, "diag_embed", 1)
    axes = normalize_axes((dim1, dim2), input.ndim + 1, "diag_embed")
    size = input.shape[-1] + abs(offset)
    shape = list(input.shape[:-1])
    for axis in sorted(axes):
        shape.insert(axis, size)
    return DiagonalEmbed.apply(input, tuple(shape), offset, axes)


def diag(input: Any, diagonal: int = 0) -> Tensor:
    """Return the matrix with a vector as its ``diagonal``, or a copy of a matrix's."""
    input = with_axes(input, "diag", 1, 2)
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    return clone(Diagonal.apply(input, diagonal, (0, 1)))


def diagflat(input: Any, offset: int = 0) -> Tensor:
    """Return the matrix with all elements as its diagonal, ``offset`` above the main one."""
    return diag_embed(flatten(input), offset)


def trace(input: Any) -> Tensor:
    """Return the sum of the main diagonal of a matrix."""
    input = with_axes(input, "trace", 2, 2)
    return total(Diagonal.apply(input, 0, (0, 1)))
