"""Loss layers: each calls the function of its name in :mod:`lucid.nn.functional`.

As there, most arguments are taken by name only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lucid._check import one_of, probability
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._layer import Caller
from lucid.ops._common import floating

if TYPE_CHECKING:
    from dataclasses import KW_ONLY

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "GaussianNLLLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip


class Loss(Caller, function=None):
    """A function of an input and a target."""

    _reductions: ClassVar[tuple[str, ...]] = ("none", "mean", "sum")
    _: KW_ONLY
    reduction: str = "mean"

    def _set(self, name: str, value: Any) -> None:
        if name in ("weight", "pos_weight"):
            # Constants, such as class weights, are buffers: they are saved with the model.
            tensor = None if value is None else floating(value, type(self).__name__).detach()
            self.register_buffer(name, tensor)
        else:
            super()._set(name, value)

    def _check(self) -> None:
        one_of(self.reduction, self._reductions, "reduction", type(self).__name__)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of an input and a target; both have one shape if nothing else is said."""
        return self._call(input, target)


class MSELoss(Loss, function=F.mse_loss):
    """Squared differences.

    Args:
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.

    Example:
        >>> x, target = lucid.tensor([1.0, 2.0]), lucid.tensor([1.0, 4.0])
        >>> nn.MSELoss()(x, target)
        tensor(2.)
        >>> nn.MSELoss(reduction="none")(x, target)
        tensor([0., 4.])
    """


class L1Loss(Loss, function=F.l1_loss):
    """Absolute differences; ``reduction`` is as in :class:`MSELoss`."""


class SmoothL1Loss(Loss, function=F.smooth_l1_loss):
    """Squared below ``beta``, absolute above; see :func:`lucid.nn.functional.smooth_l1_loss`."""

    _: KW_ONLY
    beta: float = 1.0

    def _check(self) -> None:
        super()._check()
        if self.beta < 0:
            raise ValueError(f"SmoothL1Loss: beta must not be negative, got {self.beta}")


class HuberLoss(Loss, function=F.huber_loss):
    """Squared up to ``delta``, absolute above; see :func:`lucid.nn.functional.huber_loss`."""

    reduction: str = "mean"
    delta: float = 1.0

    def _check(self) -> None:
        super()._check()
        if not self.delta > 0:
            raise ValueError(f"HuberLoss: delta must be positive, got {self.delta}")


class BCELoss(Loss, function=F.binary_cross_entropy):
    """Cross entropy of probabilities of two classes.

    Arguments as in :func:`lucid.nn.functional.binary_cross_entropy`.
    """

    weight: Any = None


class BCEWithLogitsLoss(Loss, function=F.binary_cross_entropy_with_logits):
    """Cross entropy of logits of two classes.

    Arguments as in :func:`lucid.nn.functional.binary_cross_entropy_with_logits`.
    """

    weight: Any = None
    _: KW_ONLY
    pos_weight: Any = None


class CrossEntropyLoss(Loss, function=F.cross_entropy):
    """Cross entropy of logits of many classes.

    Arguments as in :func:`lucid.nn.functional.cross_entropy`.

    Shapes: logits ``(N, C, *)``; targets are classes ``(N, *)`` or probabilities ``(N, C, *)``.

    Example:
        >>> logits = lucid.zeros(2, 4)  # of two samples: all four classes are equally likely
        >>> round(nn.CrossEntropyLoss()(logits, lucid.tensor([0, 3])).item(), 4)  # log 4
        1.3863
        >>> logits = lucid.tensor([[0.0, 9.0]])
        >>> [round(nn.CrossEntropyLoss()(logits, lucid.tensor([c])).item(), 4) for c in (0, 1)]
        [9.0001, 0.0001]
    """

    weight: Any = None
    _: KW_ONLY
    ignore_index: int = -100
    label_smoothing: float = 0.0

    def _check(self) -> None:
        super()._check()
        probability(self.label_smoothing, "label_smoothing", "CrossEntropyLoss")


class NLLLoss(Loss, function=F.nll_loss):
    """Minus the log-probability of the true class.

    Arguments as in :func:`lucid.nn.functional.nll_loss`.

    Shapes: log-probabilities ``(N, C, *)``, classes ``(N, *)``.
    """

    weight: Any = None
    _: KW_ONLY
    ignore_index: int = -100


class KLDivLoss(Loss, function=F.kl_div):
    """The Kullback-Leibler divergence. Arguments as in :func:`lucid.nn.functional.kl_div`."""

    _reductions = (*Loss._reductions, "batchmean")
    _: KW_ONLY
    log_target: bool = False


class GaussianNLLLoss(Loss, function=F.gaussian_nll_loss):
    """Minus the log-likelihood of normal variables.

    Arguments as in :func:`lucid.nn.functional.gaussian_nll_loss`.
    """

    _: KW_ONLY
    full: bool = False
    eps: float = 1e-6

    def forward(self, input: Any, target: Any, var: Any) -> Tensor:  # type: ignore[override]
        """Return the loss of means, values and variances."""
        return self._call(input, target, var)
