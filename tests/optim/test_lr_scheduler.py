"""What schedules promise besides their formulas."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lucid.autograd import Tensor
from lucid.optim import SGD, Adagrad, Adam, Optimizer
from lucid.optim import lr_scheduler as lrs
from lucid.optim.swa_utils import SWALR


def sgd(lr: float = 0.1, **options: Any) -> SGD:
    return SGD([Tensor([1.0], requires_grad=True)], lr, **options)


MAKERS: dict[str, Callable[[Optimizer], lrs.LRScheduler]] = {
    "lambda": lambda o: lrs.LambdaLR(o, lambda step: 0.5**step),
    "multiplicative": lambda o: lrs.MultiplicativeLR(o, lambda step: 1 - 0.1 / step),
    "cyclic": lambda o: lrs.CyclicLR(o, 0.1, 0.5, 3, 4, "triangular2"),
    "averaged": lambda o: SWALR(o, 0.05, 4),
    "step": lambda o: lrs.StepLR(o, 3),
    "multi": lambda o: lrs.MultiStepLR(o, [2, 5]),
    "exponential": lambda o: lrs.ExponentialLR(o, 0.9),
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 10, 0.01),
    "restarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 4, 2),
    "linear": lambda o: lrs.LinearLR(o, 0.1),
    "constant": lambda o: lrs.ConstantLR(o),
    "polynomial": lambda o: lrs.PolynomialLR(o, 10, 2),
    "one cycle": lambda o: lrs.OneCycleLR(o, 0.5, 12),
    "chained": lambda o: lrs.ChainedScheduler([lrs.LinearLR(o, 0.1), lrs.StepLR(o, 3)]),
    "sequential": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, 0.1), lrs.CosineAnnealingLR(o, 6)], [5]
    ),
    "nested": lambda o: lrs.SequentialLR(
        o,
        [
            lrs.ConstantLR(o, 0.5, 2),
            lrs.ChainedScheduler([lrs.StepLR(o, 2), lrs.CosineAnnealingLR(o, 9)]),
        ],
        [2],
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_lr_at_says_beforehand_what_step_will_set(name: str) -> None:
    optimizer = sgd(momentum=0.9)
    scheduler = MAKERS[name](optimizer)
    optimizer.step()
    expected = [scheduler.lr_at(step) for step in range(11)]
    for rate in expected:
        assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        np.testing.assert_allclose(scheduler.get_last_lr(), [rate], rtol=1e-12, atol=1e-15)
        scheduler.step()


@pytest.mark.parametrize("name", MAKERS)
def test_goes_on_from_a_state_that_is_plain_json(name: str) -> None:
    def run(optimizer: Optimizer, scheduler: lrs.LRScheduler, steps: int) -> list[Any]:
        seen = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"]))
        return seen

    optimizer = sgd(momentum=0.9)
    scheduler = MAKERS[name](optimizer)
    run(optimizer, scheduler, 4)
    saved = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
    expected = run(optimizer, scheduler, 7)

    other = sgd(momentum=0.9)
    resumed = MAKERS[name](other)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert run(other, resumed, 7) == expected


@pytest.mark.parametrize("last_epoch", [0, 5, 8])
def test_last_epoch_begins_in_the_middle(last_epoch: int) -> None:
    def resumed() -> SGD:
        optimizer = sgd()
        optimizer.param_groups[0].update(initial_lr=0.1, lr=123.0)
        return optimizer

    step = last_epoch + 1
    for fresh, again in (
        (lrs.StepLR(sgd(), 3), lrs.StepLR(resumed(), 3, last_epoch=last_epoch)),
        (lrs.ExponentialLR(sgd(), 0.9), lrs.ExponentialLR(resumed(), 0.9, last_epoch)),
        (lrs.LambdaLR(sgd(), float), lrs.LambdaLR(resumed(), float, last_epoch)),
    ):
        assert again.last_epoch == step
        assert again.get_last_lr() == [fresh.lr_at(step)]

    o = sgd()
    parts: list[lrs.LRScheduler] = [lrs.LinearLR(o, 0.1), lrs.CosineAnnealingLR(o, 6)]
    sequence = lrs.SequentialLR(o, parts, [5], last_epoch)
    assert sequence.last_epoch == step
    assert sequence.get_last_lr() == [sequence.lr_at(step)]
    o.step()
    sequence.step()
    np.testing.assert_allclose(sequence.get_last_lr(), [sequence.lr_at(step + 1)])


def test_a_metric_schedule_goes_on_from_its_state() -> None:
    optimizer = sgd()
    plateau = lrs.ReduceLROnPlateau(optimizer, patience=2)
    plateau.step(1.0)
    plateau.step(2.0)
    other = lrs.ReduceLROnPlateau(sgd(), patience=2)
    other.load_state_dict(plateau.state_dict())
    for scheduler in (plateau, other):
        scheduler.step(2.0)
        scheduler.step(2.0)
        np.testing.assert_allclose(scheduler.get_last_lr(), [0.01])


def test_a_group_that_is_added_later_is_scaled_too() -> None:
    optimizer = sgd()
    scheduler = lrs.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    optimizer.add_param_group({"params": [Tensor([1.0])], "lr": 8.0})
    scheduler.step()
    np.testing.assert_allclose(scheduler.get_last_lr(), [0.025, 4.0])


def test_one_cycle_moves_the_momentum_the_other_way() -> None:
    optimizer = Adam([Tensor([1.0], requires_grad=True)], betas=(0.9, 0.98))
    scheduler = lrs.OneCycleLR(optimizer, 1.0, 100)
    optimizer.step()
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.98)
    for _ in range(29):
        scheduler.step()
    np.testing.assert_allclose(optimizer.param_groups[0]["lr"], 1.0)
    np.testing.assert_allclose(optimizer.param_groups[0]["betas"], (0.85, 0.98))
    assert scheduler.momentum_at(0) == 0.95


def test_warns_when_stepped_before_the_optimizer() -> None:
    scheduler = lrs.StepLR(sgd(), 3)
    with pytest.warns(UserWarning, match=r"before optimizer\.step\(\)"):
        scheduler.step()


def test_bad_arguments() -> None:
    o = sgd()
    with pytest.raises(TypeError, match="StepLR: expected an Optimizer, got list"):
        lrs.StepLR([], 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step_size must be at least 1, got 0"):
        lrs.StepLR(o, 0)
    with pytest.raises(TypeError, match=r"step_size must be an integer, got 1.5"):
        lrs.StepLR(o, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gamma must be a number"):
        lrs.ExponentialLR(o, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a milestone must be an integer, got 0.5"):
        lrs.MultiStepLR(o, [0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="T_max must be at least 1"):
        lrs.CosineAnnealingLR(o, 0)
    with pytest.raises(ValueError, match="T_0 must be at least 1"):
        lrs.CosineAnnealingWarmRestarts(o, 0)
    with pytest.raises(ValueError, match="start_factor must be above 0 and at most 1, got 0"):
        lrs.LinearLR(o, 0)
    with pytest.raises(ValueError, match="end_factor must be between 0 and 1, got 2"):
        lrs.LinearLR(o, 1, 2)
    with pytest.raises(ValueError, match="factor must be between 0 and 1, got -1"):
        lrs.ConstantLR(o, -1)
    with pytest.raises(ValueError, match="power must be at least 0"):
        lrs.PolynomialLR(o, power=-1)
    with pytest.raises(ValueError, match="expected 1 values of lr_lambda, got 2"):
        lrs.LambdaLR(o, [abs, abs])
    with pytest.raises(TypeError, match="lr_lambda must be a function, got 3"):
        lrs.LambdaLR(o, 3)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="group 0 has no 'initial_lr'"):
        lrs.StepLR(sgd(), 3, last_epoch=4)
    with pytest.raises(ValueError, match="last_epoch must be at least -1"):
        lrs.StepLR(o, 3, last_epoch=-2)
    with pytest.raises(ValueError, match=r"last_epoch must be below 2\*\*63, got 1000"):
        lrs.StepLR(o, 3, last_epoch=10**400)


def test_bad_cycles() -> None:
    o = sgd(momentum=0.9)
    with pytest.raises(ValueError, match="give total_steps, or both epochs and steps_per_epoch"):
        lrs.OneCycleLR(o, 1.0, epochs=3)
    with pytest.raises(ValueError, match="total_steps must be at least 1"):
        lrs.OneCycleLR(o, 1.0, 0)
    with pytest.raises(ValueError, match="pct_start must be between 0 and 1, got 2"):
        lrs.OneCycleLR(o, 1.0, 10, pct_start=2)
    with pytest.raises(ValueError, match="anneal_strategy must be 'cos' or 'linear', got 'sin'"):
        lrs.OneCycleLR(o, 1.0, 10, anneal_strategy="sin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 1 values of max_lr, got 2"):
        lrs.OneCycleLR(o, [1.0, 2.0], 10)
    with pytest.raises(ValueError, match="div_factor must be above 0"):
        lrs.OneCycleLR(o, 1.0, 10, div_factor=0)
    with pytest.raises(ValueError, match="Adagrad has neither momentum nor betas"):
        lrs.OneCycleLR(Adagrad([Tensor([1.0])]), 1.0, 10)
    scheduler = lrs.OneCycleLR(o, 1.0, 3)
    o.step()
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="step 4 of a run of 3 steps"):
        scheduler.step()
    o.add_param_group({"params": [Tensor([1.0])]})
    with pytest.raises(ValueError, match="made for 1 parameter groups, the optimizer has 2"):
        scheduler.step()


def test_bad_combinations() -> None:
    o, other = sgd(), sgd()
    one = lrs.StepLR(o, 3)
    with pytest.raises(ValueError, match="expected at least one schedule, got none"):
        lrs.ChainedScheduler([])
    with pytest.raises(ValueError, match="schedule 1 belongs to another optimizer"):
        lrs.ChainedScheduler([one, lrs.StepLR(other, 3)])
    with pytest.raises(ValueError, match="schedule 0 is ReduceLROnPlateau"):
        lrs.ChainedScheduler([lrs.ReduceLROnPlateau(o)])
    with pytest.raises(TypeError, match="schedule 0 must be an LRScheduler, got float"):
        lrs.ChainedScheduler([0.1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="expected 0 milestones for 1 schedules, got 1"):
        lrs.SequentialLR(o, [one], [3])
    with pytest.raises(ValueError, match=r"milestones must rise, got \[5, 3\]"):
        lrs.SequentialLR(o, [one, one, one], [5, 3])
    with pytest.raises(ValueError, match="schedule 0 belongs to another optimizer"):
        lrs.SequentialLR(other, [one], [])


def test_bad_plateaus() -> None:
    o = sgd()
    with pytest.raises(ValueError, match=r"factor must be .* below 1 .*got 1.5"):
        lrs.ReduceLROnPlateau(o, factor=1.5)
    with pytest.raises(ValueError, match="mode must be 'min' or 'max', got 'up'"):
        lrs.ReduceLROnPlateau(o, "up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold_mode must be"):
        lrs.ReduceLROnPlateau(o, threshold_mode="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 1 values of min_lr, got 2"):
        lrs.ReduceLROnPlateau(o, min_lr=[0.1, 0.2])
    with pytest.raises(RuntimeError, match="depends on the metric"):
        lrs.ReduceLROnPlateau(o).lr_at(3)
    plateau = lrs.ReduceLROnPlateau(o)
    with pytest.raises(TypeError, match="metrics must be a number, got "):
        plateau.step(10**400)
    state = plateau.state_dict()
    for best in (10**400, -(10**400), math.nan):
        with pytest.raises(ValueError, match="'best' must not be NaN, nor too large for a float"):
            plateau.load_state_dict({**state, "best": best})
    assert plateau.state_dict() == state


def test_states_that_do_not_fit() -> None:
    o = sgd()
    step, cosine = lrs.StepLR(o, 3), lrs.CosineAnnealingLR(o, 3)
    with pytest.raises(
        ValueError, match=r"missing \['T_max', 'eta_min', 'floor'\], unknown \['gam"
    ):
        cosine.load_state_dict(step.state_dict())
    with pytest.raises(TypeError, match="expected a mapping, got int"):
        step.load_state_dict(3)  # type: ignore[arg-type]
    chained = lrs.ChainedScheduler([step, cosine])
    state = chained.state_dict()
    state["_schedulers"].pop()
    with pytest.raises(ValueError, match="expected the states of 2 schedules"):
        chained.load_state_dict(state)


BAD_VALUES = ["5", None, math.nan, -3, [0.1] * 5, {}, np.zeros((0, 3)), np.ones(2)]


@pytest.mark.parametrize("name", [*MAKERS, "plateau"])
def test_a_state_with_a_wrong_value_is_refused_by_its_key_and_changes_nothing(name: str) -> None:
    makers = {**MAKERS, "plateau": lambda o: lrs.ReduceLROnPlateau(o, patience=2)}
    scheduler = makers[name](sgd(momentum=0.9))
    before = copy.deepcopy(scheduler.state_dict())

    def refuse(state: dict[str, Any], inner: dict[str, Any], who: str) -> None:
        for key in inner:
            if key == "_schedulers":
                for index, part in enumerate(inner[key]):
                    kind = type(scheduler._schedulers[index]).__name__  # type: ignore[attr-defined]
                    if who == "":
                        refuse(state, part, f"schedule {index}, {kind}")
                continue
            good = inner[key]
            for value in BAD_VALUES:
                # A threshold, and a best value so far, may well be below zero.
                if value is BAD_VALUES[3] and key in ("threshold", "best"):
                    continue
                inner[key] = value
                with pytest.raises((TypeError, ValueError), match=key.strip("_s")) as info:
                    scheduler.load_state_dict(state)
                assert who in str(info.value)
                assert f"{type(scheduler).__name__}.load_state_dict: " in str(info.value)
                assert scheduler.state_dict() == before
            inner[key] = good

    state = copy.deepcopy(before)
    refuse(state, state, "")
    scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before
