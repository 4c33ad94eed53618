"""Schedules of the learning rate.

A schedule is a function of the step: ``lr_at(step)`` says what the rate is after that many steps,
and changes nothing. ``step()`` moves on by one and writes the rate into the optimiser's groups.
Whether a step is a batch or an epoch is only a matter of where ``step()`` is called; each
docstring names the custom.

Schedules over one optimiser combine as in PyTorch: what counts is what one step makes of the rate
that it finds. Most multiply it, by the ratio of their own new factor to their own old one; some set
the rate whatever it was.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, SupportsFloat

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


class _Scaling(LRScheduler):
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


class _Decaying(_Scaling):
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


# -- one formula each -------------------------------------------------------------------------


class LambdaLR(LRScheduler):
    """The base rate times a function of the step. A step is what the function makes of it.

    As in PyTorch it sets the rate and so overrides other schedules that came before it.

    Args:
        optimizer: whose rate is set.
        lr_lambda: a function from the step to a factor, or one for each group.
        last_epoch: the last step that was done.

    """

    _group_checks: ClassVar = {"lr_lambdas": _settings.function}
    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self.lr_lambdas = self._per_group("lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        factor = self.lr_lambdas[group](step)
        try:
            return float(self.base_lrs[group] * factor)
        except TypeError:
            raise TypeError(f"LambdaLR: lr_lambda must return a number, got {factor!r}") from None


class StepLR(_Decaying):
    """Multiply by ``gamma`` every ``step_size`` steps. A step is usually an epoch.

    ``base * gamma ** (step // step_size)``

    Args:
        optimizer: whose rate is set.
        step_size: how many steps a rate lasts, at least 1.
        gamma: the factor.
        last_epoch: the last step that was done.

    Example:
        >>> optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
        >>> schedule = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(4):
        ...     print(schedule.get_last_lr())
        ...     optimizer.step()  # after an epoch of them
        ...     schedule.step()
        [1.0]
        [1.0]
        [0.5]
        [0.5]
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """

    _checks: ClassVar = {
        "step_size": integer(),
        "gamma": _settings.not_negative,
    }

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def count_at(self, step: int) -> int:  # noqa: D102
        return step // self.step_size


class MultiStepLR(_Decaying):
    """Multiply by ``gamma`` at each milestone. A step is usually an epoch.

    ``base * gamma ** (number of milestones <= step)``

    Args:
        optimizer: whose rate is set.
        milestones: steps; one that is named twice counts twice.
        gamma: the factor.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {
        "milestones": _settings.milestones,
        "gamma": _settings.not_negative,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones: Any = list(milestones) if isinstance(milestones, Iterable) else milestones
        self.gamma = gamma
        self._check_settings()
        self.milestones.sort()
        super().__init__(optimizer, last_epoch)

    def count_at(self, step: int) -> int:  # noqa: D102
        return bisect_right(self.milestones, step)


class ExponentialLR(_Decaying):
    """Multiply by ``gamma`` at every step. A step is usually an epoch.

    ``base * gamma ** step``

    Args:
        optimizer: whose rate is set.
        gamma: the factor.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {"gamma": _settings.not_negative}

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def count_at(self, step: int) -> int:  # noqa: D102
        return step


class CosineAnnealingLR(_Scaling):
    r"""Half a cosine from the base rate down to ``eta_min``. A step is an epoch or a batch.

    .. math::
        \eta_{min} + (base - \eta_{min}) (1 + \cos(\pi\, step / T_{max})) / 2

    (Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983, without restarts.) Beyond
    ``T_max`` it rises again, as in PyTorch.

    Args:
        optimizer: whose rate is set.
        T_max: after how many steps ``eta_min`` is reached, at least 1.
        eta_min: the smallest rate.
        last_epoch: the last step that was done.

    Example:
        >>> optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
        >>> schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
        >>> rates = []
        >>> for step in range(5):
        ...     rates += schedule.get_last_lr()
        ...     optimizer.step()
        ...     schedule.step()
        >>> [round(rate, 3) for rate in rates]
        [1.0, 0.854, 0.5, 0.146, 0.0]
        >>> schedule.last_epoch
        5
    """

    _checks: ClassVar = {
        "T_max": integer(),
        "eta_min": _settings.not_negative,
        "floor": _settings.not_negative,
    }

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def factor_at(self, step: int) -> float:  # noqa: D102
        return cosine(1.0, 0.0, step / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines from the base rate to ``eta_min``, one after the other (SGDR).

    Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983. A step is usually an epoch;
    ``step(epoch + batch / batches)`` moves within one.

    Args:
        optimizer: whose rate is set; other schedules are overridden, as in PyTorch.
        T_0: the length of the first cosine, in steps, at least 1.
        T_mult: each is longer than the one before by this whole factor, at least 1.
        eta_min: the smallest rate.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {
        "T_0": integer(),
        "T_mult": integer(),
        "eta_min": _settings.not_negative,
        "fraction": _settings.below_one,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.fraction = 0.0  # of a step, by which ``step(epoch)`` went beyond a whole one
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: float, group: int = 0) -> float:  # noqa: D102
        length: float = self.T_0
        if self.T_mult == 1:
            step = step % length
        while step >= length:
            step -= length
            length *= self.T_mult
        return cosine(self.base_lrs[group], self.eta_min, step / length)

    def _moved(self, lr: float, step: int, group: int) -> float:
        return self.lr_at(step + self.fraction, group)

    def _place(self, step: int) -> None:
        self.fraction = 0.0
        super()._place(step)

    def step(self, epoch: float | None = None) -> None:
        """Move on by one step, or to the (fractional) step ``epoch``.

        Steps after a fractional one keep its fraction, as in PyTorch.

        Raises:
            ValueError: if ``epoch`` is negative.
        """
        if epoch is None:
            super().step()
            return
        _settings.not_negative("CosineAnnealingWarmRestarts", "epoch", epoch)
        whole = math.floor(epoch)
        self.fraction = float(epoch - whole)
        self._advance(whole)


class LinearLR(_Scaling):
    """A line from ``start_factor`` to ``end_factor``: a warm-up. A step is usually a batch.

    ``base * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1))``

    Args:
        optimizer: whose rate is set.
        start_factor: the factor at the first step, above 0 and at most 1.
        end_factor: the factor from step ``total_iters`` on, between 0 and 1.
        total_iters: the length of the line, in steps, at least 1.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {
        "start_factor": _settings.positive_part,
        "end_factor": _settings.part,
        "total_iters": integer(),
    }

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, step: int) -> float:  # noqa: D102
        done = min(step, self.total_iters) / self.total_iters
        return linear(self.start_factor, self.end_factor, done)


class ConstantLR(_Scaling):
    """``factor`` times the base rate until step ``total_iters``, then all of it.

    A step is an epoch or a batch.

    Args:
        optimizer: whose rate is set.
        factor: between 0 and 1.
        total_iters: how many steps the factor lasts.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {
        "factor": _settings.part,
        "total_iters": integer(0),
    }

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, step: int) -> float:  # noqa: D102
        return self.factor if step < self.total_iters else 1.0


class PolynomialLR(_Scaling):
    """A power of the remaining part of the run, down to 0. A step is usually a batch.

    ``base * (1 - min(step / total_iters, 1)) ** power``

    Args:
        optimizer: whose rate is set.
        total_iters: the length of the run, in steps, at least 1.
        power: 1 is a straight line; not negative.
        last_epoch: the last step that was done.
    """

    _checks: ClassVar = {
        "total_iters": integer(),
        "power": _settings.not_negative,
    }

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def factor_at(self, step: int) -> float:  # noqa: D102
        left = 1 - min(step, self.total_iters) / self.total_iters
        return float(left**self.power)


class OneCycleLR(LRScheduler):
    """Up to ``max_lr`` and down again, with the momentum going the other way. A step is a batch.

    Smith & Topin, 2018, https://arxiv.org/abs/1708.07120. The rate goes from ``max_lr /
    div_factor`` up to ``max_lr`` and down to ``max_lr / div_factor / final_div_factor``; with
    ``three_phase`` it is symmetric first and annihilated then. The optimiser's ``momentum``, or
    the first of its ``betas``, goes from ``max_momentum`` to ``base_momentum`` and back.

    Args:
        optimizer: whose rate and momentum are set, whatever they were.
        max_lr: the highest rate, or one for each group.
        total_steps: the length of the run in batches; or else
        epochs: the length in epochs and
        steps_per_epoch: the batches of an epoch.
        pct_start: the part of the run that goes up, between 0 and 1.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: change the momentum too.
        base_momentum: the lowest momentum, or one for each group.
        max_momentum: the highest, or one for each group.
        div_factor: how much smaller the first rate is than the highest.
        final_div_factor: how much smaller the last rate is than the first.
        three_phase: go down to the first rate before going to the last.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if the length is not given, or the optimiser has no momentum to cycle; in
            ``step`` if the run is longer than ``total_steps``.
    """

    _checks: ClassVar = {
        "total_steps": integer(),
        "pct_start": _settings.part,
        "anneal_strategy": _settings.one_of("cos", "linear"),
        "div_factor": _settings.positive,
        "final_div_factor": _settings.positive,
        "three_phase": _settings.flag,
        "cycle_momentum": _settings.flag,
    }
    _group_checks: ClassVar = {
        "max_lrs": _settings.not_negative,
        "max_momentums": _settings.not_negative,
        "base_momentums": _settings.not_negative,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        who = "OneCycleLR"
        self._attach(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(f"{who}: give total_steps, or both epochs and steps_per_epoch")
            integer()(who, "epochs", epochs)
            integer()(who, "steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        self.cycle_momentum = cycle_momentum
        self._check_settings()
        self.max_lrs = self._per_group("max_lr", max_lr)
        self.max_momentums = self._per_group("max_momentum", max_momentum)
        self.base_momentums = self._per_group("base_momentum", base_momentum)
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(
                f"{who}: {type(optimizer).__name__} has neither momentum nor betas; "
                "pass cycle_momentum=False"
            )
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, self.max_lrs):
                group["initial_lr"] = rate / div_factor
        super().__init__(optimizer, last_epoch)

    def _anneal(self, step: int, values: Sequence[float]) -> float:
        """Return the value at a step, given those where the phases begin and end."""
        rise = self.pct_start * self.total_steps
        ends = [rise - 1, self.total_steps - 1]
        if self.three_phase:
            ends.insert(1, 2 * rise - 2)
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {step} of a run of {self.total_steps} steps; give the whole "
                "length as total_steps"
            )
        start = 0.0
        phase = 0
        while phase < len(ends) - 1 and step > ends[phase]:
            start = ends[phase]
            phase += 1
        done = (step - start) / (ends[phase] - start) if ends[phase] != start else 1.0
        between = cosine if self.anneal_strategy == "cos" else linear
        return between(values[phase], values[phase + 1], done)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        high = self.max_lrs[group]
        low = high / self.div_factor
        last = low / self.final_div_factor
        return self._anneal(step, [low, high, low, last] if self.three_phase else [low, high, last])

    def momentum_at(self, step: int, group: int = 0) -> float:
        """Return the momentum of a parameter group after ``step`` steps."""
        high, low = self.max_momentums[group], self.base_momentums[group]
        return self._anneal(
            step, [high, low, high, high] if self.three_phase else [high, low, high]
        )

    def _groups(self) -> list[Group]:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.max_lrs):
            raise ValueError(
                f"OneCycleLR: made for {len(self.max_lrs)} parameter groups, the optimizer has "
                f"{len(groups)} now"
            )
        return super()._groups()

    def _set(self, step: int, rates: list[float]) -> None:
        super()._set(step, rates)
        if not self.cycle_momentum:
            return
        for index, group in enumerate(self.optimizer.param_groups):
            momentum = self.momentum_at(step, index)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


def linear(start: float, end: float, done: float) -> float:
    """Return the point of a straight line from ``start`` (``done`` is 0) to ``end`` (1)."""
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """Return the point of half a cosine from ``start`` (``done`` is 0) to ``end`` (1)."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


# -- combinations -----------------------------------------------------------------------------


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

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
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
        except (TypeError, ValueError):
            raise TypeError(
                f"ReduceLROnPlateau: metrics must be a number, got {metrics!r}"
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
