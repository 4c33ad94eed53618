"""TensorBoard's event files."""

from __future__ import annotations

import os
import time
from typing import Any

from lucid._extras import extra
from lucid.training._loop import Epoch, Score
from lucid.training._run import Callback, Run


class TensorBoard(Callback):
    """Writes event files, which TensorBoard shows as curves over the steps of a run.

    After each step these are the learning rate and the epoch's loss so far, after each epoch the
    losses and accuracies. tensorboardX writes them, the extra ``tensorboard``.

    Args:
        folder: where they go; ``tensorboard`` among the run's files if left out.

    Raises:
        ImportError: if tensorboardX is not installed.

    Example::

        recipe = training.Recipe(data="digits", epochs=1, size=32, limit=40)
        with training.Run.create("runs/digits", recipe) as run:
            run.prepare()
            for epoch in run.fit([training.TensorBoard()]):
                print(epoch.validation)
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        module = extra("tensorboardX", "tensorboard", "event files need tensorboardX")
        self._open = module.SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Begin a file; what an earlier one has of steps that will come again is hidden.

        Args:
            run: whose steps are shown.
        """
        done = run.scheduler.last_epoch
        folder = os.fspath(self._folder or run.files.tensorboard)
        # By name a file is only of its second: one begun in the same would write over the other.
        self._writer = self._open(
            folder,
            purge_step=done + 1 if done else None,
            filename_suffix=f".{time.time_ns()}",
        )

    def on_step(self, run: Run, score: Score) -> None:
        """Write the epoch's loss so far and the learning rate.

        Args:
            run: the run.
            score: that of the epoch so far.
        """
        rate = max(group["lr"] for group in run.optimizer.param_groups)
        self._add(run, {"step/loss": score.loss, "step/learning_rate": rate})

    def on_epoch(self, run: Run, epoch: Epoch) -> None:
        """Write losses and accuracies.

        Args:
            run: the run.
            epoch: what it did.
        """
        for name, score in (("train", epoch.train), ("validation", epoch.validation)):
            self._add(run, {f"loss/{name}": score.loss, f"accuracy/{name}": score.accuracy})
        self._writer.flush()

    def on_end(self, run: Run) -> None:
        """Close the file.

        Args:
            run: the run.
        """
        if self._writer is not None:
            self._writer.close()

    def _add(self, run: Run, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, run.scheduler.last_epoch)
