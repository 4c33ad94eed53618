"""Schedules of the learning rate.

A schedule is a function of the step: ``lr_at(step)`` says what the rate is after that many steps,
and changes nothing. ``step()`` moves on by one and writes the rate into the optimiser's groups.
Whether a step is a batch or an epoch is only a matter of where ``step()`` is called; each
docstring names the custom.

Schedules over one optimiser combine by scaling: when another one has changed the rate too, a
schedule multiplies it by the ratio of its own new value to its own old one.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat

import numpy as np

from lucid.optim._optimizer import Optimizer, check_number


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
        TypeError: if ``optimizer`` is none.
        KeyError: if ``last_epoch`` is given but the groups have no ``"initial_lr"``.
    """

    # The schedule sets the rate whatever it was, instead of scaling it.
    absolute = False
    # What the rate tends to; scaling applies to the distance from it.
    floor = 0.0

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        if last_epoch < -1:
            raise ValueError(f"{type(self).__name__}: last_epoch must be at least -1")
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

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the rate of a parameter group after ``step`` steps, by this schedule alone."""
        raise NotImplementedError

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
        """Go from the last step to this one: scale the rates, or set them if nobody else did."""
        for index, group in enumerate(self.optimizer.param_groups):
            if index == len(self.base_lrs):  # a group that was added since
                group.setdefault("initial_lr", group["lr"])
                self.base_lrs.append(group["initial_lr"])
            after = self.lr_at(step, index)
            if self.absolute:
                group["lr"] = after
                continue
            before = (
                self.base_lrs[index] if self.last_epoch < 0 else self.lr_at(self.last_epoch, index)
            )
            group["lr"] = _scaled(group["lr"], before, after, self.floor)
        self.last_epoch = step
        self._note_lr()

    def _note_lr(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _rewind(self) -> None:
        self.last_epoch = -1

    def _place(self, step: int) -> None:
        """Set the rates to what this schedule alone gives at a step, whatever came before."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._rewind()
        self._advance(step)

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
            TypeError: if it is no mapping.
            ValueError: if it is the state of another kind of schedule.
        """
        self._check_state(state_dict)
        for key in self.state_dict():
            value = state_dict[key]
            setattr(self, key, list(value) if isinstance(value, (list, tuple)) else value)

    def _check_state(self, state_dict: Any) -> None:
        who = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{who}: expected a mapping, got {type(state_dict).__name__}")
        expected = self.state_dict().keys()
        if expected != state_dict.keys():
            raise ValueError(
                f"{who}: missing {sorted(expected - state_dict.keys())}, unknown "
                f"{sorted(map(str, state_dict.keys() - expected))}; was it saved from another "
                "kind of schedule?"
            )


def _scaled(lr: float, before: float, after: float, floor: float) -> float:
    """Return ``lr`` after a schedule of its own value went from ``before`` to ``after``."""
    if lr == before or before == floor:
        return after  # exact, where nobody else changed the rate or nothing is left to scale
    return floor + (lr - floor) * (after - floor) / (before - floor)


def _check_count(who: str, name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{who}: {name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{who}: {name} must be at least {least}, got {value}")


def _per_group(who: str, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """Return one value per parameter group."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{who}: expected {count} values of {name}, got {len(value)}")
    return list(value)


# -- one formula each -------------------------------------------------------------------------


class LambdaLR(LRScheduler):
    """The base rate times a function of the step. A step is what the function makes of it.

    As in PyTorch it sets the rate and so overrides other schedules that came before it.

    Args:
        optimizer: whose rate is set.
        lr_lambda: a function from the step to a factor, or one for each group.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if there are not as many functions as groups.
        TypeError: if one cannot be called.
    """

    absolute = True
    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self.lr_lambdas = _per_group("LambdaLR", "lr_lambda", lr_lambda, optimizer)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"LambdaLR: lr_lambda must be a function, got {function!r}")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return float(self.base_lrs[group] * self.lr_lambdas[group](step))


class StepLR(LRScheduler):
    """Multiply by ``gamma`` every ``step_size`` steps. A step is usually an epoch.

    ``base * gamma ** (step // step_size)``

    Args:
        optimizer: whose rate is set.
        step_size: how many steps a rate lasts.
        gamma: the factor.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if ``step_size`` is below 1.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        _check_count("StepLR", "step_size", step_size)
        check_number("StepLR", "gamma", gamma)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return float(self.base_lrs[group] * self.gamma ** (step // self.step_size))


class MultiStepLR(LRScheduler):
    """Multiply by ``gamma`` at each milestone. A step is usually an epoch.

    ``base * gamma ** (number of milestones <= step)``

    Args:
        optimizer: whose rate is set.
        milestones: steps; one that is named twice counts twice.
        gamma: the factor.
        last_epoch: the last step that was done.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        for milestone in self.milestones:
            _check_count("MultiStepLR", "a milestone", milestone, least=0)
        check_number("MultiStepLR", "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return float(self.base_lrs[group] * self.gamma ** bisect_right(self.milestones, step))


class ExponentialLR(LRScheduler):
    """Multiply by ``gamma`` at every step. A step is usually an epoch.

    ``base * gamma ** step``

    Args:
        optimizer: whose rate is set.
        gamma: the factor.
        last_epoch: the last step that was done.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        check_number("ExponentialLR", "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return float(self.base_lrs[group] * self.gamma**step)


class CosineAnnealingLR(LRScheduler):
    r"""Half a cosine from the base rate down to ``eta_min``. A step is an epoch or a batch.

    .. math::
        \eta_{min} + (base - \eta_{min}) (1 + \cos(\pi\, step / T_{max})) / 2

    (Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983, without restarts.) Beyond
    ``T_max`` it rises again, as in PyTorch.

    Args:
        optimizer: whose rate is set.
        T_max: after how many steps ``eta_min`` is reached.
        eta_min: the smallest rate.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if ``T_max`` is below 1.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _check_count("CosineAnnealingLR", "T_max", T_max)
        check_number("CosineAnnealingLR", "eta_min", eta_min)
        self.T_max = T_max
        self.eta_min = self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return cosine(self.base_lrs[group], self.eta_min, step / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines from the base rate to ``eta_min``, one after the other (SGDR).

    Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983. A step is usually an epoch;
    ``step(epoch + batch / batches)`` moves within one.

    Args:
        optimizer: whose rate is set; other schedules are overridden, as in PyTorch.
        T_0: the length of the first cosine, in steps.
        T_mult: each is longer than the one before by this factor.
        eta_min: the smallest rate.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if ``T_0`` or ``T_mult`` is below 1.
    """

    absolute = True

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        _check_count("CosineAnnealingWarmRestarts", "T_0", T_0)
        _check_count("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        check_number("CosineAnnealingWarmRestarts", "eta_min", eta_min)
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: float, group: int = 0) -> float:  # noqa: D102
        length: float = self.T_0
        if self.T_mult == 1:
            step = step % length
        while step >= length:
            step -= length
            length *= self.T_mult
        return cosine(self.base_lrs[group], self.eta_min, step / length)

    def step(self, epoch: float | None = None) -> None:
        """Move on by one step, or to the (fractional) step ``epoch``.

        Raises:
            ValueError: if ``epoch`` is negative.
        """
        if epoch is None:
            super().step()
            return
        check_number("CosineAnnealingWarmRestarts", "epoch", epoch)
        for index, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.lr_at(epoch, index)
        self.last_epoch = math.floor(epoch)
        self._note_lr()


class LinearLR(LRScheduler):
    """A line from ``start_factor`` to ``end_factor``: a warm-up. A step is usually a batch.

    ``base * (start_factor + (end_factor - start_factor) * min(step / total_iters, 1))``

    Args:
        optimizer: whose rate is set.
        start_factor: the factor at the first step, above 0 and at most 1.
        end_factor: the factor from step ``total_iters`` on, between 0 and 1.
        total_iters: the length of the line, in steps.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if a factor is out of range, or ``total_iters`` below 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(
                f"LinearLR: start_factor must be above 0 and at most 1, got {start_factor}"
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be between 0 and 1, got {end_factor}")
        _check_count("LinearLR", "total_iters", total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        done = min(step, self.total_iters) / self.total_iters
        return self.base_lrs[group] * linear(self.start_factor, self.end_factor, done)


class ConstantLR(LRScheduler):
    """``factor`` times the base rate until step ``total_iters``, then all of it. A step is either.

    Args:
        optimizer: whose rate is set.
        factor: between 0 and 1.
        total_iters: how many steps the factor lasts.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if ``factor`` is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor must be between 0 and 1, got {factor}")
        _check_count("ConstantLR", "total_iters", total_iters, least=0)
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return self.base_lrs[group] * (self.factor if step < self.total_iters else 1.0)


class PolynomialLR(LRScheduler):
    """A power of the remaining part of the run, down to 0. A step is usually a batch.

    ``base * (1 - min(step / total_iters, 1)) ** power``

    Args:
        optimizer: whose rate is set.
        total_iters: the length of the run, in steps.
        power: 1 is a straight line.
        last_epoch: the last step that was done.

    Raises:
        ValueError: if ``total_iters`` is below 1 or ``power`` negative.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        _check_count("PolynomialLR", "total_iters", total_iters)
        check_number("PolynomialLR", "power", power)
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        left = 1 - min(step, self.total_iters) / self.total_iters
        return float(self.base_lrs[group] * left**self.power)


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
        ValueError: if a setting is out of range, the length is not given, or the optimiser has no
            momentum to cycle; in ``step`` if the run is longer than ``total_steps``.
    """

    absolute = True

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
            _check_count(who, "epochs", epochs)
            _check_count(who, "steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _check_count(who, "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"{who}: pct_start must be between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"{who}: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        check_number(who, "div_factor", div_factor, positive=True)
        check_number(who, "final_div_factor", final_div_factor, positive=True)
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        self.cycle_momentum = cycle_momentum
        self.max_lrs = _per_group(who, "max_lr", max_lr, optimizer)
        self.max_momentums = _per_group(who, "max_momentum", max_momentum, optimizer)
        self.base_momentums = _per_group(who, "base_momentum", base_momentum, optimizer)
        for rate in self.max_lrs:
            check_number(who, "max_lr", rate)
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

    def _advance(self, step: int) -> None:
        if len(self.optimizer.param_groups) != len(self.max_lrs):
            raise ValueError(
                f"OneCycleLR: made for {len(self.max_lrs)} parameter groups, the optimizer has "
                f"{len(self.optimizer.param_groups)} now"
            )
        super()._advance(step)
        if not self.cycle_momentum:
            return
        for index, group in enumerate(self.optimizer.param_groups):
            momentum = self.momentum_at(step, index)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


def linear(start: float, end: float, done: float) -> float:
    """Return the point of a straight line from ``start`` to ``end`` at the part ``done``.

    Args:
        start: the value at 0.
        end: the value at 1.
        done: between 0 and 1.
    """
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """Return the point of half a cosine from ``start`` to ``end`` at the part ``done``.

    Args:
        start: the value at 0.
        end: the value at 1.
        done: between 0 and 1.
    """
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


# -- combinations -----------------------------------------------------------------------------


class _Combination(LRScheduler):
    """Several schedules of one optimiser."""

    _unsaved = ("optimizer", "_schedulers")
    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Iterable[LRScheduler], optimizer: Optimizer | None) -> None:
        who = type(self).__name__
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

    def _rewind(self) -> None:
        super()._rewind()
        for scheduler in self._schedulers:
            scheduler._rewind()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with those of the schedules in it; save the optimiser's too."""
        states = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**super().state_dict(), "_schedulers": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state, and those of the schedules in it.

        Raises:
            TypeError: if it is no mapping.
            ValueError: if it is the state of other schedules. Nothing is then changed.
        """
        self._check_state(state_dict)
        states = state_dict["_schedulers"]
        for scheduler, state in zip(self._schedulers, states):
            scheduler.load_state_dict(state)
        for key in super().state_dict():
            value = state_dict[key]
            setattr(self, key, list(value) if isinstance(value, (list, tuple)) else value)

    def _check_state(self, state_dict: Any) -> None:
        super()._check_state(state_dict)
        states = state_dict["_schedulers"]
        if not isinstance(states, (list, tuple)) or len(states) != len(self._schedulers):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: expected the states of "
                f"{len(self._schedulers)} schedules"
            )
        for scheduler, state in zip(self._schedulers, states):
            scheduler._check_state(state)


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
        self._take(schedulers, optimizer)
        self.last_epoch = self._schedulers[0].last_epoch
        self._note_lr()

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        rate = self.base_lrs[group]
        for scheduler in self._schedulers:
            alone = scheduler.lr_at(step, group)
            base = scheduler.base_lrs[group]
            rate = alone if scheduler.absolute else _scaled(rate, base, alone, scheduler.floor)
        return rate

    def _advance(self, step: int) -> None:
        for scheduler in self._schedulers:
            scheduler._advance(scheduler.last_epoch + step - self.last_epoch)
        self.last_epoch = step
        self._note_lr()


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
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self._take(schedulers, optimizer)
        if len(milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected {len(self._schedulers) - 1} milestones for "
                f"{len(self._schedulers)} schedules, got {len(milestones)}"
            )
        for milestone in milestones:
            _check_count("SequentialLR", "a milestone", milestone)
        if list(milestones) != sorted(milestones):
            raise ValueError(f"SequentialLR: milestones must rise, got {list(milestones)}")
        self._milestones = list(milestones)
        self.last_epoch = -1
        self._place(last_epoch + 1)

    def _current(self, step: int) -> tuple[LRScheduler, int]:
        """Return the schedule that holds at a step, and its own count of it."""
        index = bisect_right(self._milestones, step)
        return self._schedulers[index], step - ([0, *self._milestones][index])

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        scheduler, own_step = self._current(step)
        return scheduler.lr_at(own_step, group)

    def _advance(self, step: int) -> None:
        scheduler, own_step = self._current(step)
        if self.last_epoch >= 0 and own_step > 0:
            scheduler._advance(own_step)
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

    Raises:
        ValueError: if a setting is out of range.
    """

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
        who = "ReduceLROnPlateau"
        self._attach(optimizer)
        check_number(who, "factor", factor, below=1)
        if mode not in ("min", "max"):
            raise ValueError(f"{who}: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"{who}: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        _check_count(who, "patience", patience, least=0)
        _check_count(who, "cooldown", cooldown, least=0)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = _per_group(who, "min_lr", min_lr, optimizer)
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
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
        value = float(metrics)
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
