"""Loss layers: each calls the function of its name in :mod:`lucid.nn.functional`.

As there, most arguments are taken by name only.
"""

from __future__ import annotations

from typing import Any

from lucid._check import one_of, probability
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._layer import Caller
from lucid.ops._common import floating

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "GaussianNLLLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip


class Loss(Caller):
    """A function of an input and a target."""

    _settings: tuple[str, ...] = ("reduction",)
    _reductions: tuple[str, ...] = ("none", "mean", "sum")

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(reduction, self._reductions, "reduction", type(self).__name__)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of an input and a target; both have one shape if nothing else is said."""
        return self._call(input, target)

    def _keep(self, name: str, value: Any) -> None:
        """Keep a constant, such as class weights, as a buffer: it is saved with the model."""
        tensor = None if value is None else floating(value, type(self).__name__).detach()
        self.register_buffer(name, tensor)


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

    _settings = ("reduction", "beta")

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if beta < 0:
            raise ValueError(f"SmoothL1Loss: beta must not be negative, got {beta}")
        self.beta = beta


class HuberLoss(Loss, function=F.huber_loss):
    """Squared up to ``delta``, absolute above; see :func:`lucid.nn.functional.huber_loss`."""

    _settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta must be positive, got {delta}")
        self.delta = delta


class BCELoss(Loss, function=F.binary_cross_entropy):
    """Cross entropy of probabilities of two classes.

    Arguments as in :func:`lucid.nn.functional.binary_cross_entropy`.
    """

    _settings = ("weight", "reduction")
    weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)


class BCEWithLogitsLoss(Loss, function=F.binary_cross_entropy_with_logits):
    """Cross entropy of logits of two classes.

    Arguments as in :func:`lucid.nn.functional.binary_cross_entropy_with_logits`.
    """

    _settings = ("weight", "reduction", "pos_weight")
    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)


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

    _settings = ("weight", "ignore_index", "reduction", "label_smoothing")
    weight: Tensor | None

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = probability(label_smoothing, "label_smoothing", "CrossEntropyLoss")


class NLLLoss(Loss, function=F.nll_loss):
    """Minus the log-probability of the true class.

    Arguments as in :func:`lucid.nn.functional.nll_loss`.

    Shapes: log-probabilities ``(N, C, *)``, classes ``(N, *)``.
    """

    _settings = ("weight", "ignore_index", "reduction")
    weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index


class KLDivLoss(Loss, function=F.kl_div):
    """The Kullback-Leibler divergence. Arguments as in :func:`lucid.nn.functional.kl_div`."""

    _settings = ("reduction", "log_target")
    _reductions = (*Loss._reductions, "batchmean")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.log_target = log_target


class GaussianNLLLoss(Loss, function=F.gaussian_nll_loss):
    """Minus the log-likelihood of normal variables.

    Arguments as in :func:`lucid.nn.functional.gaussian_nll_loss`.
    """

    _settings = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Any, target: Any, var: Any) -> Tensor:  # type: ignore[override]
        """Return the loss of means, values and variances."""
        return self._call(input, target, var)
