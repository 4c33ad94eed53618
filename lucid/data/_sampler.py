"""In what order a loader goes over a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Protocol

import numpy as np

from lucid import _random, _ranks
from lucid._check import count, is_whole

Array = np.ndarray


class Sampler(Protocol):
    """Anything with a length that yields indices; subclassing is not needed."""

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        ...

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of an epoch."""
        ...


class SequentialSampler:
    """The samples as they come.

    Args:
        data_source: the dataset.

    Example:
        >>> list(data.SequentialSampler("abc"))
        [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))


class RandomSampler:
    """The samples in another order each time.

    Args:
        data_source: the dataset.
        replacement: whether a sample may come several times.
        num_samples: how many to draw; as many as there are if left out. Without replacement, more
            than there are begin another order.
        generator: where randomness comes from; lucid's generator if left out.

    Raises:
        ValueError: if ``num_samples`` is below 1.

    Example:
        >>> sorted(data.RandomSampler("abc"))
        [0, 1, 2]
        >>> len(list(data.RandomSampler("abc", num_samples=7)))
        7
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        if num_samples is not None:
            count(num_samples, "num_samples", "RandomSampler")
        self.generator = generator

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        rng = self.generator or _random.generator()
        size, wanted = len(self.data_source), len(self)
        if self.replacement:
            return iter(rng.integers(size, size=wanted).tolist())
        orders = [rng.permutation(size) for _ in range(-(-wanted // max(size, 1)))]
        return iter(np.concatenate([np.zeros(0, np.int64), *orders])[:wanted].tolist())


class SubsetRandomSampler:
    """Some samples, in another order each time.

    Args:
        indices: which samples.
        generator: where randomness comes from; lucid's generator if left out.

    Example:
        >>> sorted(data.SubsetRandomSampler([4, 2, 7]))
        [2, 4, 7]
    """

    def __init__(
        self, indices: Sequence[int] | Array, generator: np.random.Generator | None = None
    ) -> None:
        self.indices = indices
        self.generator = generator

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        order = (self.generator or _random.generator()).permutation(len(self.indices))
        return (int(self.indices[place]) for place in order)


class BatchSampler:
    """The indices of a sampler in lists, one a batch: for ``DataLoader(batch_sampler=...)``.

    Args:
        sampler: anything that yields indices.
        batch_size: how many a batch has; the last one may have fewer.
        drop_last: leave out a last batch that would be smaller.

    Raises:
        ValueError: if ``batch_size`` is below 1.

    Example:
        >>> list(data.BatchSampler(range(5), batch_size=2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = count(batch_size, "batch_size", "BatchSampler")
        self.drop_last = drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


class WeightedRandomSampler:
    """Samples drawn with a probability each.

    Args:
        weights: how often a sample comes, relative to the others; they need not add up to 1.
        num_samples: how many to draw.
        replacement: whether a sample may come several times.
        generator: where randomness comes from; lucid's generator if left out.

    Raises:
        ValueError: if a weight is negative or not finite, all are 0, ``num_samples`` is below 1, or
            more than there are samples of a weight above 0 without replacement.

    Example:
        >>> sampler = data.WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=4)
        >>> list(sampler)
        [1, 1, 1, 1]
    """

    def __init__(
        self,
        weights: Sequence[float] | Array,
        num_samples: int,
        replacement: bool = True,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.weights = np.asarray(weights, np.float64)
        self.num_samples = count(num_samples, "num_samples", "WeightedRandomSampler")
        self.replacement = replacement
        self.generator = generator
        good = np.isfinite(self.weights) & (self.weights >= 0)
        if self.weights.ndim != 1 or not good.all() or not self.weights.any():
            raise ValueError(
                "WeightedRandomSampler: expected a list of weights of at least 0, not all of them 0"
            )
        possible = np.count_nonzero(self.weights)
        if not replacement and num_samples > possible:
            raise ValueError(
                f"WeightedRandomSampler: {num_samples} samples cannot be drawn without replacement "
                f"from {possible} of a weight above 0"
            )

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        rng = self.generator or _random.generator()
        share = self.weights / self.weights.sum()
        drawn = rng.choice(len(share), self.num_samples, self.replacement, share)
        return iter(drawn.tolist())


class DistributedSampler:
    """The part of a dataset's order that one of several ranks goes over, for a loop of one's own.

    All have the same number of samples: the first ones of the order come again at its end, as many
    as are missing to a multiple of the ranks. So an epoch may show some samples twice, and a score
    counts them twice, as in PyTorch. ``lucid train`` adds none: it divides each batch
    (``DataLoader(part=...)``).

    Args:
        dataset: the dataset.
        num_replicas: how many ranks there are; those of :mod:`lucid.distributed` if left out.
        rank: which of them this is; that of this process if left out.
        shuffle: go over the samples in another order each epoch.
        seed: what the order depends on beside the epoch; the same for all ranks.
        drop_last: leave out the last samples instead of repeating the first ones.

    Raises:
        ValueError: if there is no such rank.

    Example:
        >>> sampler = data.DistributedSampler("abcde", num_replicas=2, rank=1, shuffle=False)
        >>> list(sampler)
        [1, 3, 0]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.num_replicas = _ranks.size() if num_replicas is None else num_replicas
        self.rank = _ranks.rank() if rank is None else rank
        check_rank(self.rank, self.num_replicas, "DistributedSampler")
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next order be that of an epoch; without, it is the same each time.

        Args:
            epoch: its number, the same for all ranks.
        """
        self.epoch = epoch

    @property
    def num_samples(self) -> int:
        """How many samples a rank has."""
        whole, rest = divmod(len(self.dataset), self.num_replicas)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def total_size(self) -> int:
        """How many samples all ranks have together."""
        return self.num_samples * self.num_replicas

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(order))
        return iter(np.resize(order, self.total_size)[self.rank :: self.num_replicas].tolist())


def part_of_batch(length: int, rank: int, ranks: int) -> Array:
    """Return which samples of a batch belong to one of several ranks, in ascending order.

    Each rank has a stretch from the front and the same one counted from the end. So MixUp and
    CutMix, which mix a batch with its reverse, find both images of each pair in one part. What is
    left in the middle goes to the first ranks, a pair each: of 11 samples the first of two ranks
    has 0, 1, 4, 6, 9 and 10.

    Args:
        length: how many samples the batch has.
        rank: counted from 0.
        ranks: how many there are.
    """
    half = length // (2 * ranks)
    front = np.arange(rank * half, (rank + 1) * half)
    middle = ranks * half + rank  # one more, or the one without a pair
    if 2 * middle < length:
        front = np.append(front, middle)
    return np.union1d(front, length - 1 - front)


def check_rank(rank: int, ranks: int, who: str) -> None:
    """Raise ValueError unless there is such a rank."""
    if not (is_whole(rank) and is_whole(ranks) and 0 <= rank < ranks):
        raise ValueError(f"{who}: expected a rank from 0 to {ranks} - 1, got {rank!r}")


def balanced(labels: Any, num_samples: int | None = None) -> WeightedRandomSampler:
    """Return a sampler in which each class comes as often as the others, however rare it is.

    Args:
        labels: the class of each sample, integers ``(N,)``.
        num_samples: how many to draw an epoch; as many as there are if left out.

    Raises:
        ValueError: if there are no labels.

    Example:
        >>> data.balanced([0, 0, 0, 1]).weights
        array([0.33333333, 0.33333333, 0.33333333, 1.        ])
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if not len(counts):
        raise ValueError("balanced: expected at least one label")
    return WeightedRandomSampler(1 / counts[classes], num_samples or len(classes))
