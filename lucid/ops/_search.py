"""Sorting, searching and counting: which elements are where, and how often."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import ValuesIndices, wrap
from lucid.ops._common import Array, operand, with_axis
from lucid.ops._gather import values_and_indices

__all__ = ["argsort", "sort", "topk"]

# -- sorting ----------------------------------------------------------------------------------


def _order(x: Tensor, axis: int, descending: bool) -> Array:
    """Return the stable order of the elements; NaN counts as largest."""
    if not descending:
        return np.argsort(x.data, axis, kind="stable")
    # Turned round before and after, so that equal elements keep their order.
    backwards = np.flip(np.argsort(np.flip(x.data, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backwards


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the positions that sort ``input`` along an axis. Arguments as in :func:`sort`."""
    input = operand(input, "argsort")
    vector, axis = with_axis(input, dim, "argsort")
    return wrap(_order(vector, axis, descending).reshape(input.shape))


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """Return a named tuple of the values, sorted along an axis, and their positions.

    Equal elements always keep their order, whatever ``stable`` says; NaN counts as largest.

    Args:
        input: any shape.
        dim: the axis.
        descending: the largest first.
        stable: keep equal elements in order, which is always done.
    """
    input = operand(input, "sort")
    vector, axis = with_axis(input, dim, "sort")
    return values_and_indices(vector, axis, _order(vector, axis, descending), input.ndim > 0)


def topk(
    input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """Return the k largest (or smallest) elements along an axis, and their positions, in order.

    Args:
        input: the values.
        k: how many.
        dim: the axis.
        largest: False for the smallest.
        sorted: accepted as in PyTorch; the result always is.

    Raises:
        ValueError: if there are fewer than k elements.
    """
    input = operand(input, "topk")
    vector, axis = with_axis(input, dim, "topk")
    if not 0 <= k <= vector.shape[axis]:
        raise ValueError(
            f"topk: k must be from 0 to {vector.shape[axis]} for shape {input.shape}, got {k}"
        )
    # Of a tensor with zero axes the one element is taken even for k = 0, as in PyTorch.
    indices = np.take(_order(vector, axis, largest), range(k if input.ndim else 1), axis)
    return values_and_indices(vector, axis, indices, input.ndim > 0)
