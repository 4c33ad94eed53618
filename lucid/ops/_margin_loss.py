"""Losses that ask for a margin: between classes, labels, and distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid._check import one_of
from lucid.autograd import Tensor
from lucid.ops._activation import logsigmoid, relu, softplus
from lucid.ops._common import check_broadcast, floating, operand
from lucid.ops._distance import pairwise_distance
from lucid.ops._elementwise import minimum, where
from lucid.ops._loss import REDUCTIONS, class_rows, class_weight, reduced, same_shape

__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss",
    "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """Return ``max(0, margin - t·(x1 - x2))``: t is 1 where ``input1`` is to be larger, else -1.

    Args:
        input1: x1, any shape.
        input2: x2; the shapes broadcast.
        target: t, likewise.
        margin: by how much it is to be larger.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.

    Raises:
        ValueError: if the numbers of axes differ, or the reduction is unknown.
    """
    who = "margin_ranking_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    a, b, t = floating(input1, who), floating(input2, who), operand(target, who)
    if not a.ndim == b.ndim == t.ndim:
        raise ValueError(
            f"{who}: expected inputs and a target with as many axes each, got {a.shape}, "
            f"{b.shape} and {t.shape}"
        )
    check_broadcast(a, b, who)
    return reduced((-t * (a - b) + margin).clamp(min=0), reduction)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """Return the input x where the target is 1, and ``max(0, margin - x)`` where it is -1.

    Arguments as in :func:`margin_ranking_loss`; the shapes broadcast.
    """
    who = "hinge_embedding_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = floating(input, who), operand(target, who)
    far = where(t.data == 1, 0.0, (margin - x).clamp(min=0))
    return reduced(far + where(t.data == -1, 0.0, x), reduction)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """Return 1 - cos where the target is 1, and ``max(0, cos - margin)`` where it is -1.

    Arguments as in :func:`margin_ranking_loss`, with vectors ``(N, D)`` or ``(D,)`` and a target
    ``(N,)`` or ``()``.
    """
    who = "cosine_embedding_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    a, b, t = floating(input1, who), floating(input2, who), operand(target, who)
    if t.ndim > 1 or not a.ndim == b.ndim == t.ndim + 1:
        raise ValueError(
            f"{who}: expected inputs (N, D) and a target (N,), or (D,) and (), got {a.shape}, "
            f"{b.shape} and {t.shape}"
        )
    check_broadcast(a, b, who)
    tiny = 1e-12  # PyTorch's, added to the squares
    squares = ((a * a).sum(-1) + tiny) * ((b * b).sum(-1) + tiny)
    cosine = (a * b).sum(-1) / squares.sqrt()
    near = where(t.data == 1, 1 - cosine, 0.0)
    return reduced(near + where(t.data == -1, (cosine - margin).clamp(min=0), 0.0), reduction)


def soft_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Return ``log(1 + e^(-t·x))``, without overflow; targets t are 1 or -1, of the input's shape.

    ``reduction`` is as in :func:`margin_ranking_loss`.
    """
    one_of(reduction, REDUCTIONS, "reduction", "soft_margin_loss")
    x, t = same_shape(input, target, "soft_margin_loss")
    return reduced(softplus(-t * x, threshold=float("inf")), reduction)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Return each sample's mean of ``max(0, margin - x_t + x_c)^p`` over the other classes c.

    Args:
        input: x, ``(N, C)`` or ``(C,)``; the mean is the sum divided by C.
        target: classes t, ``(N,)`` or ``()``.
        p: 1 or 2.
        margin: by how much the true class is to be larger.
        weight: ``(C,)``, the weight of each true class, or None.
        reduction: ``"none"``, ``"mean"`` over the samples, or ``"sum"``.

    Raises:
        ValueError: if a shape does not fit, or an argument is out of range.
    """
    who = "multi_margin_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    if p not in (1, 2):
        raise ValueError(f"{who}: p must be 1 or 2, got {p!r}")
    given = floating(input, who)
    given = given if given.ndim else given.reshape(1)
    if given.ndim not in (1, 2) or not given.shape[-1]:
        raise ValueError(f"{who}: expected an input of shape (N, C) or (C,), got {given.shape}")
    labels = operand(target, who)
    x, classes, _ = class_rows(given, labels.reshape(given.shape[:-1]), -1, who)
    weights = class_weight(weight, x, x.shape[1], who)
    rows = np.arange(len(classes))
    true = x[rows, classes].unsqueeze(1)
    losses = relu(margin - true + x) ** p
    others = np.ones(x.shape, bool)
    others[rows, classes] = False
    losses = where(others, losses, 0.0)
    if weights is not None:
        losses = losses * weights[classes][:, None]
    return reduced((losses.sum(1) / x.shape[1]).reshape(labels.shape), reduction)


def multilabel_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Return, of each sample, the sum of ``max(0, 1 - x_t + x_c)`` over true classes t, others c.

    Args:
        input: x, ``(N, C)`` or ``(C,)``; the sum is divided by C.
        target: integers of that shape: each sample's classes, and -1 after the last one.
        reduction: as in :func:`multi_margin_loss`.

    Raises:
        ValueError: if the shapes differ.
        IndexError: if a class is out of range.
    """
    who = "multilabel_margin_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = floating(input, who), operand(target, who)
    if x.ndim == t.ndim == 0:
        x, t = x.reshape(1), t.reshape(1)
    if x.shape != t.shape or x.ndim not in (1, 2) or not x.shape[-1]:
        raise ValueError(
            f"{who}: expected an input and a target of one shape (N, C) or (C,), got {x.shape} and "
            f"{t.shape}"
        )
    classes, shape = x.shape[-1], x.shape[:-1]
    x, labels = x.reshape(-1, classes), t.data.reshape(-1, classes).astype(np.int64)
    ended = np.logical_or.accumulate(labels < 0, axis=1)
    labels = np.where(ended, 0, labels)
    if labels.size and labels.max() >= classes:
        raise IndexError(f"{who}: expected classes from 0 to {classes - 1}, got {labels.max()}")
    rows = np.arange(len(labels))[:, None]
    others = np.ones(x.shape, bool)
    row, place = np.nonzero(~ended)
    others[row, labels[row, place]] = False
    losses = relu(1 - x[rows, labels].unsqueeze(2) + x.unsqueeze(1))
    losses = where(~ended[:, :, None] & others[:, None], losses, 0.0)
    return reduced((losses.sum((1, 2)) / classes).reshape(*shape), reduction)


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    """Return the mean over the classes of the cross entropies of two classes each.

    Args:
        input: logits ``(*, C)``.
        target: of that shape, 1 for a class that a sample has, else 0.
        weight: factors that broadcast, one a class; or None.
        reduction: as in :func:`multi_margin_loss`.
    """
    who = "multilabel_soft_margin_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = same_shape(input, target, who)
    if not x.ndim:
        raise ValueError(f"{who}: expected an input of shape (*, C), got {x.shape}")
    losses = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    if weight is not None:
        losses = losses * floating(weight, who)
    return reduced(losses.sum(-1) / x.shape[-1], reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``.

    Args:
        anchor: vectors ``(N, D)`` or ``(D,)``.
        positive: what is to be near them.
        negative: what is to be far.
        distance_function: d, by default :func:`pairwise_distance`.
        margin: by how much farther, above 0.
        swap: take d(positive, negative) where it is smaller (Balntas et al. 2016).
        reduction: ``"none"``, ``"mean"`` over the samples, or ``"sum"``.

    Raises:
        ValueError: if the numbers of axes differ, or the margin is not above 0.
    """
    who = "triplet_margin_with_distance_loss"
    return _triplets(who, (anchor, positive, negative), distance_function, margin, swap, reduction)


def _triplets(
    who: str, triplet: Any, distance: Any, margin: float, swap: bool, reduction: str
) -> Tensor:
    one_of(reduction, REDUCTIONS, "reduction", who)
    if not margin > 0:
        raise ValueError(f"{who}: margin must be above 0, got {margin}")
    anchor, positive, negative = (floating(one, who) for one in triplet)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ValueError(
            f"{who}: expected anchor, positive and negative with as many axes each, got "
            f"{anchor.shape}, {positive.shape} and {negative.shape}"
        )
    distance = distance or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced((margin + near - far).clamp(min=0), reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Return :func:`triplet_margin_with_distance_loss` for :func:`pairwise_distance`.

    ``p`` and ``eps`` are that function's.
    """
    return _triplets(
        "triplet_margin_loss",
        (anchor, positive, negative),
        lambda a, b: pairwise_distance(a, b, p, eps),
        margin,
        swap,
        reduction,
    )
