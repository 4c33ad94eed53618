"""The training loop: epochs over batches, and the score of a model on a data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lucid.autograd import Tensor, no_grad
from lucid.graph import evaluation
from lucid.nn import CrossEntropyLoss, Module
from lucid.optim import Optimizer

Batches = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Tensor, Tensor], Tensor]


class DivergedError(RuntimeError):
    """The loss is not a finite number any more."""


@dataclass(frozen=True)
class Score:
    """How a classifier does on some images: mean loss, and how many it names correctly.

    Args:
        loss: the mean cross-entropy of an image.
        correct: how many images were named correctly.
        count: how many there were.

    Example:
        >>> score = training.Score(loss=0.25, correct=3, count=4)
        >>> score.accuracy
        0.75
        >>> print(score)
        loss 0.2500, accuracy 75.00 %
    """

    loss: float
    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """The share of correct answers, between 0 and 1."""
        return self.correct / self.count if self.count else 0.0

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}, accuracy {100 * self.accuracy:.2f} %"


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: ``train`` was scored on the way, ``validation`` after it.

    Args:
        number: counted from 1.
        train: on the training images, while the model changed.
        validation: on images that are not trained on.
        seconds: how long it took.
    """

    number: int
    train: Score
    validation: Score
    seconds: float

    def record(self) -> dict[str, Any]:
        """Return it as the history of a run has it: plain numbers; None for a loss not finite."""
        return {
            "epoch": self.number,
            "train_loss": finite(self.train.loss),
            "train_accuracy": self.train.accuracy,
            "validation_loss": finite(self.validation.loss),
            "validation_accuracy": self.validation.accuracy,
            "seconds": round(self.seconds, 3),
        }


def finite(loss: float) -> float | None:
    """Return a loss; None for NaN and infinity, which JSON does not have."""
    return loss if math.isfinite(loss) else None


class _Meter:
    """Adds up the scores of batches of different sizes."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.correct = 0
        self.count = 0

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        size = labels.shape[0]
        self.loss += loss * size
        self.correct += int((logits.data.argmax(axis=1) == labels.data).sum())
        self.count += size

    def score(self) -> Score:
        return Score(self.loss / max(self.count, 1), self.correct, self.count)


def evaluate(model: Module, batches: Batches) -> Score:
    """Return the cross-entropy and the accuracy of ``model`` on ``batches``.

    The model runs in evaluation mode without recording, and each of its modules comes back in the
    mode it had.

    Args:
        model: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
        batches: pairs of images and integer labels ``(N,)``, such as a ``DataLoader``.

    Example:
        >>> batch = lucid.tensor([[0.0, 9.0], [9.0, 0.0]]), lucid.tensor([1, 1])
        >>> training.evaluate(nn.Identity(), [batch]).accuracy
        0.5
        >>> training.evaluate(nn.Identity(), [batch, batch]).count
        4
    """
    criterion = CrossEntropyLoss()
    meter = _Meter()
    with evaluation(model), no_grad():
        for images, labels in batches:
            logits = model(images)
            meter.add(criterion(logits, labels).item(), logits, labels)
    return meter.score()


def train_epoch(
    model: Module,
    batches: Batches,
    optimizer: Optimizer,
    *,
    criterion: LossFunction,
    after_step: Callable[[Score], Any] | None = None,
) -> Score:
    """Take one optimiser step a batch, and return the score on the way.

    Args:
        model: is put into training mode and stays there. If it is in training mode already, layers
            frozen with ``eval()`` stay frozen.
        batches: pairs of images and integer labels.
        optimizer: holds the model's parameters.
        criterion: the loss, from logits and labels.
        after_step: called after each step with the score so far: for schedules and progress bars.

    Raises:
        DivergedError: as soon as a loss is not finite; that batch does not change the model's
            parameters.
    """
    meter = _Meter()
    if not model.training:
        model.train()
    for images, labels in batches:
        logits = model(images)
        loss = criterion(logits, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"the loss became {value}; try a lower learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.add(value, logits, labels)
        if after_step is not None:
            after_step(meter.score())
    return meter.score()


def fit(
    model: Module,
    train: Batches,
    validation: Batches,
    optimizer: Optimizer,
    *,
    epochs: int,
    start: int = 0,
    criterion: LossFunction | None = None,
    after_step: Callable[[Score], Any] | None = None,
) -> Iterator[Epoch]:
    """Train for some epochs and yield after each one, for the caller to print, save or stop.

    Args:
        model: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
        train: what to train on; gone through once an epoch.
        validation: batches that are not trained on.
        optimizer: holds the model's parameters.
        epochs: the number of the last epoch.
        start: the number of epochs already done.
        criterion: the loss; cross-entropy by default.
        after_step: called after each optimiser step with the epoch's score so far.

    Example:
        >>> batch = lucid.tensor([[1.0, 0.0], [0.0, 1.0]]), lucid.tensor([0, 1])
        >>> model = nn.Linear(2, 2)
        >>> optimizer = optim.SGD(model.parameters(), lr=1.0)
        >>> for epoch in training.fit(model, [batch], [batch], optimizer, epochs=2):
        ...     print(epoch.number, epoch.train.count)
        1 2
        2 2
        >>> print(epoch.validation)
        loss ..., accuracy 100.00 %
    """
    criterion = criterion or CrossEntropyLoss()
    for number in range(start + 1, epochs + 1):
        began = time.perf_counter()
        score = train_epoch(model, train, optimizer, criterion=criterion, after_step=after_step)
        yield Epoch(number, score, evaluate(model, validation), time.perf_counter() - began)


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Return the factor of the learning rate at ``step``: linear warm-up, then half a cosine.

    It rises from ``1 / warmup`` to 1 over the first ``warmup`` steps, then falls to 0 at
    ``total`` (Loshchilov & Hutter, 2017, "SGDR", equation 5, without restarts).

    Args:
        step: the number of optimiser steps already taken.
        total: the number of steps altogether.
        warmup: how many of them warm up.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
