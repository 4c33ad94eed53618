"""Lengths of vectors, and what is between two of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.ops._common import as_float, floating, operands

__all__ = ["cosine_similarity", "normalize", "pairwise_distance"]


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along an axis, or by ``eps`` where that is larger.

    Args:
        input: any shape.
        p: the exponent of the norm.
        dim: the axis.
        eps: the smallest divisor.

    Example:
        >>> F.normalize(lucid.tensor([[3.0, 4.0]]))
        tensor([[0.6, 0.8]])
        >>> F.normalize(lucid.tensor([[3.0, 1.0]]), p=1)
        tensor([[0.75, 0.25]])
    """
    x = floating(input, "normalize")
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors along an axis; each norm is at least ``eps``.

    Args:
        x1: vectors along the axis.
        x2: the others; the shapes broadcast.
        dim: the axis of the vectors, counted in the broadcast shape.
        eps: the smallest norm to divide by.

    Example:
        >>> F.cosine_similarity(lucid.tensor([[1.0, 0.0]]), lucid.tensor([[0.0, 2.0]]))
        tensor([0.])
        >>> F.cosine_similarity(lucid.tensor([[1.0, 0.0]]), lucid.tensor([[5.0, 0.0]]))
        tensor([1.])
    """
    who = "cosine_similarity"
    a, b = operands(floating(x1, who), floating(x2, who), who)
    if a.shape != b.shape:
        shape = np.broadcast_shapes(a.shape, b.shape)  # whose axes dim counts
        a, b = a.expand(shape), b.expand(shape)
    return (normalize(a, dim=dim, eps=eps) * normalize(b, dim=dim, eps=eps)).sum(dim)


def _difference(x1: Any, x2: Any, eps: float, who: str) -> Tensor:
    a, b = operands(floating(x1, who), floating(x2, who), who)
    return a - b + as_float(eps, "eps", who)


def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """Return the p-norm of ``x1 - x2 + eps`` along the last axis.

    Args:
        x1: vectors ``(*, D)``.
        x2: the others; the shapes broadcast.
        p: the exponent of the norm.
        eps: added to each difference, so that the gradient exists at 0.
        keepdim: keep the last axis with size 1.
    """
    return _difference(x1, x2, eps, "pairwise_distance").norm(p, -1, keepdim=keepdim)
