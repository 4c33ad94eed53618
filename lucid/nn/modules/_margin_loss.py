"""Loss layers that ask for a margin: each calls the function of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._loss import Loss

if TYPE_CHECKING:
    from dataclasses import KW_ONLY

__all__ = [
    "CosineEmbeddingLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "SoftMarginLoss", "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]  # fmt: skip


class HingeEmbeddingLoss(Loss, function=F.hinge_embedding_loss):
    """Small where the target is 1, above a margin where it is -1.

    Arguments as in :func:`lucid.nn.functional.hinge_embedding_loss`.
    """

    margin: float = 1.0


class MarginRankingLoss(Loss, function=F.margin_ranking_loss):
    """One input larger than the other by a margin.

    Arguments as in :func:`lucid.nn.functional.margin_ranking_loss`.
    """

    margin: float = 0.0

    def forward(self, input1: Any, input2: Any, target: Any) -> Tensor:  # type: ignore[override]
        """Return the loss of two inputs and a target of 1 and -1."""
        return self._call(input1, input2, target)


class CosineEmbeddingLoss(MarginRankingLoss, function=F.cosine_embedding_loss):
    """Vectors in one direction where the target is 1, in others where it is -1.

    Arguments as in :func:`lucid.nn.functional.cosine_embedding_loss`.
    """


class SoftMarginLoss(Loss, function=F.soft_margin_loss):
    """log(1 + e^(-t·x)) for targets t of 1 and -1; ``reduction`` is as in :class:`MSELoss`."""


class MultiLabelMarginLoss(Loss, function=F.multilabel_margin_loss):
    """All true classes above all others by 1; ``reduction`` is as in :class:`MSELoss`.

    See :func:`lucid.nn.functional.multilabel_margin_loss`.
    """


class MultiLabelSoftMarginLoss(Loss, function=F.multilabel_soft_margin_loss):
    """Cross entropy of each class by itself.

    Arguments as in :func:`lucid.nn.functional.multilabel_soft_margin_loss`.
    """

    weight: Any = None


class MultiMarginLoss(Loss, function=F.multi_margin_loss):
    """The true class above all others by a margin.

    Arguments as in :func:`lucid.nn.functional.multi_margin_loss`.
    """

    p: int = 1
    margin: float = 1.0
    weight: Any = None

    def _check(self) -> None:
        super()._check()
        if self.p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p must be 1 or 2, got {self.p!r}")


class _TripletLoss(Loss, function=None):
    def forward(self, anchor: Any, positive: Any, negative: Any) -> Tensor:  # type: ignore[override]
        """Return the loss of vectors, what is to be near them and what is to be far."""
        return self._call(anchor, positive, negative)


class TripletMarginLoss(_TripletLoss, function=F.triplet_margin_loss):
    """Farther from the negative than from the positive by a margin.

    Arguments as in :func:`lucid.nn.functional.triplet_margin_loss`.
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False


class TripletMarginWithDistanceLoss(_TripletLoss, function=F.triplet_margin_with_distance_loss):
    """:class:`TripletMarginLoss` for any distance.

    Arguments as in :func:`lucid.nn.functional.triplet_margin_with_distance_loss`.
    """

    _: KW_ONLY
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None
    margin: float = 1.0
    swap: bool = False
