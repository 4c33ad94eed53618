"""Every schedule against PyTorch, over whole runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lucid import optim
from lucid.autograd import Tensor
from lucid.optim import lr_scheduler as ours

torch = pytest.importorskip("torch")
theirs = torch.optim.lr_scheduler

STEPS = 40


def label(value: Any) -> str:
    """Name a case without the addresses of its functions, which differ from process to process."""
    return re.sub(r" at 0x\w+", "", str(value))


# name -> (arguments, keyword arguments)
CASES: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "LambdaLR": [((lambda t: 0.9**t,), {}), (([lambda t: 1 / (t + 1), math.cos],), {})],
    "StepLR": [((7,), {}), ((3,), {"gamma": 0.5}), ((1,), {"gamma": 1.1})],
    "MultiStepLR": [(([4, 9, 9, 30],), {}), (([0, 2],), {"gamma": 0.5}), (([30, 5],), {})],
    "ExponentialLR": [((0.9,), {})],
    "CosineAnnealingLR": [((39,), {}), ((10,), {"eta_min": 0.01}), ((7,), {}), ((1,), {})],
    "CosineAnnealingWarmRestarts": [
        ((5,), {}),
        ((3, 2), {"eta_min": 0.01}),
        ((4,), {"T_mult": 3}),
    ],
    "LinearLR": [((), {}), ((0.1,), {"total_iters": 20}), ((1.0, 0.25, 11), {}), ((0.5, 0.0), {})],
    "ConstantLR": [((), {}), ((0.1,), {"total_iters": 20})],
    "PolynomialLR": [((), {}), ((30,), {"power": 2.0}), ((30, 0.5), {})],
    "OneCycleLR": [
        ((0.5,), {"total_steps": STEPS}),
        (([0.5, 0.2],), {"epochs": 4, "steps_per_epoch": 10, "anneal_strategy": "linear"}),
        ((0.5, STEPS), {"three_phase": True, "pct_start": 0.4, "base_momentum": [0.6, 0.7]}),
        ((0.5, 2 * STEPS), {"cycle_momentum": False, "div_factor": 4.0, "final_div_factor": 10.0}),
        ((0.5, 41), {"max_momentum": 0.99, "pct_start": 0.25}),
    ],
}


def optimizers(kind: str) -> tuple[Any, Any]:
    """Return an optimiser of ours and its twin, with two groups of different rates."""
    groups = [{"lr": 0.1}, {"lr": 0.4}]
    mine = getattr(optim, kind)(
        [{"params": [Tensor([1.0], requires_grad=True)], **g} for g in groups], lr=1.0
    )
    reference = getattr(torch.optim, kind)(
        [{"params": [torch.ones(1, requires_grad=True)], **g} for g in groups], lr=1.0
    )
    return mine, reference


def rates(optimizer: Any) -> list[tuple[float, ...]]:
    return [
        (group["lr"], group.get("momentum", 0.0), *group.get("betas", ()))
        for group in optimizer.param_groups
    ]


def assert_same_run(
    kind: str, build: Callable[[Any, Any], Any], steps: int = STEPS
) -> tuple[Any, Any]:
    mine, reference = optimizers(kind)
    one, two = build(ours, mine), build(theirs, reference)
    for step in range(steps):
        # Their recursions drift by rounding; near 0 only the absolute error can be small.
        np.testing.assert_allclose(
            rates(mine), rates(reference), rtol=1e-9, atol=1e-12, err_msg=f"step {step}"
        )
        np.testing.assert_allclose(one.get_last_lr(), two.get_last_lr(), rtol=1e-9, atol=1e-12)
        mine.step()
        reference.step()
        one.step()
        two.step()
    return one, mine


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
    ids=label,
)
def test_equals_torch(kind: str, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    scheduler, optimizer = assert_same_run(
        kind, lambda module, optimizer: getattr(module, name)(optimizer, *args, **kwargs)
    )
    # The closed form is the same thing.
    for index, group in enumerate(optimizer.param_groups):
        assert math.isclose(scheduler.lr_at(STEPS, index), group["lr"], abs_tol=1e-15)


COMBINATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "warm-up and cosine": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.01, total_iters=8), m.CosineAnnealingLR(o, 32, 1e-3)], [8]
    ),
    "warm-up, cosine, constant": lambda m, o: m.SequentialLR(
        o,
        [
            m.LinearLR(o, 0.1, total_iters=5),
            m.CosineAnnealingLR(o, 20),
            m.ConstantLR(o, 0.01, total_iters=100),
        ],
        [5, 25],
    ),
    "cut off early": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, total_iters=20), m.ExponentialLR(o, 0.8)], [6]
    ),
    "steps one after the other": lambda m, o: m.SequentialLR(
        o, [m.StepLR(o, 2, 0.5), m.MultiStepLR(o, [3, 7]), m.PolynomialLR(o, 10)], [9, 20]
    ),
    "lambda then warm restarts": lambda m, o: m.SequentialLR(
        o, [m.LambdaLR(o, lambda t: 1 + t), m.CosineAnnealingWarmRestarts(o, 4, 2)], [5]
    ),
    "chained": lambda m, o: m.ChainedScheduler(
        [m.ConstantLR(o, 0.1, total_iters=4), m.ExponentialLR(o, 0.9)]
    ),
    "chained cosine": lambda m, o: m.ChainedScheduler(
        [m.LinearLR(o, 0.1, total_iters=7), m.CosineAnnealingLR(o, 39)], o
    ),
    "chained cosine with a floor": lambda m, o: m.ChainedScheduler(
        [m.StepLR(o, 6, 0.7), m.CosineAnnealingLR(o, 30, 1e-3)]
    ),
    "chained cosine that rises again": lambda m, o: m.ChainedScheduler(
        [m.ExponentialLR(o, 0.95), m.CosineAnnealingLR(o, 9)]
    ),
    "three chained": lambda m, o: m.ChainedScheduler(
        [m.LinearLR(o, 0.5), m.MultiStepLR(o, [10, 20], 0.3), m.PolynomialLR(o, 60, 2)]
    ),
    "back to back": lambda m, o: Together([m.ExponentialLR(o, 0.9), m.StepLR(o, 5, 0.5)]),
}


class Together:
    """Schedules that are stepped one after the other, with nothing to combine them."""

    def __init__(self, schedulers: list[Any]) -> None:
        self.schedulers = schedulers

    def step(self) -> None:
        for scheduler in self.schedulers:
            scheduler.step()

    def get_last_lr(self) -> Any:
        return self.schedulers[-1].get_last_lr()


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combinations_equal_torchs(name: str) -> None:
    assert_same_run("SGD", COMBINATIONS[name])


# Each of these reaches its end, a zero or a restart within the run.
PARTNERS: dict[str, Callable[[Any, Any], Any]] = {
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 0.0 if t % 3 == 0 else 1.0 / t),
    "step": lambda m, o: m.StepLR(o, 3, 0.5),
    "step to 0": lambda m, o: m.StepLR(o, 4, 0.0),
    "multi": lambda m, o: m.MultiStepLR(o, [0, 3, 3, 9], 0.3),
    "exponential": lambda m, o: m.ExponentialLR(o, 1e-30),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 7),
    "cosine with a floor": lambda m, o: m.CosineAnnealingLR(o, 5, 0.02),
    "cosine from its floor": lambda m, o: m.CosineAnnealingLR(o, 4, 0.4),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4, 2, 0.01),
    "linear": lambda m, o: m.LinearLR(o, 0.1),
    "linear to 0": lambda m, o: m.LinearLR(o, 0.5, 0.0, 6),
    "constant": lambda m, o: m.ConstantLR(o, 0.25, 6),
    "polynomial": lambda m, o: m.PolynomialLR(o, 8, 2.0),
    "one cycle": lambda m, o: m.OneCycleLR(o, [0.5, 0.3], 60),
}
PAIRS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "chained": lambda m, o, f, g: m.ChainedScheduler([f(m, o), g(m, o)]),
    "sequential": lambda m, o, f, g: m.SequentialLR(o, [f(m, o), g(m, o)], [11]),
    "nested": lambda m, o, f, g: m.ChainedScheduler(
        [m.SequentialLR(o, [f(m, o), g(m, o)], [6]), m.StepLR(o, 4, 0.5)]
    ),
}


@pytest.mark.parametrize("how", PAIRS)
@pytest.mark.parametrize("first", PARTNERS)
def test_any_two_agree_past_zeros_ends_restarts_and_a_resumption(first: str, how: str) -> None:
    for second in PARTNERS:

        def build(module: Any, optimizer: Any, second: str = second) -> Any:
            return PAIRS[how](module, optimizer, PARTNERS[first], PARTNERS[second])

        mine, reference = optimizers("SGD")
        one, two = build(ours, mine), build(theirs, reference)
        for step in range(30):
            np.testing.assert_allclose(
                rates(mine), rates(reference), rtol=1e-7, atol=1e-11, err_msg=f"{second}, {step}"
            )
            if step == 10:
                for optimizer in (mine, reference):
                    optimizer.param_groups[0]["lr"] = 0.07
            if step == 17:
                states = mine.state_dict(), one.state_dict()
                mine, _ = optimizers("SGD")
                one = build(ours, mine)
                mine.load_state_dict(states[0])
                one.load_state_dict(states[1])
            for thing in (mine, reference, one, two):
                thing.step()


@pytest.mark.parametrize("name", PARTNERS)
def test_what_lies_ahead_of_a_chain_is_what_it_comes_to(name: str) -> None:
    mine, _ = optimizers("SGD")
    build = PARTNERS[name]
    chain = ours.ChainedScheduler([build(ours, mine), ours.CosineAnnealingLR(mine, 6, 0.02)])
    expected = [chain.lr_at(step, 1) for step in range(20)]
    for rate in expected:
        np.testing.assert_allclose(mine.param_groups[1]["lr"], rate, rtol=1e-9, atol=1e-12)
        mine.step()
        chain.step()


def test_a_rate_changed_by_hand_is_scaled_as_in_torch() -> None:
    mine, reference = optimizers("SGD")
    one, two = ours.StepLR(mine, 3, 0.5), theirs.StepLR(reference, 3, 0.5)
    for step in range(10):
        if step == 4:
            for optimizer in (mine, reference):
                optimizer.param_groups[0]["lr"] = 0.07
        for thing in (mine, reference, one, two):
            thing.step()
        np.testing.assert_allclose(rates(mine), rates(reference), rtol=1e-12)


def test_warm_restarts_within_an_epoch() -> None:
    mine, reference = optimizers("SGD")
    one = ours.CosineAnnealingWarmRestarts(mine, 3, 2)
    two = theirs.CosineAnnealingWarmRestarts(reference, 3, 2)
    mine.step()
    reference.step()
    for epoch in np.arange(0, 25, 0.25):
        one.step(float(epoch))
        two.step(float(epoch))
        np.testing.assert_allclose(rates(mine), rates(reference), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("first", "factor"), [(3, 2), (4, 1), (2, 3)])
def test_warm_restarts_keep_the_fraction_of_a_step(first: int, factor: int) -> None:
    mine, reference = optimizers("SGD")
    one = ours.CosineAnnealingWarmRestarts(mine, first, factor, 0.01)
    two = theirs.CosineAnnealingWarmRestarts(reference, first, factor, 0.01)
    mine.step()
    reference.step()
    for epoch in [0.3, None, None, 1.75, *[None] * 30, 7.1, None, 0.0, None]:
        one.step(epoch)
        two.step(epoch)
        np.testing.assert_allclose(rates(mine), rates(reference), rtol=1e-9, atol=1e-12)
        assert one.last_epoch == two.last_epoch


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2, "factor": 0.5},
        {"mode": "max", "patience": 1, "cooldown": 2},
        {"threshold_mode": "abs", "threshold": 0.3, "patience": 1},
        {"mode": "max", "threshold_mode": "abs", "patience": 0, "min_lr": [0.01, 0.2]},
        {"patience": 0, "min_lr": 0.003, "eps": 1e-2},
    ],
    ids=label,
)
def test_plateau_equals_torch(options: dict[str, Any]) -> None:
    mine, reference = optimizers("SGD")
    one = ours.ReduceLROnPlateau(mine, **options)
    two = theirs.ReduceLROnPlateau(reference, **options)
    metrics = np.concatenate([np.linspace(3, 1, 10), np.random.default_rng(0).random(40)])
    metrics[20] = np.nan
    for metric in metrics:
        one.step(metric)
        two.step(metric)
        assert rates(mine) == rates(reference)
        assert one.get_last_lr() == two.get_last_lr()
        assert one.num_bad_epochs == two.num_bad_epochs


def test_signatures_are_torchs() -> None:
    import inspect

    names = [*CASES, "ChainedScheduler", "SequentialLR", "ReduceLROnPlateau", "LRScheduler"]
    for name in names:
        one = inspect.signature(getattr(ours, name)).parameters
        two = inspect.signature(getattr(theirs, name)).parameters
        assert list(one) == list(two), name
        assert {k: p.default for k, p in one.items()} == {k: p.default for k, p in two.items()}
