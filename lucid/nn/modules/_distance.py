"""Distances and similarities of vectors."""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._layer import Caller
from lucid.nn.modules._module import Module

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Caller, function=F.cosine_similarity):
    """The cosine of the angle. Arguments as in :func:`lucid.nn.functional.cosine_similarity`."""

    dim: int = 1
    eps: float = 1e-8

    def forward(self, x1: Any, x2: Any) -> Tensor:
        """Return the cosines of vectors along the axis ``dim``."""
        return self._call(x1, x2)


class PairwiseDistance(Module):
    """The norm of the difference. Arguments as in :func:`lucid.nn.functional.pairwise_distance`.

    The exponent ``p`` is the attribute ``norm``, as in PyTorch.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Tensor:
        """Return the distances ``(*)`` of vectors ``(*, D)``."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
