"""Loss layers: each calls the function of its name in :mod:`lucid.nn.functional`.

As there, most arguments are taken by name only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid._check import one_of, probability
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._module import Module
from lucid.ops._common import floating

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss",
    "MSELoss", "NLLLoss", "SmoothL1Loss",
]  # fmt: skip


class _Loss(Module):
    """A loss that calls one function, with attributes of its own as the settings."""

    _function: Callable[..., Tensor]
    _settings: tuple[str, ...] = ("reduction",)  # named as the function's arguments are
    _reductions: tuple[str, ...] = ("none", "mean", "sum")

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of(reduction, self._reductions, "reduction", type(self).__name__)

    def forward(self, input: Any, target: Any) -> Tensor:
        """Return the loss of an input and a target; both have one shape if nothing else is said."""
        settings = {name: getattr(self, name) for name in self._settings}
        return self._function(input, target, **settings)

    def _keep(self, name: str, value: Any) -> None:
        """Keep a constant, such as class weights, as a buffer: it is saved with the model."""
        tensor = None if value is None else floating(value, type(self).__name__).detach()
        self.register_buffer(name, tensor)


class MSELoss(_Loss):
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

    _function = staticmethod(F.mse_loss)


class L1Loss(_Loss):
    """Absolute differences; ``reduction`` is as in :class:`MSELoss`."""

    _function = staticmethod(F.l1_loss)


class SmoothL1Loss(_Loss):
    """Squared below ``beta``, absolute above; see :func:`lucid.nn.functional.smooth_l1_loss`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        beta: where it changes over; not negative.
    """

    _function = staticmethod(F.smooth_l1_loss)
    _settings = ("reduction", "beta")

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if beta < 0:
            raise ValueError(f"SmoothL1Loss: beta must not be negative, got {beta}")
        self.beta = beta


class HuberLoss(_Loss):
    """Squared up to ``delta``, absolute above; see :func:`lucid.nn.functional.huber_loss`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        delta: where it changes over; positive.
    """

    _function = staticmethod(F.huber_loss)
    _settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta must be positive, got {delta}")
        self.delta = delta


class BCELoss(_Loss):
    """Cross entropy of probabilities of two classes.

    Args:
        weight: factors that broadcast to the input, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
    """

    _function = staticmethod(F.binary_cross_entropy)
    _settings = ("weight", "reduction")
    weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)


class BCEWithLogitsLoss(_Loss):
    """Cross entropy of logits of two classes.

    Args:
        weight: factors that broadcast to the input, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
        pos_weight: the weight of positive examples; it broadcasts. None means 1.
    """

    _function = staticmethod(F.binary_cross_entropy_with_logits)
    _settings = ("weight", "reduction", "pos_weight")
    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)


class CrossEntropyLoss(_Loss):
    """Cross entropy of logits of many classes; see :func:`lucid.nn.functional.cross_entropy`.

    Args:
        weight: ``(C,)``, the weight of each class, or None.
        ignore_index: this class as target means: leave the sample out.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.
        label_smoothing: that share of each target is spread evenly over all classes.

    Shapes: logits ``(N, C, *)``; targets are classes ``(N, *)`` or probabilities ``(N, C, *)``.

    Example:
        >>> logits = lucid.zeros(2, 4)  # of two samples: all four classes are equally likely
        >>> round(nn.CrossEntropyLoss()(logits, lucid.tensor([0, 3])).item(), 4)  # log 4
        1.3863
        >>> logits = lucid.tensor([[0.0, 9.0]])
        >>> [round(nn.CrossEntropyLoss()(logits, lucid.tensor([c])).item(), 4) for c in (0, 1)]
        [9.0001, 0.0001]
    """

    _function = staticmethod(F.cross_entropy)
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


class NLLLoss(_Loss):
    """Minus the log-probability of the true class; see :func:`lucid.nn.functional.nll_loss`.

    Args:
        weight: ``(C,)``, the weight of each class, or None.
        ignore_index: this class as target means: leave the sample out.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Shapes: log-probabilities ``(N, C, *)``, classes ``(N, *)``.
    """

    _function = staticmethod(F.nll_loss)
    _settings = ("weight", "ignore_index", "reduction")
    weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index


class KLDivLoss(_Loss):
    """The Kullback-Leibler divergence; see :func:`lucid.nn.functional.kl_div`.

    Args:
        reduction: ``"none"``, ``"mean"``, ``"sum"`` or ``"batchmean"``.
        log_target: whether targets are logarithms of probabilities.
    """

    _function = staticmethod(F.kl_div)
    _settings = ("reduction", "log_target")
    _reductions = (*_Loss._reductions, "batchmean")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.log_target = log_target
