"""Batches out of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._dataset import Dataset, fetch


class DataLoader:
    """Go over a dataset in batches; each ``for`` loop is one epoch.

    It works in this process and thread. A dataset with a method ``batch`` gathers a batch in one
    go; of others the samples are fetched one by one and put together by ``collate_fn``. A batch
    that is None, since nothing of it can be read, is passed over.

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
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                "DataLoader: a dataset needs __len__ and __getitem__, which "
                f"{type(dataset).__name__} does not have"
            )
        self.batch_size = count(batch_size, "batch_size", "DataLoader")
        for name, function in (("collate_fn", collate_fn), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"DataLoader: {name} must be a function, got {function!r}")
        self.dataset = dataset
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
            if batch is not None:
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
    return result if isinstance(result, Tensor) else wrap(result)
