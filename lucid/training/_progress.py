"""How far a run is within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from lucid import _random
from lucid.autograd import Tensor
from lucid.data import DataLoader
from lucid.training._description import Description
from lucid.training._loop import Meter
from lucid.training._on_ranks import least_of


class Progress:
    """The batches of an epoch, of which some may be done already.

    Args:
        loader: draws the order of an epoch when it begins.
        least: batches of which a rank has fewer images are passed over.
        description: says how many batches are done.

    Attributes:
        meter: the score of the epoch so far.
        done: how many batches were taken from the loader.
    """

    def __init__(self, loader: DataLoader, least: int, description: Description) -> None:
        self._loader = loader
        self._least = least
        self._description = description
        self._began: Any = None  # lucid's generator at the beginning of the epoch
        self._taken: list[int] = []  # the numbers of the batches that were not passed over
        self.meter = Meter()
        self.done = 0

    def begin(self) -> Meter:
        """Return the score of the epoch that begins or goes on, so far."""
        if not self._description.batch:
            self.meter = Meter()
        return self.meter

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.done = self._description.batch
        self._taken = []
        if self.done:
            with _random.restored(self._began):
                batches = self._loader.all_batches(self.done)  # draws the order at once
        else:
            self._began = _random.generator().bit_generator.state
            batches = self._loader.all_batches()
        for number, batch in enumerate(batches, self.done):
            self.done = number + 1
            if least_of(0 if batch is None else len(batch[1])) >= self._least:
                self._taken.append(number)
                yield batch

    def samples(self, batch: int) -> list[int]:
        """Return which samples a batch had; batches are counted from the first one taken."""
        with _random.restored(self._began):
            order = np.fromiter(self._loader.sampler, np.int64)
        start = self._taken[batch] * self._loader.batch_size
        return [int(index) for index in order[start : start + self._loader.batch_size]]

    def state_dict(self) -> dict[str, Any]:
        """Return what an epoch needs to go on."""
        return {"random": self._began, "meter": asdict(self.meter)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the epoch go on as ``state`` says."""
        _random.check_state(state["random"])
        self._began, self.meter = state["random"], Meter(**state["meter"])
