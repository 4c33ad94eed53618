"""The schedule that a metric decides."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, SupportsFloat

from lucid._check import short
from lucid.optim import _settings
from lucid.optim._optimizer import Optimizer
from lucid.optim._schedule import LRScheduler
from lucid.optim._settings import integer


class ReduceLROnPlateau(LRScheduler):
    """Multiply by ``factor`` when a metric has stopped improving. A step is usually an epoch.

    Args:
        optimizer: whose rate is set.
        mode: ``"min"`` if the metric should fall, ``"max"`` if it should rise.
        factor: what the rate is multiplied by, below 1.
        patience: how many steps without improvement are let pass.
        threshold: what counts as an improvement.
        threshold_mode: ``"rel"``: better than the best by that part of it; ``"abs"``: by that
            amount.
        cooldown: how many steps after a reduction are not counted.
        min_lr: the smallest rate, or one for each group.
        eps: smaller changes of the rate are not made.
    """

    _checks: ClassVar = {
        "mode": _settings.one_of("min", "max"),
        "factor": _settings.below_one,
        "patience": integer(0),
        "threshold": _settings.finite,
        "threshold_mode": _settings.one_of("rel", "abs"),
        "cooldown": integer(0),
        "eps": _settings.not_negative,
        "best": _settings.not_nan,
        "num_bad_epochs": integer(0),
        "cooldown_counter": integer(0),
    }
    _group_checks: ClassVar = {"min_lrs": _settings.not_negative}

    def __init__(
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self._attach(optimizer)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.min_lrs = self._per_group("min_lr", min_lr)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._check_settings()
        self.last_epoch = 0
        self._note_lr()

    def lr_at(self, step: int, group: int = 0) -> float:
        """Not known beforehand.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("ReduceLROnPlateau: the rate depends on the metric, not on the step")

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Take the metric of this step, and reduce the rate if it has not improved for long."""
        try:
            value = float(metrics)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"ReduceLROnPlateau: metrics must be a number, got {short(metrics)}"
            ) from None
        self.last_epoch += 1
        if self._improves(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._note_lr()

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def _reduce(self) -> None:
        for index, group in enumerate(self.optimizer.param_groups):
            least = self.min_lrs[min(index, len(self.min_lrs) - 1)]
            rate = max(group["lr"] * self.factor, least)
            if group["lr"] - rate > self.eps:
                group["lr"] = rate
