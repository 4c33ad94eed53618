"""Schedules of the learning rate.

A schedule is a function of the step: ``lr_at(step)`` says what the rate is after that many steps,
and changes nothing. ``step()`` moves on by one and writes the rate into the optimiser's groups.
Whether a step is a batch or an epoch is only a matter of where ``step()`` is called; each
docstring names the custom.

Schedules over one optimiser combine as in PyTorch: what counts is what one step makes of the rate
that it finds. Most multiply it, by the ratio of their own new factor to their own old one; some set
the rate whatever it was.

Here is one formula a class; ``_schedule.py`` has what all of them are, ``_combined_schedules.py``
how several follow one another, ``_reduce_on_plateau.py`` the one that a metric decides.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

from lucid.optim import _settings
from lucid.optim._combined_schedules import ChainedScheduler as ChainedScheduler
from lucid.optim._combined_schedules import SequentialLR as SequentialLR
from lucid.optim._optimizer import Group, Optimizer
from lucid.optim._reduce_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau
from lucid.optim._schedule import Decaying as _Decaying
from lucid.optim._schedule import LRScheduler as LRScheduler
from lucid.optim._schedule import Scaling as _Scaling
from lucid.optim._settings import integer


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
        return self._times(self.base_lrs[group], step, group)

    def _times(self, lr: float, step: int, group: int) -> float:
        factor = self.lr_lambdas[group](step)
        try:
            return float(lr * factor)
        except TypeError:
            who = type(self).__name__
            raise TypeError(f"{who}: lr_lambda must return a number, got {factor!r}") from None


class MultiplicativeLR(LambdaLR):
    """The rate times a function of the step, again at each step from the first one on.

    Args:
        optimizer: whose rate is set.
        lr_lambda: a function from the step to a factor, or one for each group.
        last_epoch: the last step that was done.
    """

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        lr = self.base_lrs[group]
        for past in range(1, step + 1):
            lr = self._times(lr, past, group)
        return lr

    def _moved(self, lr: float, step: int, group: int) -> float:
        return self._times(lr, step, group) if step else lr

    def _place(self, step: int) -> None:
        # As in PyTorch from the rate that it finds: in the middle of a run that is the right one.
        rates = [group["lr"] for group in self._groups()]
        again = (
            [self._times(lr, 0, index) for index, lr in enumerate(rates)] if step == 0 else rates
        )
        self._set(step, again)


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


class _Cycling(LRScheduler):
    """A schedule between rates of its own for each group, with the momentum going the other way."""

    _group_checks: ClassVar = {
        "max_lrs": _settings.not_negative,
        "max_momentums": _settings.not_negative,
        "base_momentums": _settings.not_negative,
    }
    cycle_momentum: bool
    max_lrs: list[float]

    def _take_groups(self, max_lr: Any, base_momentum: Any, max_momentum: Any) -> None:
        self.max_lrs = self._per_group("max_lr", max_lr)
        self.max_momentums = self._per_group("max_momentum", max_momentum)
        self.base_momentums = self._per_group("base_momentum", base_momentum)
        if self.cycle_momentum and not {"momentum", "betas"} & self.optimizer.defaults.keys():
            raise ValueError(
                f"{type(self).__name__}: {type(self.optimizer).__name__} has neither momentum nor "
                "betas; pass cycle_momentum=False"
            )

    def momentum_at(self, step: int, group: int = 0) -> float:
        """Return the momentum of a parameter group after ``step`` steps."""
        raise NotImplementedError

    def _groups(self) -> list[Group]:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.max_lrs):
            raise ValueError(
                f"{type(self).__name__}: made for {len(self.max_lrs)} parameter groups, the "
                f"optimizer has {len(groups)} now"
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


class OneCycleLR(_Cycling):
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
        self._take_groups(max_lr, base_momentum, max_momentum)
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

    def momentum_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        high, low = self.max_momentums[group], self.base_momentums[group]
        return self._anneal(
            step, [high, low, high, high] if self.three_phase else [high, low, high]
        )


class CyclicLR(_Cycling):
    """Up from ``base_lr`` to ``max_lr`` and down, again and again. A step is a batch.

    Smith, 2017, https://arxiv.org/abs/1506.01186.

    Args:
        optimizer: whose rate and momentum are set, whatever they were.
        base_lr: the lowest rate, or one for each group.
        max_lr: the highest rate, or one for each group.
        step_size_up: the batches of a way up.
        step_size_down: those of a way down; as many if left out.
        mode: ``"triangular"``; ``"triangular2"`` halves the height with each cycle, and
            ``"exp_range"`` multiplies it by ``gamma`` with each batch.
        gamma: the factor of ``"exp_range"``.
        scale_fn: a function to a factor of the height, in place of ``mode``.
        scale_mode: whether ``scale_fn`` is given the ``"cycle"``, counted from 1, or the number of
            ``"iterations"``.
        cycle_momentum: move the optimiser's ``momentum``, or the first of its ``betas``, too.
        base_momentum: the lowest momentum, or one for each group.
        max_momentum: the highest, or one for each group.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if the optimiser has no momentum to cycle.
    """

    _checks: ClassVar = {
        "step_size_up": _settings.positive,
        "step_size_down": _settings.positive,
        "mode": _settings.one_of("triangular", "triangular2", "exp_range"),
        "gamma": _settings.not_negative,
        "scale_mode": _settings.one_of("cycle", "iterations"),
        "cycle_momentum": _settings.flag,
    }
    _group_checks: ClassVar = {**_Cycling._group_checks, "base_lrs": _settings.not_negative}
    _unsaved = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self.step_size_up = step_size_up
        self.step_size_down = step_size_up if step_size_down is None else step_size_down
        self.mode = mode
        self.gamma = gamma
        self.scale_fn = scale_fn
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        self._check_settings()
        self._take_groups(max_lr, base_momentum, max_momentum)
        lowest = self._per_group("base_lr", base_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, lowest):
                group["lr"] = rate
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest  # another schedule may have noted another one

    def _height(self, step: int) -> float:
        """Return how far up a step is, of the first cycle's height."""
        length = self.step_size_up + self.step_size_down
        cycle = math.floor(1 + step / length)
        done, rise = 1 + step / length - cycle, self.step_size_up / length
        height = done / rise if done <= rise else (done - 1) / (rise - 1)
        if self.scale_fn is not None:
            return height * self.scale_fn(cycle if self.scale_mode == "cycle" else step)
        scales = {"triangular2": 0.5 ** (cycle - 1), "exp_range": self.gamma**step}
        return height * scales.get(self.mode, 1.0)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        low = self.base_lrs[group]
        return low + (self.max_lrs[group] - low) * self._height(step)

    def momentum_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        high = self.max_momentums[group]
        return high - (high - self.base_momentums[group]) * self._height(step)


def linear(start: float, end: float, done: float) -> float:
    """Return the point of a straight line from ``start`` (``done`` is 0) to ``end`` (1)."""
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """Return the point of half a cosine from ``start`` (``done`` is 0) to ``end`` (1)."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
