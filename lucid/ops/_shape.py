"""Shapes: views of the same memory where NumPy gives one, repeating, turning, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lucid._check import count, is_whole
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import (
    Array,
    at_axis,
    broadcasts_to,
    convert,
    normalize_axes,
    normalize_axis,
    operand,
    shape_argument,
    sum_to,
    with_axes,
    with_axis,
)

__all__ = [
    "adjoint", "as_strided", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes",
    "broadcast_to", "clone", "contiguous", "expand", "expand_as", "flatten", "flip", "fliplr",
    "flipud", "moveaxis", "movedim", "numel", "pad", "permute", "ravel", "repeat", "reshape",
    "roll", "rot90", "squeeze", "swapaxes", "swapdims", "t", "tile", "transpose", "unflatten",
    "unsqueeze",
]  # fmt: skip

# -- views ------------------------------------------------------------------------------------


class Reshape(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        ctx.view = lambda tensor: Reshape.apply(tensor, shape)
        return x.data.reshape(shape)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Reshape.apply(grad, ctx.shape)


def reshape(input: Any, *shape: Any) -> Tensor:
    """Return the elements of ``input``, in row-major order, in another shape.

    The result shares memory with ``input`` where the layout allows, and is a copy otherwise: images
    lie channels last in memory, so that flattening their logical shape may copy. For the same
    reason ``view`` is the same function here, whereas PyTorch's raises instead of copying.

    Args:
        input: the tensor.
        shape: the sizes, as integers or one tuple; one may be -1, which is then worked out.

    Raises:
        ValueError: if the number of elements differs.
    """
    input = operand(input, "reshape")
    sizes = shape_argument(shape, "reshape", minimum=-1)
    filled = _filled_in(sizes, math.prod(input.shape))
    if filled is None:
        raise ValueError(
            f"reshape: {input.data.size} elements of shape {input.shape} do not fit into shape "
            f"{sizes}"
        )
    return Reshape.apply(input, filled)


def _filled_in(sizes: tuple[int, ...], total: int) -> tuple[int, ...] | None:
    """Return sizes of ``total`` elements, of which one may be -1; None if they do not fit."""
    if -1 not in sizes:
        return sizes if math.prod(sizes) == total else None
    known = -math.prod(sizes)  # without the one that is -1
    if sizes.count(-1) > 1 or known == 0 or total % known:
        return None
    return tuple([total // known if size == -1 else size for size in sizes])


def view_as(input: Any, other: Tensor) -> Tensor:
    """Return ``input`` in the shape of ``other``: ``reshape_as``."""
    return reshape(input, other.shape)


def ravel(input: Any) -> Tensor:
    """Return the elements as a vector: a view where the layout allows."""
    return reshape(operand(input, "ravel"), -1)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return ``input`` with the axes from ``start_dim`` to ``end_dim``, which count, made one."""
    input = operand(input, "flatten")
    start = normalize_axis(start_dim, input.ndim or 1, "flatten: start_dim")
    end = normalize_axis(end_dim, input.ndim or 1, "flatten: end_dim")
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    count = math.prod(input.shape[start : end + 1])
    return Reshape.apply(input, (*input.shape[:start], count, *input.shape[end + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return ``input`` with axis ``dim`` split into axes of ``sizes``, of which one may be -1."""
    input = operand(input, "unflatten")
    axis = normalize_axis(dim, input.ndim, "unflatten")
    sizes = shape_argument((tuple(sizes),), "unflatten", minimum=-1)
    filled = _filled_in(sizes, input.shape[axis])
    if filled is None:
        raise ValueError(
            f"unflatten: axis {dim} has {input.shape[axis]} elements, which do not fit into {sizes}"
        )
    return Reshape.apply(input, (*input.shape[:axis], *filled, *input.shape[axis + 1 :]))


class Permute(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...]) -> Array:
        ctx.axes = axes
        ctx.view = lambda tensor: Permute.apply(tensor, axes)
        return x.data.transpose(axes)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Permute.apply(grad, tuple(np.argsort(ctx.axes).tolist()))


def permute(input: Any, *axes: Any, dims: Any = ()) -> Tensor:
    """Return a view with the axes in another order.

    Args:
        input: any shape.
        *axes: all axes in their new order: integers, or one tuple of them.
        dims: the tuple by name.

    Raises:
        ValueError: if they do not name every axis once.
    """
    input = operand(input, "permute")
    given = shape_argument(axes or (dims,), "permute", minimum=None)
    order = normalize_axes(given, input.ndim, "permute")
    if len(given) != input.ndim:
        raise ValueError(
            f"permute: expected {input.ndim} axes for shape {input.shape}, got {given}"
        )
    return Permute.apply(input, order)


def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Return a view with axes ``dim0`` and ``dim1`` exchanged."""
    input = operand(input, "transpose")
    axes = list(range(input.ndim))
    first = normalize_axis(dim0, input.ndim or 1, "transpose")
    second = normalize_axis(dim1, input.ndim or 1, "transpose")
    if input.ndim == 0:
        return input
    axes[first], axes[second] = axes[second], axes[first]
    return Permute.apply(input, tuple(axes))


def swapaxes(input: Any, axis0: int, axis1: int) -> Tensor:
    """Return a view with axes ``axis0`` and ``axis1`` exchanged, as :func:`transpose` does."""
    return transpose(input, axis0, axis1)


swapdims = transpose  # an alias


def t(input: Any) -> Tensor:
    """Return a matrix transposed; a tensor of fewer axes stays as it is.

    Raises:
        ValueError: for more than two axes: use ``mT`` or ``permute``.
    """
    input = operand(input, "t")
    if input.ndim > 2:
        raise ValueError(
            f"t: expected at most 2 axes, got shape {input.shape}; use mT or permute()"
        )
    return input if input.ndim < 2 else transpose(input, 0, 1)


def matrix_transpose(x: Any) -> Tensor:
    """Return a view with the last two axes exchanged: the property ``mT``."""
    x = operand(x, "mT")
    if x.ndim < 2:
        raise ValueError(f"mT: expected at least 2 axes, got shape {x.shape}")
    return transpose(x, -2, -1)


def adjoint(input: Any) -> Tensor:
    """Return a view with the last two axes exchanged: ``mH``, as numbers are real."""
    input = with_axes(input, "adjoint", 2)
    return transpose(input, -2, -1)


def hermitian_transpose(x: Any) -> Tensor:
    """Return a matrix transposed, as numbers are real: the property ``H``."""
    x = operand(x, "H")
    if x.ndim not in (0, 2):
        raise ValueError(f"H: expected a matrix, got shape {x.shape}; use mH for several")
    return t(x)


def reverse_axes(x: Any) -> Tensor:
    """Return a view with the axes in reverse order: the property ``T``."""
    x = operand(x, "T")
    return Permute.apply(x, tuple(range(x.ndim))[::-1])


def movedim(input: Any, source: Any, destination: Any) -> Tensor:
    """Return a view with axes moved from ``source`` to ``destination``, the others in order."""
    input = operand(input, "movedim")
    sources = normalize_axes(source, input.ndim, "movedim")
    targets = normalize_axes(destination, input.ndim, "movedim")
    if source is None or destination is None or len(sources) != len(targets):
        raise ValueError(
            f"movedim: expected as many sources as destinations, got {source!r} and {destination!r}"
        )
    axes = [axis for axis in range(input.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources)):
        axes.insert(target, axis)
    return Permute.apply(input, tuple(axes))


moveaxis = movedim  # an alias


def squeeze(input: Any, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Return ``input`` without its axes of size 1: all of them, or those among ``dim``."""
    input = operand(input, "squeeze")
    axes = normalize_axes(dim, input.ndim, "squeeze")
    shape = tuple([s for axis, s in enumerate(input.shape) if not (s == 1 and axis in axes)])
    return Reshape.apply(input, shape)


def unsqueeze(input: Any, dim: int) -> Tensor:
    """Return ``input`` with an axis of size 1 put in at ``dim`` of the result."""
    input = operand(input, "unsqueeze")
    axis = normalize_axis(dim, input.ndim + 1, "unsqueeze")
    return Reshape.apply(input, (*input.shape[:axis], 1, *input.shape[axis:]))


def each_tensor(tensors: Any, who: str, least: int = 0, most: int = 64) -> list[Tensor]:
    """Return tensors of so many axes that were given one by one, or as one list."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tensors[0]
    return [with_axes(x, who, least, most) for x in tensors]


def _at_least(tensors: Any, who: str, *indices: Any) -> Any:
    """Return each tensor with the axes that the index for its number of axes, from 0, adds."""
    taken = each_tensor(tensors, who)
    results = [x[indices[x.ndim]] if x.ndim < len(indices) else x for x in taken]
    single = len(tensors) == 1 and not isinstance(tensors[0], (list, tuple))
    return results[0] if single else tuple(results)


def atleast_1d(*tensors: Any) -> Any:
    """Return the tensor with at least one axis; of several, or of a list, a tuple of them."""
    return _at_least(tensors, "atleast_1d", (None,))


def atleast_2d(*tensors: Any) -> Any:
    """Return the tensor with at least two axes, vectors as rows: see :func:`atleast_1d`."""
    return _at_least(tensors, "atleast_2d", (None, None), (None,))


def atleast_3d(*tensors: Any) -> Any:
    """Return the tensor with at least three axes: ``(1, n, 1)`` of a vector, ``(m, n, 1)`` of a
    matrix. See :func:`atleast_1d`.
    """
    vector = None, slice(None), None
    return _at_least(tensors, "atleast_3d", (None, None, None), vector, (..., None))


class Expand(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        ctx.view = lambda tensor: Expand.apply(tensor, shape)
        return np.broadcast_to(x.data, shape)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return sum_to(grad, ctx.shape)


def expand(input: Any, *sizes: Any) -> Tensor:
    """Return a read-only view in which axes of size 1 are repeated to ``sizes``, without a copy.

    Args:
        input: the tensor.
        sizes: one size an axis, -1 keeps an axis as it is; further axes may stand in front.
            The result cannot be changed in place: ``clone()`` it first.

    Raises:
        ValueError: if an axis has neither size 1 nor the size asked for.
    """
    input = operand(input, "expand")
    wanted = shape_argument(sizes, "expand", minimum=-1)
    extra = len(wanted) - input.ndim
    shape = tuple(
        [
            input.shape[axis - extra] if size == -1 and axis >= extra else size
            for axis, size in enumerate(wanted)
        ]
    )
    fits = extra >= 0 and all(
        size >= 0 and (axis < extra or input.shape[axis - extra] in (1, size))
        for axis, size in enumerate(shape)
    )
    if not fits:
        raise ValueError(
            f"expand: shape {input.shape} does not expand to {wanted}: counted from the last axis, "
            "sizes must be equal or 1"
        )
    return input if shape == input.data.shape else Expand.apply(input, shape)


def broadcast_to(input: Any, size: Sequence[int]) -> Tensor:
    """Return ``input`` expanded to ``size``: see :func:`expand`."""
    return expand(input, tuple(size))


def expand_as(input: Any, other: Tensor) -> Tensor:
    """Return ``input`` expanded to the shape of ``other``."""
    return expand(input, other.shape)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """Return the shape to which shapes, or integers for those of one axis, broadcast."""
    taken = [shape_argument((shape,), "broadcast_shapes") for shape in shapes]
    try:
        return np.broadcast_shapes(*taken)
    except ValueError:
        raise ValueError(
            f"broadcast_shapes: shapes {taken} do not broadcast: from the last axis backwards, "
            "sizes must be equal or 1"
        ) from None


def sum_to_size(input: Any, *size: Any) -> Tensor:
    """Return ``input`` summed to a ``size`` that broadcasts to its own; integers become int64."""
    input = operand(input, "sum_to_size")
    shape = shape_argument(size, "sum_to_size")
    if not broadcasts_to(shape, input.shape):
        raise ValueError(f"sum_to_size: shape {shape} does not broadcast to {input.shape}")
    if input.data.dtype.kind != "f" and (not shape or shape != input.shape):
        input = convert(input, np.dtype(np.int64), "sum_to_size")
    return sum_to(input, shape)


# -- windows ----------------------------------------------------------------------------------


def unfold(input: Any, dimension: int, size: int, step: int) -> Tensor:
    """Return windows of ``size`` elements along axis ``dimension``, one every ``step``.

    Their elements are the last axis of the result, a copy, whereas PyTorch's is a view.
    """
    input = operand(input, "unfold")
    vector, axis = with_axis(input, dimension, "unfold")
    size, step = count(size, "size", "unfold", 0), count(step, "step", "unfold")
    length = vector.shape[axis]
    if size > length:
        raise ValueError(
            f"unfold: windows of {size} are longer than axis {dimension} of shape {input.shape}"
        )
    starts = np.arange(0, length - size + 1, step)
    windows = movedim(vector[at_axis(axis, starts[:, None] + np.arange(size))], axis + 1, -1)
    return windows if input.ndim else reshape(windows, -1)


def as_strided(
    input: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Return every ``stride``-th element from ``storage_offset``, or 0, on, in shape ``size``.

    They are counted in row-major order, and copied: PyTorch's is a view of the memory.
    """
    input = operand(input, "as_strided")
    sizes = shape_argument((tuple(size),), "as_strided")
    strides = shape_argument((tuple(stride),), "as_strided")
    first = count(storage_offset or 0, "storage_offset", "as_strided", 0)
    if len(sizes) != len(strides):
        raise ValueError(f"as_strided: expected a stride an axis, got {sizes} and {strides}")
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides))
    if 0 not in sizes and last >= input.data.size:
        raise ValueError(
            f"as_strided: sizes {sizes} and strides {strides} from {first} reach element {last} "
            f"of {input.data.size}"
        )
    places = np.full(sizes, first)
    for axis, (n, step) in enumerate(zip(sizes, strides)):
        places += (np.arange(n) * step).reshape(-1, *(1,) * (len(sizes) - axis - 1))
    return reshape(input, -1)[places]


# -- copies -----------------------------------------------------------------------------------


class Copy(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, order: Literal["K", "C"]) -> Array:
        return x.data.copy(order=order)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return grad


def clone(input: Any) -> Tensor:
    """Return a copy with the same memory layout; gradients flow back to ``input``."""
    return Copy.apply(operand(input, "clone"), "K")


def contiguous(input: Any) -> Tensor:
    """Return ``input`` itself if its memory is in row-major order, and such a copy otherwise.

    Images lie channels last in lucid, so they are usually copied. No operation needs this.
    """
    input = operand(input, "contiguous")
    return input if input.data.flags.c_contiguous else Copy.apply(input, "C")


class Flip(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...]) -> Array:
        ctx.axes = axes
        return np.flip(x.data, axes).copy()

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Flip.apply(grad, ctx.axes)


def flip(input: Any, *axes: Any, dims: Any = ()) -> Tensor:
    """Return a copy with the order of elements along some axes reversed.

    ``axes`` are integers, or one tuple of them, which may be given by name as ``dims``.
    """
    input = operand(input, "flip")
    given = shape_argument(axes or (dims,), "flip", minimum=None)
    return Flip.apply(input, normalize_axes(given, input.ndim, "flip"))


def fliplr(input: Any) -> Tensor:
    """Return a copy with the second axis reversed."""
    input = with_axes(input, "fliplr", 2)
    return flip(input, 1)


def flipud(input: Any) -> Tensor:
    """Return a copy with the first axis reversed."""
    input = with_axes(input, "flipud", 1)
    return flip(input, 0)


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Return ``input`` turned ``k`` times by 90°, from the first axis of ``dims`` to the second."""
    input = with_axes(input, "rot90", 2)
    axes = normalize_axes(tuple(dims), input.ndim, "rot90")
    if len(axes) != 2:
        raise ValueError(f"rot90: expected two axes, got dims {dims}")
    if not is_whole(k):
        raise TypeError(f"rot90: k must be an integer, got {k!r}")
    if k % 2 == 0:
        return flip(input, axes if k % 4 else ())
    return flip(transpose(input, *axes), axes[k % 4 == 3])


class Roll(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, shifts: Any, axes: Any) -> Array:
        ctx.shifts, ctx.axes = shifts, axes
        return np.roll(x.data, shifts, axes)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Roll.apply(grad, tuple([-shift for shift in ctx.shifts]), ctx.axes)


def roll(
    input: Any, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] | None = None
) -> Tensor:
    """Return a copy with elements moved on by ``shifts`` along ``dims``, the last ones in front.

    Without ``dims`` the tensor is rolled as if it were flat.

    Args:
        input: any shape.
        shifts: by how many places, one number an axis.
        dims: the axes.
    """
    input = operand(input, "roll")
    steps = shape_argument((shifts,), "roll: shifts", minimum=None)
    if dims is None:
        if len(steps) != 1:
            raise ValueError(f"roll: expected one shift without dims, got {steps}")
        return reshape(Roll.apply(reshape(input, -1), steps, (0,)), input.shape)
    wanted = dims if isinstance(dims, (tuple, list)) else (dims,)
    axes = tuple([normalize_axis(axis, input.ndim, "roll") for axis in wanted])
    if len(axes) != len(steps):
        raise ValueError(f"roll: expected one shift an axis, got shifts {shifts} and dims {dims}")
    return Roll.apply(input, steps, axes)


def tile(input: Any, *repeats: Any, dims: Any = ()) -> Tensor:
    """Return ``input`` repeated along its axes, aligned at the last one.

    Args:
        input: any shape.
        *repeats: how often along each axis: integers, or one tuple of them.
        dims: the tuple by name.
    """
    input = operand(input, "tile")
    counts = shape_argument(repeats or (dims,), "tile")
    counts = (1,) * (input.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - input.ndim) + input.shape
    # (3, 2) tiled (2, 4) is (1, 3, 1, 2) expanded to (2, 3, 4, 2) and flattened in pairs.
    apart = tuple([n for size in shape for n in (1, size)])
    wide = tuple([n for count, size in zip(counts, shape) for n in (count, size)])
    whole = tuple([count * size for count, size in zip(counts, shape)])
    return Reshape.apply(expand(Reshape.apply(input, apart), wide), whole)


def repeat(input: Any, *sizes: Any) -> Tensor:
    """Return ``input`` repeated ``sizes`` times along its axes; further axes may stand in front.

    Args:
        input: any shape.
        *sizes: how often along each axis: integers, or one tuple of them.

    Raises:
        ValueError: if there are fewer sizes than axes.
    """
    input = operand(input, "repeat")
    counts = shape_argument(sizes, "repeat")
    if len(counts) < input.ndim:
        raise ValueError(
            f"repeat: expected at least {input.ndim} sizes for shape {input.shape}, got {counts}"
        )
    return tile(input, counts)


# -- padding ----------------------------------------------------------------------------------


class ConstantPad(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, widths: tuple[tuple[int, int], ...], value: Any) -> Array:
        ctx.widths = widths
        shape = tuple([n + low + high for n, (low, high) in zip(x.shape, widths)])
        y = np.full_like(x.data, value, shape=shape)  # in the memory layout of x
        # A negative width cuts off.
        inner = [slice(max(low, 0), n - max(high, 0)) for n, (low, high) in zip(shape, widths)]
        kept = [slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(x.shape, widths)]
        y[tuple(inner)] = x.data[tuple(kept)]
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return ConstantPad.apply(grad, tuple([(-low, -high) for low, high in ctx.widths]), 0)


def pad(
    input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Return ``input`` with elements added at the ends of its last axes.

    Args:
        input: the tensor.
        pad: how many before and after, in pairs from the last axis backwards, as in PyTorch:
            ``(left, right, top, bottom)`` for images. Negative counts cut off.
        mode: ``"constant"``, ``"reflect"`` (without the edge), ``"replicate"`` (the edge), or
            ``"circular"``.
        value: what to add in constant mode, 0 unless given.

    Raises:
        ValueError: for an unknown mode, an odd number of counts or more pairs than axes, or if
            too much is asked for.
    """
    input = operand(input, "pad")
    counts = shape_argument((tuple(pad),), "pad", minimum=None)
    if len(counts) % 2 or len(counts) > 2 * input.ndim:
        raise ValueError(
            f"pad: expected up to {input.ndim} pairs of counts for shape {input.shape}, got "
            f"{counts}"
        )
    pairs = [(counts[i], counts[i + 1]) for i in range(0, len(counts), 2)]
    widths = ((0, 0),) * (input.ndim - len(pairs)) + tuple(reversed(pairs))
    if mode == "constant":
        for size, (low, high) in zip(input.shape, widths):
            if size + low + high < 0 or size + min(low, 0) + min(high, 0) < 0:
                raise ValueError(
                    f"pad: counts {counts} cut off more than there is of shape {input.shape}"
                )
        return ConstantPad.apply(input, widths, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(
            f"pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        )
    if value is not None:
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value!r}")
    for axis, (low, high) in enumerate(widths):
        size = input.shape[axis]
        # What goes round is what negative counts leave.
        start, end = max(-low, 0), size - max(-high, 0)
        most = {"reflect": size - 1, "circular": end - start, "replicate": max(low, high)}[mode]
        impossible = size + low + high < 0 or max(low, high) > most or size == 0
        if (low or high) and impossible:
            raise ValueError(
                f"pad: mode {mode!r} cannot add {low} and {high} elements to axis {axis} of "
                f"size {size}"
            )
        if low or high:
            index = np.arange(-low, size + high)
            if mode == "replicate":
                index = index.clip(0, size - 1)
            elif mode == "circular":
                index = start + (index - start) % max(end - start, 1)
            else:
                index = np.abs(index)
                index = np.where(index >= size, 2 * (size - 1) - index, index)
            input = input[at_axis(axis, index)]
    return input


# -- size -------------------------------------------------------------------------------------


def numel(input: Any) -> int:
    """Return the number of elements."""
    return operand(input, "numel").data.size


def size(input: Any, dim: int | None = None) -> Any:
    """Return the shape, or the size of one axis."""
    input = operand(input, "size")
    return input.shape if dim is None else input.shape[normalize_axis(dim, input.ndim, "size")]
