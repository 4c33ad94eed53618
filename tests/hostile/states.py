"""States of optimisers, schedules and modules with a wrong part."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid import nn, optim
from lucid.optim import lr_scheduler as schedules
from tests.hostile.values import corrupt
from tests.hostile.verdict import attempt, check

OPTIMIZERS: list[Any] = [
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    lambda p: optim.Adam(p, lr=0.1),
    lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.1),
    lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    lambda p: optim.Adagrad(p, lr=0.1),
]
SCHEDULES: list[Any] = [
    lambda o: schedules.StepLR(o, 2),
    lambda o: schedules.MultiStepLR(o, [1, 3]),
    lambda o: schedules.ExponentialLR(o, 0.9),
    lambda o: schedules.CosineAnnealingLR(o, 5),
    lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
    lambda o: schedules.OneCycleLR(o, 0.2, total_steps=9, cycle_momentum=False),
    lambda o: schedules.LambdaLR(o, lambda step: 0.9**step),
    lambda o: schedules.ReduceLROnPlateau(o, patience=0),
    lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o), schedules.PolynomialLR(o, 4)], milestones=[2]
    ),
]


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Load one wrong state: it is refused and nothing changed, or training goes on with it."""
    lucid.set_backend(backend)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = rng.choice(OPTIMIZERS)(model.parameters())
    schedule = rng.choice(SCHEDULES)(optimizer)
    for _ in range(2):
        _step(model, optimizer, schedule)
    target = rng.choice([model, optimizer, optimizer, schedule, schedule])
    before = copy.deepcopy(target.state_dict())
    state = copy.deepcopy(before)
    for _ in range(rng.choice([1, 1, 2])):
        state = corrupt(state, rng)
    _, refused = attempt(lambda: target.load_state_dict(state))
    if refused is not None and target is not model:  # PyTorch's modules load what fits, too
        check(_same(before, target.state_dict()), f"refused, but changed: {refused}")
    attempt(lambda: _step(model, optimizer, schedule))


def _step(model: Any, optimizer: Any, schedule: Any) -> None:
    optimizer.zero_grad()
    loss = model(lucid.ones(5, 3)).sum()
    loss.backward()
    optimizer.step()
    schedule.step(*([loss.item()] if isinstance(schedule, schedules.ReduceLROnPlateau) else []))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
    return bool(a == b or (a != a and b != b))
