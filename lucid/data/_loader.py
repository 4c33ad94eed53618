"""Batches out of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lucid import _random
from lucid.autograd import Tensor
from lucid.autograd._tensor import as_array
from lucid.data._dataset import Dataset

Array = np.ndarray


class DataLoader:
    """Go over a dataset in batches; each ``for`` loop is one epoch.

    It works in this process and thread. A dataset with a method ``batch`` gathers a batch in one
    go; of others the samples are fetched one by one and put together by ``collate_fn``.

    Args:
        dataset: has a length and samples.
        batch_size: how many samples a batch has; the last one may have fewer.
        shuffle: go over the samples in another order each time, drawn from lucid's generator.
        drop_last: leave out a last batch that would be smaller.
        collate_fn: makes a batch of a list of samples; :func:`default_collate` if left out.
        transform: changes the inputs of each batch, such as an augmentation: a function of the
            first (or only) array of the batch, ``(N, ...)``, that returns another.

    Raises:
        TypeError: if ``dataset`` has no length or no samples, or an argument is of a wrong type.
        ValueError: if ``batch_size`` is below 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                "DataLoader: a dataset needs __len__ and __getitem__, which "
                f"{type(dataset).__name__} does not have"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"DataLoader: batch_size must be an integer, got {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"DataLoader: batch_size must be at least 1, got {batch_size}")
        for name, function in (("collate_fn", collate_fn), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"DataLoader: {name} must be a function, got {function!r}")
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.transform = transform

    def __len__(self) -> int:
        """Return the number of batches."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        size = len(self.dataset)
        order = _random.generator().permutation(size) if self.shuffle else np.arange(size)
        for number in range(len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            if self.collate_fn is None:
                batch = fetch(self.dataset, indices)
            else:
                batch = self.collate_fn([self.dataset[int(index)] for index in indices])
            yield batch if self.transform is None else _transformed(batch, self.transform)


def _transformed(batch: Any, transform: Callable[[Any], Any]) -> Any:
    if isinstance(batch, (tuple, list)):
        return type(batch)((_transformed(batch[0], transform), *batch[1:]))
    if not isinstance(batch, Tensor):
        raise TypeError(
            "DataLoader: transform expects batches that are a tensor or begin with one, "
            f"got {type(batch).__name__}"
        )
    result = transform(batch.data)
    return result if isinstance(result, Tensor) else Tensor._wrap(result)


def fetch(dataset: Dataset, indices: Array) -> Any:
    """Return a batch of samples, in one go if the dataset can do that."""
    batch = getattr(dataset, "batch", None)
    if batch is not None:
        return batch(indices)
    return default_collate([dataset[int(index)] for index in indices])


def default_collate(samples: Sequence[Any]) -> Any:
    """Put samples together along a new first axis.

    Tensors, arrays and numbers become one tensor. Numbers and arrays are taken as in
    ``lucid.tensor``, so Python integers are int64 and floats float32 (in PyTorch float64). The
    dtype of the result is one that holds all samples; floating-point ones decide, whatever the
    integers beside them. Sequences, named tuples and mappings are taken apart, and become a tuple
    (in PyTorch a list), a named tuple or a dictionary of batches. Strings and bytes become a list.
    Images that are channels-last in memory stay so.

    Args:
        samples: what the dataset returned, one entry a sample, all of one structure.

    Raises:
        ValueError: if there is no sample, or if shapes, lengths or keys differ.
        TypeError: if a sample is of another kind.
    """
    if not samples:
        raise ValueError("default_collate: expected at least one sample")
    first = samples[0]
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, Tensor):
        _check_kind(samples, Tensor, "tensors")
        return Tensor._wrap(_stack([sample.data for sample in samples]))
    if isinstance(first, (Array, np.generic, bool, int, float)):
        return Tensor._wrap(_stack([as_array(s, who="default_collate") for s in samples]))
    if isinstance(first, Mapping):
        _check_kind(samples, Mapping, "mappings")
        if any(sample.keys() != first.keys() for sample in samples):
            raise ValueError("default_collate: samples have different keys")
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, Sequence):
        _check_kind(samples, (Sequence, Array), "sequences")
        lengths = sorted({len(sample) for sample in samples})
        if len(lengths) > 1:
            raise ValueError(f"default_collate: samples have different lengths {lengths}")
        columns = [default_collate(column) for column in zip(*samples)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    raise TypeError(
        "default_collate: expected samples of tensors, arrays, numbers or strings, "
        f"got {type(first).__name__}; images need transforms.ToTensor(), other things a collate_fn"
    )


def _check_kind(samples: Sequence[Any], kind: Any, expected: str) -> None:
    """Raise TypeError if a sample is not of the kind that the first one is of."""
    for sample in samples:
        if not isinstance(sample, kind):
            raise TypeError(f"default_collate: expected {expected}, got {type(sample).__name__}")


def _stack(arrays: list[Array]) -> Array:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"default_collate: samples of one batch must have one shape, got {sorted(shapes)[:4]}; "
            "images can be brought to one by transforms.Resize and CenterCrop"
        )
    dtypes = {array.dtype for array in arrays}
    dtype = np.result_type(*([dtype for dtype in dtypes if dtype.kind == "f"] or dtypes))
    if arrays[0].ndim == 3:
        channels_last = [array.transpose(1, 2, 0) for array in arrays]
        if all(array.flags.c_contiguous for array in channels_last):
            return np.stack(channels_last, dtype=dtype).transpose(0, 3, 1, 2)
    return np.stack(arrays, dtype=dtype)
