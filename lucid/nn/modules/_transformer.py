"""The encoder of the transformer (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count, one_of
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._attention import MultiheadAttention
from lucid.nn.modules._container import ModuleList
from lucid.nn.modules._dropout import Dropout
from lucid.nn.modules._linear import Linear
from lucid.nn.modules._module import Module
from lucid.nn.modules._norm import LayerNorm
from lucid.ops._common import operand

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]


class TransformerEncoderLayer(Module):
    """Self-attention and a network of two linear maps, each with a residual and a norm.

    Args:
        d_model: E, the features of a position.
        nhead: the number of heads, which divides E.
        dim_feedforward: the features between the two linear maps.
        dropout: probability with which weights and results are dropped in training.
        activation: between the linear maps: ``"relu"``, ``"gelu"`` or a function.
        layer_norm_eps: added to variances.
        batch_first: whether sequences are ``(N, L, E)`` rather than ``(L, N, E)``.
        norm_first: normalise before each part rather than after its residual.
        bias: whether linear maps and norms add one.
        dtype: of the parameters, float32 by default.

    Example:
        >>> layer = nn.TransformerEncoderLayer(d_model=8, nhead=2, batch_first=True)
        >>> encoder = nn.TransformerEncoder(layer, num_layers=2)
        >>> encoder(lucid.randn(3, 5, 8)).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if isinstance(activation, str):
            one_of(activation, ("relu", "gelu"), "activation", "TransformerEncoderLayer")
        found: Any = getattr(F, activation) if isinstance(activation, str) else activation
        self.activation = found
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return ``src`` encoded, in its shape.

        Args:
            src: ``(L, N, E)``, with ``batch_first`` ``(N, L, E)``, or ``(L, E)``.
            src_mask: ``attn_mask`` of :class:`MultiheadAttention`.
            src_key_padding_mask: its ``key_padding_mask``.
            is_causal: a hint that ``src_mask`` is causal.
        """
        x = operand(src, "TransformerEncoderLayer")

        def attend(x: Tensor) -> Tensor:
            masks = src_key_padding_mask, False, src_mask
            return self.dropout1(self.self_attn(x, x, x, *masks, is_causal=is_causal)[0])

        def feed(x: Tensor) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = x + attend(self.norm1(x))
            return x + feed(self.norm2(x))
        x = self.norm1(x + attend(x))
        return self.norm2(x + feed(x))


class TransformerEncoder(Module):
    """Encoder layers, one after the other.

    Args:
        encoder_layer: a :class:`TransformerEncoderLayer`, of which each layer begins as a copy.
        num_layers: how many.
        norm: what the last layer's result goes through, or None.
        enable_nested_tensor: without effect, as is ``mask_check``: padding is never left out.
    """

    norm: Module | None

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.num_layers = count(num_layers, "num_layers", "TransformerEncoder", 0)
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(self.num_layers))
        self.add_module("norm", norm)

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Return ``src`` encoded; arguments as in :meth:`TransformerEncoderLayer.forward`."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)
