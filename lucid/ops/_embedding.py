"""Rows of a table, and one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import one_of
from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed, observe
from lucid.autograd._graph import Node
from lucid.autograd._tensor import mark_changed, wrap
from lucid.ops._common import Array, as_float, floating, operand
from lucid.ops._elementwise import where
from lucid.ops._index import GetItem, PutAdd
from lucid.ops._join import stack

__all__ = ["embedding", "embedding_bag", "one_hot"]


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


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Return sums, means or maxima of rows of ``weight``, one for each bag of integers.

    Args:
        input: integers, bags of one size ``(B, L)`` or all bags in a row ``(M,)``.
        weight: the table, ``(V, D)``.
        offsets: where each bag begins in ``(M,)``: ``(B,)`` integers.
        max_norm: as in :func:`embedding`, as are the next two.
        norm_type: the exponent of that norm.
        scale_grad_by_freq: divide a row's gradient by how often it is asked for.
        mode: ``"sum"``, ``"mean"`` or ``"max"``; an empty bag gives 0.
        sparse: without effect.
        per_sample_weights: factors of the input's shape, with ``mode="sum"`` alone.
        include_last_offset: whether ``offsets`` ends with M.
        padding_idx: a row that counts for no bag.

    Returns:
        ``(B, D)``.

    Raises:
        IndexError: if an integer is out of range.
        ValueError: if a shape does not fit, or an argument goes with another mode.
    """
    who = "embedding_bag"
    one_of(mode, ("sum", "mean", "max"), "mode", who)
    index, table = _indices(input, who), operand(weight, who)
    _check_rows(index, table, padding_idx, who)
    if per_sample_weights is not None and mode != "sum":
        raise ValueError(f"{who}: per_sample_weights need mode='sum', got {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(f"{who}: mode='max' takes neither scale_grad_by_freq nor sparse")
    if index.ndim not in (1, 2) or (index.ndim == 1) == (offsets is None):
        raise ValueError(
            f"{who}: expected integers (B, L), or (M,) and offsets, got {index.shape} and "
            f"{'no ' if offsets is None else ''}offsets"
        )
    length = index.data.size
    if index.ndim == 2:
        begin = np.arange(index.shape[0]) * index.shape[1]
    else:
        begin = _indices(offsets, who).data.reshape(-1)
        begin = begin[:-1] if include_last_offset else begin
        if begin.size and (begin[0] != 0 or (np.diff(begin) < 0).any() or begin[-1] > length):
            raise ValueError(
                f"{who}: expected offsets that rise from 0 to at most {length}, got "
                f"{begin.tolist()}"
            )
    bags = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, length)))
    flat = index.data.reshape(-1)
    kept = np.ones(length, bool) if padding_idx is None else flat != padding_idx % table.shape[0]
    rows = embedding(flat, table, None, max_norm, norm_type, scale_grad_by_freq)[kept]
    bags, shape = bags[kept], (len(begin), table.shape[1])
    if per_sample_weights is not None:
        factors = floating(per_sample_weights, who)
        if factors.shape != index.shape:
            raise ValueError(
                f"{who}: expected per_sample_weights of shape {index.shape}, got {factors.shape}"
            )
        rows = rows * factors.reshape(-1)[kept].unsqueeze(1)
    if mode == "max":
        zero = wrap(np.zeros(shape[1], table.dtype))
        found = [np.flatnonzero(bags == bag) for bag in range(shape[0])]
        return stack([rows[at].max(0).values if at.size else zero for at in found])
    total = PutAdd.apply(rows, (bags,), shape)
    if mode == "sum":
        return total
    counts = np.maximum(np.bincount(bags, minlength=shape[0]), 1)
    return total / wrap(counts.astype(table.dtype)[:, None])


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
