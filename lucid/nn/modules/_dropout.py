"""Dropout layers."""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._checks import probability
from lucid.nn.modules._module import Module


class Dropout(Module):
    """In training, sets elements to 0 with probability ``p`` and divides the others by ``1 - p``.

    Args:
        p: how likely an element is dropped.
        inplace: accepted as in PyTorch, and without effect.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = probability(p, "p", type(self).__name__)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape; in evaluation the input itself."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout2d(Dropout):
    """Drops whole channels of ``(N, C, H, W)``; else as :class:`Dropout`.

    Args:
        p: the probability to drop a channel.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape; in evaluation the input itself."""
        return F.dropout2d(input, self.p, self.training)
