"""Rows of a table, and one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed, observe
from lucid.autograd._graph import Node
from lucid.autograd._tensor import mark_changed, wrap
from lucid.ops._common import Array, as_float, operand
from lucid.ops._elementwise import where
from lucid.ops._index import GetItem

__all__ = ["embedding", "one_hot"]


def _indices(input: Any, who: str) -> Tensor:
    index = operand(input, who)
    if index.dtype.kind not in "iu":
        raise TypeError(f"{who}: expected integers, got {index.dtype}")
    return index


class Rows(GetItem):
    """Rows of a table at places that are a tensor: an operation for observers alone."""

    @staticmethod
    def forward(ctx: Node, table: Tensor, places: Tensor) -> Array:  # type: ignore[override]
        return GetItem.forward(ctx, table, (places.data,))


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return rows of ``weight``.

    Args:
        input: integers of any shape ``(*)``.
        weight: the table, ``(V, D)``.
        padding_idx: a row that gets no gradient.
        max_norm: rows that are asked for and longer are first shortened to this, in place.
        norm_type: the exponent of that norm.
        scale_grad_by_freq: divide a row's gradient by how often it is asked for.
        sparse: without effect: gradients are dense.

    Returns:
        ``(*, D)``.

    Raises:
        IndexError: if an integer, or ``padding_idx``, is out of range.
        TypeError: if the input is not made of integers.
        ValueError: if the weight does not have two axes.
    """
    who = "embedding"
    index, table = _indices(input, who), operand(weight, who)
    _check_rows(index, table, padding_idx, who)
    if max_norm is not None:
        _shorten(table, index.data, as_float(max_norm, "max_norm", who), norm_type)
    rows: Tensor = Rows.apply(table, index) if is_observed() else table[index.data]
    if not is_grad_enabled():
        return rows
    if scale_grad_by_freq and index.data.size:
        counts = np.bincount(index.data.reshape(-1), minlength=table.shape[0])
        share = wrap((1 / counts[index.data]).astype(table.dtype)[..., None])
        rows = rows * share + (rows * (1 - share)).detach()
    if padding_idx is None:
        return rows
    padding = index.data[..., None] == padding_idx % table.shape[0]
    return where(padding, rows.detach(), rows)


def _check_rows(index: Tensor, table: Tensor, padding_idx: int | None, who: str) -> None:
    if table.ndim != 2:
        raise ValueError(f"{who}: expected a weight of shape (V, D), got {table.shape}")
    size = table.shape[0]
    with observe(None):  # a check is no part of what is computed
        if index.data.size and not (index.data.min() >= 0 and index.data.max() < size):
            wrong = index.data[(index.data < 0) | (index.data >= size)]
            raise IndexError(f"{who}: expected indices from 0 to {size - 1}, got {wrong.flat[0]}")
    if padding_idx is not None and not -size <= padding_idx < size:
        raise IndexError(f"{who}: padding_idx {padding_idx} is out of range for {size} rows")


def _shorten(table: Tensor, index: Array, max_norm: float, norm_type: float) -> None:
    """Scale rows down in place whose norm is above ``max_norm``."""
    used = np.unique(index)
    norms = np.linalg.norm(table.data[used], norm_type, axis=1)
    long = norms > max_norm
    factors = max_norm / (norms[long] + 1e-7)
    table.data[used[long]] *= factors[:, None].astype(table.dtype)
    mark_changed(table)


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """Return vectors with a 1 at each integer's place and 0 elsewhere.

    Args:
        tensor: integers of any shape ``(*)``, from 0.
        num_classes: the vectors' length; by default the largest integer + 1.

    Returns:
        int64 ``(*, num_classes)``.

    Raises:
        IndexError: if an integer is negative or not below ``num_classes``.
        TypeError: if the input is not made of integers.
        ValueError: if ``num_classes`` is missing for an empty input.
    """
    index = _indices(tensor, "one_hot").data
    if num_classes == -1:
        if index.size == 0:
            raise ValueError("one_hot: an empty input needs num_classes")
        num_classes = int(index.max()) + 1
    if index.size and (index.min() < 0 or index.max() >= num_classes):
        raise IndexError(
            f"one_hot: expected integers from 0 to {num_classes - 1}, got {index.min()} to "
            f"{index.max()}"
        )
    return wrap((index[..., None] == np.arange(num_classes)).astype(np.int64))
