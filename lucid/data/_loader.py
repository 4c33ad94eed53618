"""Batches out of samples."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._collate import Rows, default_collate
from lucid.data._dataset import Array, Dataset, take
from lucid.data._fetch import Fetched, Fetcher
from lucid.data._sampler import RandomSampler, Sampler, SequentialSampler, check_rank, part_of_batch
from lucid.data._workers import AVAILABLE, Function, Workers

# Of fewer samples in an epoch, the processes' start takes longer than they save: two take 0.4 s.
_FEW = 1000


class DataLoader:
    """Go over a dataset in batches; each ``for`` loop is one epoch.

    A dataset with a method ``batch`` gathers a batch in one go, in this thread. Of others the
    samples are fetched one by one, by ``num_workers`` workers if any, and put together by
    ``collate_fn``.

    Workers are processes, as in PyTorch. Each has a copy of the dataset as it is when an epoch
    begins, and what a sample changes in it is not seen here; batches come back in shared memory,
    so they are not copied. The processes are new interpreters: a script needs no
    ``if __name__ == "__main__"``, and nothing is forked. They stay for the loader's next epoch,
    and end with the loader. An epoch that does not come to its end ends them too: by an error, an
    interrupt, or as its iterator is dropped.

    Workers are threads where processes cannot serve: for a dataset or ``collate_fn`` that cannot
    be pickled, takes more than 256 MiB so, or is defined in the script that runs or in a notebook;
    on Windows; and for an epoch of fewer than 1,000 samples, which would be over before processes
    have started. The threads end with the epoch.

    The batches of a seed are the same whatever the number of workers and their kind: each epoch
    begins by drawing the order and one number from lucid's generator, and what is random about a
    sample is drawn from a generator made of that number and the sample's place in the epoch.

    A sample that cannot be read any more is left out if the dataset says so
    (:func:`lucid.data.readable`); a batch that is None, since nothing of it can be read, is passed
    over. Other errors are raised when the turn of their batch comes. What a process cannot do is
    tried again in this one, so errors are those of the dataset. A process that is killed is a
    RuntimeError that names it.

    Args:
        dataset: has a length and samples.
        batch_size: how many samples a batch has; the last one may have fewer.
        shuffle: go over the samples in another order each time, drawn from lucid's generator.
        sampler: the indices of an epoch, in its order; instead of ``shuffle``.
        batch_sampler: lists of indices, one a batch, such as a :class:`BatchSampler`; instead of
            ``batch_size``, ``shuffle``, ``sampler`` and ``drop_last``.
        drop_last: leave out a last batch that would be smaller.
        collate_fn: makes a batch of a list of samples; :func:`default_collate` if left out.
        transform: changes the inputs of each batch, such as an augmentation: a function of the
            first (or only) array of the batch, ``(N, ...)``, that returns another. It runs in this
            thread, and draws from lucid's generator.
        num_workers: how many workers load samples ahead of their turn; with 0 this thread loads
            them when it is asked for a batch.
        pin_memory: without effect: there is no other device to copy to.
        persistent_workers: without effect: the processes stay anyhow.
        generator: where ``shuffle`` takes its order from; lucid's generator if left out.
        prefetch_factor: how many batches are loaded ahead for each of these workers.
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
        batch_sampler: Iterable[Sequence[int]] | None = None,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        persistent_workers: bool = False,
        generator: np.random.Generator | None = None,
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
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler or drop_last):
            raise ValueError(
                "DataLoader: a batch_sampler makes the batches; leave out batch_size, shuffle, "
                "sampler and drop_last"
            )
        if sampler is None:
            order = RandomSampler(dataset, generator=generator)
            sampler = order if shuffle else SequentialSampler(dataset)
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
        self.batch_sampler = batch_sampler
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform
        self.part = part
        if part is not None:
            check_rank(*part, "DataLoader")
        self._workers: Workers | None = None  # those of the last epoch, for the next one

    def __len__(self) -> int:
        """Return the number of batches."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
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
        places: list[Sequence[int]]
        if self.batch_sampler is None:
            order = np.fromiter(self.sampler, np.int64)
            size = self.batch_size
            places = [range(n * size, min(n * size + size, len(order))) for n in range(len(self))]
        else:
            lists = [list(batch) for batch in self.batch_sampler]
            order = np.array([index for batch in lists for index in batch], np.int64)
            ends = np.cumsum([len(batch) for batch in lists])
            places = [range(end - len(batch), end) for batch, end in zip(lists, ends.tolist())]
        if self.part is not None and self.transform is None:
            places = [
                [batch[row] for row in part_of_batch(len(batch), *self.part)] for batch in places
            ]
        gather = None if self.collate_fn else getattr(self.dataset, "batch", None)
        if gather is not None:
            loaded = (gather(order[batch]) if batch else None for batch in places[start:])
        else:
            epoch = _Epoch(Fetcher(self.dataset, self.collate_fn or default_collate), order)
            load = self._ahead if self.num_workers else _Epoch.in_turn
            loaded = load(epoch, places[start:])
        return self._transformed(loaded)

    def _ahead(self, epoch: _Epoch, batches: list[Sequence[int]]) -> Generator[Any, None, None]:
        """Yield batches that are loaded ahead; the processes stay for the next epoch."""
        ahead = self.num_workers * self.prefetch_factor
        function = self._function(epoch, batches)
        if function is None:
            yield from epoch.in_threads(batches, self.num_workers, ahead)
            return
        workers, self._workers = self._workers or Workers(self.num_workers), None
        yield from epoch.in_processes(batches, function, workers, ahead)
        self._workers = workers

    def _function(self, epoch: _Epoch, batches: list[Sequence[int]]) -> Function | None:
        """Return what processes are to call; None if it stays here, or they are not worth it."""
        if not AVAILABLE or (self._workers is None and sum(map(len, batches)) < _FEW):
            return None
        try:
            return Function(epoch.fetcher)
        except ValueError:
            return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workers": None}

    def _transformed(self, batches: Generator[Any, None, None]) -> Iterator[Any]:
        with contextlib.closing(batches):  # also when an error keeps this frame
            for batch in batches:
                if batch is None or self.transform is None:
                    yield batch
                    continue
                batch = _transformed(batch, self.transform)
                yield batch if self.part is None else _part(batch, self.part)


class _Epoch:
    """The batches of one epoch, each told by the places of its samples in the order."""

    def __init__(self, fetcher: Fetcher, order: Array) -> None:
        self.fetcher = fetcher
        self._order = order
        self._seed = int(_random.generator().integers(2**63))

    def in_turn(self, batches: list[Sequence[int]]) -> Generator[Any, None, None]:
        """Yield batches, each loaded when it is asked for."""
        for places in batches:
            yield _told(self.fetcher(self._seed, places, self._indices(places)))

    def in_threads(
        self, batches: list[Sequence[int]], threads: int, ahead: int
    ) -> Generator[Any, None, None]:
        """Yield batches, of which so many are loaded ahead, sample by sample."""
        pool = ThreadPoolExecutor(threads, "lucid-loader")
        try:
            yield from _in_order(batches, ahead, partial(self._begin, pool))
        finally:
            pool.shutdown(cancel_futures=True)

    def in_processes(
        self, batches: list[Sequence[int]], function: Function, workers: Workers, ahead: int
    ) -> Generator[Any, None, None]:
        """Yield batches, of which so many are loaded ahead; without an end, the processes end."""
        pool = ThreadPoolExecutor(workers.count, "lucid-loader")

        def begin(places: Sequence[int]) -> Future[Fetched]:
            arguments = self._seed, places, self._indices(places)
            return pool.submit(workers.call, function, *arguments)

        try:
            yield from _in_order(batches, ahead, begin)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.close()
            raise
        finally:
            pool.shutdown()

    def _begin(self, pool: ThreadPoolExecutor, places: Sequence[int]) -> Future[Fetched]:
        # Threads take their work in order: all samples are begun before they are waited for.
        fetcher, seed, rows = self.fetcher, self._seed, Rows(len(places))
        samples = [
            pool.submit(fetcher.sample, seed, place, index, rows, row)
            for row, (place, index) in enumerate(zip(places, self._indices(places)))
        ]
        return pool.submit(
            lambda: fetcher.together(seed, places, (sample.result() for sample in samples))
        )

    def _indices(self, places: Sequence[int]) -> list[int]:
        return self._order[np.asarray(places, np.int64)].tolist()


def _in_order(
    batches: list[Sequence[int]], ahead: int, begin: Callable[[Sequence[int]], Future[Fetched]]
) -> Generator[Any, None, None]:
    """Yield batches in their order, of which so many are begun before their turn."""
    begun: deque[Future[Fetched]] = deque()
    for places in batches:
        begun.append(begin(places))
        if len(begun) > ahead:
            yield _told(begun.popleft().result())
    while begun:
        yield _told(begun.popleft().result())


def _told(fetched: Fetched) -> Any:
    """Return a batch, after telling which samples it has to do without."""
    batch, passed_over = fetched
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
