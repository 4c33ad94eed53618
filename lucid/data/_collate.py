"""Samples become one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import as_array, wrap
from lucid.kernels._memory import SMALLEST, empty

Array = np.ndarray

# Makes an uninitialised array of a shape and dtype.
Empty = Callable[[tuple[int, ...], np.dtype[Any]], Array]


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
        return wrap(_stack([sample.data for sample in samples]))
    if isinstance(first, (Array, np.generic, bool, int, float)):
        return wrap(_stack([as_array(s, who="default_collate") for s in samples]))
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


class Rows:
    """Where the large images of a batch are moved to one by one, for :func:`default_collate`.

    An image that was just made is in the processor's cache, and its own memory serves the next
    one. Copied when the batch is complete, all come from main memory: 2 to 4 % of a loader's time.

    Args:
        length: how many samples the batch has.
        empty: makes the batch's memory.
    """

    def __init__(self, length: int, empty: Empty = empty) -> None:
        self._length = length
        self._empty = empty
        self._wholes: dict[int, _Whole] = {}  # by the place in a sample
        self._lock = threading.Lock()

    def moved(self, sample: Any, row: int) -> Any:
        """Return a sample whose images are in the batch's memory; as it is if it has none."""
        if type(sample) is tuple:
            return tuple(self._moved(part, row, place) for place, part in enumerate(sample))
        return self._moved(sample, row, 0)

    def _moved(self, image: Any, row: int, place: int) -> Any:
        if not isinstance(image, Tensor) or image.ndim != 3 or image.data.nbytes < SMALLEST:
            return image
        hwc = image.data.transpose(1, 2, 0)
        with self._lock:
            if place not in self._wholes:
                shape = (self._length, *hwc.shape)
                memory = self._empty(shape, hwc.dtype).base  # NumPy would skip an array between
                self._wholes[place] = _Whole(shape, hwc.dtype, memory)
            whole = self._wholes[place]
        if not hwc.flags.c_contiguous or (hwc.shape, hwc.dtype) != (whole.shape[1:], whole.dtype):
            return image  # which are told, or brought together, with the whole batch
        result = np.ndarray(hwc.shape, hwc.dtype, whole, row * hwc.nbytes)
        result[...] = hwc
        return wrap(result.transpose(2, 0, 1))


class _Whole(np.ndarray):
    """The images of a batch, ``(N, H, W, C)``: the base of its rows, known by its class."""


def _whole_of(arrays: list[Array]) -> Array | None:
    """Return the batch if these are all of its rows."""
    bases = [_base(array) for array in arrays]
    whole = bases[0]
    if not isinstance(whole, _Whole) or len(whole) != len(arrays):
        return None
    return whole.view(Array) if all(base is whole for base in bases) else None


def _base(array: Any) -> Any:
    """Return what an array is a view of, through other views."""
    while type(array) is Array:
        array = array.base
    return array


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
        if (whole := _whole_of(arrays)) is not None:
            return whole.transpose(0, 3, 1, 2)
        if all(array.flags.c_contiguous for array in channels_last):
            return _stacked(channels_last, dtype).transpose(0, 3, 1, 2)
    return _stacked(arrays, dtype)


def _stacked(arrays: list[Array], dtype: np.dtype[Any]) -> Array:
    result = empty((len(arrays), *arrays[0].shape), dtype)
    return np.stack(arrays, out=result)
