"""How operations on shapes and by index are said in ONNX. See ``_emit.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.graph import Value
from lucid.onnx._context import Context, Input
from lucid.onnx._traced import Array, Size, Varying

# Where a slice ends that goes to the very end.
_FAR = np.iinfo(np.int64).max


def reshape(context: Context, x: Value, shape: Any) -> str:
    """Add a Reshape, to sizes that are computed where they depend on the input's."""
    source = context.shape(x)
    if x.ndim > 2 and len(shape) == 2 and shape[0] == source[0]:
        return context.node("Flatten", x, axis=1)
    sizes: list[int | Size] = list(shape)
    for axis, size in enumerate(sizes):
        if isinstance(size, Size) and axis < len(source) and size == source[axis]:
            sizes[axis] = 0  # as it was
    unknown = [axis for axis, size in enumerate(sizes) if isinstance(size, Size)]
    if 0 in shape:  # an axis of no elements, unless zeros are taken as they are
        context.need(14, "an empty Reshape")
        return context.node("Reshape", x, context.sizes(shape), allowzero=1)
    if unknown:
        sizes[unknown[0]] = -1
    return context.node("Reshape", x, context.sizes(sizes))


def permute(context: Context, x: Input, axes: Sequence[int]) -> str:
    """Add a Transpose, unless it would change nothing."""
    if list(axes) == sorted(axes):
        return context.input(x)
    return context.node("Transpose", x, perm=[int(axis) for axis in axes])


def expand(context: Context, x: Value, shape: Any) -> str:
    """Add an Expand; an axis that stays as it is needs no size."""
    source = (None,) * (len(shape) - x.ndim) + context.shape(x)
    sizes = [1 if size == old else size for size, old in zip(shape, source)]
    return context.node("Expand", x, context.sizes(sizes))


def overwrite(context: Context, x: Value, value: Any) -> str:
    """Add what gives ``value`` the dtype and shape of ``x``."""
    return context.node("Expand", context.cast(value, x.dtype), context.sizes(context.shape(x)))


def cat(context: Context, axis: int, *parts: Any) -> str:
    """Add a Concat."""
    return context.node("Concat", *parts, axis=int(axis))


# -- slices ---------------------------------------------------------------------------------------


def _slice(context: Context, x: Input, slices: dict[int, slice]) -> str:
    """Add a Slice along some axes."""
    if not slices:
        return context.input(x)
    starts, ends, steps = [], [], []
    for part in slices.values():
        step = 1 if part.step is None else part.step
        first, last = (0, _FAR) if step > 0 else (_FAR, -_FAR)
        starts.append(first if part.start is None else part.start)
        ends.append(last if part.stop is None else part.stop)
        steps.append(step)
    vectors = [context.sizes(each) for each in (starts, ends, list(slices), steps)]
    return context.node("Slice", x, *vectors)


def flip(context: Context, x: Value, axes: Sequence[int]) -> str:
    """Add a Slice backwards."""
    return _slice(context, x, {axis: slice(None, None, -1) for axis in axes})


def roll(context: Context, x: Value, shifts: Sequence[int], axes: Sequence[int]) -> str:
    """Add, for each axis, what cuts the end off and joins it in front."""
    rolled: Input = x
    for shift, axis in zip(shifts, axes):
        length = context.shape(x)[axis]
        least = min(length.runs) if isinstance(length, Size) else length
        if isinstance(length, int):
            shift = shift % length if length else 0
        elif abs(shift) >= least:
            raise context.refuse("rolls by more than some input's size")
        if shift:
            end = _slice(context, rolled, {axis: slice(-shift, None)})
            start = _slice(context, rolled, {axis: slice(None, -shift)})
            rolled = context.node("Concat", end, start, axis=axis)
    return context.input(rolled)


def pad(context: Context, x: Value, widths: Any, number: Any) -> str:
    """Add a Pad; a negative width cuts off."""
    cut = {
        axis: slice(max(-low, 0), min(high, 0) or None)
        for axis, (low, high) in enumerate(widths)
        if low < 0 or high < 0
    }
    pads = [max(low, 0) for low, _ in widths] + [max(high, 0) for _, high in widths]
    kept = _slice(context, x, cut)
    if not any(pads):
        return kept
    return context.node("Pad", kept, np.array(pads, np.int64), context.like(number, x))


# -- indices ------------------------------------------------------------------------------------


def get_item(context: Context, x: Value, index: tuple[Any, ...]) -> str:
    """Add what ``x[index]`` is: slices, and gathering where an array chooses."""
    parts = _spelled_out(context, index, x.ndim)
    given: Input = x
    shape: list[int | Size] = list(context.shape(x))
    new = [place for place, part in enumerate(parts) if part is None]
    if new:
        given = context.with_axes("Unsqueeze", given, new)
        parts = [slice(None) if part is None else part for part in parts]
    for place in new:
        shape.insert(place, 1)
    if any(isinstance(part, np.ndarray) for part in parts):
        # As in NumPy, integers beside arrays are arrays.
        parts = [part if isinstance(part, slice) else np.asarray(part) for part in parts]
    slices = {
        axis: part
        for axis, part in enumerate(parts)
        if isinstance(part, slice) and part != slice(None)
    }
    dropped = [axis for axis, part in enumerate(parts) if not isinstance(part, (slice, np.ndarray))]
    for axis in dropped:
        slices[axis] = slice(parts[axis], None if parts[axis] == -1 else parts[axis] + 1)
    given = _slice(context, given, dict(sorted(slices.items())))
    if dropped:
        given = context.with_axes("Squeeze", given, dropped)
    chosen = {axis: part for axis, part in enumerate(parts) if isinstance(part, np.ndarray)}
    return _gather(context, given, shape, slices, chosen) if chosen else context.input(given)


def _spelled_out(context: Context, index: tuple[Any, ...], ndim: int) -> list[Any]:
    """Return one part for each axis and each new one: no ellipsis, no booleans."""
    parts: list[Any] = []
    for part in index:
        if isinstance(part, Varying):
            raise context.refuse("takes elements by an index that depends on the input's size")
        if isinstance(part, (bool, np.bool_)):
            part = np.asarray(part)
        if isinstance(part, np.ndarray) and part.dtype.kind == "b":
            if not part.ndim:
                raise context.refuse("takes elements by a single boolean")
            parts += part.nonzero()
        else:
            parts.append(part)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (ndim - used)
    where = [place for place, part in enumerate(parts) if part is Ellipsis]
    place = where[0] if where else len(parts)
    return [*parts[:place], *rest, *parts[place + 1 :]]


def _gather(
    context: Context,
    x: Input,
    shape: list[int | Size],
    slices: dict[int, slice],
    chosen: dict[int, Array],
) -> str:
    """Add what takes elements at arrays of places, one array an axis of ``shape``."""
    axes = list(chosen)
    if len(axes) == 1:
        return context.node("Gather", x, chosen[axes[0]].astype(np.int64), axis=axes[0])
    lengths = [context.fixed(shape[axis], "the size of an axis indexed") for axis in axes]
    arrays = np.broadcast_arrays(*[chosen[axis] % shape[axis] for axis in axes])
    places = np.ravel_multi_index(tuple(arrays), tuple(lengths))
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    # The chosen axes come first and become one, of which elements are gathered.
    front = permute(context, x, [*axes, *others])
    rest = [
        -1 if isinstance(shape[axis], Size) or axis in slices else shape[axis] for axis in others
    ]
    if rest.count(-1) > 1:
        raise context.refuse("takes elements along some axes of an array of several unknown sizes")
    flat = context.node("Reshape", front, context.sizes([math.prod(lengths), *rest]))
    taken = context.node("Gather", flat, places.astype(np.int64), axis=0)
    if axes != list(range(axes[0], axes[0] + len(axes))):
        return taken  # as in NumPy: arrays apart from each other put their axes in front
    n = places.ndim
    before = len([axis for axis in others if axis < axes[0]])
    order = [*range(n, n + before), *range(n), *range(n + before, n + len(others))]
    return permute(context, taken, order)


def _put(
    context: Context, x: Input, shape: Sequence[int | Size], index: Any, value: Any, **how: Any
) -> str:
    """Add what puts ``value`` at ``index`` of an array of ``shape``."""
    sizes = [context.fixed(size, "the size of what is put into") for size in shape]
    if any(isinstance(part, Varying) for part in index):
        raise context.refuse("puts elements at an index that depends on the input's size")
    places = np.arange(math.prod(sizes)).reshape(sizes)[index]
    flat = context.node("Reshape", x, np.array([-1]))
    spread = context.node("Expand", value, np.array(places.shape, np.int64))
    values = context.node("Reshape", spread, np.array([-1]))
    put = context.node("ScatterElements", flat, places.reshape(-1), values, axis=0, **how)
    return context.node("Reshape", put, np.array(sizes, np.int64))


def set_item(context: Context, x: Any, index: Any, value: Any) -> str:
    """Add what ``x`` is with ``value`` at ``index``."""
    return _put(context, x, context.shape(x), index, value)


def put_add(context: Context, values: Any, index: Any, shape: Any) -> str:
    """Add zeros with ``values`` added at ``index``."""
    context.need(16, "ScatterElements that adds")
    sizes = [context.fixed(size, "the size of what is added to") for size in shape]
    zeros = np.zeros(sizes, values.dtype)
    return _put(context, zeros, sizes, index, values, reduction="add")
