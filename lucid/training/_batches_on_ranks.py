"""The steps of a training loop with batches of which each rank has a part.

On one rank nothing is done: :class:`OneRank` says what there is to do on several.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid import _random, _ranks
from lucid.autograd import Tensor
from lucid.distributed import DistributedOptimizer
from lucid.nn import CrossEntropyLoss, Module
from lucid.optim import Optimizer
from lucid.training._diverged import diverged

Batch = tuple[Tensor, ...]


def add_up(*numbers: float) -> list[float]:
    """Return the sums over all ranks."""
    return _ranks.all_reduce(np.array(numbers, np.float64)).tolist()


class WholeBatchLoss(Module):
    """Weighted cross-entropy, for a mean over ranks: its denominator is that of the whole batch.

    Args:
        loss: its mean is over the weights of the classes of a batch.
    """

    def __init__(self, loss: CrossEntropyLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss that this rank's part contributes, for an image of it."""
        loss = self.loss(logits, labels)
        if labels.ndim > 1 or self.loss.weight is None:  # the mean is over the images then
            return loss
        own = float(self.loss.weight.data[labels.data].sum(dtype=np.float64))
        weights, images = add_up(own, len(labels))
        return loss * (own / weights * images / len(labels))


def of_whole_batch(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a loss whose mean over the ranks, by their images, is that of the whole batch."""
    if not _ranks.is_initialized():
        return loss
    if isinstance(loss, CrossEntropyLoss):
        return WholeBatchLoss(loss)
    criterion = getattr(loss, "criterion", None)  # beside a teacher
    if isinstance(loss, Module) and isinstance(criterion, CrossEntropyLoss):
        loss.criterion = WholeBatchLoss(criterion)
    return loss


class OneRank:
    """What a training loop does with batches, where it is alone.

    Attributes:
        whole: how many images the present batch has, on all ranks together.
    """

    whole = 0

    def in_step(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches."""
        for batch in batches:
            self.whole = batch[1].shape[0]
            yield batch

    def drawing(self, seen: int) -> contextlib.AbstractContextManager[Any]:
        """Return where the model's layers draw, given how many images the epoch has had."""
        return contextlib.nullcontext()

    def share(self, labels: Tensor) -> float:
        """Return what this rank's loss counts in the mean over ranks."""
        return 1.0

    def check(self, loss: float, model: Module, images: Tensor, batch: int) -> None:
        """Raise DivergedError if the loss is not finite."""
        if not math.isfinite(loss):
            raise diverged(model, images, loss, batch)

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return where to go backward; ``is_last`` says whether a step follows."""
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Wait until the gradients are those of all ranks."""

    def mean(self, loss: float, labels: Tensor) -> float:
        """Return the mean loss of the whole batch."""
        return loss

    def together(self, loss: float, correct: int, labels: Tensor) -> tuple[float, int]:
        """Return the mean loss, and the correct answers, of the whole batch."""
        return loss, correct


class AllRanks(OneRank):
    """What it does with batches of which each rank has a part.

    Args:
        optimizer: averages the gradients.
    """

    def __init__(self, optimizer: DistributedOptimizer) -> None:
        self._optimizer = optimizer
        self._checked: Any = None

    def in_step(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, once all ranks have theirs.

        Raises:
            RuntimeError: if some ranks have more of them than others.
        """
        ranks = _ranks.size()
        while True:
            batch = next(batches, None)
            own = 0 if batch is None else batch[1].shape[0]
            whole, having = map(int, add_up(own, own > 0))
            if not having:
                return
            if batch is None or having < ranks:
                raise RuntimeError(
                    f"{ranks - having} of {ranks} ranks have no more batches, or an empty one: "
                    "each has to have as many as the others"
                )
            self.whole = whole
            yield batch

    def drawing(self, seen: int) -> contextlib.AbstractContextManager[Any]:
        """Let the layers draw from a generator of this rank: the common one stays common."""
        state = _random.generator().bit_generator.state["state"]["state"]
        return _random.seeded(state, seen, _ranks.rank())

    def share(self, labels: Tensor) -> float:
        """Return what this rank's loss counts: by its images."""
        return labels.shape[0] * _ranks.size() / self.whole

    def check(self, loss: float, model: Module, images: Tensor, batch: int) -> None:
        """Leave it to :meth:`together`, as all ranks have to know."""
        self._checked = loss, model, images, batch

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Reduce gradients as soon as they are there, if they are the sum of a step."""
        return contextlib.nullcontext() if is_last else self._optimizer.no_sync()

    def synchronize(self) -> None:
        """Wait until the gradients are those of all ranks."""
        self._optimizer.synchronize()

    def mean(self, loss: float, labels: Tensor) -> float:
        """Return the mean loss of the whole batch."""
        total, images = add_up(loss * labels.shape[0], labels.shape[0])
        return total / images

    def together(self, loss: float, correct: int, labels: Tensor) -> tuple[float, int]:
        """Return the mean loss, and the correct answers, of the whole batch.

        Raises:
            DivergedError: on all ranks, if the loss of one is not finite.
        """
        total, right = add_up(loss * labels.shape[0], correct)
        if not math.isfinite(total):
            own, model, images, batch = self._checked
            error = diverged(model, images, own, batch)
            found = _ranks.all_gather((math.isfinite(own), error))
            raise next((one for is_finite, one in found if not is_finite), error)
        return total / self.whole, int(right)


def ranks_of(optimizer: Optimizer) -> OneRank:
    """Return what a loop does with batches, given what takes its steps."""
    if isinstance(optimizer, DistributedOptimizer) and _ranks.is_initialized():
        return AllRanks(optimizer)
    return OneRank()
