"""Batches out of samples."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._collate import Rows, default_collate
from lucid.data._dataset import Array, Dataset, take
from lucid.data._sampler import RandomSampler, Sampler, SequentialSampler, check_rank, part_of_batch

# A batch that has been put together, and the samples that it has to do without.
_Loaded = tuple[Any, list["PassedOverError"]]


class PassedOverError(ValueError):
    """A sample that cannot be had: a loader tells that, and leaves it out of its batch.

    Args:
        message: what is wrong with it.
        tell: called with the message when the turn of its batch comes.
    """

    def __init__(self, message: str, tell: Callable[[str], Any]) -> None:
        super().__init__(message)
        self.tell = tell


class DataLoader:
    """Go over a dataset in batches; each ``for`` loop is one epoch.

    A dataset with a method ``batch`` gathers a batch in one go, in this thread. Of others the
    samples are fetched one by one, in ``num_workers`` threads if any (in PyTorch processes), and
    put together by ``collate_fn``. Pillow and NumPy work without Python's lock for the most part,
    so threads keep the cores busy, and nothing has to be carried between processes.

    The batches of a seed are the same whatever the number of workers: each epoch begins by drawing
    the order and one number from lucid's generator, and what is random about a sample is drawn
    from a generator that is made of that number and the sample's place in the epoch.

    A sample that cannot be read any more is left out if the dataset says so
    (:func:`lucid.data.readable`); a batch that is None, since nothing of it can be read, is passed
    over. Other errors are raised when the turn of their batch comes. The threads end with the
    epoch: also by an error, an interrupt, or when its iterator is dropped.

    Args:
        dataset: has a length and samples.
        batch_size: how many samples a batch has; the last one may have fewer.
        shuffle: go over the samples in another order each time, drawn from lucid's generator.
        sampler: the indices of an epoch, in its order; instead of ``shuffle``.
        drop_last: leave out a last batch that would be smaller.
        collate_fn: makes a batch of a list of samples; :func:`default_collate` if left out.
        transform: changes the inputs of each batch, such as an augmentation: a function of the
            first (or only) array of the batch, ``(N, ...)``, that returns another. It runs in this
            thread, and draws from lucid's generator.
        num_workers: how many threads load samples ahead of their turn; with 0 this thread loads
            them when it is asked for a batch.
        prefetch_factor: how many batches are loaded ahead for each of these threads.
        part: ``(rank, ranks)``: of each batch, give the part of one of several ranks: a stretch
            from its front and the same one from its end, as MixUp and CutMix mix these. Together
            they give what one loader would, and all draw the same from lucid's generator: a
            ``transform`` is given the whole batch, of which the part is kept.

    Attributes:
        sampler: the order.

    Raises:
        TypeError: if ``dataset`` has no length or no samples, or an argument is of a wrong type.
        ValueError: if ``batch_size`` or ``prefetch_factor`` is below 1 or ``num_workers`` below 0,
            if there are both ``shuffle`` and ``sampler``, or if there is no such part.

    Example:
        >>> dataset = data.TensorDataset(lucid.zeros(5, 2), lucid.arange(5.0))
        >>> loader = data.DataLoader(dataset, batch_size=2)
        >>> len(loader)
        3
        >>> for x, label in loader:
        ...     print(x.shape, label)
        (2, 2) tensor([0., 1.])
        (2, 2) tensor([2., 3.])
        (1, 2) tensor([4.])
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        sampler: Sampler | None = None,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        part: tuple[int, int] | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                "DataLoader: a dataset needs __len__ and __getitem__, which "
                f"{type(dataset).__name__} does not have"
            )
        self.batch_size = count(batch_size, "batch_size", "DataLoader")
        self.num_workers = count(num_workers, "num_workers", "DataLoader", 0)
        self.prefetch_factor = count(prefetch_factor, "prefetch_factor", "DataLoader")
        for name, function in (("collate_fn", collate_fn), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"DataLoader: {name} must be a function, got {function!r}")
        if sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        elif shuffle:
            raise ValueError("DataLoader: a sampler has an order of its own; leave out shuffle")
        elif not hasattr(sampler, "__len__") or not hasattr(sampler, "__iter__"):
            raise TypeError(
                "DataLoader: a sampler needs __len__ and __iter__, which "
                f"{type(sampler).__name__} does not have"
            )
        self.dataset = dataset
        self.shuffle = shuffle
        self.sampler = sampler
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform
        self.part = part
        if part is not None:
            check_rank(*part, "DataLoader")

    def __len__(self) -> int:
        """Return the number of batches."""
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Any]:
        """Return an iterator over one epoch that begins at a batch; those before are not loaded.

        Order and random changes are those of a whole epoch, and are drawn at once.

        Args:
            start: the number of the first batch, counted from 0.

        Raises:
            ValueError: if it is negative.

        Example:
            >>> loader = data.DataLoader(data.TensorDataset(lucid.arange(5)), batch_size=2)
            >>> [x.tolist() for (x,) in loader.batches(start=1)]
            [[2, 3], [4]]
        """
        batches = self.all_batches(start)
        return (batch for batch in batches if batch is not None)

    def all_batches(self, start: int = 0) -> Iterator[Any]:
        """Return an iterator as :meth:`batches` does, with None for a batch without samples."""
        count(start, "start", "DataLoader", 0)
        order = np.fromiter(self.sampler, np.int64)
        size = self.batch_size
        places: list[Sequence[int]]
        places = [range(n * size, min(n * size + size, len(order))) for n in range(len(self))]
        if self.part is not None and self.transform is None:
            places = [
                [batch[row] for row in part_of_batch(len(batch), *self.part)] for batch in places
            ]
        gather = None if self.collate_fn else getattr(self.dataset, "batch", None)
        if gather is not None:
            loaded = (gather(order[batch]) if batch else None for batch in places[start:])
        else:
            epoch = _Epoch(self.dataset, order, self.collate_fn or default_collate)
            if self.num_workers:
                ahead = self.num_workers * self.prefetch_factor
                loaded = epoch.in_threads(places[start:], self.num_workers, ahead)
            else:
                loaded = epoch.in_turn(places[start:])
        return self._transformed(loaded)

    def _transformed(self, batches: Generator[Any, None, None]) -> Iterator[Any]:
        with contextlib.closing(batches):  # also when an error keeps this frame
            for batch in batches:
                if batch is None or self.transform is None:
                    yield batch
                    continue
                batch = _transformed(batch, self.transform)
                yield batch if self.part is None else _part(batch, self.part)


class _Epoch:
    """Loads the samples of one epoch, each by its place in the order."""

    def __init__(
        self, dataset: Dataset, order: Array, collate_fn: Callable[[list[Any]], Any]
    ) -> None:
        self._dataset = dataset
        self._order = order
        self._collate_fn = collate_fn
        self._seed = int(_random.generator().integers(2**63))

    def in_turn(self, batches: list[Sequence[int]]) -> Generator[Any, None, None]:
        """Yield batches, each loaded when it is asked for."""
        for places in batches:
            rows = Rows(len(places))
            samples = (self._sample(place, rows, row) for row, place in enumerate(places))
            yield _told(self._together(places, samples))

    def in_threads(
        self, batches: list[Sequence[int]], workers: int, ahead: int
    ) -> Generator[Any, None, None]:
        """Yield batches, of which so many are loaded ahead."""
        pool = ThreadPoolExecutor(workers, "lucid-loader")
        begun: deque[Future[_Loaded]] = deque()
        try:
            for places in batches:
                begun.append(self._begin(pool, places))
                if len(begun) > ahead:
                    yield _told(begun.popleft().result())
            while begun:
                yield _told(begun.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, places: Sequence[int]) -> Future[_Loaded]:
        # Threads take their work in order: all samples are begun before they are waited for.
        rows = Rows(len(places))
        samples = [pool.submit(self._sample, place, rows, row) for row, place in enumerate(places)]
        return pool.submit(lambda: self._together(places, (sample.result() for sample in samples)))

    def _sample(self, place: int, rows: Rows, row: int) -> Any:
        with _random.seeded(self._seed, place):
            try:
                sample = self._dataset[int(self._order[place])]
            except PassedOverError as error:
                return error
        if self._collate_fn is not default_collate:
            return sample
        return rows.moved(sample, row)

    def _together(self, places: Sequence[int], samples: Iterator[Any]) -> _Loaded:
        kept: list[Any] = []
        passed_over: list[PassedOverError] = []
        for sample in samples:
            (passed_over if isinstance(sample, PassedOverError) else kept).append(sample)
        if not kept:
            return None, passed_over
        with _random.seeded(self._seed, places[0], 1):  # another one than the first sample's
            return self._collate_fn(kept), passed_over


def _told(loaded: _Loaded) -> Any:
    """Return a batch, after telling which samples it has to do without."""
    batch, passed_over = loaded
    for error in passed_over:
        error.tell(str(error))
    return batch


def _part(batch: Any, part: tuple[int, int]) -> Any:
    """Return the part of a whole batch that belongs to a rank; None if that has no samples."""
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    rows = part_of_batch(len(first), *part)
    return _rows(batch, rows) if len(rows) else None


def _rows(batch: Any, rows: Array) -> Any:
    if isinstance(batch, Tensor):
        return wrap(take(batch.data, rows))
    if isinstance(batch, Mapping):
        return {key: _rows(column, rows) for key, column in batch.items()}
    if isinstance(batch, (tuple, list)) and not isinstance(batch[0], (str, bytes)):
        columns = [_rows(column, rows) for column in batch]
        return type(batch)(*columns) if hasattr(batch, "_fields") else type(batch)(columns)
    return [batch[row] for row in rows]


def _transformed(batch: Any, transform: Callable[[Any], Any]) -> Any:
    if isinstance(batch, (tuple, list)):
        return type(batch)((_transformed(batch[0], transform), *batch[1:]))
    if not isinstance(batch, Tensor):
        raise TypeError(
            "DataLoader: transform expects batches that are a tensor or begin with one, "
            f"got {type(batch).__name__}"
        )
    result = transform(batch.data)
    return result if isinstance(result, Tensor) else wrap(result)
