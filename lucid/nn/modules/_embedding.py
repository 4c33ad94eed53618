"""Embedding."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn._parameter import Parameter
from lucid.nn.modules._layer import FunctionLayer, empty_parameter

__all__ = ["Embedding"]


class Embedding(FunctionLayer, function=F.embedding):
    """A learned table, looked up by integers.

    Args:
        num_embeddings: V, the number of rows.
        embedding_dim: D, their length.
        padding_idx: a row that begins at 0 and is not learned.
        max_norm: only None.
        norm_type: without effect.
        scale_grad_by_freq: only False.
        sparse: only False.
        dtype: of the table, float32 by default.

    Shapes: input integers ``(*)``, output ``(*, D)``, ``weight`` ``(V, D)``, which begins normal.

    Example:
        >>> words = nn.Embedding.from_pretrained([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
        >>> words(lucid.tensor([2, 0, 2]))
        tensor([[3., 4.],
                [0., 0.],
                [3., 4.]])
        >>> nn.Embedding(10, 3)(lucid.tensor([[1, 2], [3, 4]])).shape
        (2, 2, 3)
    """

    _settings = ("weight", "padding_idx")
    _sizes = ("num_embeddings", "embedding_dim")

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if max_norm is not None or scale_grad_by_freq or sparse:
            raise ValueError("Embedding: max_norm, scale_grad_by_freq and sparse are not supported")
        self.num_embeddings = count(num_embeddings, "num_embeddings", "Embedding")
        self.embedding_dim = count(embedding_dim, "embedding_dim", "Embedding")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx must be one of the {num_embeddings} rows, got "
                    f"{padding_idx}"
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = empty_parameter((self.num_embeddings, self.embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table again."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """Return a layer whose table is ``embeddings`` ``(V, D)``, by default not learned.

        Raises:
            ValueError: if it does not have two axes.
        """
        table = embeddings if isinstance(embeddings, Tensor) else Tensor(embeddings)
        if table.ndim != 2:
            raise ValueError(f"Embedding: expected a table of shape (V, D), got {table.shape}")
        layer = cls(table.shape[0], table.shape[1], padding_idx)
        layer.weight = Parameter(table.detach(), requires_grad=not freeze)
        return layer

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return super().extra_repr() + padding
