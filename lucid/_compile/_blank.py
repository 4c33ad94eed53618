"""Results that nobody computes: to see what a model does, most operations need no numbers.

An operation that goes image by image gives a blank, an array of the shape, and of the order in
memory, that its result would have. Where an operation wants numbers they are drawn: others in each
run, so that what follows from them is seen to differ. Memory that nobody touches costs none.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid._compile._fuse import BY_IMAGE
from lucid.autograd import Function, Tensor
from lucid.autograd._tensor import array_of
from lucid.graph import leaves
from lucid.ops._batch_norm import BatchNormInference
from lucid.ops._conv import Conv2d
from lucid.ops._pool import SumPool2d


class LookedAtError(BaseException):
    """Something else than an operation wants to see numbers; no model should catch it."""


class _Blank(np.ndarray):
    """The memory of a blank, and the numbers for it; None of a view, or if they are there."""

    numbers: np.ndarray | None = None


def blank(shape: Sequence[int], order: Sequence[int], numbers: np.ndarray) -> np.ndarray:
    """Return a blank with its axes in that order in memory, whose numbers are to be these."""
    # NumPy's own memory may have been in use before, and huge pages may be asked for around it.
    pages = mmap.mmap(-1, max(1, math.prod(shape) * numbers.itemsize), access=mmap.ACCESS_COPY)
    memory = _Blank([shape[axis] for axis in order], numbers.dtype, pages)
    memory.numbers = numbers
    return memory.view(np.ndarray).transpose(np.argsort(order))


def complete(nested: Any) -> None:
    """Write the numbers of the tensors in a nested value."""
    for tensor in leaves(nested, Tensor):
        memory = array_of(tensor)
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        if isinstance(memory, _Blank) and memory.numbers is not None:
            memory[...] = np.resize(memory.numbers, memory.shape)
            memory.numbers = None


def blank_result(
    kind: type[Function], args: Sequence[Any], numbers: np.ndarray
) -> np.ndarray | None:
    """Return a blank for what an operation makes; None if it does not go plainly by image."""
    arrays = [array_of(arg) for arg in args[: BY_IMAGE.get(kind, 0)]]
    if not arrays or kind is SumPool2d or (order := _order(kind, arrays)) is None:
        return None
    shape: Sequence[int] = np.broadcast_shapes(*[array.shape for array in arrays])
    if kind is Conv2d:
        size = args[3].output_size(arrays[0].shape[2:], args[1].shape[2:])
        shape = len(arrays[0]), len(args[1]), *size
    return blank(shape, order, numbers)


def _order(kind: type[Function], arrays: list[np.ndarray]) -> list[int] | None:
    """Return the order in memory of the axes of an operation's result, if it is plain."""
    like = max(arrays, key=lambda array: (array.ndim, array.size))
    if kind in (Conv2d, BatchNormInference):
        return [0, *range(2, like.ndim), 1]
    order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
    is_plain = like.transpose(order).flags.c_contiguous and like.dtype.kind == "f"
    for array in arrays:
        along = sum(length > 1 for length in array.shape)
        is_plain &= array.dtype == like.dtype and (along < 2 or array.strides == like.strides)
    return order if is_plain else None
