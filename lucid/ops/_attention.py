"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.ops._activation import softmax
from lucid.ops._common import Array, broadcasts_to, floating, operand
from lucid.ops._dropout import dropout
from lucid.ops._elementwise import astype, where, widened

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    r"""Return :math:`\mathrm{softmax}(s\,Q K^T + M)\,V` (Vaswani et al. 2017).

    Args:
        query: ``(*, H, L, E)``.
        key: ``(*, H, S, E)``; the leading axes broadcast.
        value: ``(*, H, S, V)``.
        attn_mask: M; it broadcasts to ``(*, H, L, S)``: booleans, True where a position takes
            part; or numbers that are added to the scores.
        dropout_p: probability with which a weight is dropped. It always applies: pass 0 in
            evaluation.
        is_causal: position i sees the positions up to i only; not together with ``attn_mask``.
        scale: s, by default :math:`1/\sqrt{E}`.
        enable_gqa: let ``key`` and ``value`` have fewer heads (axis -3), each serving several of
            the query's.

    Returns:
        ``(*, H, L, V)``. A position that may see nothing gets 0.

    Raises:
        ValueError: if the shapes do not fit, or both kinds of mask are given.
    """
    who = "scaled_dot_product_attention"
    q, k, v = floating(query, who), floating(key, who), floating(value, who)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(
            f"{who}: expected query (*, L, E), key (*, S, E) and value (*, S, V), got {q.shape}, "
            f"{k.shape} and {v.shape}"
        )
    dtype = np.result_type(q.dtype, k.dtype, v.dtype)
    q, k, v = widened(q), widened(k), widened(v)
    if enable_gqa:
        k, v = _repeat_heads(q, k, who), _repeat_heads(q, v, who)
    scores = (q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-2, -1)
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{who}: give attn_mask or is_causal, not both")
        attn_mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    return astype(dropout(masked_softmax(scores, attn_mask, who), dropout_p) @ v, dtype)


def masked_softmax(scores: Tensor, mask: Any, who: str) -> Tensor:
    """Return the softmax along the last axis under a mask; rows without any position are 0."""
    if mask is None:
        return softmax(scores, -1)
    given = operand(mask, who)
    if not broadcasts_to(given.shape, scores.shape):
        raise ValueError(f"{who}: a mask of shape {given.shape} does not fit scores {scores.shape}")
    if given.dtype.kind == "f":
        scores = scores + given.astype(scores.dtype)
        allowed: Array = given.data > -np.inf
    else:
        if given.dtype.kind != "b":
            raise TypeError(f"{who}: a mask must be boolean or floating point, got {given.dtype}")
        allowed = given.data
        scores = where(allowed, scores, -math.inf)
    seeing = allowed.any(axis=-1, keepdims=True)
    if seeing.all():
        return softmax(scores, -1)
    return where(seeing, softmax(where(seeing, scores, 0.0), -1), 0.0)


def _repeat_heads(q: Tensor, x: Tensor, who: str) -> Tensor:
    heads, own = q.shape[-3], x.shape[-3]
    if own < 1 or heads % own:
        raise ValueError(f"{who}: {own} heads cannot serve the query's {heads} in equal shares")
    lead, tail = x.shape[:-2], x.shape[-2:]
    wide = x.unsqueeze(-3).expand(*lead, heads // own, *tail)
    return wide.reshape(*lead[:-1], heads, *tail)
