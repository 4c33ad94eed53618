"""The training loop: epochs over batches, and the score of a model on a data set."""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lucid import kernels
from lucid._compile import CompiledModel, compile
from lucid.autograd import Tensor, no_grad
from lucid.graph import evaluation
from lucid.nn import CrossEntropyLoss, Module
from lucid.nn._parameter import overwrite
from lucid.nn.utils import clip_grad_norm_
from lucid.optim import Optimizer
from lucid.optim.swa_utils import AveragedModel
from lucid.training._batches_on_ranks import ranks_of

Batch = tuple[Tensor, ...]  # images, labels, and what else a loss wants
Batches = Iterable[Batch]
LossFunction = Callable[..., Tensor]

# With a plan a batch takes about 0.7 of the time; to make one takes as long as 7 to 20 batches
# with the model, the more the smaller they are: measured, it pays from 20 to 70 batches on.
_BATCHES_WORTH_A_PLAN = 64


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


@dataclass
class Meter:
    """Adds up the scores of batches of different sizes.

    Args:
        loss: the sum of the losses of all images.
        correct: how many were named correctly.
        count: how many there were.
        seconds: how long they took, if an epoch was interrupted.
    """

    loss: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0

    def add(self, loss: float, correct: int, size: int) -> None:
        self.loss += loss * size
        self.correct += correct
        self.count += size

    def score(self) -> Score:
        return Score(self.loss / max(self.count, 1), self.correct, self.count)


@contextlib.contextmanager
def answering(model: Module, batches: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield what answers so many batches: the model, or over many a plan of its weights of now.

    The model is in evaluation mode meanwhile and records nothing. It itself answers batches that
    are not like the first, and all if it cannot be compiled. The number alone decides, not the
    time, so that a seed means one result.
    """
    plan: CompiledModel | None = None
    is_due = batches >= _BATCHES_WORTH_A_PLAN

    def answer(images: Tensor) -> Tensor:
        nonlocal plan, is_due
        if is_due:
            is_due = False
            with contextlib.suppress(Exception):  # what the model cannot do, it says itself
                kernels.warm_up()  # the same answers, whatever was compiled before
                plan = compile(model, images.shape, keep_module=False)
        return plan(images) if plan is not None and plan.foresees(images) else model(images)

    try:
        with evaluation(model), no_grad():
            yield answer
    finally:
        if plan is not None:
            plan.release()


def evaluate(model: Module, batches: Batches) -> Score:
    """Return the cross-entropy and the accuracy of ``model`` on ``batches``.

    The model runs in evaluation mode without recording, over many batches as a compiled plan; each
    of its modules comes back in the mode it had.

    Args:
        model: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
        batches: pairs of images and labels, such as a ``DataLoader``: integers ``(N,)``, or the
            shares of the classes ``(N, classes)``, of which the largest is the answer.

    Example:
        >>> batch = lucid.tensor([[0.0, 9.0], [9.0, 0.0]]), lucid.tensor([1, 1])
        >>> training.evaluate(nn.Identity(), [batch]).accuracy
        0.5
        >>> training.evaluate(nn.Identity(), [batch, batch]).count
        4
    """
    criterion = CrossEntropyLoss()
    meter = Meter()
    with answering(model, operator.length_hint(batches)) as answer:
        for images, labels, *_ in batches:
            logits = answer(images)
            loss = criterion(logits, labels).item()
            meter.add(loss, _correct(logits, labels), labels.shape[0])
    return meter.score()


def _correct(logits: Tensor, labels: Tensor) -> int:
    """Return how many images were named correctly."""
    answers = labels.data.argmax(axis=1) if labels.ndim > 1 else labels.data
    return int((logits.data.argmax(axis=1) == answers).sum())


def train_epoch(
    model: Module,
    batches: Batches,
    optimizer: Optimizer,
    *,
    criterion: LossFunction,
    after_step: Callable[[Score], Any] | None = None,
    accumulate: int = 1,
    clip_grad: float | None = None,
    averaged: AveragedModel | None = None,
    meter: Meter | None = None,
) -> Score:
    """Take one optimiser step a batch, or one for several, and return the score on the way.

    Args:
        model: is put into training mode and stays there. If it is in training mode already, layers
            frozen with ``eval()`` stay frozen.
        batches: pairs of images and labels, as :func:`evaluate` takes them; what a batch holds
            behind these two is handed to the loss.
        optimizer: holds the model's parameters.
        criterion: the loss, from logits and labels, the mean over a batch.
        after_step: called after each step with the score so far: for schedules and progress bars.
        accumulate: how many batches make one step, as one large batch would; only batch norms see
            the parts. Each counts by its images; the last step of an epoch may have fewer.
        clip_grad: the largest norm of all gradients together; longer ones are scaled down to it.
        averaged: takes the weights in after each step.
        meter: adds to this score, of an epoch that goes on.

    With a :class:`lucid.distributed.DistributedOptimizer` each rank has its part of each batch: the
    mean is over all of them, and the score is that of all.

    Raises:
        DivergedError: as soon as a loss is not finite; that batch does not change the model's
            parameters.
        RuntimeError: if other ranks have more batches than this one.
    """
    meter = meter or Meter()
    if not model.training:
        model.train()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    ranks = ranks_of(optimizer)
    done = 0
    iterator = ranks.in_step(iter(batches))
    while True:
        sizes: list[int] = []  # of the batches of this step, on all ranks together
        for images, labels, *more in islice(iterator, accumulate):
            if not sizes:
                optimizer.zero_grad()
            sizes.append(ranks.whole)
            with ranks.drawing(meter.count):
                logits = model(images)
                loss = criterion(logits, labels, *more)
                value = loss.item()
                ranks.check(value, model, images, done)
                done += 1
                share = ranks.share(labels) * sizes[-1] / sizes[0]
                with ranks.reducing(is_last=len(sizes) == accumulate):
                    (loss if share == 1 else loss * share).backward()
            value, correct = ranks.together(value, _correct(logits, labels), labels)
            meter.add(value, correct, sizes[-1])
        if not sizes:
            return meter.score()
        ranks.synchronize()
        if len(sizes) > 1:  # the gradients of a sum become those of the mean
            _scale_gradients(parameters, sizes[0] / sum(sizes))
        if clip_grad is not None:
            clip_grad_norm_(parameters, clip_grad)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        if after_step is not None:
            after_step(meter.score())


def _scale_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None:
            overwrite(gradient, gradient.data * gradient.dtype.type(factor))


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
    accumulate: int = 1,
    clip_grad: float | None = None,
    averaged: AveragedModel | None = None,
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
        accumulate: as in :func:`train_epoch`, as is ``clip_grad``.
        clip_grad: the largest norm of the gradients.
        averaged: takes the weights in after each step, and is what ``validation`` scores.

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
        score = train_epoch(
            model,
            train,
            optimizer,
            criterion=criterion,
            after_step=after_step,
            accumulate=accumulate,
            clip_grad=clip_grad,
            averaged=averaged,
        )
        held_out = evaluate(model if averaged is None else averaged, validation)
        yield Epoch(number, score, held_out, time.perf_counter() - began)


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
