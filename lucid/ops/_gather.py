"""Elements and slices taken by index along an axis: gather, index_select and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import ValuesIndices, wrap
from lucid.ops._common import Array, at_axis, check_broadcast, normalize_axis, operand, with_axis
from lucid.ops._index import getitem

__all__ = [
    "gather", "index_select", "masked_select", "narrow", "repeat_interleave", "select", "take",
    "take_along_dim",
]  # fmt: skip


def index_array(index: Any, who: str) -> Array:
    """Return an argument that must be made of integers as an array."""
    array = operand(index, who).data
    if array.dtype.kind not in "iu":
        raise TypeError(f"{who}: the index must be made of integers, got {array.dtype}")
    return array


def along(index: Array, axis: int) -> tuple[Array, ...]:
    """Return the full index that takes ``index`` along ``axis`` and counts along the others."""
    grid = list(np.ogrid[tuple([slice(n) for n in index.shape])])
    grid[axis] = index
    return tuple(grid)


def check_range(index: Array, length: int, who: str) -> None:
    """Raise IndexError unless an axis of this length has all the places."""
    if index.size and not (index.min() >= -length and index.max() < length):
        bad = index[(index < -length) | (index >= length)].flat[0]
        raise IndexError(f"{who}: index {bad} is out of range for an axis of size {length}")


def index_vector(index: Any, length: int, who: str) -> Array:
    """Return places along an axis of this length, of a vector or one integer, as a new array."""
    array = index_array(index, who)
    if array.ndim > 1:
        raise ValueError(f"{who}: expected an index with 1 axis, got shape {array.shape}")
    check_range(array, length, who)
    return array.reshape(-1).copy()


def check_fits(x: Tensor, axis: int, index: Array, who: str) -> None:
    """Raise ValueError unless ``index`` may stand in ``gather`` or ``scatter`` along ``axis``."""
    fits = index.ndim == x.ndim and all(
        n <= m for a, (n, m) in enumerate(zip(index.shape, x.shape)) if a != axis
    )
    if not fits:
        raise ValueError(
            f"{who}: an index of shape {index.shape} does not fit a tensor of shape {x.shape}: "
            f"it needs as many axes, no longer than the tensor's except axis {axis}"
        )
    check_range(index, x.shape[axis], who)


def index_select(input: Any, dim: int, index: Any) -> Tensor:
    """Return the slices of ``input`` along axis ``dim`` that a 1-D ``index`` names, in its order.

    Args:
        input: any shape.
        dim: the axis to take along.
        index: integers ``(n,)``, or one of them; the result has n slices.
    """
    input = operand(input, "index_select")
    vector, axis = with_axis(input, dim, "index_select")
    array = index_vector(index, vector.shape[axis], "index_select")
    if input.ndim == 0 and array.size != 1:
        raise ValueError(f"index_select: expected an index with 1 axis, got shape {array.shape}")
    found = getitem(vector, at_axis(axis, array))
    return found if input.ndim else found.reshape(())


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    """Return values taken along axis ``dim``: for ``dim=1``, ``y[i, j] = input[i, index[i, j]]``.

    The result has the shape of ``index``, which may be smaller than ``input`` along the other axes.

    Args:
        input: any shape.
        dim: the axis to take along.
        index: integers, with as many axes as ``input``; of any shape if it is empty.
        sparse_grad: accepted as in PyTorch; gradients are dense.
    """
    input = operand(input, "gather")
    vector, axis = with_axis(input, dim, "gather")
    given = index_array(index, "gather")
    if not given.size:  # nothing is taken, whatever the shapes
        return input.reshape(-1)[:0].reshape(given.shape)
    array = np.atleast_1d(given)
    check_fits(vector, axis, array, "gather")
    found = getitem(vector, along(array, axis))
    return found if given.ndim else found.reshape(())


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Tensor:
    """Return ``input`` at ``indices`` along axis ``dim``; the other axes broadcast.

    Without ``dim``, ``input`` and ``indices`` are taken as flat. It picks the values that belong to
    the results of ``argmax``, ``argsort`` and their like.

    Args:
        input: any shape.
        indices: integers, with as many axes as ``input``.
        dim: the axis to take along.
    """
    input = operand(input, "take_along_dim")
    array = index_array(indices, "take_along_dim")
    if dim is None:
        return take_along_dim(input.reshape(-1), array.ravel(), 0)
    axis = normalize_axis(dim, input.ndim, "take_along_dim")
    if array.ndim != input.ndim:
        raise ValueError(
            f"take_along_dim: expected indices with {input.ndim} axes, got shape {array.shape}"
        )
    shape = list(input.shape)
    shape[axis] = 1
    other = list(array.shape)
    other[axis] = 1
    try:
        common = list(np.broadcast_shapes(tuple(shape), tuple(other)))
    except ValueError:
        raise ValueError(
            f"take_along_dim: indices of shape {array.shape} do not broadcast with shape "
            f"{input.shape}"
        ) from None
    check_range(array, input.shape[axis], "take_along_dim")
    wide, common[axis] = list(common), array.shape[axis]
    wide[axis] = input.shape[axis]
    return getitem(input.expand(*wide), along(np.broadcast_to(array, common), axis))


def take(input: Any, index: Any) -> Tensor:
    """Return the elements of the flat ``input`` at the integers ``index``, in its shape."""
    array = index_array(index, "take")
    flat = operand(input, "take").reshape(-1)
    check_range(array, flat.shape[0], "take")
    return getitem(flat, array)


def masked_select(input: Any, mask: Any) -> Tensor:
    """Return, as one vector, the elements where the boolean ``mask`` holds; both broadcast."""
    input, where_ = operand(input, "masked_select"), boolean(mask, "masked_select")
    check_broadcast(input, where_, "masked_select")
    shape = np.broadcast_shapes(input.shape, where_.shape)
    return getitem(input.expand(shape), np.broadcast_to(where_.data, shape))


def boolean(mask: Any, who: str) -> Tensor:
    """Return a mask as a tensor, or raise TypeError unless it is boolean."""
    tensor = operand(mask, who)
    if tensor.dtype.kind != "b":
        raise TypeError(f"{who}: the mask must be boolean, got {tensor.dtype}; compare it with 0")
    return tensor


def select(input: Any, dim: int, index: int) -> Tensor:
    """Return a view of the slice ``index`` along axis ``dim``, without that axis."""
    input = operand(input, "select")
    axis = normalize_axis(dim, input.ndim, "select")
    return getitem(input, at_axis(axis, int(index)))


def narrow(input: Any, dim: int, start: Any, length: int) -> Tensor:
    """Return a view of ``length`` slices along axis ``dim``, from the one at ``start``.

    Raises:
        IndexError: if the axis ends before.
    """
    input = operand(input, "narrow")
    axis = normalize_axis(dim, input.ndim, "narrow")
    size, first = input.shape[axis], index_array(start, "narrow").item()
    begin = first + size if first < 0 else first
    if length < 0 or not 0 <= begin <= size - length:
        raise IndexError(
            f"narrow: {length} slices from {first} on are not within axis {axis} of size {size}"
        )
    return getitem(input, at_axis(axis, slice(begin, begin + length)))


def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Return ``input`` with each slice along ``dim``, or of the flat one, repeated on the spot.

    ``repeats`` is an integer, or one for each slice. Alone, ``input`` is the repeats, and the
    result says to which of them each place belongs. ``output_size`` is its size, if known.
    """
    who = "repeat_interleave"
    input = operand(input, who)
    if repeats is None:
        return wrap(np.repeat(np.arange(input.data.size), _repeats(input, input.data.size, who)))
    vector, axis = (input.reshape(-1), 0) if dim is None else with_axis(input, dim, who)
    counts = _repeats(repeats, vector.shape[axis], who)
    places = np.repeat(np.arange(vector.shape[axis]), counts)
    if output_size not in (None, places.size):
        raise ValueError(f"{who}: expected {places.size} as output_size, got {output_size}")
    return getitem(vector, at_axis(axis, places))


def _repeats(repeats: Any, size: int, who: str) -> Array:
    counts = index_array(repeats, who)
    if counts.ndim > 1 or counts.size not in (1, size) or (counts < 0).any():
        raise ValueError(
            f"{who}: expected one number of repeats, or one for each of {size} slices, none "
            f"negative, got {counts.tolist()}"
        )
    return np.broadcast_to(counts.reshape(-1), size)


def values_and_indices(x: Tensor, axis: int, indices: Array, keepdim: bool) -> ValuesIndices:
    """Return the elements at ``indices``, one along ``axis``, which that array keeps."""
    values = take_along_dim(x, indices, axis)
    found = wrap(indices)
    return (
        ValuesIndices(values, found)
        if keepdim
        else ValuesIndices(values.squeeze(axis), found.squeeze(axis))
    )
