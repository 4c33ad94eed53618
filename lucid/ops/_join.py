"""Joining and splitting: tensors put together along an axis, and cut into views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid._check import count, is_whole, one_of
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import (
    Array,
    at_axis,
    normalize_axis,
    operand,
    promoted,
    shape_argument,
    with_axes,
)
from lucid.ops._shape import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    broadcast_shapes,
    each_tensor,
    expand,
    flatten,
    pad,
    reshape,
    unsqueeze,
)

__all__ = [
    "block_diag", "broadcast_tensors", "cat", "chunk", "column_stack", "concat", "concatenate",
    "dsplit", "dstack", "hsplit", "hstack", "meshgrid", "row_stack", "split", "split_with_sizes",
    "stack", "tensor_split", "unbind", "vsplit", "vstack",
]  # fmt: skip


# -- joining ------------------------------------------------------------------------------------


class Cat(Function):
    @staticmethod
    def forward(ctx: Node, axis: int, *tensors: Tensor) -> Array:
        ctx.axis = axis
        ctx.sizes = [x.shape[axis] for x in tensors]
        return np.concatenate([x.data for x in tensors], axis)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts = split(grad, ctx.sizes, ctx.axis)
        return (
            None,
            *[part if need else None for part, need in zip(parts, ctx.needs_input_grad[1:])],
        )


def _tensors(tensors: Any, who: str) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, Sequence):
        raise TypeError(f"{who}: expected a list or tuple of tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ValueError(f"{who}: expected at least one tensor, got none")
    return list(promoted(who, *[operand(x, who) for x in tensors]))


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Return the tensors joined along an axis they have; the other sizes must agree.

    Args:
        tensors: a sequence of tensors with the same number of axes, in which vectors of no
            elements are passed over. Their dtypes combine as in :func:`add`.
        dim: the axis to join them along.

    Raises:
        ValueError: if there are none, or their shapes differ elsewhere.
    """
    parts = _tensors(tensors, "cat")
    # As in PyTorch, a vector of no elements may stand anywhere.
    parts = [part for part in parts if part.shape != (0,)]
    if not parts:
        return wrap(np.empty(0, promoted("cat", *tensors)[0].dtype))
    first = parts[0].shape
    axis = normalize_axis(dim, len(first), "cat")
    for index, part in enumerate(parts):
        shape = part.shape
        if shape != first and (
            len(shape) != len(first)
            or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]
        ):
            raise ValueError(
                f"cat: shapes must agree except along axis {dim}; tensor 0 has shape {first}, "
                f"tensor {index} has {shape}"
            )
    return Cat.apply(axis, *parts)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Return the tensors, all of one shape, joined along a new axis.

    Args:
        tensors: a sequence of tensors of one shape.
        dim: where the new axis stands in the result.

    Raises:
        ValueError: if there are none, or their shapes differ.
    """
    parts = _tensors(tensors, "stack")
    for index, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ValueError(
                f"stack: shapes must agree; tensor 0 has {parts[0].shape}, "
                f"tensor {index} has {part.shape}"
            )
    axis = normalize_axis(dim, parts[0].ndim + 1, "stack")
    return Cat.apply(axis, *[unsqueeze(part, axis) for part in parts])


concat = concatenate = cat  # aliases


def hstack(tensors: Any) -> Tensor:
    """Return the tensors joined along the second axis, vectors along their only one."""
    parts = [atleast_1d(x) for x in _tensors(tensors, "hstack")]
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """Return the tensors joined along the first axis; vectors count as rows."""
    return cat([atleast_2d(x) for x in _tensors(tensors, "vstack")], 0)


row_stack = vstack


def dstack(tensors: Any) -> Tensor:
    """Return the tensors joined along the third axis, which those of fewer axes are given."""
    return cat([atleast_3d(x) for x in _tensors(tensors, "dstack")], 2)


def column_stack(tensors: Any) -> Tensor:
    """Return the tensors joined along the second axis; vectors and numbers count as columns."""
    parts = _tensors(tensors, "column_stack")
    return cat([reshape(x, -1, 1) if x.ndim < 2 else x for x in parts], 1)


def block_diag(*tensors: Any) -> Tensor:
    """Return a matrix with the given ones, or rows or numbers, along its diagonal, else 0."""
    parts = [atleast_2d(x) for x in promoted("block_diag", *tensors)]
    for index, part in enumerate(parts):
        if part.ndim != 2:
            raise ValueError(
                f"block_diag: expected at most 2 axes, got shape {part.shape} of tensor {index}"
            )
    width, rows, start = sum(part.shape[1] for part in parts), [], 0
    for part in parts:
        end = start + part.shape[1]
        rows.append(pad(part, (start, width - end)))
        start = end
    return cat(rows) if rows else wrap(np.zeros((1, 0), np.float32))


# -- combining ----------------------------------------------------------------------------------


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return read-only views of the tensors, expanded to the shape to which they broadcast."""
    parts = each_tensor(tensors, "broadcast_tensors")
    shape = broadcast_shapes(*[part.shape for part in parts])
    return tuple([expand(part, shape) for part in parts])


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Return the coordinates of the points of a grid: one read-only view for each of ``tensors``.

    With ``indexing="ij"``, the default, number i varies along axis i; ``"xy"`` exchanges the first
    two axes.
    """
    parts = [flatten(part) for part in each_tensor(tensors, "meshgrid", most=1)]
    one_of(indexing or "ij", ("ij", "xy"), "indexing", "meshgrid")
    if not parts:
        raise ValueError("meshgrid: expected at least one tensor, got none")
    if len({part.dtype for part in parts}) > 1:
        dtypes = [str(part.dtype) for part in parts]
        raise TypeError(f"meshgrid: expected tensors of one dtype, got {dtypes}; use astype()")
    order = list(range(len(parts)))
    if indexing == "xy":
        order[:2] = order[:2][::-1]
    shape = [parts[number].shape[0] for number in order]
    places = [(1,) * axis + (-1,) + (1,) * (len(parts) - axis - 1) for axis in order]
    return tuple([expand(reshape(part, place), shape) for part, place in zip(parts, places)])


# -- splitting ----------------------------------------------------------------------------------


def split(
    tensor: Any, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Return views of ``tensor``, cut along an axis.

    Args:
        tensor: the tensor.
        split_size_or_sections: the size of each part (the last may be smaller), or a list of
            their sizes.
        dim: the axis.

    Raises:
        ValueError: if the sizes do not add up to that of the axis.
    """
    tensor = operand(tensor, "split")
    axis = normalize_axis(dim, tensor.ndim, "split")
    length = tensor.shape[axis]
    if isinstance(split_size_or_sections, (int, np.integer)):
        size = int(split_size_or_sections)
        if size < 0 or (size == 0 and length):
            raise ValueError(f"split: expected a positive size, got {size}")
        ends = [min(start + size, length) for start in range(0, length, size)] if length else [0]
    else:
        sizes = shape_argument((tuple(split_size_or_sections),), "split")
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        if sum(sizes) != length:
            raise ValueError(
                f"split: sizes {list(sizes)} add up to {sum(sizes)}, but axis {dim} of shape "
                f"{tensor.shape} has {length} elements"
            )
    return tuple([tensor[at_axis(axis, slice(a, b))] for a, b in zip([0, *ends], ends)])


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Return ``input`` cut along axis ``dim`` into at most ``chunks`` views of equal size.

    The last one may be smaller.
    """
    input = operand(input, "chunk")
    if not is_whole(chunks) or chunks < 1:
        raise ValueError(f"chunk: expected a positive number of chunks, got {chunks!r}")
    length = input.shape[normalize_axis(dim, input.ndim, "chunk")]
    if length == 0:
        return split(input, [0] * int(chunks), dim)
    return split(input, -(-length // int(chunks)), dim)


def unbind(input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Return a tuple of views, one for each index along axis ``dim``, which they do not have."""
    input = operand(input, "unbind")
    axis = normalize_axis(dim, input.ndim, "unbind")
    return tuple([input[at_axis(axis, index)] for index in range(input.shape[axis])])


def split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return ``input`` cut along axis ``dim`` into views of ``split_sizes``: see :func:`split`."""
    return split(input, tuple(split_sizes), dim)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of ``input``, cut along axis ``dim``.

    ``indices_or_sections`` is how many parts, of which the first are one longer where they cannot
    be equal; or a list or a vector of the indices at which parts begin.
    """
    return _cut(input, indices_or_sections, dim, "tensor_split")


def _cut(input: Any, places: Any, dim: int, who: str, least: int = 1, equal: bool = False) -> Any:
    input = with_axes(input, who, least)
    axis = normalize_axis(dim, input.ndim, who)
    places = places.tolist() if isinstance(places, (Tensor, np.ndarray)) else places
    if not is_whole(places):
        ends = shape_argument((tuple(places),), who, minimum=None)
        starts = 0, *ends
        return tuple([input[at_axis(axis, slice(a, b))] for a, b in zip(starts, (*ends, None))])
    sections, length = count(places, "the number of sections", who), input.shape[axis]
    if equal and length % sections:
        raise ValueError(
            f"{who}: axis {axis} of shape {input.shape} cannot be cut into {sections} equal parts"
        )
    size, longer = divmod(length, sections)
    return split(input, [size + 1] * longer + [size] * (sections - longer), axis)


def hsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Return views of ``input`` cut along the second axis, a vector along its only one.

    ``indices_or_sections`` as in :func:`tensor_split`, but a number of parts must be equal.
    """
    input = with_axes(input, "hsplit", 1)
    return _cut(input, indices_or_sections, 0 if input.ndim == 1 else 1, "hsplit", 1, True)


def vsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Return views cut along the first axis, by ``indices_or_sections`` as in :func:`hsplit`."""
    return _cut(input, indices_or_sections, 0, "vsplit", 2, True)


def dsplit(input: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Return views cut along the third axis, by ``indices_or_sections`` as in :func:`hsplit`."""
    return _cut(input, indices_or_sections, 2, "dsplit", 3, True)
