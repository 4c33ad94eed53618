"""Values written at an index: scatter, index_add, masked_scatter and their relatives.

Each operation makes places, an index that NumPy understands, and says how the values at one place
are combined. ``_combine`` does so, whatever the places are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import one_of
from lucid.autograd import Function, Tensor
from lucid.autograd._dtype import as_number
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import (
    Array,
    at_axis,
    broadcasts_to,
    check_broadcast,
    one_number,
    operand,
    wanted,
    with_axis,
)
from lucid.ops._elementwise import floor_divide, where
from lucid.ops._gather import along, boolean, check_fits, index_array, index_vector
from lucid.ops._index import GetItem, PutAdd, SetItem, as_index, at_index, put_add

__all__ = [
    "index_add", "index_copy", "index_fill", "index_put", "masked_scatter", "scatter",
    "scatter_add", "scatter_reduce",
]  # fmt: skip

# What ``reduce`` may be: of the functions that end in _reduce, and of scatter.
_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")
_SCATTERED = {"add": "sum", "multiply": "prod"}


# -- values that share a place --------------------------------------------------------------------


def _combine(
    x: Tensor,
    places: tuple[Any, ...],
    values: Tensor,
    reduce: str | None,
    include_self: bool = True,
) -> Tensor:
    """Return ``x`` with ``values``, of the shape of ``x[places]``, at places that may repeat.

    With ``reduce`` all count, and with ``include_self`` what is there; without, one is kept.
    """
    if reduce is None:
        return SetItem.apply(x, places, values)
    if reduce in ("amax", "amin"):
        ufunc = np.maximum if reduce == "amax" else np.minimum
        return PutExtremum.apply(x, values, places, ufunc, include_self)
    if not include_self:
        neutral = np.asarray(1 if reduce == "prod" else 0, x.dtype)
        x = SetItem.apply(x, places, wrap(neutral))
    if reduce == "prod":
        # A copy, as the gradient needs what an operation in place goes on to overwrite.
        return x.clone() * _products(places, values, x.shape)
    total = x + PutAdd.apply(values, places, x.shape)
    if reduce == "sum":
        return total
    counts = put_add(np.ones(values.shape), places, x.shape) + include_self
    counts = np.maximum(counts, 1).astype(x.dtype)
    return total / counts if x.dtype.kind == "f" else floor_divide(total, counts)


class PutExtremum(Function):
    """The largest or smallest value at each place; equal ones share the gradient evenly."""

    @staticmethod
    def forward(
        ctx: Node, x: Tensor, values: Tensor, places: Any, ufunc: Any, include_self: bool
    ) -> Array:
        y = x.data.copy()
        if not include_self:
            y[places] = values.data
        ufunc.at(y, places, values.data)
        if any(ctx.needs_input_grad):
            kept, won = x.data == y, values.data == y[places]
            if not include_self:
                kept[places] = False
            count = kept + put_add(won.astype(np.float64), places, x.shape)
            ctx.places = places
            ctx.shares = (kept / count).astype(y.dtype), (won / count[places]).astype(y.dtype)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, won = ctx.shares
        return wanted(ctx, lambda: grad * kept, lambda: GetItem.apply(grad, ctx.places) * won)


def _products(places: tuple[Any, ...], values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ones of ``shape`` with the product of the values at each place.

    Neighbours are multiplied, then neighbours of those: multiplication alone is right at zeros.
    """
    size = int(np.prod(shape))
    flat = np.arange(size).reshape(shape)[places].ravel()
    order = np.argsort(flat, kind="stable")
    flat, values = flat[order], values.reshape(-1)[order]
    while (flat[1:] == flat[:-1]).any():
        starts = np.flatnonzero(np.diff(flat, prepend=-1))
        rank = np.arange(flat.size) - np.repeat(starts, np.diff(starts, append=flat.size))
        left = np.flatnonzero(rank % 2 == 0)
        right = np.minimum(left + 1, flat.size - 1)
        paired = (flat[left] == flat[right]) & (left != right)
        values = values[left] * where(paired, values[right], wrap(np.ones((), values.dtype)))
        flat = flat[left]
    return SetItem.apply(wrap(np.ones(size, values.dtype)), (flat,), values).reshape(shape)


# -- along one axis: scatter ------------------------------------------------------------------


def _scatter(
    x: Any, dim: int, index: Any, src: Any, who: str, reduce: str | None, include_self: bool = True
) -> Tensor:
    x = operand(x, who)
    shape = x.shape
    x, axis = with_axis(x, dim, who)
    array = np.atleast_1d(index_array(index, who)).copy()
    check_fits(x, axis, array, who)
    if isinstance(src, (bool, int, float)):
        values = wrap(np.full(array.shape, as_number(src, x.dtype, who), x.dtype))
    else:
        values, _ = with_axis(operand(src, who), 0, who)
        if values.ndim != array.ndim or any(n > m for n, m in zip(array.shape, values.shape)):
            raise ValueError(
                f"{who}: src of shape {values.shape} does not cover an index of shape {array.shape}"
            )
        _check_dtype(x, values, "src", who)
        if values.shape != array.shape:
            values = values[tuple([slice(n) for n in array.shape])]
    result = _combine(x, along(array, axis), values, reduce, include_self)
    return result if shape else result.reshape(shape)


def _check_dtype(x: Tensor, values: Tensor, name: str, who: str) -> None:
    if values.dtype != x.dtype:
        raise TypeError(f"{who}: {name} must have the tensor's dtype {x.dtype}, got {values.dtype}")


def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: Any = None
) -> Tensor:
    """Return ``input`` with values put along axis ``dim``: ``y[i, index[i, j]] = src[i, j]``.

    Where an index repeats, one of the values is kept.

    Args:
        input: any shape.
        dim: the axis to put along.
        index: integers, with as many axes as ``input``.
        src: the values: a number, or a tensor at least as large as ``index``.
        value: a number, in the place of ``src``.
        reduce: ``"add"`` or ``"multiply"``: combine all values with what is there.
    """
    if (src is None) == (value is None):
        raise TypeError("scatter: expected either src or value")
    if reduce is not None:
        reduce = _SCATTERED[one_of(reduce, tuple(_SCATTERED), "reduce", "scatter")]
    return _scatter(input, dim, index, value if src is None else src, "scatter", reduce)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """Return ``input`` with values added along axis ``dim``: ``y[i, index[i, j]] += src[i, j]``.

    Arguments as in :func:`scatter`; every value counts where an index repeats.
    """
    return _scatter(input, dim, index, src, "scatter_add", "sum")


def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Return ``input`` with all values of ``src`` that :func:`scatter` puts in one place combined.

    ``reduce`` is ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``; what ``input`` holds
    there counts too, unless ``include_self=False``.
    """
    who = "scatter_reduce"
    reduce = one_of(reduce, _REDUCTIONS, "reduce", who)
    return _scatter(input, dim, index, src, who, reduce, include_self)


# -- whole slices along one axis: index_add -----------------------------------------------------


def _by_slices(
    x: Any, dim: int, index: Any, source: Any, who: str, reduce: str | None, include: bool = True
) -> Tensor:
    """Return ``x`` with the slices of ``source`` at a vector of places along an axis."""
    x, source = operand(x, who), operand(source, who)
    vector, axis = with_axis(x, dim, who)
    array = index_vector(index, vector.shape[axis], who)
    _check_dtype(x, source, "source", who)
    shape = (*vector.shape[:axis], array.size, *vector.shape[axis + 1 :])
    if source.shape != shape and not (source.ndim == 0 and shape == (1,)):
        raise ValueError(
            f"{who}: expected a source of shape {shape}, a slice of a tensor of shape {x.shape} "
            f"for each place, got {source.shape}"
        )
    places, values = at_axis(axis, array), source.reshape(shape)
    return _combine(vector, places, values, reduce, include).reshape(x.shape)


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """Return ``input`` with slices added along axis ``dim``: ``y[index[i]] += alpha * source[i]``.

    Args:
        input: any shape.
        dim: the axis.
        index: integers ``(n,)``; every slice counts where one repeats.
        source: the slices: the shape of ``input`` with n slices along the axis.
        alpha: a factor.
    """
    source = operand(source, "index_add")
    if alpha != 1:
        source = source * one_number(alpha, source.dtype, "index_add")
    return _by_slices(input, dim, index, source, "index_add", "sum")


def index_copy(input: Any, dim: int, index: Any, source: Any) -> Tensor:
    """Return ``input`` with slices set: ``y[index[i]] = source[i]``. See :func:`index_add`."""
    return _by_slices(input, dim, index, source, "index_copy", None)


def index_fill(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """Return ``input`` with the slices ``index`` along ``dim`` set to one number, ``value``."""
    input = operand(input, "index_fill")
    vector, axis = with_axis(input, dim, "index_fill")
    array = np.unique(index_vector(index, vector.shape[axis], "index_fill"))
    number = one_number(value, input.dtype, "index_fill")
    # A place that is named twice counts once for the gradient of the number.
    return SetItem.apply(vector, at_axis(axis, array), number).reshape(input.shape)


# -- anywhere ---------------------------------------------------------------------------------


def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """Return ``input`` with ``y[indices] = values``.

    Args:
        input: any shape.
        indices: a tuple of integer or boolean tensors, one an axis; None takes an axis whole.
        values: of the dtype of ``input``; they broadcast to the shape of ``input[indices]``.
        accumulate: add the values instead; all count where an index repeats.
    """
    input, values = operand(input, "index_put"), operand(values, "index_put")
    places = as_index(tuple([slice(None) if part is None else part for part in indices]))
    shape = at_index(input, places).shape
    _check_dtype(input, values, "values", "index_put")
    if not broadcasts_to(values.shape, shape):
        raise ValueError(
            f"index_put: values of shape {values.shape} do not fit into shape {shape}, that of "
            "the tensor at the indices"
        )
    return _combine(input, places, values.expand(shape), "sum" if accumulate else None)


def masked_scatter(input: Any, mask: Any, source: Any) -> Tensor:
    """Return ``input`` with the first values of ``source``, in order, where ``mask`` holds.

    Args:
        input: any shape.
        mask: booleans; both broadcast.
        source: at least as many values as places, of the dtype of ``input``.
    """
    who = "masked_scatter"
    input, chosen, source = operand(input, who), boolean(mask, who), operand(source, who)
    check_broadcast(input, chosen, who)
    _check_dtype(input, source, "source", who)
    shape = np.broadcast_shapes(input.shape, chosen.shape)
    places = np.broadcast_to(chosen.data, shape)
    count = int(places.sum())
    if count > source.data.size:
        raise ValueError(f"{who}: expected {count} values as source, got {source.data.size}")
    return SetItem.apply(input.expand(shape), (places,), source.reshape(-1)[:count])


# -- a part replaced --------------------------------------------------------------------------
