"""Loss layers: each calls the function of its name in :mod:`lucid.nn.functional`.

As there, most arguments are taken by name only.
"""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._checks import one_of, probability
from lucid.nn.modules._module import Module
from lucid.ops._common import floating

_REDUCTIONS: tuple[str, ...] = ("none", "mean", "sum")


class _Loss(Module):
    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(reduction, self._reductions(), "reduction", type(self).__name__)

    def _reductions(self) -> tuple[str, ...]:
        return _REDUCTIONS

    def _keep(self, name: str, value: Any) -> None:
        """Keep a constant, such as class weights, as a buffer: it is saved with the model."""
        tensor = None if value is None else floating(value, type(self).__name__).detach()
        self.register_buffer(name, tensor)


class MSELoss(_Loss):
    """Squared differences.

    Args:
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of inputs and targets of one shape."""
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Absolute differences.

    Args:
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of inputs and targets of one shape."""
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Squared below ``beta``, absolute above; see :func:`lucid.nn.functional.smooth_l1_loss`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        beta: where it changes over; not negative.
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if beta < 0:
            raise ValueError(f"SmoothL1Loss: beta must not be negative, got {beta}")
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of inputs and targets of one shape."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """Squared up to ``delta``, absolute above; see :func:`lucid.nn.functional.huber_loss`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        delta: where it changes over; positive.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta must be positive, got {delta}")
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of inputs and targets of one shape."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class BCELoss(_Loss):
    """Cross entropy of probabilities of two classes.

    Args:
        weight: factors that broadcast to the input, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of probabilities and targets of one shape."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Cross entropy of logits of two classes.

    Args:
        weight: factors that broadcast to the input, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
        pos_weight: the weight of positive examples; it broadcasts. None means 1.
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of logits and targets of one shape."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class CrossEntropyLoss(_Loss):
    """Cross entropy of logits of many classes; see :func:`lucid.nn.functional.cross_entropy`.

    Args:
        weight: ``(C,)``, the weight of each class, or None.
        ignore_index: this class as target means: leave the sample out.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        label_smoothing: that share of each target is spread evenly over all classes.
    """

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

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of logits ``(N, C, *)`` for classes ``(N, *)`` or probabilities."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """Minus the log-probability of the true class; see :func:`lucid.nn.functional.nll_loss`.

    Args:
        weight: ``(C,)``, the weight of each class, or None.
        ignore_index: this class as target means: leave the sample out.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of log-probabilities ``(N, C, *)`` for classes ``(N, *)``."""
        return F.nll_loss(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class KLDivLoss(_Loss):
    """The Kullback-Leibler divergence; see :func:`lucid.nn.functional.kl_div`.

    Args:
        reduction: ``"none"``, ``"mean"``, ``"sum"`` or ``"batchmean"``.
        log_target: whether targets are logarithms of probabilities.
    """

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.log_target = log_target

    def _reductions(self) -> tuple[str, ...]:
        return (*_REDUCTIONS, "batchmean")

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of log-probabilities and targets of one shape."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
