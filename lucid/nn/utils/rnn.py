"""Sequences of different lengths: padded to one length, and packed step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid._check import one_of
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.ops._common import Array, floating, operand
from lucid.ops._create import full
from lucid.ops._join import cat, stack


class PackedSequence(NamedTuple):
    """Sequences as rows, their first steps before their second ones; made by this module.

    Attributes:
        data: ``(M, *)``: the steps of all sequences, the longest sequence first.
        batch_sizes: int64 ``(T,)``: how many sequences have a first step, a second one, ….
        sorted_indices: int64 ``(N,)``: which sequence comes first, second, …; None for as given.
        unsorted_indices: where each sequence is among the sorted ones.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


def pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Return sequences ``(L, *)`` as one tensor ``(T, N, *)``, the short ones filled up.

    Args:
        sequences: N tensors whose shapes differ in the first axis alone.
        batch_first: return ``(N, T, *)``.
        padding_value: what they are filled with.
        padding_side: ``"right"`` for the end, or ``"left"``.

    Raises:
        ValueError: if there are none, or their shapes differ elsewhere.

    Example:
        >>> one, two = lucid.tensor([1.0, 2.0, 3.0]), lucid.tensor([4.0])
        >>> nn.utils.rnn.pad_sequence([one, two], batch_first=True)
        tensor([[1., 2., 3.],
                [4., 0., 0.]])
    """
    who = "pad_sequence"
    one_of(padding_side, ("left", "right"), "padding_side", who)
    given = [operand(sequence, who) for sequence in sequences]
    if not given or any(x.ndim == 0 or x.shape[1:] != given[0].shape[1:] for x in given):
        raise ValueError(
            f"{who}: expected sequences (L, *) that differ in the first axis alone, got "
            f"{[x.shape for x in given]}"
        )
    longest = max(x.shape[0] for x in given)
    rows = []
    for x in given:
        rest = full((longest - x.shape[0], *x.shape[1:]), padding_value, dtype=x.dtype)
        rows.append(cat([x, rest] if padding_side == "right" else [rest, x]))
    return stack(rows, 0 if batch_first else 1)


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Return padded sequences packed, without what they were filled with.

    Args:
        input: ``(T, N, *)``.
        lengths: ``(N,)``, the sequences' own lengths, each at least 1.
        batch_first: whether ``input`` is ``(N, T, *)``.
        enforce_sorted: whether the lengths must fall; without, the sequences are sorted here.

    Raises:
        ValueError: if a length is out of range, or they do not fall as they must.

    Example:
        >>> x = lucid.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
        >>> packed = nn.utils.rnn.pack_padded_sequence(x, [3, 1], batch_first=True)
        >>> packed.data, packed.batch_sizes.tolist()
        (tensor([1., 4., 2., 3.]), [2, 1, 1])
        >>> nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0]
        tensor([[1., 2., 3.],
                [4., 0., 0.]])
    """
    who = "pack_padded_sequence"
    x, given = operand(input, who), operand(lengths, who).data
    x = x.transpose(0, 1) if batch_first else x
    fits = given.dtype.kind in "iu" and given.shape == x.shape[1:2] and x.ndim > 1
    if not fits or not given.size or given.min() < 1 or given.max() > x.shape[0]:
        raise ValueError(
            f"{who}: expected a length from 1 to {x.shape[0]} for each of the {x.shape[1]} "
            f"sequences, got {given.tolist()}"
        )
    order = None
    if not enforce_sorted:
        order = np.argsort(-given.astype(np.int64), kind="stable")
        given, x = given[order], x[:, order]
    elif (np.diff(given.astype(np.int64)) > 0).any():
        raise ValueError(
            f"{who}: expected lengths that fall, got {given.tolist()}; sort the sequences, or pass "
            "enforce_sorted=False"
        )
    steps = np.arange(given[0])[:, None] < given  # whether a sequence has a step
    return PackedSequence(x[: given[0]][steps], wrap(steps.sum(1)), *_orders(order))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return packed sequences as ``(T, N, *)``, filled up, and their lengths.

    Args:
        sequence: what :func:`pack_padded_sequence` returned, or a recurrent layer.
        batch_first: return ``(N, T, *)``.
        padding_value: what they are filled with.
        total_length: T, if it is to be more than the longest length.

    Raises:
        ValueError: if ``total_length`` is too small.
    """
    sizes = sequence.batch_sizes.data
    longest = len(sizes) if total_length is None else total_length
    if longest < len(sizes):
        raise ValueError(
            f"pad_packed_sequence: total_length must be at least the longest sequence's "
            f"{len(sizes)}, got {total_length}"
        )
    steps = np.arange(sizes[0]) < np.pad(sizes, (0, longest - len(sizes)))[:, None]
    data = floating(sequence.data, "pad_packed_sequence")
    padded = full((longest, int(sizes[0]), *data.shape[1:]), padding_value, dtype=data.dtype)
    padded[steps] = data
    lengths = steps.sum(0)
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices.data
        padded, lengths = padded[:, order], lengths[order]
    return padded.transpose(0, 1) if batch_first else padded, wrap(lengths)


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Return ``sequences``, each ``(L, *)``, packed.

    ``enforce_sorted`` is as in :func:`pack_padded_sequence`.
    """
    lengths = [operand(sequence, "pack_sequence").shape[0] for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def _orders(order: Array | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if order is None else (wrap(order), wrap(np.argsort(order)))
