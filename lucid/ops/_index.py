"""Indexing: ``x[…]`` and ``x[…] = y``, gather, scatter, and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._dtype import as_number
from lucid.autograd._graph import Node
from lucid.autograd._tensor import (
    ValuesIndices,
    assign,
    base_of,
    check_writeable,
    mark_changed,
    wrap,
)
from lucid.ops._common import (
    Array,
    at_axis,
    broadcasts_to,
    convert,
    normalize_axis,
    operand,
    sum_to,
    wide,
    with_axis,
)
from lucid.ops._elementwise import where

__all__ = ["gather", "index_select", "scatter", "scatter_add", "take_along_dim", "tril", "triu"]

# -- x[index] ---------------------------------------------------------------------------------


def _as_index(index: Any) -> tuple[Any, ...]:
    """Return ``index`` as a tuple that NumPy understands: tensors and lists become arrays."""
    parts = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor):
            part = part.data
        elif isinstance(part, (list, range)):
            part = np.array([p.data if isinstance(p, Tensor) else p for p in part])
            if part.size == 0:
                part = part.astype(np.int64)
        if isinstance(part, np.ndarray):
            if part.dtype.kind not in "iub":
                raise IndexError(
                    f"an index must be made of integers or booleans, got an array of {part.dtype}"
                )
            if part.ndim == 0 and part.dtype.kind != "b":
                part = int(part)
        elif isinstance(part, slice):
            part = slice(
                *[s if s is None else s.__index__() for s in (part.start, part.stop, part.step)]
            )
        elif not (part is None or part is Ellipsis or hasattr(part, "__index__")):
            raise IndexError(
                "an index must be an integer, a slice, None, ..., or an array, list or tensor of "
                f"integers or booleans; got {type(part).__name__}"
            )
        parts.append(part)
    return tuple(parts)


def _is_basic(index: tuple[Any, ...]) -> bool:
    return not any(isinstance(part, (np.ndarray, bool, np.bool_)) for part in index)


def _take(x: Tensor, index: tuple[Any, ...]) -> Array:
    try:
        return np.asarray(x.data[index])
    except IndexError as error:
        raise IndexError(f"indexing a tensor of shape {x.shape}: {error}") from None


class GetItem(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, index: tuple[Any, ...]) -> Array:
        ctx.shape = x.shape
        if _is_basic(index):
            ctx.view = lambda tensor: GetItem.apply(tensor, index)
        elif ctx.needs_input_grad[0]:  # the caller may go on to change its index arrays
            index = tuple([p.copy() if isinstance(p, np.ndarray) else p for p in index])
        ctx.index = index
        return _take(x, index)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return PutAdd.apply(grad, ctx.index, ctx.shape)


class PutAdd(Function):
    """Zeros with ``values`` added at ``index``: the gradient of indexing, and it of this one."""

    @staticmethod
    def forward(ctx: Node, values: Tensor, index: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
        ctx.index = index
        return put_add(values.data, index, shape)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return GetItem.apply(grad, ctx.index)


# Rows of one run that are added one by one.
_PIECE = 64


def put_add(values: Array, index: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    """Return zeros of ``shape`` with ``values`` added at ``index``, repeated places included."""
    repeats = any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in index)
    if not repeats:
        result = np.zeros(shape, values.dtype)
        result[index] = values
        return result
    if len(index) == 1 and values.size:
        return _add_rows(values, index[0], shape)
    if values.dtype.kind != "f":
        result = np.zeros(shape, values.dtype)
        np.add.at(result, index, values)
        return result
    # np.add.at is several times slower than counting with weights, and those add in float64, which
    # integers beyond 2^53 do not survive.
    size = int(np.prod(shape))
    places = np.arange(size).reshape(shape)[index]
    if places.size == 0:
        return np.zeros(shape, values.dtype)
    sums = np.bincount(places.ravel(), values.ravel(), size)
    return sums.reshape(shape).astype(values.dtype, copy=False)


def _add_rows(values: Array, rows: Array, shape: tuple[int, ...]) -> Array:
    """Sum whole rows (the gradient of an embedding): sort them, then sum each run of equal ones.

    A long run is summed in pieces, which are then summed in float64.
    """
    result = np.zeros(shape, values.dtype)
    rows = rows.ravel() % shape[0]
    values = wide(values).reshape(rows.size, *shape[1:])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(starts, append=rows.size)
    if lengths.max() > _PIECE and values.dtype.kind == "f":
        places = np.arange(rows.size) - np.repeat(starts, lengths)
        pieces = np.flatnonzero(places % _PIECE == 0)
        sums = np.add.reduceat(values[order], pieces, axis=0).astype(np.float64, copy=False)
        sums = np.add.reduceat(sums, np.flatnonzero(places[pieces] == 0), axis=0)
    else:
        sums = np.add.reduceat(values[order], starts, axis=0)
    result[rows[starts]] = sums
    return result


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return ``x[index]`` as NumPy defines it.

    Integers, slices, ``None`` and ``...`` give a view of the same memory; arrays, lists and
    tensors of integers or booleans give a copy. Repeated elements add up their gradients.

    Raises:
        IndexError: if an index is out of range or of another kind, or there are too many.
    """
    return GetItem.apply(x, _as_index(index))


# -- x[index] = value ---------------------------------------------------------------------------


class SetItem(Function):
    """A copy of ``x`` with ``value`` at ``index``."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, index: tuple[Any, ...], value: Tensor) -> Array:
        ctx.index = tuple([p.copy() if isinstance(p, np.ndarray) else p for p in index])
        ctx.shape = value.shape
        result = x.data.copy(order="K")
        result[index] = value.data
        return result

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        taken = GetItem.apply(grad, ctx.index) if ctx.needs_input_grad[2] else None
        kept = None
        if ctx.needs_input_grad[0]:
            mask = np.zeros(grad.shape, bool)
            mask[ctx.index] = True
            kept = where(mask, 0.0, grad)
        return kept, None, None if taken is None else sum_to(taken, ctx.shape)


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Set ``x[index] = value`` in place, broadcasting ``value``; gradients flow to both.

    Raises:
        IndexError: if the index does not fit.
        ValueError: if the value's shape does not broadcast to that of ``x[index]``.
        ValueError: if a number is out of the range of the tensor's dtype, to which the value is
            converted.
        RuntimeError: if ``x`` is a leaf that requires grad, or read-only.
    """
    index = _as_index(index)
    source = value if isinstance(value, Tensor) else _constant(value, x)
    shape = _take(x, index).shape
    values = source.data
    while values.ndim > len(shape) and values.shape[0] == 1:
        values = values[0]  # as NumPy and PyTorch do: sizes of 1 in front are dropped
    if not broadcasts_to(values.shape, shape):
        raise ValueError(
            f"setitem: a value of shape {source.shape} does not fit into x[index] of shape {shape}"
        )
    if is_grad_enabled() and (x.requires_grad or source.requires_grad or base_of(x).requires_grad):
        if values.ndim != source.ndim:
            source = source.reshape(values.shape)
        assign(x, SetItem.apply(x, index, source))
    else:
        check_writeable(x)
        x.data[index] = values
        mark_changed(x)


def _constant(value: Any, x: Tensor) -> Tensor:
    if isinstance(value, (int, float)):
        return convert(value, x.data.dtype, "setitem", overflows=True)
    return operand(value, "setitem")


# -- by index along one axis --------------------------------------------------------------------


def _index_array(index: Any, who: str) -> Array:
    array = operand(index, who).data
    if array.dtype.kind not in "iu":
        raise TypeError(f"{who}: the index must be made of integers, got {array.dtype}")
    return array


def _along(index: Array, axis: int) -> tuple[Array, ...]:
    """Return the full index that takes ``index`` along ``axis`` and counts along the others."""
    grid = list(np.ogrid[tuple([slice(n) for n in index.shape])])
    grid[axis] = index
    return tuple(grid)


def _check_range(index: Array, length: int, who: str) -> None:
    if index.size and not (index.min() >= -length and index.max() < length):
        bad = index[(index < -length) | (index >= length)].flat[0]
        raise IndexError(f"{who}: index {bad} is out of range for an axis of size {length}")


def _check_fits(x: Tensor, axis: int, index: Array, who: str) -> None:
    fits = index.ndim == x.ndim and all(
        n <= m for a, (n, m) in enumerate(zip(index.shape, x.shape)) if a != axis
    )
    if not fits:
        raise ValueError(
            f"{who}: an index of shape {index.shape} does not fit a tensor of shape {x.shape}: "
            f"it needs as many axes, no longer than the tensor's except axis {axis}"
        )
    _check_range(index, x.shape[axis], who)


def index_select(input: Any, dim: int, index: Any) -> Tensor:
    """Return the slices of ``input`` along axis ``dim`` that a 1-D ``index`` names, in its order.

    Args:
        input: any shape.
        dim: the axis to take along.
        index: integers ``(n,)``, or one of them; the result has n slices.
    """
    input = operand(input, "index_select")
    vector, axis = with_axis(input, dim, "index_select")
    array = _index_array(index, "index_select")
    if array.ndim > 1 or (input.ndim == 0 and array.size != 1):
        raise ValueError(f"index_select: expected an index with 1 axis, got shape {array.shape}")
    array = array.reshape(-1)
    _check_range(array, vector.shape[axis], "index_select")
    taken = getitem(vector, at_axis(axis, array))
    return taken if input.ndim else taken.reshape(())


def gather(input: Any, dim: int, index: Any) -> Tensor:
    """Return values taken along axis ``dim``: for ``dim=1``, ``y[i, j] = input[i, index[i, j]]``.

    The result has the shape of ``index``, which may be smaller than ``input`` along the other axes.

    Args:
        input: any shape.
        dim: the axis to take along.
        index: integers, with as many axes as ``input``; of any shape if it is empty.
    """
    input = operand(input, "gather")
    vector, axis = with_axis(input, dim, "gather")
    given = _index_array(index, "gather")
    if not given.size:  # nothing is taken, whatever the shapes
        return input.reshape(-1)[:0].reshape(given.shape)
    array = np.atleast_1d(given)
    _check_fits(vector, axis, array, "gather")
    taken = getitem(vector, _along(array, axis))
    return taken if given.ndim else taken.reshape(())


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
    array = _index_array(indices, "take_along_dim")
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
    _check_range(array, input.shape[axis], "take_along_dim")
    wide, common[axis] = list(common), array.shape[axis]
    wide[axis] = input.shape[axis]
    return getitem(input.expand(*wide), _along(np.broadcast_to(array, common), axis))


def values_and_indices(x: Tensor, axis: int, indices: Array, keepdim: bool) -> ValuesIndices:
    """Return the elements at ``indices``, one along ``axis``, which that array keeps."""
    values = take_along_dim(x, indices, axis)
    found = wrap(indices)
    return (
        ValuesIndices(values, found)
        if keepdim
        else ValuesIndices(values.squeeze(axis), found.squeeze(axis))
    )


def _scatter(x: Any, dim: int, index: Any, src: Any, add: bool, who: str) -> Tensor:
    x = operand(x, who)
    shape = x.shape
    x, axis = with_axis(x, dim, who)
    array = np.atleast_1d(_index_array(index, who)).copy()
    _check_fits(x, axis, array, who)
    if isinstance(src, (bool, int, float)):
        values = wrap(np.full(array.shape, as_number(src, x.dtype, who), x.dtype))
    else:
        values, _ = with_axis(operand(src, who), 0, who)
        if values.ndim != array.ndim or any(n > m for n, m in zip(array.shape, values.shape)):
            raise ValueError(
                f"{who}: src of shape {values.shape} does not cover an index of shape {array.shape}"
            )
        if values.dtype != x.dtype:
            raise TypeError(
                f"{who}: src must have the tensor's dtype {x.dtype}, got {values.dtype}"
            )
        if values.shape != array.shape:
            values = values[tuple([slice(n) for n in array.shape])]
    places = _along(array, axis)
    result = x + PutAdd.apply(values, places, x.shape) if add else SetItem.apply(x, places, values)
    return result if shape else result.reshape(shape)


def scatter(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """Return ``input`` with values put along axis ``dim``: ``y[i, index[i, j]] = src[i, j]``.

    ``src`` is a number or a tensor at least as large as ``index``. Where an index repeats, one
    of the values is kept.

    Args:
        input: any shape.
        dim: the axis to put along.
        index: integers, with as many axes as ``input``.
        src: the values: a number, or a tensor at least as large as ``index``.
    """
    return _scatter(input, dim, index, src, False, "scatter")


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """Return ``input`` with values added along axis ``dim``: ``y[i, index[i, j]] += src[i, j]``.

    Arguments as in :func:`scatter`; every value counts where an index repeats.
    """
    return _scatter(input, dim, index, src, True, "scatter_add")


# -- triangles ----------------------------------------------------------------------------------


def _triangle(x: Any, diagonal: int, lower: bool, who: str) -> Tensor:
    x = operand(x, who)
    if x.ndim < 2:
        raise ValueError(f"{who}: expected at least 2 axes, got shape {x.shape}")
    below = np.tri(x.shape[-2], x.shape[-1], diagonal if lower else diagonal - 1, np.bool_)
    zero = wrap(np.zeros((), x.dtype))
    return where(below if lower else ~below, x, zero)


def tril(input: Any, diagonal: int = 0) -> Tensor:
    """Return the matrices in the last two axes with zeros above the given diagonal.

    Args:
        input: ``(..., m, n)``.
        diagonal: 0 for the main diagonal, positive numbers above it.
    """
    return _triangle(input, diagonal, True, "tril")


def triu(input: Any, diagonal: int = 0) -> Tensor:
    """Return the matrices in the last two axes with zeros below the given diagonal.

    Arguments as in :func:`tril`.
    """
    return _triangle(input, diagonal, False, "triu")
