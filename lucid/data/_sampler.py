"""In what order a loader goes over a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any, Protocol

import numpy as np

from lucid import _random
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
