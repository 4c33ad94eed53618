"""Shapes, and where elements stand: reshaping, joining, cutting, choosing, repeating, padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import nn, ops
from lucid.onnx._operators._table import (
    Built,
    array,
    array_dtype,
    axis_of,
    given_ints,
    ints,
    operator,
    scalar,
    tensor,
    unsupported,
)
from lucid.onnx._read import Node
from lucid.ops._common import at_axis

# -- what is known of a tensor without computing ------------------------------------------------


@operator("Shape")
def shape(node: Node, x: Any) -> Any:
    """The sizes, outside the graph."""
    sizes = np.array(np.shape(x), np.int64)
    return sizes[node.integer("start") : node.attributes.get("end")]


@operator("Size")
def size(node: Node, x: Any) -> Any:
    """The number of elements, outside the graph."""
    return np.array(math.prod(np.shape(x)), np.int64)


_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@operator("Constant", size=lambda node: np.size(node.attributes.get("value", 0)))
def constant(node: Node) -> Any:
    """Its value."""
    value = node.attributes.get("value")
    if isinstance(value, np.ndarray):
        return value
    for name, dtype in _CONSTANTS.items():
        if node.attributes.get(name) is not None:
            return np.array(node.attributes[name], dtype)
    raise unsupported(node, f"a constant given as {', '.join(node.attributes) or 'nothing'}")


def _product(node: Node, sizes: Any, *others: Any) -> int:
    return math.prod(ints(sizes))


@operator("ConstantOfShape", size=_product)
def constant_of_shape(node: Node, sizes: Any) -> Any:
    """One number in a shape, outside the graph."""
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(ints(sizes), scalar(value), array_dtype(value))


def _steps(node: Node, start: Any, limit: Any, delta: Any) -> int:
    return math.ceil((scalar(limit) - scalar(start)) / scalar(delta))


@operator("Range", size=_steps)
def range_(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    """`numpy.arange`, outside the graph."""
    count = max(_steps(node, start, limit, delta), 0)
    values = array(start) + np.arange(count) * array(delta)
    return values.reshape(-1).astype(array_dtype(start))


@operator("EyeLike")
def eye_like(node: Node, x: Any) -> Any:
    """`numpy.eye`, outside the graph."""
    from lucid.onnx._operators._elementwise import DTYPES

    dtype = DTYPES.get(node.integer("dtype", 0), array_dtype(x))
    rows, columns = np.shape(x)
    return np.eye(rows, columns, node.integer("k"), dtype=dtype)


# -- reshaping ----------------------------------------------------------------------------------


@operator("Reshape", size=lambda node, x, sizes=None: np.size(x))
def reshape(node: Node, x: Any, sizes: Any = None) -> Any:
    """`Tensor.reshape`; 0 keeps a size, unless `allowzero` is set."""
    x = tensor(x)
    wanted = given_ints(node, "shape", sizes) or []
    if not node.integer("allowzero"):
        wanted = [
            x.shape[axis] if length == 0 and axis < x.ndim else length
            for axis, length in enumerate(wanted)
        ]
    return x.reshape(wanted)


def _flatten_layer(node: Node, rank: int | None) -> Built | None:
    return (nn.Flatten(), {}) if node.integer("axis", 1) == 1 else None


@operator("Flatten", layer=_flatten_layer)
def flatten(node: Node, x: Any) -> Any:
    """`nn.Flatten`, or `Tensor.reshape` to two axes."""
    x = tensor(x)
    axis = node.integer("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze", size=lambda node, x, axes=None: np.size(x))
def squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    """`Tensor.squeeze`."""
    x = tensor(x)
    given = given_ints(node, "axes", axes)
    gone = {axis_of(axis, x.ndim) for axis in given} if given is not None else {
        axis for axis, length in enumerate(x.shape) if length == 1
    }  # fmt: skip
    if any(x.shape[axis] != 1 for axis in gone):
        raise ValueError(f"axes {sorted(gone)} of shape {x.shape} are not all of size 1")
    return x.reshape([length for axis, length in enumerate(x.shape) if axis not in gone])


@operator("Unsqueeze", size=lambda node, x, axes=None: np.size(x))
def unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    """`Tensor.unsqueeze`."""
    x = tensor(x)
    given = given_ints(node, "axes", axes) or []
    ndim = x.ndim + len(given)
    new = {axis_of(axis, ndim) for axis in given}
    if len(new) < len(given):
        raise ValueError(f"an axis is named twice in {given}")
    rest = iter(x.shape)
    return x.reshape([1 if axis in new else next(rest) for axis in range(ndim)])


@operator("Transpose")
def transpose(node: Node, x: Any) -> Any:
    """`Tensor.permute`."""
    x = tensor(x)
    return x.permute(node.ints("perm", list(range(x.ndim))[::-1]))


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Any) -> Any:
    """`Tensor.reshape` and `Tensor.permute`."""
    x, step = tensor(x), node.integer("blocksize", 1)
    n, c, h, w = x.shape
    if node.text("mode", "DCR") == "DCR":
        y = x.reshape(n, step, step, c // step**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // step**2, step, step, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // step**2, h * step, w * step)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Any) -> Any:
    """`Tensor.reshape` and `Tensor.permute`."""
    x, step = tensor(x), node.integer("blocksize", 1)
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if node.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = x.reshape(n, c, h // step, step, w // step, step).permute(order)
    return y.reshape(n, c * step**2, h // step, w // step)


# -- joining and repeating ----------------------------------------------------------------------


def _together(node: Node, *values: Any) -> int:
    return sum(int(np.size(value)) for value in values)


@operator("Concat", size=_together)
def concat(node: Node, *values: Any) -> Any:
    """`lucid.cat`."""
    return ops.cat([tensor(value) for value in values], node.integer("axis"))


def _expanded(node: Node, x: Any, sizes: Any) -> int:
    return math.prod(np.broadcast_shapes(np.shape(x), tuple(ints(sizes))))


@operator("Expand", size=_expanded)
def expand(node: Node, x: Any, sizes: Any) -> Any:
    """`Tensor.expand`; either side may have the size 1."""
    x = tensor(x)
    return x.expand(np.broadcast_shapes(x.shape, tuple(ints(sizes))))


def _tiled(node: Node, x: Any, repeats: Any) -> int:
    return int(np.size(x)) * math.prod(ints(repeats))


@operator("Tile", size=_tiled)
def tile(node: Node, x: Any, repeats: Any) -> Any:
    """`Tensor.repeat`."""
    return tensor(x).repeat(ints(repeats))


# -- cutting and choosing -----------------------------------------------------------------------


@operator("Split", size=lambda node, x, sizes=None: np.size(x))
def split(node: Node, x: Any, sizes: Any = None) -> Any:
    """`Tensor.split`."""
    x = tensor(x)
    axis = axis_of(node.integer("axis"), x.ndim)
    lengths = given_ints(node, "split", sizes)
    if lengths is None:
        count = node.integer("num_outputs", len(node.outputs))
        step = -(-x.shape[axis] // max(count, 1))
        lengths = [min(step, x.shape[axis] - start) for start in range(0, x.shape[axis], step)]
    return tuple(x.split(lengths, axis))


@operator("Slice", size=lambda node, x, *others: np.size(x))
def slice_(
    node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Any:
    """Indexing with slices."""
    x = tensor(x)
    first, last = given_ints(node, "starts", starts), given_ints(node, "ends", ends)
    if first is None or last is None or len(first) != len(last):
        raise ValueError("expected as many ends as starts")
    along = given_ints(node, "axes", axes) or list(range(len(first)))
    by = ints(steps) if steps is not None else [1] * len(first)
    index: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along, first, last, by):
        axis = axis_of(axis, x.ndim)
        length = x.shape[axis]
        start, end = (value + length if value < 0 else value for value in (start, end))
        if step > 0:
            index[axis] = slice(min(max(start, 0), length), min(max(end, 0), length), step)
        elif step < 0:
            # Backwards: NumPy's slices of negative steps are no views that lucid has, so by index.
            start, end = min(max(start, -1), length - 1), min(max(end, -1), length - 1)
            index[axis] = np.arange(start, end, step)
        else:
            raise ValueError("a step of 0 gets nowhere")
    if sum(isinstance(part, np.ndarray) for part in index) > 1:
        for axis, part in enumerate(index):
            x = x[at_axis(axis, part)]
        return x
    return x[tuple(index)]


def _gathered(node: Node, x: Any, index: Any) -> int:
    axis = axis_of(node.integer("axis"), np.ndim(x))
    return int(np.size(index) * np.size(x) // max(np.shape(x)[axis], 1))


@operator("Gather", size=_gathered)
def gather(node: Node, x: Any, index: Any) -> Any:
    """Indexing along one axis."""
    x = tensor(x)
    return x[at_axis(axis_of(node.integer("axis"), x.ndim), array(index))]


@operator("GatherElements", size=lambda node, x, index: np.size(index))
def gather_elements(node: Node, x: Any, index: Any) -> Any:
    """`lucid.gather`."""
    x, axis = tensor(x), axis_of(node.integer("axis"), np.ndim(x))
    return ops.gather(x, axis, _positive(array(index), x.shape[axis]))


def _positive(index: np.ndarray, length: int) -> np.ndarray:
    return np.where(index < 0, index + length, index)


@operator("GatherND", size=None)
def gather_nd(node: Node, x: Any, index: Any) -> Any:
    """Indexing along several axes."""
    x, places, batch = tensor(x), array(index), node.integer("batch_dims")
    spread = [
        np.arange(length).reshape(at_axis_shape(axis, places.ndim - 1))
        for axis, length in enumerate(places.shape[:batch])
    ]
    index = (*spread, *np.moveaxis(places, -1, 0))
    return x[index]


_SCATTERED = {"mul": np.multiply, "max": np.maximum, "min": np.minimum}


@operator("ScatterElements", "Scatter", size=lambda node, x, index, updates: np.size(x))
def scatter_elements(node: Node, x: Any, index: Any, updates: Any) -> Any:
    """`lucid.scatter` or `lucid.scatter_add`; products and extremes without gradient."""
    x, axis = tensor(x), axis_of(node.integer("axis"), np.ndim(x))
    places = _positive(array(index), x.shape[axis])
    how = node.text("reduction", "none")
    if how in _SCATTERED:
        result, where = array(x).copy(), np.indices(places.shape)
        where[axis] = places
        _SCATTERED[how].at(result, tuple(where), array(updates))
        return result
    if how not in ("none", "add"):
        raise unsupported(node, f"the reduction {how!r}")
    function = ops.scatter if how == "none" else ops.scatter_add
    return function(x, axis, places, tensor(updates))


def _one_hot_size(node: Node, index: Any, depth: Any, values: Any) -> int:
    return int(np.size(index) * scalar(depth))


@operator("OneHot", size=_one_hot_size, fixed=(0, 1, 2))
def one_hot(node: Node, index: Any, depth: Any, values: Any) -> Any:
    """`lucid.where`."""
    places, count = array(index).astype(np.int64), int(scalar(depth))
    axis = axis_of(node.integer("axis", -1), places.ndim + 1)
    along = np.arange(count).reshape(at_axis_shape(axis, places.ndim + 1))
    hits = np.expand_dims(_positive(places, count), axis) == along
    off, on = array(values)
    return np.where(hits, on, off).astype(array_dtype(values))


def at_axis_shape(axis: int, ndim: int) -> tuple[int, ...]:
    """Return the shape of a list along an axis of several."""
    return tuple(-1 if each == axis else 1 for each in range(ndim))


@operator("Trilu")
def trilu(node: Node, x: Any, k: Any = None) -> Any:
    """`lucid.triu` or `lucid.tril`."""
    diagonal = 0 if k is None else int(scalar(k))
    return (ops.triu if node.integer("upper", 1) else ops.tril)(tensor(x), diagonal)


@operator("NonZero", size=lambda node, x: np.size(x) * np.ndim(x))
def non_zero(node: Node, x: Any) -> Any:
    """`numpy.nonzero`, outside the graph."""
    return np.array(np.nonzero(array(x)), np.int64)


_PADDINGS = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad", size=None, fixed=(1, 2, 3))
def pad(node: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    """`nn.functional.pad`."""
    x = tensor(x)
    counts = given_ints(node, "pads" if node.opset >= 2 else "paddings", pads) or []
    along = [axis_of(a, x.ndim) for a in ints(axes)] if axes is not None else range(x.ndim)
    if len(counts) != 2 * len(along):
        raise ValueError(f"expected {2 * len(along)} pads for shape {x.shape}, got {counts}")
    widths = [(0, 0)] * x.ndim
    for place, axis in enumerate(along):
        widths[axis] = counts[place], counts[place + len(along)]
    flat = [count for pair in reversed(widths) for count in pair]
    mode = node.text("mode", "constant")
    if mode != "constant":
        if mode not in _PADDINGS:
            raise unsupported(node, f"the mode {mode!r}")
        while len(flat) > 2 and flat[-2:] == [0, 0]:
            flat = flat[:-2]
        return nn.functional.pad(x, flat, _PADDINGS[mode])
    given = scalar(value) if value is not None else node.number("value")
    return nn.functional.pad(x, flat, "constant", given)
