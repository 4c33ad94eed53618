"""What all schedules are, and two kinds of them: see ``lr_scheduler.py``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from lucid.optim import _settings
from lucid.optim._optimizer import Group, Optimizer
from lucid.optim._settings import Check, integer


class LRScheduler:
    """The base of all schedules. A subclass says in :meth:`lr_at` what the rate is at any step.

    Args:
        optimizer: whose groups' ``"lr"`` is set. The rate a group has now is its base rate; it is
            kept in the group as ``"initial_lr"``.
        last_epoch: the last step that was done; -1 begins anew. To go on in the middle of a run,
            prefer ``load_state_dict``.

    Attributes:
        last_epoch: how many steps were done.
        base_lrs: the base rate of each group.

    Raises:
        TypeError: if ``optimizer`` is no :class:`Optimizer`, or a setting is of a wrong kind.
        ValueError: if a setting is out of range.
        KeyError: if ``last_epoch`` is given but the groups have no ``"initial_lr"``.
    """

    # What the attributes must be: single values, and lists of one value a group.
    _checks: ClassVar[Mapping[str, Check]] = {}
    _group_checks: ClassVar[Mapping[str, Check]] = {}

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        self._check_settings()
        integer(-1)(type(self).__name__, "last_epoch", last_epoch)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: group {index} has no 'initial_lr', which is needed "
                    f"to go on from last_epoch={last_epoch}; load the optimizer's state first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = -1
        self._last_lr: list[float] = []
        if last_epoch == -1:
            self._advance(0)
        else:
            self._place(last_epoch + 1)

    def _attach(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: expected an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer

    def _check_settings(self) -> None:
        for name, check in self._checks.items():
            check(type(self).__name__, name, getattr(self, name))

    def _per_group(self, name: str, value: Any) -> list[Any]:
        """Return a setting as a list of one value a group; it may have come as one value."""
        who, count = type(self).__name__, len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(values) != count:
            raise ValueError(f"{who}: expected {count} values of {name}, got {len(values)}")
        for one in values:
            self._group_checks[f"{name}s"](who, name, one)
        return values

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate of a parameter group after ``step`` steps, by this schedule alone."""
        raise NotImplementedError

    def _moved(self, lr: float, step: int, group: int) -> float:
        """Return what going on to ``step`` makes of the rate ``lr``, which others may have set."""
        return self.lr_at(step, group)

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group as the last step set it."""
        return list(self._last_lr)

    def step(self) -> None:
        """Move on by one step; call it after ``optimizer.step()``.

        (PyTorch's deprecated ``epoch`` argument does not exist.)
        """
        self._check_order()
        self._advance(self.last_epoch + 1)

    def _check_order(self) -> None:
        if self.last_epoch == 0 and not self.optimizer._step_called:
            warnings.warn(
                f"{type(self).__name__}.step() was called before optimizer.step(), which skips the "
                "first value of the schedule; call it after",
                UserWarning,
                stacklevel=3,
            )

    def _advance(self, step: int) -> None:
        """Go on to a step from the one before it."""
        groups = self._groups()
        self._set(step, [self._moved(g["lr"], step, index) for index, g in enumerate(groups)])

    def _place(self, step: int) -> None:
        """Go to a step whatever came before: to what this schedule alone gives there."""
        self._set(step, [self.lr_at(step, index) for index in range(len(self._groups()))])

    def _groups(self) -> list[Group]:
        """Return the optimiser's groups; those that were added since get a base rate first."""
        groups = self.optimizer.param_groups
        for group in groups[len(self.base_lrs) :]:
            group.setdefault("initial_lr", group["lr"])
            self.base_lrs.append(group["initial_lr"])
        return groups

    def _set(self, step: int, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self.last_epoch = step
        self._note_lr()

    def _note_lr(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    # -- saving -----------------------------------------------------------------------------

    # Attributes that are no part of the state.
    _unsaved: tuple[str, ...] = ("optimizer",)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as a dictionary of numbers, strings and lists.

        The rate itself is in the optimiser's state: save both. Functions are not saved.
        """
        return {
            key: list(value) if isinstance(value, list) else value
            for key, value in vars(self).items()
            if key not in self._unsaved
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state; the optimiser's own state, with the rate in it, is loaded apart.

        Raises:
            TypeError: if it is no mapping, or an entry is of a wrong kind.
            ValueError: if it is the state of another kind of schedule, or an entry is out of
                range. The schedule is then unchanged.
        """
        self._check_state(state_dict, f"{type(self).__name__}.load_state_dict")
        self._take_state(state_dict)

    def _take_state(self, state_dict: Mapping[str, Any]) -> None:
        for key, value in state_dict.items():
            setattr(self, key, list(value) if isinstance(value, (list, tuple)) else value)

    def _check_state(self, state_dict: Any, who: str) -> None:
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{who}: expected a mapping, got {type(state_dict).__name__}")
        expected = self.state_dict().keys()
        if expected != state_dict.keys():
            raise ValueError(
                f"{who}: missing {sorted(expected - state_dict.keys())}, unknown "
                f"{sorted(map(str, state_dict.keys() - expected))}; was it saved from another "
                "kind of schedule?"
            )
        for key, check in {"last_epoch": integer(0), **self._checks}.items():
            check(who, repr(key), state_dict[key])
        lists = {"base_lrs": _settings.not_negative, "_last_lr": _settings.finite}
        for key, check in {**lists, **self._group_checks}.items():
            if key in expected:
                self._check_list(who, key, state_dict[key], check)

    def _check_list(self, who: str, key: str, values: Any, check: Check) -> None:
        # A group may have been added since the state was saved, or since the last step.
        fewest, most = len(getattr(self, key)), len(self.optimizer.param_groups)
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"{who}: {key!r} must be a list of numbers, got {values!r}")
        if not min(fewest, most) <= len(values) <= most:
            raise ValueError(
                f"{who}: {key!r} must have one number for each of {most} parameter groups, "
                f"got {len(values)}"
            )
        for index, value in enumerate(values):
            check(who, f"{key!r}[{index}]", value)


class Scaling(LRScheduler):
    """A schedule that multiplies the base rate, or its distance from ``floor``, by a factor."""

    floor = 0.0

    def factor_at(self, step: int) -> float:
        """Return what the base rate's distance from the floor is multiplied by at a step."""
        raise NotImplementedError

    def lr_at(self, step: int, group: int = 0) -> float:
        return float(self.floor + (self.base_lrs[group] - self.floor) * self.factor_at(step))

    def _moved(self, lr: float, step: int, group: int) -> float:
        before = self.factor_at(step - 1) if step else 1.0
        after = self.factor_at(step)
        alone = self.lr_at(step - 1, group) if step else self.base_lrs[group]
        if lr == alone:
            return self.lr_at(step, group)  # nobody else changed it: no rounding adds up
        if before == after:
            return lr
        if before == 0:  # up from the floor, where nothing is left to scale
            return lr + self.lr_at(step, group) - self.floor
        return self.floor + (lr - self.floor) * (after / before)


class Decaying(Scaling):
    """A schedule that multiplies by ``gamma`` from time to time."""

    gamma: float

    def count_at(self, step: int) -> int:
        """Return how often the base rate has been multiplied up to a step."""
        raise NotImplementedError

    def factor_at(self, step: int) -> float:
        return float(self.gamma ** self.count_at(step))

    def _moved(self, lr: float, step: int, group: int) -> float:
        # Not the ratio of two powers, which may both be too small for a number.
        more = self.count_at(step) - (self.count_at(step - 1) if step else 0)
        return float(lr * self.gamma**more) if more else lr
