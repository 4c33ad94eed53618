"""Run on several ranks by ``test_core_training.py``: do they compute what one rank computes?

Each rank trains one model beside the others, on its part of each batch, and another one alone, on
whole batches. Losses, weights, averages of weights and running statistics have to be the same.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import lucid
from lucid import distributed, nn, optim
from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 20


class Case(NamedTuple):
    optimizer: Callable[..., optim.Optimizer] = optim.SGD
    settings: dict[str, Any] = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3}  # noqa: RUF012
    batch: int = 8  # of all ranks together
    mixup: bool = False
    accumulate: int = 1
    clip: float | None = None
    average: bool = False
    bucket_mb: float = 0.002  # several buckets, of which some hold several parameters


ADAMW = {"lr": 0.002, "weight_decay": 0.01}
CASES = {
    "SGD": Case(),
    "AdamW, EMA, mixup": Case(optim.AdamW, ADAMW, mixup=True, average=True),
    "accumulated, clipped": Case(accumulate=3, clip=0.1),
    "unequal parts": Case(optim.AdamW, ADAMW, batch=11, clip=0.5),
    "RMSprop, unequal, accumulated": Case(
        optim.RMSprop, {"lr": 0.0005}, batch=9, accumulate=2, bucket_mb=0
    ),
}


def part(n: int) -> np.ndarray:
    """Return this rank's places in a batch of n: mirror images stay together, for mixup."""
    rank, size = distributed.rank(), distributed.size()
    half = n // 2
    pairs = np.array_split(np.arange(half), size)[rank]
    own = [*pairs, *(n - 1 - pairs)]
    if n % 2 and rank == 0:
        own.append(half)
    return np.sort(own)


def build(dtype: str) -> nn.Module:
    def layer(convolution: nn.Conv2d, act: nn.Module | None) -> list[nn.Module]:
        return [convolution, nn.BatchNorm2d(convolution.out_channels), *([act] if act else [])]

    # No bias before a batch norm: its gradient is rounding alone, of which AdamW makes steps.
    model = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Sequential(*layer(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.ReLU6())),
        nn.Sequential(*layer(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.ReLU())),
        nn.Sequential(*layer(nn.Conv2d(8, 12, 1, bias=False), None)),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.Hardswish(),
        nn.Linear(16, 5),
    )
    return model.to(dtype)


def train(
    case: Case, dtype: str, together: bool, shuffled: int | None = None
) -> dict[str, np.ndarray]:
    lucid.manual_seed(distributed.rank() if together else 0)
    model: Any = build(dtype)
    optimizer: Any = case.optimizer(model.parameters(), **case.settings)
    if together:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        optimizer = distributed.DistributedOptimizer(optimizer, model, bucket_mb=case.bucket_mb)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    draw = np.random.default_rng(7)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        for micro in range(case.accumulate):
            images = draw.normal(size=(case.batch, 3, 12, 12)).astype(dtype)
            labels = np.eye(5)[draw.integers(5, size=case.batch)].astype(dtype)
            images += (labels @ np.linspace(-1, 1, 5).astype(dtype))[:, None, None, None]
            share = draw.uniform()
            if together:
                places = part(case.batch)
            elif shuffled is not None:
                places = np.random.default_rng([shuffled, micro]).permutation(case.batch // 2)
                places = np.concatenate([places, np.setdiff1d(np.arange(case.batch), places)])
                places[-(case.batch // 2) :] = case.batch - 1 - places[: case.batch // 2][::-1]
            else:
                places = np.arange(case.batch)
            images, labels = images[places], labels[places]
            if case.mixup:
                images = (share * images + (1 - share) * images[::-1]).astype(dtype)
                labels = (share * labels + (1 - share) * labels[::-1]).astype(dtype)
            loss = criterion(
                model(lucid.tensor(images, dtype=dtype)), lucid.tensor(labels, dtype=dtype)
            )
            own = len(images) / case.batch
            losses.append(loss.item() * own)
            weight = own * distributed.size() if together else 1.0
            last = micro == case.accumulate - 1
            pause = optimizer.no_sync() if together and not last else contextlib.nullcontext()
            with pause:
                (loss * (weight / case.accumulate)).backward()
        if case.clip is not None:
            if together:
                optimizer.synchronize()
            nn.utils.clip_grad_norm_(model.parameters(), case.clip)
        optimizer.step()
        if case.average:
            averaged.update_parameters(model)
    values = {"losses": np.array(losses, np.float64)}
    if together:
        values["losses"] = distributed.all_reduce(values["losses"])
    found = {**model.state_dict(), **{f"EMA {k}": v for k, v in averaged.state_dict().items()}}
    values.update({name: np.asarray(value, np.float64) for name, value in found.items()})
    return values


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Return the largest difference, of numbers that are about 1 or smaller."""
    assert one.keys() == other.keys()
    return max(float(np.max(np.abs(one[key] - other[key]))) for key in one)


def main(dtype: str, backend: str) -> None:
    lucid.set_backend(backend)
    distributed.init()
    for name, case in CASES.items():
        many, one = train(case, dtype, True), train(case, dtype, False)
        apart = difference(many, one)
        if dtype == "float64":
            limit = 1e-10
        else:  # of other orders of the same sums: one alone may be close by chance
            orders = [train(case, dtype, False, shuffled=order) for order in range(3)]
            limit = 10 * max(difference(one, other) for other in orders)
        everywhere = distributed.all_gather({k: v.tobytes() for k, v in many.items()})
        assert all(values == everywhere[0] for values in everywhere), name
        assert apart < limit, f"{name}: {apart} is not below {limit}"
        if distributed.rank() == 0:
            print(f"{name}: {apart:.1e} < {limit:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
