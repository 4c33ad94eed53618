"""What a dataset is, and the ones made of arrays or of other datasets."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lucid._check import is_whole
from lucid.autograd import Tensor
from lucid.autograd._tensor import as_array, wrap

Array = np.ndarray


class Dataset(Protocol):
    """Anything with a length and samples at the indices below it; subclassing is not needed.

    A dataset that can gather many samples at once has a method ``batch(indices)`` too, which
    takes an integer array and returns what a loader is to give: it is much faster for arrays.
    Samples may be asked for in several threads at once, or in other processes, which have a copy
    (``DataLoader(num_workers=...)``).
    """

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        ...


class TensorDataset:
    """Samples along the first axis of one or more tensors, such as images and labels.

    Args:
        tensors: tensors or arrays of the same length. Arrays are not copied, except floating-point
            ones of another dtype than float32, which is what they become (unlike tensors, which
            keep theirs).

    Raises:
        ValueError: if there is none, or if lengths differ.
        TypeError: if one does not hold numbers.

    Example:
        >>> dataset = data.TensorDataset(lucid.arange(12.0).reshape(4, 3), [0.0, 1.0, 1.0, 0.0])
        >>> len(dataset)
        4
        >>> dataset[1]
        (tensor([3., 4., 5.]), tensor(1.))
    """

    arrays: tuple[Array, ...]

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ValueError("TensorDataset: expected at least one tensor or array")
        self.arrays = tuple(
            tensor.data if isinstance(tensor, Tensor) else as_array(tensor, who="TensorDataset")
            for tensor in tensors
        )
        lengths = [array.shape[:1] for array in self.arrays]
        if () in lengths or len(set(lengths)) > 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            raise ValueError(f"TensorDataset: expected first axes of one length, got {shapes}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return one sample: a tensor of each array, sharing its memory."""
        index = check_index(index, len(self), "TensorDataset")
        return tuple(wrap(np.asarray(array[index])) for array in self.arrays)

    def batch(self, indices: Array) -> tuple[Tensor, ...]:
        """Return many samples: tensors with a first axis as long as ``indices``."""
        return tuple(wrap(take(array, indices)) for array in self.arrays)


class Subset:
    """Some samples of a dataset, in a given order.

    Args:
        dataset: the whole.
        indices: which samples.

    Raises:
        IndexError: if there is no such sample.

    Example:
        >>> dataset = data.Subset(["a", "b", "c"], [2, 0])
        >>> len(dataset)
        2
        >>> dataset[0]
        'c'
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | Array) -> None:
        array = np.asarray(indices)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"Subset: expected a list of integers, got shape {array.shape} and dtype "
                f"{array.dtype}"
            )
        size = len(dataset)
        if array.size and not (-size <= array.min() and array.max() < size):
            raise IndexError(f"Subset: an index is out of range for {size} samples")
        self.dataset = dataset
        self.indices = array

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        return self.dataset[int(self.indices[check_index(index, len(self), "Subset")])]

    @property
    def batch(self) -> Callable[[Array], Any] | None:
        """The function that returns many samples at once; None if the dataset has none."""
        batch = getattr(self.dataset, "batch", None)
        return batch and (lambda indices: batch(self.indices[indices]))


class ConcatDataset:
    """Datasets one after the other.

    Args:
        datasets: at least one.

    Attributes:
        cumulative_sizes: where each ends.

    Raises:
        ValueError: if there is none.

    Example:
        >>> dataset = data.ConcatDataset(["ab", "cde"])
        >>> len(dataset), dataset[2], dataset[-1]
        (5, 'c', 'e')
    """

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: expected at least one dataset")
        self.cumulative_sizes = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()

    def __len__(self) -> int:
        return int(self.cumulative_sizes[-1])

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        index = check_index(index, len(self), "ConcatDataset")
        number = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][index - before]


def parts_of(dataset: Any) -> list[Any]:
    """Return the datasets that one is made of; [] if it is made of none."""
    return getattr(dataset, "datasets", [dataset.dataset] if hasattr(dataset, "dataset") else [])


class Numbered:
    """The samples of a data set, each behind its index."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return the index, and what the sample holds."""
        return (index, *self.dataset[index])


def paths_of(dataset: Any) -> list[Path]:
    """Return the file of each sample, also of datasets made of others; [] if there are none."""
    paths = [path for part in parts_of(dataset) for path in paths_of(part)]
    if isinstance(dataset, Subset):
        return [paths[index] for index in dataset.indices] if paths else []
    return paths or [path for path, _ in getattr(dataset, "samples", ())]


def labels_of(dataset: Any) -> Array:
    """Return the class of each sample of a dataset with ``labels``, or of one made of such.

    Raises:
        TypeError: if the dataset does not say them.
    """
    if hasattr(dataset, "labels"):
        return np.asarray(dataset.labels)
    if not parts_of(dataset):
        raise TypeError(f"{type(dataset).__name__} has no attribute `labels`")
    labels = np.concatenate([labels_of(part) for part in parts_of(dataset)])
    return labels[dataset.indices] if isinstance(dataset, Subset) else labels


def transform_of(dataset: Any) -> Callable[[Any], Any] | None:
    """Return the transform of a dataset's pictures, also of one made of others."""
    if hasattr(dataset, "transform"):
        return dataset.transform
    return next((transform_of(part) for part in parts_of(dataset)), None)


def with_transform(dataset: Any, transform: Callable[[Any], Any] | None) -> Any:
    """Return the same pictures with another transform, also of a dataset made of others."""
    result = copy.copy(dataset)
    if hasattr(dataset, "transform"):
        result.transform = transform
    elif hasattr(dataset, "datasets"):
        result.datasets = [with_transform(part, transform) for part in dataset.datasets]
    elif hasattr(dataset, "dataset"):
        result.dataset = with_transform(dataset.dataset, transform)
    return result


def check_index(index: int, size: int, who: str) -> int:
    """Return an index counted from the front; TypeError or IndexError if there is none."""
    if not is_whole(index):
        raise TypeError(f"{who}: an index must be an integer, got {type(index).__name__}")
    if not -size <= index < size:
        raise IndexError(f"{who}: index {index} is out of range for {size} samples")
    return int(index) % size


def take(array: Array, indices: Array) -> Array:
    """Return ``array[indices]``; images that are channels-last in memory stay so."""
    if array.ndim == 4:
        nhwc = array.transpose(0, 2, 3, 1)
        if nhwc.flags.c_contiguous:
            return nhwc[indices].transpose(0, 3, 1, 2)
    return array[indices]
