"""A dataset in parts: at random, or a share of each class, always the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lucid import _random
from lucid.data._dataset import Dataset, Subset

Array = np.ndarray

# The split is part of the dataset: it is the same in every run, whatever lucid.manual_seed says.
_SPLIT_SEED = 0


def random_split(
    dataset: Dataset,
    lengths: Sequence[int | float],
    generator: np.random.Generator | None = None,
) -> list[Subset]:
    """Split a dataset at random into parts that do not overlap.

    Args:
        dataset: what to split.
        lengths: the lengths of the parts, which add up to the length of the dataset; or fractions
            that add up to 1, rounded down, with what is left going to the first parts in turn.
        generator: where randomness comes from; lucid's generator if left out.

    Raises:
        ValueError: if the lengths do not add up, or one is negative.

    Example:
        >>> train, test = data.random_split(range(10), [0.8, 0.2])
        >>> len(train), len(test)
        (8, 2)
        >>> sorted([*train, *test]) == list(range(10))
        True
    """
    size = len(dataset)
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split: lengths must not be negative, got {list(lengths)}")
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-9 and size != 1:
        counts = [math.floor(size * fraction) for fraction in lengths]
        for rest in range(size - sum(counts)):
            counts[rest % len(counts)] += 1
    elif sum(lengths) == size and all(length == int(length) for length in lengths):
        counts = [int(length) for length in lengths]
    else:
        raise ValueError(
            f"random_split: expected lengths that add up to {size}, or fractions that add up to "
            f"1, got {list(lengths)}"
        )
    order = (generator or _random.generator()).permutation(size)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - n : end]) for end, n in zip(ends, counts)]


def hold_out(dataset: Dataset, labels: Array, part: float) -> tuple[Subset, Subset]:
    """Divide a dataset into the rest and ``part`` of the samples of each class.

    They are always the same ones, whatever ``lucid.manual_seed`` says.

    Args:
        dataset: what to divide.
        labels: the class of each sample, integers ``(N,)``.
        part: the share of each class to hold out, between 0 and 1.

    Returns:
        The rest, and what is held out.

    Example:
        >>> labels = np.array([0, 0, 1, 1, 1, 1])
        >>> rest, held_out = data.hold_out(data.TensorDataset(labels), labels, 0.5)
        >>> [int(label) for (label,) in held_out]
        [0, 1, 1]
        >>> len(rest)
        3

    Raises:
        ValueError: if nothing is left of one of them.
    """
    rest, held_out = stratified(labels, part)
    if not len(held_out) or not len(rest):
        raise ValueError(
            f"{len(labels)} images in {len(np.unique(labels))} classes are too few to hold out "
            f"{part:g} of each class"
        )
    return Subset(dataset, rest), Subset(dataset, held_out)


def stratified(labels: Array, part: float) -> tuple[Array, Array]:
    """Return the indices of the rest and of ``part`` of each class, sorted and always the same."""
    rng = np.random.default_rng(_SPLIT_SEED)
    chosen = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: round(part * len(members))])
    held_out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out
