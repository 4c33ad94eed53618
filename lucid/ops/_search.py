"""Sorting, searching and counting: which elements are where, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid._check import count, one_of
from lucid.autograd import Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import ValuesIndices, wrap
from lucid.ops._common import Array, as_float, convert, floating, operand, promoted, with_axis
from lucid.ops._elementwise import where
from lucid.ops._gather import index_array, take_along_dim, values_and_indices
from lucid.ops._reduce import Extremum

__all__ = [
    "argsort", "argwhere", "bincount", "bucketize", "histc", "isin", "kthvalue", "median", "mode",
    "msort", "nanmedian", "nanquantile", "nonzero", "quantile", "searchsorted", "sort", "topk",
    "unique", "unique_consecutive",
]  # fmt: skip

# -- sorting ----------------------------------------------------------------------------------


def _order(x: Tensor, axis: int, descending: bool) -> Array:
    """Return the stable order of the elements; NaN counts as largest."""
    if not descending:
        return np.argsort(x.data, axis, kind="stable")
    # Turned round before and after, so that equal elements keep their order.
    backwards = np.flip(np.argsort(np.flip(x.data, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backwards


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the positions that sort ``input`` along an axis. Arguments as in :func:`sort`."""
    input = operand(input, "argsort")
    vector, axis = with_axis(input, dim, "argsort")
    return wrap(_order(vector, axis, descending).reshape(input.shape))


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
    """Return a named tuple of the values, sorted along an axis, and their positions.

    Equal elements always keep their order, whatever ``stable`` says; NaN counts as largest.

    Args:
        input: any shape.
        dim: the axis.
        descending: the largest first.
        stable: keep equal elements in order, which is always done.
    """
    input = operand(input, "sort")
    vector, axis = with_axis(input, dim, "sort")
    return values_and_indices(vector, axis, _order(vector, axis, descending), input.ndim > 0)


def topk(
    input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """Return the k largest (or smallest) elements along an axis, and their positions, in order.

    Args:
        input: the values.
        k: how many.
        dim: the axis.
        largest: False for the smallest.
        sorted: accepted as in PyTorch; the result always is.

    Raises:
        ValueError: if there are fewer than k elements.
    """
    input = operand(input, "topk")
    vector, axis = with_axis(input, dim, "topk")
    if not 0 <= k <= vector.shape[axis]:
        raise ValueError(
            f"topk: k must be from 0 to {vector.shape[axis]} for shape {input.shape}, got {k}"
        )
    # Of a tensor with zero axes the one element is taken even for k = 0, as in PyTorch.
    indices = np.take(_order(vector, axis, largest), range(k if input.ndim else 1), axis)
    return values_and_indices(vector, axis, indices, input.ndim > 0)


def msort(input: Any) -> Tensor:
    """Return the values sorted along the first axis."""
    return sort(input, 0).values


# -- the element of a rank ------------------------------------------------------------------------

# A function of values that are sorted along their last axis, which says where in it to look.
Rank = Callable[[Array], Array]


def _middle(values: Array) -> Array:
    last = values.shape[-1] - 1
    return np.where(np.isnan(values[..., -1:]), last, last // 2)


def _middle_number(values: Array) -> Array:
    numbers = values.shape[-1] - np.isnan(values).sum(-1, keepdims=True)
    return np.maximum(numbers - 1, 0) // 2


def _most_frequent(values: Array) -> Array:
    places = np.arange(values.shape[-1])
    new = np.ones(values.shape, np.bool_)
    new[..., 1:] = values[..., 1:] != values[..., :-1]
    return np.argmax(places - np.maximum.accumulate(new * places, -1), -1, keepdims=True)


def _of_rank(input: Any, dim: int, keepdim: bool, rank: Rank, who: str) -> ValuesIndices:
    """Return the element of a rank in the order along ``dim``, and where it is."""
    input = operand(input, who)
    vector, axis = with_axis(input, dim, who)
    if not vector.shape[axis]:
        raise IndexError(f"{who}: no elements to choose from along axis {axis} of {input.shape}")
    order = np.moveaxis(_order(vector, axis, False), axis, -1)
    ranks = rank(np.take_along_axis(np.moveaxis(vector.data, axis, -1), order, -1))
    places = np.moveaxis(np.take_along_axis(order, ranks, -1), -1, axis)
    return values_and_indices(vector, axis, places, keepdim and input.ndim > 0)


def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the k-th smallest element along ``dim``, from ``k=1`` on, and where it is.

    NaN counts as largest. ``keepdim`` keeps that axis, with size 1.
    """
    input = operand(input, "kthvalue")
    size = with_axis(input, dim, "kthvalue")[0].shape[dim]
    if not 1 <= k <= size:
        raise ValueError(f"kthvalue: k must be from 1 to {size}, got {k}")
    return _of_rank(input, dim, keepdim, lambda v: np.full((*v.shape[:-1], 1), k - 1), "kthvalue")


def mode(input: Any, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """Return the most frequent element along ``dim``, the smallest of several, and where one is.

    ``keepdim`` keeps that axis, with size 1.
    """
    return _of_rank(input, dim, keepdim, _most_frequent, "mode")


class Median(Extremum):
    """The element of a rank among all; equal ones share the gradient evenly."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, rank: Rank) -> Array:  # type: ignore[override]
        ctx.axes = tuple(range(x.ndim))
        values = np.sort(x.data, None)
        y = values[rank(values)].reshape(())
        ctx.save_for_backward(x, y)
        return y


def _median(input: Any, dim: int | None, keepdim: bool, rank: Rank, who: str) -> Any:
    if dim is not None:
        return _of_rank(input, dim, keepdim, rank, who)
    input = operand(input, who)
    if not input.data.size:
        raise ValueError(f"{who}: no elements to choose from in shape {input.shape}")
    return Median.apply(input, rank)


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median, the lower of two in the middle; NaN if there is one.

    Of all elements, equal ones share the gradient evenly. Along an axis ``dim``, which ``keepdim``
    keeps with size 1, it is a named tuple of values and places.
    """
    return _median(input, dim, keepdim, _middle, "median")


def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the median of the elements that are not NaN.

    ``dim`` and ``keepdim`` are as in :func:`median`.
    """
    return _median(input, dim, keepdim, _middle_number, "nanmedian")


_INTERPOLATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": np.positive, "midpoint": np.positive, "lower": np.floor, "higher": np.ceil,
    "nearest": np.rint,
}  # fmt: skip


def _quantile(
    input: Any, q: Any, dim: int | None, keepdim: bool, how: str, who: str, ignored: bool
) -> Tensor:
    input = operand(input, who)
    one_of(how, tuple(_INTERPOLATIONS), "interpolation", who)
    if input.dtype.char not in "fd":
        raise TypeError(f"{who}: expected float32 or float64, got {input.dtype}")
    q = convert(operand(q, who), input.dtype, who)
    if q.ndim > 1 or not ((q.data >= 0) & (q.data <= 1)).all():
        raise ValueError(f"{who}: q must be a number from 0 to 1, or a vector of them, got {q}")
    vector, axis = (input.reshape(-1), 0) if dim is None else with_axis(input, dim, who)
    x = vector.movedim(axis, -1)
    last = x.shape[-1] - 1
    if last < 0:
        raise ValueError(f"{who}: no elements to choose from in shape {input.shape}")
    order = np.argsort(x.data, -1, kind="stable")  # NaN last
    nans = np.isnan(x.data).sum(-1, keepdims=True)
    numbers = np.maximum(last - nans, 0) if ignored else np.full(nans.shape, last)
    ranks = q.reshape(-1) * wrap(numbers.astype(x.dtype))
    if not ignored:
        ranks = where(nans > 0, wrap(np.asarray(last, x.dtype)), ranks)
    places = _INTERPOLATIONS[how](ranks.data)

    def at(places: Array) -> Tensor:
        return take_along_dim(x, np.take_along_axis(order, places.astype(np.int64), -1), -1)

    y = at(np.floor(places))
    if how in ("linear", "midpoint"):
        weights = 0.5 if how == "midpoint" else ranks - wrap(np.floor(places))
        y = y + (at(np.ceil(places)) - y) * weights
    shape = [1 if dim is None or a == axis else n for a, n in enumerate(input.shape)]
    if not keepdim:
        shape = [] if dim is None else [*vector.shape[:axis], *vector.shape[axis + 1 :]]
    return y.movedim(-1, 0).reshape(*q.shape, *shape)


def quantile(
    input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return the quantiles of the values: what a part ``q`` of them is below. NaN if there is one.

    Args:
        input: the values, float32 or float64.
        q: a number from 0 to 1, or a vector of them, for which the result has a first axis.
        dim: the axis; of all elements if left out.
        keepdim: keep the axis, with size 1.
        interpolation: between two elements: ``"linear"``, ``"midpoint"``, or one of them:
            ``"lower"``, ``"higher"``, ``"nearest"``.
    """
    return _quantile(input, q, dim, keepdim, interpolation, "quantile", False)


def nanquantile(
    input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return the quantiles of the values that are not NaN. Arguments as in :func:`quantile`."""
    return _quantile(input, q, dim, keepdim, interpolation, "nanquantile", True)


# -- searching --------------------------------------------------------------------------------


def argwhere(input: Any) -> Tensor:
    """Return the places of the elements that are nonzero or True, one in a row, in order."""
    return wrap(np.argwhere(operand(input, "argwhere").data))


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """Return :func:`argwhere`, or with ``as_tuple`` one vector of places an axis, to index with."""
    if not as_tuple:
        return argwhere(input)
    return tuple(map(wrap, np.nonzero(np.atleast_1d(operand(input, "nonzero").data))))


def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Tensor:
    """Return where values would be inserted into sorted ones to keep the order.

    Args:
        sorted_sequence: sorted along the last axis: a vector, or as many rows as ``input`` has.
        input: the values, of the same dtype.
        out_int32: return int32 instead of int64.
        right: behind equal elements, not before them.
        side: ``"left"`` or ``"right"``, which says the same.
        sorter: the order of a sequence that is not sorted, from :func:`argsort`.
    """
    who = "searchsorted"
    rows = operand(sorted_sequence, who)
    values = operand(input, who) if isinstance(input, Tensor) else promoted(who, rows, input)[1]
    if rows.dtype != values.dtype:
        raise TypeError(f"{who}: expected values of dtype {rows.dtype}, got {values.dtype}")
    if rows.ndim != 1 and (not rows.ndim or rows.shape[:-1] != values.shape[:-1]):
        raise ValueError(f"{who}: values of shape {values.shape} do not fit rows of {rows.shape}")
    if side is not None:
        right |= one_of(side, ("left", "right"), "side", who) == "right"
    data = rows.data
    if sorter is not None:
        data = np.take_along_axis(data, index_array(sorter, who), -1)
    found = np.empty(values.shape, np.int32 if out_int32 else np.int64)
    for row in np.ndindex(rows.shape[:-1]):  # a vector is the one row
        found[row] = np.searchsorted(data[row], values.data[row], "right" if right else "left")
    return wrap(found)


def bucketize(
    input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Return which bucket, between sorted ``boundaries``, each element falls into.

    ``right`` and ``out_int32`` are as in :func:`searchsorted`.
    """
    edges = operand(boundaries, "bucketize")
    if edges.ndim != 1:
        raise ValueError(f"bucketize: boundaries must be a vector, got shape {edges.shape}")
    return searchsorted(edges, input, out_int32=out_int32, right=right)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Return which of ``elements`` are among ``test_elements``, or are not with ``invert``.

    ``assume_unique`` says that no element is twice in either, which may be faster.
    """
    one, other = (tensor.data for tensor in promoted("isin", elements, test_elements))
    return wrap(np.isin(one, other, assume_unique=assume_unique, invert=invert))


# -- counting ---------------------------------------------------------------------------------


def _unique(
    input: Any, dim: int | None, inverse: bool, counts: bool, who: str, *, sort: bool
) -> Any:
    input = operand(input, who)
    vector, axis = (input.reshape(-1), 0) if dim is None else with_axis(input, dim, who)
    rows = np.moveaxis(vector.data, axis, 0)
    number = len(rows)
    if 0 in rows.shape[1:]:
        raise ValueError(f"{who}: slices of shape {rows.shape[1:]} along axis {axis} are empty")
    rows = rows.reshape(number, int(np.prod(rows.shape[1:])))
    order = np.lexsort(rows.T[::-1]) if sort else np.arange(number)
    new = np.ones(number, np.bool_)
    new[1:] = (rows[order[1:]] != rows[order[:-1]]).any(1)
    group = np.empty(number, np.int64)
    group[order] = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    found = [np.take(vector.data, order[starts], axis)]
    if inverse:
        found.append(group.reshape(input.shape) if dim is None else group)
    if counts:
        found.append(np.diff(starts, append=number))
    return tuple(map(wrap, found)) if inverse or counts else wrap(found[0])


def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Return the distinct elements, or slices along ``dim``: always ``sorted``.

    With ``return_inverse`` it is a tuple with the place in the result of each element of ``input``,
    with ``return_counts`` also with how often each comes.
    """
    return _unique(input, dim, return_inverse, return_counts, "unique", sort=True)


def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Return the elements, or slices along ``dim``, that differ from the one before.

    ``return_inverse`` and ``return_counts`` are as in :func:`unique`.
    """
    return _unique(input, dim, return_inverse, return_counts, "unique_consecutive", sort=False)


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """Return how often each of the numbers 0, 1, … is in a vector of integers.

    Each counts its own of ``weights`` instead of 1. The result is at least ``minlength`` long.
    """
    who = "bincount"
    numbers = index_array(input, who)
    if numbers.ndim != 1 or (numbers < 0).any():
        raise ValueError(f"{who}: expected a vector without negative numbers, got {numbers}")
    minlength = count(minlength, "minlength", who, minimum=0)
    if weights is None:
        return wrap(np.bincount(numbers, minlength=minlength))
    each = operand(weights, who).data
    if each.shape != numbers.shape:
        raise ValueError(f"{who}: expected {numbers.size} weights, got shape {each.shape}")
    sums = np.bincount(numbers, each, minlength)
    return wrap(sums.astype(each.dtype if each.dtype == np.float32 else np.float64))


def _bounds(x: Array, low: Any, high: Any, margin: float, who: str) -> tuple[Any, Any]:
    """Return the bounds of bins in the dtype of ``x``, apart also where all values are equal."""
    low, high = x.dtype.type(low), x.dtype.type(high)
    if low == high:
        low, high = low - x.dtype.type(margin), high + x.dtype.type(margin)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"{who}: expected a finite range in order, got {low} to {high}")
    return low, high


def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Return how many elements are in each of ``bins`` bins of one width between two bounds.

    Elements outside do not count. The bounds ``min=0`` and ``max=0`` are the least and the largest
    element.
    """
    x, bins = floating(input, "histc").data, count(bins, "bins", "histc")
    low, high = as_float(min, "min", "histc"), as_float(max, "max", "histc")
    if low == high and x.size:
        low, high = x.min(), x.max()
    low, high = _bounds(x, low, high, 1, "histc")
    x = x[(x >= low) & (x <= high)]
    places = ((x - low) * x.dtype.type(bins) / (high - low)).astype(np.int64)
    return wrap(np.bincount(np.minimum(places, bins - 1), minlength=bins).astype(x.dtype))
