"""Several schedules of one optimiser: at once, or one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lucid.optim import _settings
from lucid.optim._optimizer import Optimizer
from lucid.optim._reduce_on_plateau import ReduceLROnPlateau
from lucid.optim._schedule import LRScheduler
from lucid.optim._settings import integer


class _Combination(LRScheduler):
    """Several schedules of one optimiser."""

    _unsaved = ("optimizer", "_schedulers")
    _schedulers: list[LRScheduler]

    def _combine(self, schedulers: Iterable[LRScheduler], optimizer: Optimizer | None) -> None:
        who = type(self).__name__
        if not isinstance(schedulers, Iterable):
            raise TypeError(f"{who}: expected a list of schedules, got {schedulers!r}")
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError(f"{who}: expected at least one schedule, got none")
        for index, scheduler in enumerate(self._schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"{who}: schedule {index} must be an LRScheduler, "
                    f"got {type(scheduler).__name__}"
                )
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{who}: schedule {index} is ReduceLROnPlateau, whose step needs a metric"
                )
        self._attach(optimizer if optimizer is not None else self._schedulers[0].optimizer)
        for index, scheduler in enumerate(self._schedulers):
            if scheduler.optimizer is not self.optimizer:
                raise ValueError(f"{who}: schedule {index} belongs to another optimizer")
        self.base_lrs = list(self._schedulers[0].base_lrs)

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with those of the schedules in it; save the optimiser's too."""
        states = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**super().state_dict(), "_schedulers": states}

    def _take_state(self, state_dict: Mapping[str, Any]) -> None:
        own = dict(state_dict)
        for scheduler, state in zip(self._schedulers, own.pop("_schedulers")):
            scheduler._take_state(state)
        super()._take_state(own)

    def _check_state(self, state_dict: Any, who: str) -> None:
        super()._check_state(state_dict, who)
        states = state_dict["_schedulers"]
        if not isinstance(states, (list, tuple)) or len(states) != len(self._schedulers):
            raise ValueError(f"{who}: expected the states of {len(self._schedulers)} schedules")
        for index, (scheduler, state) in enumerate(zip(self._schedulers, states)):
            scheduler._check_state(state, f"{who}: schedule {index}, {type(scheduler).__name__}")


class ChainedScheduler(_Combination):
    """Several schedules at once: their factors multiply. A step is a step of each of them.

    Args:
        schedulers: all over the same optimiser.
        optimizer: that optimiser; need not be given.

    Raises:
        ValueError: if there is none, if they have different optimisers, or if one needs a metric.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._combine(schedulers, optimizer)
        self.last_epoch = self._schedulers[0].last_epoch
        self._note_lr()

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate of a parameter group after ``step`` steps, by going through all of them.

        There is no formula: one schedule may set the rate that another one goes on to scale.
        """
        rate = self.base_lrs[group]
        for past in range(step + 1):
            rate = self._moved(rate, past, group)
        return rate

    def _moved(self, lr: float, step: int, group: int) -> float:
        for scheduler in self._schedulers:
            lr = scheduler._moved(lr, step, group)
        return lr

    def _advance(self, step: int) -> None:
        for scheduler in self._schedulers:
            scheduler._advance(scheduler.last_epoch + 1)
        self.last_epoch = step
        self._note_lr()

    def _place(self, step: int) -> None:
        rates = [self.lr_at(step, index) for index in range(len(self._groups()))]
        for scheduler in self._schedulers:
            scheduler._place(step)
        self._set(step, rates)


class SequentialLR(_Combination):
    """One schedule after the other: a warm-up, then a cosine. A step is a step of theirs.

    Args:
        optimizer: whose rate is set.
        schedulers: all over this optimiser. Each begins at its step 0, from the base rate.
        milestones: the steps at which the second, third, … one begins, rising.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if there is not one milestone fewer than schedules, if they have other
            optimisers, or if one needs a metric.

    Example:
        >>> optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
        >>> schedules = optim.lr_scheduler
        >>> warmup = schedules.LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> cosine = schedules.CosineAnnealingLR(optimizer, T_max=4)
        >>> schedule = schedules.SequentialLR(optimizer, [warmup, cosine], milestones=[3])
        >>> schedule.get_last_lr()
        [0.25]
        >>> for step in range(3):
        ...     optimizer.step()
        ...     schedule.step()
        >>> schedule.get_last_lr()
        [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self._combine(schedulers, optimizer)
        self._check_milestones("SequentialLR", milestones)
        self._milestones = list(milestones)
        integer(-1)("SequentialLR", "last_epoch", last_epoch)
        self.last_epoch = -1
        self._place(last_epoch + 1)

    def _check_milestones(self, who: str, milestones: Any) -> None:
        _settings.milestones(who, "milestones", milestones)
        if len(milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"{who}: expected {len(self._schedulers) - 1} milestones for "
                f"{len(self._schedulers)} schedules, got {len(milestones)}"
            )
        if list(milestones) != sorted(milestones):
            raise ValueError(f"{who}: milestones must rise, got {list(milestones)}")

    def _check_state(self, state_dict: Any, who: str) -> None:
        super()._check_state(state_dict, who)
        self._check_milestones(who, state_dict["_milestones"])

    def _current(self, step: int) -> tuple[LRScheduler, int]:
        """Return the schedule that holds at a step, and its own count of it."""
        index = bisect_right(self._milestones, step)
        return self._schedulers[index], step - ([0, *self._milestones][index])

    def lr_at(self, step: int, group: int = 0) -> float:
        scheduler, own_step = self._current(step)
        return scheduler.lr_at(own_step, group)

    def _moved(self, lr: float, step: int, group: int) -> float:
        scheduler, own_step = self._current(step)
        if own_step == 0:
            return scheduler.lr_at(0, group)
        return scheduler._moved(lr, own_step, group)

    def _advance(self, step: int) -> None:
        scheduler, own_step = self._current(step)
        if own_step == 0:
            scheduler._place(0)
        else:
            scheduler._advance(own_step)
        self.last_epoch = step
        self._note_lr()

    def _place(self, step: int) -> None:
        scheduler, own_step = self._current(step)
        if step == 0:
            # From the groups' base rates, which a schedule for later may have set.
            for group in self._groups():
                group["lr"] = group["initial_lr"]
            scheduler._advance(0)
        else:
            scheduler._place(own_step)
        self.last_epoch = step
        self._note_lr()
