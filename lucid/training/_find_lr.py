"""The learning-rate range test."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.nn import CrossEntropyLoss, Module
from lucid.optim import Optimizer
from lucid.training._batches_on_ranks import ranks_of
from lucid.training._diverged import DivergedError
from lucid.training._loop import Batch, Batches, LossFunction, train_epoch

_SMOOTHING = 0.95  # the share of the past in the smoothed loss
_DIVERGED = 4.0  # times the least loss: the test is over


@dataclass(frozen=True)
class LRCurve:
    """What :func:`find_lr` saw: the loss at each learning rate.

    Args:
        lrs: the rates, ascending.
        losses: the smoothed loss of the step at each rate.
        suggestion: the rate to train with.
    """

    lrs: list[float]
    losses: list[float]
    suggestion: float

    def csv(self) -> str:
        """Return the curve as lines of ``lr,loss``."""
        return "".join(
            ["lr,loss\n", *(f"{a:.6g},{b:.6g}\n" for a, b in zip(self.lrs, self.losses))]
        )

    def __str__(self) -> str:
        """Return the curve as text: a line a rate, a longer bar for a higher loss."""
        low, high = min(self.losses), max(self.losses)
        every = max(len(self.lrs) // 20, 1)
        rows = [
            f"{lr:9.2e}  {loss:8.4f}  {'█' * round(40 * (loss - low) / ((high - low) or 1))}"
            for lr, loss in list(zip(self.lrs, self.losses))[::every]
        ]
        return "\n".join([*rows, f"suggested learning rate: {self.suggestion:.2g}"])


def find_lr(
    model: Module,
    batches: Batches,
    optimizer: Optimizer,
    *,
    criterion: LossFunction | None = None,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    accumulate: int = 1,
    clip_grad: float | None = None,
) -> LRCurve:
    """Train for a few steps at rising rates, and suggest one of them.

    The rate rises from ``low`` to ``high`` by the same factor at each step, until the loss has
    become four times its least (Smith 2017, "Cyclical Learning Rates for Training Neural
    Networks", section 3.3). The losses are smoothed, as those of single batches are noisy.
    Suggested is a tenth of the rate where the smoothed loss is least, as fastai does it: at that
    rate itself the training is about to diverge.

    Model, optimiser and lucid's generator are afterwards what they were.

    Args:
        model: the model.
        batches: pairs of images and labels; gone through again if there are too few.
        optimizer: holds its parameters. Groups keep the ratio of their rates; the highest is meant.
        criterion: the loss; cross-entropy by default.
        low: the first rate.
        high: the last one.
        steps: how many steps there are at most.
        accumulate: as in :func:`train_epoch`, as is ``clip_grad``: how many batches make one step.
        clip_grad: the largest norm of the gradients.

    Raises:
        ValueError: if the rates do not rise, or there are no batches.

    Example:
        >>> batch = lucid.randn(16, 2), lucid.zeros(16, dtype=lucid.int64)
        >>> model = nn.Linear(2, 2)
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> curve = training.find_lr(model, [batch], optimizer, high=100.0)
        >>> len(curve.lrs) <= 100, curve.lrs[0] <= curve.suggestion <= curve.lrs[-1]
        (True, True)
    """
    if not 0 < low < high:
        raise ValueError(f"find_lr: expected 0 < low < high, got low={low}, high={high}")
    count(steps, "steps", "find_lr", 2)
    count(accumulate, "accumulate", "find_lr")
    largest = max(group["lr"] for group in optimizer.param_groups)
    shares = [group["lr"] / largest for group in optimizer.param_groups]
    loss_of = criterion or CrossEntropyLoss()
    lrs: list[float] = []
    losses: list[float] = []
    of_step: list[float] = []  # the losses of its batches
    mean = 0.0
    ranks = ranks_of(optimizer)

    def noted(logits: Tensor, labels: Tensor, *more: Any) -> Tensor:
        loss = loss_of(logits, labels, *more)
        of_step.append(ranks.mean(loss.item(), labels))
        return loss

    def after_step(_: Any) -> None:
        nonlocal mean
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * sum(of_step) / len(of_step)
        losses.append(mean / (1 - _SMOOTHING ** len(lrs)))  # the first steps have little past
        of_step.clear()

    def rising() -> Iterator[Batch]:
        while True:
            empty = True
            for batch in batches:
                if not of_step:  # a step begins
                    if len(lrs) == steps or (losses and losses[-1] > _DIVERGED * min(losses)):
                        return
                    lrs.append(low * (high / low) ** (len(lrs) / (steps - 1)))
                    for group, share in zip(optimizer.param_groups, shares):
                        group["lr"] = lrs[-1] * share
                empty = False
                yield batch
            if empty:
                raise ValueError("find_lr: there are no batches")

    with _as_it_was(model, optimizer), contextlib.suppress(DivergedError):
        train_epoch(
            model,
            rising(),
            optimizer,
            criterion=noted,
            after_step=after_step,
            accumulate=accumulate,
            clip_grad=clip_grad,
        )
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        raise ValueError(f"find_lr: no loss was finite, not even at {low}")
    best = finite.index(min(finite))
    return LRCurve(lrs[: len(finite)], finite, max(lrs[best] / 10, low))


@contextlib.contextmanager
def _as_it_was(model: Module, optimizer: Optimizer) -> Iterator[None]:
    """Put model, optimiser and lucid's generator back at the end."""
    weights = {name: value.data.copy() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    modes = [(module, module.training) for module in model.modules()]
    try:
        with _random.restored():
            yield
    finally:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        optimizer.zero_grad()
        for module, training in modes:
            module.training = training
