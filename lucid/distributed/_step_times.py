"""The parts of a training step on one rank, and when each gradient is there."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lucid import nn, optim
from lucid._check import count
from lucid.autograd import Tensor
from lucid.distributed._wire import Wire
from lucid.nn import functional

_FEWEST_RUNS = 3
_COPIED = 1 << 24  # bytes: more than the caches near a core hold
_MEMORY_LATENCY = 2e-6  # of a message between two processes of a machine, some microseconds


@dataclass(frozen=True)
class StepTimes:
    """What the parts of a training step take on one rank, in seconds.

    Attributes:
        batch_size: its images.
        forward: of the model and the loss.
        backward: of all gradients.
        optimizer: of the update.
        gradients: for each, in the order in which they are there: the time since backward began,
            and its bytes.
        batch_norms: the channels of each batch norm.
        fixed: what of forward and backward does not grow with the batch.
        copy: what copying a byte in memory takes.
        runs: of the measured steps, each over their median: how unlike they are.
    """

    batch_size: int
    forward: float
    backward: float
    optimizer: float
    gradients: tuple[tuple[float, int], ...]
    batch_norms: tuple[int, ...] = ()
    fixed: float = 0.0
    copy: float = 0.0
    runs: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.forward + self.backward + self.optimizer

    @property
    def nbytes(self) -> int:
        """The bytes of all gradients."""
        return sum(nbytes for _, nbytes in self.gradients)

    @property
    def memory(self) -> Wire:
        """What carries messages between two ranks of a machine: written by one, read by one."""
        return Wire(0.5 / self.copy if self.copy else float("inf"), _MEMORY_LATENCY)

    def waiting(self, ranks: int) -> float:
        """Return what a step is longer that ends with the slowest of so many ranks, on average."""
        if ranks == 1:
            return 0.0
        runs, number = sorted(self.runs), len(self.runs)
        return self.seconds * sum(
            run * ((at / number) ** ranks - ((at - 1) / number) ** ranks - 1 / number)
            for at, run in enumerate(runs, 1)
        )

    def at(self, batch_size: int) -> StepTimes:
        """Return the times with another batch, on a line through what was measured."""
        count(batch_size, "batch_size", "StepTimes.at")
        measured = self.forward + self.backward
        grown = self.fixed + (measured - self.fixed) * batch_size / self.batch_size
        factor = grown / measured
        return replace(
            self,
            batch_size=batch_size,
            forward=self.forward * factor,
            backward=self.backward * factor,
            gradients=tuple((there * factor, nbytes) for there, nbytes in self.gradients),
        )


@dataclass(frozen=True)
class StepRun:
    """One run of a step, in seconds; of each gradient, by its parameter's name, when it was there
    since backward began.
    """

    forward: float
    backward: float
    optimizer: float
    gradients: dict[str, float]

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.forward + self.backward + self.optimizer


def time_steps(model: nn.Module, images: np.ndarray, seconds: float) -> list[StepRun]:
    """Return the runs of a training step with SGD that fit in so many seconds, at least three.

    One more goes before them and warms up. The model learns that all images are of class 0.
    """
    model.train()
    optimizer = optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    x, y = Tensor(images), Tensor(np.zeros(len(images), np.int64))
    there: dict[str, float] = {}

    def note(name: str, _: Tensor) -> None:
        there[name] = time.perf_counter()

    removers = [
        parameter.register_post_accumulate_grad_hook(partial(note, name))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    runs: list[StepRun] = []
    warm = False
    while len(runs) < _FEWEST_RUNS or sum(run.seconds for run in runs) < seconds:
        optimizer.zero_grad()
        start = time.perf_counter()
        loss = functional.cross_entropy(model(x), y)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        optimizer.step()
        done = time.perf_counter()
        if warm:
            since = {name: moment - forward for name, moment in there.items()}
            runs.append(StepRun(forward - start, backward - forward, done - backward, since))
        warm = True
    for remove in removers:
        remove()
    return runs


def measure_step(
    model: nn.Module, input_shape: Sequence[int], *, seconds: float = 2.0
) -> StepTimes:
    """Measure a training step of a copy of a model that returns logits, on this process's threads.

    Args:
        model: it remains as it is.
        input_shape: of the images: (N, C, H, W).
        seconds: for the measurement; a quarter of it takes a smaller batch, through which the line
            goes on which :meth:`StepTimes.at` finds others.

    Example:
        >>> from lucid import models
        >>> from lucid.distributed import measure_step, plan
        >>> model = models.mobilenet_v4_conv_small(num_classes=10)
        >>> step = measure_step(model, (2, 3, 64, 64), seconds=0.1)
        >>> print(plan(step, ranks=64, network="10Gbit"))  # doctest: +SKIP
    """
    images = np.random.default_rng(0).standard_normal(tuple(input_shape)).astype(np.float32)
    return step_times(copy.deepcopy(model), images, seconds)


def step_times(model: nn.Module, images: np.ndarray, seconds: float) -> StepTimes:
    """Measure a training step of a model, which learns nonsense meanwhile."""
    few = max(2, len(images) // 4)  # batch norm needs two
    step = of_runs(model, len(images), time_steps(model, images, seconds))
    if few >= len(images):
        return step
    return on_a_line(step, of_runs(model, few, time_steps(model, images[:few], seconds / 4)))


def on_a_line(step: StepTimes, smaller: StepTimes) -> StepTimes:
    """Return ``step`` with what does not grow with the batch, told by a smaller one."""
    both, its = (one.forward + one.backward for one in (step, smaller))
    each = max(0.0, (both - its) / (step.batch_size - smaller.batch_size))
    return replace(step, fixed=max(0.0, both - each * step.batch_size))


def of_runs(model: nn.Module, batch_size: int, runs: Sequence[StepRun]) -> StepTimes:
    """Return the medians of some runs of a model's training step."""
    forward, backward, optimizer = (
        statistics.median(getattr(run, part) for run in runs)
        for part in ("forward", "backward", "optimizer")
    )
    sizes = {name: parameter.data.nbytes for name, parameter in model.named_parameters()}
    gradients = sorted(
        (min(backward, statistics.median(run.gradients[name] for run in runs)), sizes[name])
        for name in runs[0].gradients
    )
    norms = (m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    whole = statistics.median(run.seconds for run in runs)
    return StepTimes(
        batch_size=batch_size,
        forward=forward,
        backward=backward,
        optimizer=optimizer,
        gradients=tuple(gradients),
        batch_norms=tuple(norms),
        copy=_copy_seconds(),
        runs=tuple(run.seconds / whole for run in runs),
    )


def _copy_seconds() -> float:
    """Return the seconds that copying a byte takes."""
    source, target = np.ones((2, _COPIED), np.uint8)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return min(times) / _COPIED
