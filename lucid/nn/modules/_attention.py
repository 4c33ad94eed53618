"""MultiheadAttention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import count, probability
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn._parameter import Parameter
from lucid.nn.modules._layer import Layer, fill
from lucid.nn.modules._linear import Linear
from lucid.ops._attention import masked_softmax
from lucid.ops._common import floating, operand
from lucid.ops._join import cat

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Layer):
    r"""Attention with several heads (Vaswani et al. 2017).

    Each head attends with its own slice of the projected queries, keys and values; the heads'
    results, side by side, go through ``out_proj``.

    Args:
        embed_dim: E, the size of the queries and of the result; a multiple of ``num_heads``.
        num_heads: H.
        dropout: probability with which an attention weight is dropped in training.
        bias: whether the projections add one.
        add_bias_kv: append a learned key and value to the sequences.
        add_zero_attn: append a key and a value of zeros.
        kdim, vdim: the sizes of keys and values, by default E.
        batch_first: whether sequences are ``(N, L, E)`` rather than ``(L, N, E)``.
        dtype: of the parameters, float32 by default.

    The parameters have PyTorch's names and shapes: ``in_proj_weight`` ``(3E, E)``, or with other
    ``kdim`` or ``vdim`` ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``;
    ``in_proj_bias`` ``(3E,)``; ``out_proj``.

    Example:
        >>> attention = nn.MultiheadAttention(embed_dim=8, num_heads=2, batch_first=True)
        >>> x = lucid.randn(3, 5, 8)  # three sequences of length 5
        >>> output, weights = attention(x, x, x)
        >>> output.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
        >>> lucid.allclose(weights.sum(-1), lucid.ones(3, 5))
        True
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        who = "MultiheadAttention"
        self.embed_dim = count(embed_dim, "embed_dim", who)
        self.num_heads = count(num_heads, "num_heads", who)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{who}: num_heads must divide embed_dim={embed_dim}, got {num_heads}")
        self.head_dim = self.embed_dim // self.num_heads
        self.dropout = probability(dropout, "dropout", who)
        self.kdim = self.embed_dim if kdim is None else count(kdim, "kdim", who)
        self.vdim = self.embed_dim if vdim is None else count(vdim, "vdim", who)
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        size = self.embed_dim
        matrices: dict[str, tuple[int, int]] = (
            {"in_proj_weight": (3 * size, size)}
            if self.kdim == size and self.vdim == size
            else {
                "q_proj_weight": (size, size),
                "k_proj_weight": (size, self.kdim),
                "v_proj_weight": (size, self.vdim),
            }
        )
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self._register_empty(name, matrices.get(name), dtype)
        self._register_empty("in_proj_bias", (3 * size,) if bias else None, dtype)
        self.out_proj = Linear(size, size, bias=bias, dtype=dtype)
        for name in ("bias_k", "bias_v"):
            self._register_empty(name, (1, 1, size) if add_bias_kv else None, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the input projections again and set the biases to 0."""
        fill(init.xavier_uniform_, self.in_proj_weight)
        fill(init.xavier_uniform_, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        fill(init.zeros_, self.in_proj_bias, self.out_proj.bias)
        fill(init.xavier_normal_, self.bias_k, self.bias_v)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values, and the attention weights or None.

        Args:
            query: ``(L, N, E)``, with ``batch_first`` ``(N, L, E)``, or ``(L, E)`` without batch.
            key: the same with S and ``kdim``.
            value: the same with S and ``vdim``.
            key_padding_mask: ``(N, S)`` or ``(S,)``: booleans, True where a key is *left out*, or
                numbers to add to the scores.
            need_weights: whether to return the weights.
            attn_mask: ``(L, S)`` or ``(N·H, L, S)``: booleans, True where a pair is *left out*,
                or numbers to add to the scores.
            average_attn_weights: return the mean over the heads, ``(N, L, S)``, rather than each
                head's weights, ``(N, H, L, S)``.
            is_causal: a hint that ``attn_mask`` is causal; as in PyTorch the mask must be given.

        Raises:
            ValueError: if the shapes do not fit.
        """
        who = "MultiheadAttention"
        q, k, v = floating(query, who), floating(key, who), floating(value, who)
        if is_causal and attn_mask is None:
            raise ValueError(f"{who}: is_causal=True needs attn_mask too")
        batched = q.ndim == 3
        if not (q.ndim == k.ndim == v.ndim) or q.ndim not in (2, 3):
            raise ValueError(
                f"{who}: expected query, key and value all with two or three axes, got {q.shape}, "
                f"{k.shape} and {v.shape}"
            )
        if not batched:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(("query", "key", "value"), (q, k, v), sizes):
            if x.shape[2] != size or x.shape[0] != q.shape[0]:
                raise ValueError(
                    f"{who}: expected a {name} with {size} features (last axis) and a batch of "
                    f"{q.shape[0]}, got {x.shape[2]} and {x.shape[0]}"
                )
        if k.shape[1] != v.shape[1]:
            raise ValueError(
                f"{who}: key and value must be equally long, got {k.shape[1]} and {v.shape[1]}"
            )
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        q, k, v = self._project(q, k, v)
        n, given = q.shape[0], k.shape[1]
        if self.bias_k is not None and self.bias_v is not None:
            k = cat([k, self.bias_k.expand(n, 1, self.embed_dim)], 1)
            v = cat([v, self.bias_v.expand(n, 1, self.embed_dim)], 1)
        if self.add_zero_attn:
            zeros = wrap(np.zeros((n, 1, self.embed_dim), q.dtype))
            k, v = cat([k, zeros], 1), cat([v, zeros], 1)
        if mask is not None and k.shape[1] > given:
            mask = F.pad(mask, (0, k.shape[1] - given))  # nothing masks what was appended
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-2, -1)
        weights = masked_softmax(scores, mask, who)
        weights = F.dropout(weights, self.dropout, self.training)
        merged = (weights @ v).transpose(1, 2).reshape(n, q.shape[2], self.embed_dim)
        output: Tensor = self.out_proj(merged)
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        if average_attn_weights:
            weights = weights.mean(1)
        return output, weights if batched else weights.squeeze(0)

    def _project(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, all of size E."""
        if self.in_proj_weight is not None and q is k and k is v:
            q, k, v = F.linear(q, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
            return q, k, v
        matrices: Sequence[Tensor | None] = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if self.in_proj_weight is None
            else self.in_proj_weight.chunk(3)
        )
        biases: Sequence[Tensor | None] = (
            (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        )
        projected = [F.linear(x, w, b) for x, w, b in zip((q, k, v), matrices, biases)]
        return projected[0], projected[1], projected[2]

    def _heads(self, x: Tensor) -> Tensor:
        """Return ``(N, L, E)`` as ``(N, H, L, E/H)``."""
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, attn_mask: Any, padding_mask: Any, q: Tensor, k: Tensor) -> Tensor | None:
        """Return both masks as one to add to scores ``(N, H, L, S)``, or None."""
        n, length, keys = q.shape[0], q.shape[1], k.shape[1]
        total: Tensor | None = None
        if attn_mask is not None:
            given = _additive(attn_mask, q.dtype, "attn_mask")
            if given.shape == (length, keys):
                total = given.reshape(1, 1, length, keys)
            elif given.shape == (n * self.num_heads, length, keys):
                total = given.reshape(n, self.num_heads, length, keys)
            else:
                raise ValueError(
                    f"MultiheadAttention: expected attn_mask of shape {(length, keys)} or "
                    f"{(n * self.num_heads, length, keys)}, got {given.shape}"
                )
        if padding_mask is not None:
            given = _additive(padding_mask, q.dtype, "key_padding_mask")
            if given.shape != (n, keys) and not (n == 1 and given.shape == (keys,)):
                raise ValueError(
                    f"MultiheadAttention: expected key_padding_mask of shape {(n, keys)}, got "
                    f"{given.shape}"
                )
            given = given.reshape(n, 1, 1, keys)
            total = given if total is None else total + given
        return total


def _additive(mask: Any, dtype: np.dtype[Any], name: str) -> Tensor:
    """Return a mask as numbers to add: minus infinity where a boolean mask is True."""
    given = operand(mask, "MultiheadAttention")
    if given.dtype.kind == "b":
        return wrap(np.where(given.data, dtype.type(-np.inf), dtype.type(0)))
    if given.dtype.kind == "f":
        return given.astype(dtype)
    raise TypeError(
        f"MultiheadAttention: {name} must be boolean or floating point, got {given.dtype}"
    )
