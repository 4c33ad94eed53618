"""The transformer (Vaswani et al. 2017): encoder, decoder, and both."""

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

__all__ = [
    "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerEncoderLayer",
]  # fmt: skip

Activation = str | Callable[[Tensor], Tensor]


class _TransformerLayer(Module):
    """Attentions and a network of two linear maps, each with a norm and a residual around it."""

    _attentions: tuple[str, ...] = ("self_attn",)
    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if isinstance(activation, str):
            one_of(activation, ("relu", "gelu"), "activation", type(self).__name__)
        found: Any = getattr(F, activation) if isinstance(activation, str) else activation
        self.activation = found
        self.norm_first = norm_first
        for name in self._attentions:
            attention = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
            )
            self.add_module(name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        places = range(1, len(self._attentions) + 2)
        for place in places:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
            self.add_module(f"norm{place}", norm)
        for place in places:
            self.add_module(f"dropout{place}", Dropout(dropout))

    def _add(self, place: int, x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``x`` plus what a part makes of it, normalised before or after."""
        norm, dropout = getattr(self, f"norm{place}"), getattr(self, f"dropout{place}")
        return x + dropout(part(norm(x))) if self.norm_first else norm(x + dropout(part(x)))

    def _attend(self, x: Tensor, mask: Any, padding: Any, causal: bool | None) -> Tensor:
        return self._add(
            1, x, lambda q: self.self_attn(q, q, q, padding, False, mask, is_causal=bool(causal))[0]
        )

    def _feed(self, x: Tensor) -> Tensor:
        part = lambda x: self.linear2(self.dropout(self.activation(self.linear1(x))))  # noqa: E731
        return self._add(len(self._attentions) + 1, x, part)


class TransformerEncoderLayer(_TransformerLayer):
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
        return self._feed(self._attend(x, src_mask, src_key_padding_mask, is_causal))


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention, attention to an encoder's result, and a network of two linear maps.

    Arguments as in :class:`TransformerEncoderLayer`.
    """

    _attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return ``tgt`` decoded, in its shape.

        Args:
            tgt: ``(T, N, E)``, with ``batch_first`` ``(N, T, E)``, or ``(T, E)``.
            memory: the encoder's result, likewise with S positions.
            tgt_mask: of the self-attention, as in :class:`MultiheadAttention`.
            memory_mask: of the attention to the memory.
            tgt_key_padding_mask: which positions of ``tgt`` are none.
            memory_key_padding_mask: which positions of ``memory`` are none.
            tgt_is_causal: a hint that ``tgt_mask`` is causal.
            memory_is_causal: a hint that ``memory_mask`` is causal.
        """
        x = operand(tgt, "TransformerDecoderLayer")
        x = self._attend(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal)

        def look(query: Tensor) -> Tensor:
            found = self.multihead_attn(
                query,
                memory,
                memory,
                memory_key_padding_mask,
                False,
                memory_mask,
                is_causal=memory_is_causal,
            )
            return found[0]

        return self._feed(self._add(2, x, look))


class _Stack(Module):
    norm: Module | None

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.num_layers = count(num_layers, "num_layers", type(self).__name__, 0)
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(self.num_layers))
        self.add_module("norm", norm)

    def _through(self, x: Any, *arguments: Any) -> Tensor:
        for layer in self.layers:
            x = layer(x, *arguments)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Encoder layers, one after the other.

    Args:
        encoder_layer: a :class:`TransformerEncoderLayer`, of which each layer begins as a copy.
        num_layers: how many.
        norm: what the last layer's result goes through, or None.
        enable_nested_tensor: without effect, as is ``mask_check``: padding is never left out.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Return ``src`` encoded; arguments as in :meth:`TransformerEncoderLayer.forward`."""
        return self._through(src, mask, src_key_padding_mask, is_causal)


class TransformerDecoder(_Stack):
    """Decoder layers, one after the other.

    Args:
        decoder_layer: a :class:`TransformerDecoderLayer`, of which each layer begins as a copy.
        num_layers: how many.
        norm: what the last layer's result goes through, or None.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return ``tgt`` decoded; arguments as in :meth:`TransformerDecoderLayer.forward`."""
        return self._through(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )
