"""Schedules: the rates after each step, alone, chained and one after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from lucid import optim
from lucid.autograd import Tensor
from lucid.optim import lr_scheduler as ours
from tests.errors import own
from tests.peer.compare import Problem, call, compare
from tests.peer.tally import Case, Tally

theirs = torch.optim.lr_scheduler
STEPS = 45

# name -> arguments
GRID: dict[str, list[dict[str, Any]]] = {
    "LambdaLR": [
        {"lr_lambda": lambda t: 0.9**t},
        {"lr_lambda": [lambda t: 1 / (t + 1), math.cos]},
        {"lr_lambda": lambda t: max(0.0, 1 - t / 6)},
        {"lr_lambda": lambda t: float(t % 4 == 1)},
    ],
    "MultiplicativeLR": [
        {"lr_lambda": lambda t: 0.95},
        {"lr_lambda": [lambda t: 1 - 1 / (t + 2), math.cos]},
    ],
    "StepLR": [{"step_size": 7}, {"step_size": 1, "gamma": 1.1}, {"step_size": 3, "gamma": 0.0}],
    "MultiStepLR": [
        {"milestones": [4, 9, 9, 30]},
        {"milestones": [0, 2], "gamma": 0.5},
        {"milestones": [30, 5]},
        {"milestones": []},
    ],
    "ExponentialLR": [{"gamma": 0.9}, {"gamma": 1.02}, {"gamma": 0.0}],
    "CosineAnnealingLR": [
        {"T_max": 39},
        {"T_max": 10, "eta_min": 0.01},
        {"T_max": 7},
        {"T_max": 1},
        {"T_max": 4, "eta_min": 0.2},
    ],
    "CosineAnnealingWarmRestarts": [
        {"T_0": 5},
        {"T_0": 3, "T_mult": 2, "eta_min": 0.01},
        {"T_0": 1},
        {"T_0": 4, "T_mult": 3},
    ],
    "LinearLR": [
        {},
        {"start_factor": 0.1, "total_iters": 20},
        {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 11},
        {"start_factor": 0.5, "end_factor": 0.0},
        {"total_iters": 0},
    ],
    "ConstantLR": [{}, {"factor": 0.1, "total_iters": 20}, {"factor": 1.0}, {"total_iters": 0}],
    "PolynomialLR": [
        {},
        {"total_iters": 30, "power": 2.0},
        {"total_iters": 12, "power": 0.5},
        {"total_iters": 1},
    ],
    "OneCycleLR": [
        {"max_lr": 0.5, "total_steps": 50},
        {"max_lr": [0.5, 0.2], "epochs": 5, "steps_per_epoch": 10, "anneal_strategy": "linear"},
        {"max_lr": 0.5, "total_steps": 48, "three_phase": True, "pct_start": 0.4},
        {"max_lr": 0.5, "total_steps": 90, "cycle_momentum": False, "div_factor": 4.0},
        {"max_lr": 0.5, "total_steps": 47, "max_momentum": 0.99, "base_momentum": [0.6, 0.7]},
    ],
    "CyclicLR": [
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 5},
        {"base_lr": [0.1, 0.2], "max_lr": 0.9, "step_size_up": 3, "step_size_down": 8},
        {"base_lr": 0.1, "max_lr": [0.5, 2.0], "step_size_up": 4, "mode": "triangular2"},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "mode": "exp_range", "gamma": 0.97},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 6, "scale_fn": lambda x: 1 / (1 + x)},
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 6, "max_momentum": [0.95, 0.99]},
    ],
    "ReduceLROnPlateau": [
        {},
        {"patience": 2, "factor": 0.5},
        {"mode": "max", "patience": 1, "cooldown": 3, "threshold": 0.1, "threshold_mode": "abs"},
        {"patience": 0, "min_lr": [0.01, 0.001], "eps": 1e-3},
    ],
}
WRONG: dict[str, list[dict[str, Any]]] = {
    "LambdaLR": [{"lr_lambda": [lambda t: t]}],
    "LinearLR": [{"start_factor": 0}, {"start_factor": 1.5}, {"end_factor": -0.1}],
    "ConstantLR": [{"factor": 1.1}, {"factor": -1}],
    "CosineAnnealingWarmRestarts": [{"T_0": 0}, {"T_0": 2.5}, {"T_0": 4, "T_mult": 0}],
    "OneCycleLR": [
        {"max_lr": 0.1},
        {"max_lr": 0.1, "total_steps": 0},
        {"max_lr": 0.1, "total_steps": 9, "pct_start": 2},
        {"max_lr": 0.1, "total_steps": 9, "anneal_strategy": "exp"},
    ],
    "CyclicLR": [
        {"base_lr": 0.1, "max_lr": 0.5, "mode": "square"},
        {"base_lr": [0.1], "max_lr": 0.5},
    ],
    "ReduceLROnPlateau": [{"factor": 1.0}, {"mode": "least"}, {"min_lr": [0.1]}],
}


def optimizers(kind: str) -> tuple[Any, Any]:
    """Return an optimiser of ours and its twin, with two groups of different rates."""
    groups = [{"lr": 0.1}, {"lr": 0.4}]
    return tuple(
        getattr(module, kind)([{"params": [make()], **group} for group in groups], lr=1.0)
        for module, make in (
            (optim, lambda: Tensor([1.0], requires_grad=True)),
            (torch.optim, lambda: torch.ones(1, requires_grad=True)),
        )
    )


def rates(optimizer: Any, scheduler: Any) -> list[float]:
    """Return everything that a schedule sets, and what it says of itself."""
    numbers = list(scheduler.get_last_lr())
    for group in optimizer.param_groups:
        numbers += [group["lr"], group.get("momentum", 0.0), *group.get("betas", ())]
    return [float(number) for number in numbers]


def together(parts: list[Any]) -> Any:
    """Return schedules as one that steps each of them, with nothing to combine them."""

    class Together:
        def step(self) -> None:
            for part in parts:
                part.step()

        def get_last_lr(self) -> list[float]:
            return parts[-1].get_last_lr()

    return Together()


def follow(
    kind: str, make: Callable[[Any, Any], Any], steps: list[tuple[Any, ...]]
) -> Problem | None:
    """Return where the rates of lucid's schedule leave PyTorch's."""
    mine, reference = optimizers(kind)
    two, one = call(lambda: make(ours, mine)), call(lambda: make(theirs, reference))
    if one.error is not None or two.error is not None:
        if two.error is not None:
            return compare(one, two, exact=False)
        return Problem("accepted", f"PyTorch: {one.error}")
    for number, arguments in enumerate(steps):
        got, expected = rates(mine, two.value), rates(reference, one.value)
        for rate, other in zip(got, expected):
            # PyTorch's recursions drift by rounding; near 0 only the absolute error is small.
            if not math.isclose(rate, other, rel_tol=1e-9, abs_tol=1e-12):
                return Problem("value", f"step {number}: {rate} for {other}")
        mine.step()
        reference.step()
        results = (
            call(lambda arguments=arguments: one.value.step(*arguments)),
            call(lambda arguments=arguments: two.value.step(*arguments)),
        )
        if results[1].error is not None and not own(results[1].error):
            return Problem("raw", f"{type(results[1].error).__name__}: {results[1].error}")
        problem = compare(*results, exact=False)
        if problem is not None:
            return problem
        if results[0].error is not None:
            return None
    return None


Setting = tuple[str, dict[str, Any]]

COMBINATIONS: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    "ChainedScheduler": lambda module, optimizer, made: module.ChainedScheduler(made),
    "SequentialLR": lambda module, optimizer, made: module.SequentialLR(optimizer, made, [13]),
    "each by itself": lambda module, optimizer, made: together(made),
}


def build(setting: Setting, module: Any, optimizer: Any) -> Any:
    """Return a schedule of one of the libraries."""
    name, kwargs = setting
    return getattr(module, name)(optimizer, **kwargs)


def combine(how: str, settings: tuple[Setting, ...], module: Any, optimizer: Any) -> Any:
    """Return several schedules as one."""
    made = [build(setting, module, optimizer) for setting in settings]
    return COMBINATIONS[how](module, optimizer, made)


def title(*settings: Setting) -> str:
    """Return schedules as one would write them."""
    calls = []
    for name, kwargs in settings:
        shown = [
            f"{key}={'...' if callable(value) or key == 'lr_lambda' else value}"
            for key, value in kwargs.items()
        ]
        calls.append(f"{name}({', '.join(shown)})")
    return ", ".join(calls)


def cases(whole: bool) -> Iterator[tuple[str, str, Callable[[Any, Any], Any], list[Any]]]:
    """Yield a name, a description, what builds the schedule, and the arguments of each step."""
    plain: list[tuple[Any, ...]] = [()] * STEPS
    losses = [(1 / (1 + t) if t < 9 else 0.1 + 0.05 * (t % 3),) for t in range(STEPS)]
    for table in (GRID, WRONG):
        for setting in ((name, kwargs) for name, found in table.items() for kwargs in found):
            steps = losses if setting[0] == "ReduceLROnPlateau" else plain
            yield setting[0], title(setting), partial(build, setting), steps
    for start in (3, 5):
        setting = ("CosineAnnealingWarmRestarts", {"T_0": start, "T_mult": 2})
        quarters = [(step / 4,) for step in range(STEPS)]
        yield setting[0], f"{title(setting)} in quarters", partial(build, setting), quarters
    alone = [
        (name, kwargs)
        for name, found in GRID.items()
        if name != "ReduceLROnPlateau"
        for kwargs in (found if whole else found[:3])
    ]
    for pair in itertools.product(alone, alone):
        for how in COMBINATIONS:
            yield how, title(*pair), partial(combine, how, pair), plain


def run(tally: Tally, whole: bool, only: str = "") -> None:
    """Compare every schedule; they know of no backend."""
    for name, settings, make, steps in cases(whole):
        if only not in f"lr_scheduler.{name}":
            continue
        for kind in ("SGD", "Adam") if whole else ("SGD",):
            problem = follow(kind, make, steps)
            for backend in tally.backends:
                tally.add(backend, Case(f"lr_scheduler.{name}", settings, kind), problem)
