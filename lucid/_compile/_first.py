"""Batches of which only the first image is computed, as long as operations go image by image.

For whatever asks, image i is what begins i elements further on in the first: other numbers for each
image and in each run, so that what follows from them is seen to differ. Memory that nobody
touches costs none.
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid._compile._fuse import BY_IMAGE
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import array_of, wrap
from lucid.graph import leaves


class _Begun(np.ndarray):
    """The memory of such a batch, the images outermost."""

    missing = True
    memory: mmap.mmap | None = None  # None of a view
    free: deque[mmap.mmap]  # memory of the run that is free again

    def __del__(self) -> None:
        if self.memory is not None:
            self.free.append(self.memory)


def begun(first: np.ndarray, images: int, free: deque[mmap.mmap] | None = None) -> np.ndarray:
    """Return a batch with a first image ``(1, …)`` of more elements than there are images."""
    order = [0, *sorted(range(1, first.ndim), key=lambda axis: -first.strides[axis])]
    free = deque() if free is None else free
    size = images * first.nbytes
    # NumPy's own memory may have been in use before, and is not given back.
    fitting = (memory for memory in list(free) if len(memory) >= size)
    if (memory := next(fitting, None)) is None:
        memory = mmap.mmap(-1, size, access=mmap.ACCESS_COPY)
    else:
        free.remove(memory)
    batch = _Begun((images, *first.transpose(order).shape[1:]), first.dtype, memory)
    batch.memory, batch.free = memory, free
    batch[:1] = first.transpose(order)
    flat = batch.reshape(-1)
    flat[first.size : first.size + images] = flat[1 : images + 1]  # of the second, as it will be
    return batch.view(np.ndarray).transpose(np.argsort(order))


def _batch(array: np.ndarray) -> _Begun | None:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if isinstance(array, _Begun) and array.missing else None


def shown(tensor: Tensor) -> np.ndarray:
    """Return the array of a tensor; of a batch with missing images one that has them."""
    array = array_of(tensor)
    steps = array.itemsize, *array.strides[1:]
    return array if _batch(array) is None else as_strided(array, strides=steps)


def complete(nested: Any) -> None:
    """Write the missing images of the tensors in a nested value."""
    for tensor in leaves(nested, Tensor):
        if (batch := _batch(array_of(tensor))) is not None:
            flat, size = batch.reshape(-1), batch[0].size
            for image in range(1, len(batch)):
                flat[image * size : (image + 1) * size] = flat[image : image + size]
            batch.missing = False


def run_first(kind: type[Function], ctx: Node, *args: Any) -> Any:
    """Return what an operation computes, of the first images alone if it goes image by image."""
    count = BY_IMAGE.get(kind, 0)
    complete(args[count:])
    whole = [array_of(arg) for arg in args[:count]]
    images, first, free = 0, list(args), None
    for position, array in enumerate(whole):
        batch = _batch(array)
        if batch is not None and array.ndim == max(each.ndim for each in whole):
            images, first[position], free = len(array), wrap(array[:1]), batch.free
        elif array.shape[:1] > (1,):  # on another axis, or one for each image
            break
    else:
        if images > 1 and (result := kind.forward(ctx, *first)).size > images:
            return begun(result, images, free)
    complete(args)
    return kind.forward(ctx, *args)
