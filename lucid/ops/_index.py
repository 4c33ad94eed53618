"""Indexing: ``x[…]``, ``x[…] = y``, and what lies on one side of a diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import assign, base_of, check_writeable, mark_changed, wrap
from lucid.ops._common import Array, broadcasts_to, convert, operand, sum_to, wide
from lucid.ops._elementwise import where

__all__ = ["tril", "triu"]

# -- x[index] ---------------------------------------------------------------------------------


def as_index(index: Any) -> tuple[Any, ...]:
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


def at_index(x: Tensor, index: tuple[Any, ...]) -> Array:
    """Return the elements of ``x`` at an index, as an array."""
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
        return at_index(x, index)

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
    return GetItem.apply(x, as_index(index))


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
    index = as_index(index)
    source = value if isinstance(value, Tensor) else _constant(value, x)
    shape = at_index(x, index).shape
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
