"""What a loader does for a batch: fetch its samples and put them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lucid import _random
from lucid.data._collate import Empty, Rows, default_collate
from lucid.data._dataset import Dataset
from lucid.kernels._memory import empty

# A batch that has been put together, and the samples that it has to do without.
Fetched = tuple[Any, list["PassedOverError"]]


class PassedOverError(ValueError):
    """A sample that cannot be had: a loader tells that, and leaves it out of its batch.

    Args:
        message: what is wrong with it.
        tell: called with the message when the turn of its batch comes.
    """

    def __init__(self, message: str, tell: Callable[[str], Any]) -> None:
        super().__init__(message)
        self.tell = tell

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.tell)


class Fetcher:
    """Fetches batches of a data set, in any thread or process.

    A batch is told by the places of its samples in the epoch, from which what is random about them
    is drawn, and by their indices in the data set.

    Args:
        dataset: has the samples.
        collate_fn: makes a batch of a list of them.
    """

    def __init__(self, dataset: Dataset, collate_fn: Callable[[list[Any]], Any]) -> None:
        self._dataset = dataset
        self._collate_fn = collate_fn

    def __call__(
        self, seed: int, places: Sequence[int], indices: Sequence[int], empty: Empty = empty
    ) -> Fetched:
        """Return a batch.

        Args:
            seed: the epoch's.
            places: of its samples in the epoch.
            indices: of its samples in the data set.
            empty: makes the memory of large images.
        """
        rows = Rows(len(places), empty)
        samples = (
            self.sample(seed, place, index, rows, row)
            for row, (place, index) in enumerate(zip(places, indices))
        )
        return self.together(seed, places, samples)

    def sample(self, seed: int, place: int, index: int, rows: Rows, row: int) -> Any:
        """Return a sample, its image in its row of the batch; or what tells that it is left out."""
        with _random.seeded(seed, place):
            try:
                sample = self._dataset[int(index)]
            except PassedOverError as error:
                return error
        return rows.moved(sample, row) if self._collate_fn is default_collate else sample

    def together(self, seed: int, places: Sequence[int], samples: Iterable[Any]) -> Fetched:
        """Return the batch of these samples; None in its place if all are left out."""
        kept: list[Any] = []
        passed_over: list[PassedOverError] = []
        for sample in samples:
            (passed_over if isinstance(sample, PassedOverError) else kept).append(sample)
        if not kept:
            return None, passed_over
        with _random.seeded(seed, places[0], 1):  # another one than the first sample's
            return self._collate_fn(kept), passed_over
