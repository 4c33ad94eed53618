"""What the operations share: taking operands, and undoing broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import DEFAULT_DTYPE, as_array

Array = np.ndarray


def operand(value: Any, who: str) -> Tensor:
    """Return ``value`` as a tensor; arrays and lists become constants.

    Raises:
        TypeError: if it does not hold numbers.
    """
    if isinstance(value, Tensor):
        return value
    dtype = value.dtype if isinstance(value, np.ndarray) else None  # float64 arrays stay so
    return Tensor._wrap(as_array(value, dtype, who=who))


def floating(value: Any, who: str) -> Tensor:
    """Like :func:`operand`, with integers and booleans converted to float32."""
    tensor = operand(value, who)
    return (
        tensor if tensor.data.dtype.kind == "f" else Tensor._wrap(tensor.data.astype(DEFAULT_DTYPE))
    )


def operands(a: Any, b: Any, who: str) -> tuple[Tensor, Tensor]:
    """Return two operands whose dtypes combine as in PyTorch, and whose shapes broadcast.

    A Python number takes the dtype of the tensor beside it, unless it is a float beside an
    integer tensor: then both become float32.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    a, b = _weak(a, b, who), _weak(b, a, who)
    if a.data.shape != b.data.shape and a.data.ndim and b.data.ndim:
        try:
            np.broadcast_shapes(a.data.shape, b.data.shape)
        except ValueError:
            raise ValueError(
                f"{who}: shapes {a.shape} and {b.shape} do not broadcast: from the last axis "
                "backwards, sizes must be equal or 1"
            ) from None
    return _common_dtype(a, b)


def _common_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Convert an integer beside a float to its dtype: NumPy makes float64 of int64 and float32."""
    if a.data.dtype != b.data.dtype:
        if a.data.dtype.kind != "f" and b.data.dtype.kind == "f":
            a = Tensor._wrap(a.data.astype(b.data.dtype))
        elif b.data.dtype.kind != "f" and a.data.dtype.kind == "f":
            b = Tensor._wrap(b.data.astype(a.data.dtype))
    return a, b


def _weak(value: Any, other: Any, who: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (bool, int, float)) and isinstance(other, Tensor):
        kind, dtype = other.data.dtype.kind, other.data.dtype
        if isinstance(value, float) and kind != "f":
            dtype = DEFAULT_DTYPE
        elif isinstance(value, int) and not isinstance(value, bool) and kind == "b":
            dtype = np.dtype(np.int64)
        try:
            return Tensor._wrap(np.asarray(value, dtype))
        except OverflowError:
            raise ValueError(f"{who}: {value} is out of the range of {dtype}") from None
    return operand(value, who)


class SumTo(Function):
    """Sum over the axes along which an operand was broadcast, back to its shape."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, shape: tuple[int, ...]) -> Array:
        ctx.shape = x.shape
        extra = x.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            axis + extra
            for axis, size in enumerate(shape)
            if size == 1 and x.shape[axis + extra] != 1
        )
        return np.asarray(x.data.sum(axis=axes, keepdims=True)).reshape(shape)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return grad.expand(*ctx.shape)


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``x`` summed to ``shape``, from which it was broadcast."""
    return x if x.data.shape == shape else SumTo.apply(x, shape)


def normalize_axis(axis: int, ndim: int, who: str) -> int:
    """Return ``axis`` counted from the front.

    Raises:
        IndexError: if there is no such axis.
        TypeError: if it is not an integer.
    """
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise TypeError(f"{who}: an axis must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise IndexError(f"{who}: axis {axis} is out of range for {ndim} axes")
    return int(axis) % ndim


def normalize_axes(
    axis: int | tuple[int, ...] | list[int] | None, ndim: int, who: str
) -> tuple[int, ...]:
    """Return the axes to work along, counted from the front; None means all of them.

    Raises:
        IndexError: if there is no such axis.
        ValueError: if one is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axis(a, ndim, who) for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{who}: an axis is named twice in {axis}")
    return axes


def at_axis(axis: int, part: Any) -> tuple[Any, ...]:
    """Return the index that is ``part`` on ``axis`` and takes the axes before it whole."""
    return (*(slice(None),) * axis, part)


def shape_argument(sizes: tuple[Any, ...], who: str, minimum: int | None = 0) -> tuple[int, ...]:
    """Return sizes that were given as integers or as one sequence of them.

    Args:
        sizes: the arguments as they came.
        who: the caller, for messages.
        minimum: the smallest integer allowed; None for any.

    Raises:
        TypeError: if one is no integer.
        ValueError: if one is too small.
    """
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, np.ndarray)):
        sizes = tuple(sizes[0])
    result = []
    for size in sizes:
        if isinstance(size, bool) or not hasattr(size, "__index__"):
            raise TypeError(f"{who}: expected integers or one tuple of them, got {size!r}")
        result.append(size.__index__())
    if minimum is not None and any(size < minimum for size in result):
        raise ValueError(f"{who}: expected sizes of at least {minimum}, got {tuple(result)}")
    return tuple(result)


def operands_of(a: Any, b: Any, who: str) -> tuple[Tensor, Tensor]:
    """Return the operands of a product of matrices: like :func:`operands`, without broadcasting."""
    a, b = _weak(a, b, who), _weak(b, a, who)
    return _common_dtype(a, b)
