"""Dropout layers."""

from __future__ import annotations

from lucid._check import probability
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._layer import FunctionLayer

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class Dropout(FunctionLayer, function=F.dropout):
    """In training, sets elements to 0 with probability ``p`` and divides the others by ``1 - p``.

    In evaluation it returns its input.

    Args:
        p: how likely an element is dropped.
        inplace: accepted as in PyTorch, and without effect.

    Example:
        >>> drop = nn.Dropout(0.5)
        >>> sorted({float(v) for v in drop(lucid.ones(100)).numpy()})
        [0.0, 2.0]
        >>> drop.eval()(lucid.ones(3))
        tensor([1., 1., 1.])
    """

    _settings = ("p", "training")
    _shown = ("p", "inplace")
    p: float = 0.5
    inplace: bool = False

    def _check(self) -> None:
        probability(self.p, "p", type(self).__name__)


class Dropout2d(Dropout, function=F.dropout2d):
    """Drops whole channels of ``(N, C, H, W)``; else as :class:`Dropout`."""


class Dropout1d(Dropout, function=F.dropout1d):
    """Drops whole channels of ``(N, C, L)``; else as :class:`Dropout`."""


class Dropout3d(Dropout, function=F.dropout3d):
    """Drops whole channels of ``(N, C, D, H, W)``; else as :class:`Dropout`."""


class AlphaDropout(Dropout, function=F.alpha_dropout):
    """Drops to SELU's lower limit, and keeps mean and variance; else as :class:`Dropout`."""


class FeatureAlphaDropout(Dropout, function=F.feature_alpha_dropout):
    """Drops whole channels of ``(N, C, *)`` as :class:`AlphaDropout` drops elements."""
