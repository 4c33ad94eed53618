"""What the operations share: taking operands, and undoing broadcasting."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid import kernels
from lucid._check import is_whole
from lucid.autograd import Function, Tensor
from lucid.autograd._dtype import DEFAULT_DTYPE, RANKS, as_dtype, as_number
from lucid.autograd._function import Cast
from lucid.autograd._graph import Node
from lucid.autograd._tensor import as_array, wrap

Array = np.ndarray


# Kind of dtype -> numbers that leave it as it is.
_NUMBERS: dict[str, tuple[type, ...]] = {"f": (int, float), "i": (int,), "u": (int,)}


def operand(value: Any, who: str) -> Tensor:
    """Return ``value`` as a tensor; arrays and lists become constants.

    Raises:
        TypeError: if it does not hold numbers.
    """
    if isinstance(value, Tensor):
        return value
    dtype = value.dtype if isinstance(value, np.ndarray) else None  # float64 arrays stay so
    return wrap(as_array(value, dtype, who=who))


def floating(value: Any, who: str) -> Tensor:
    """Like :func:`operand`, with integers and booleans converted to float32."""
    tensor = operand(value, who)
    return tensor if tensor.dtype.kind == "f" else wrap(tensor.data.astype(DEFAULT_DTYPE))


def convert(value: Any, dtype: np.dtype[Any], who: str, *, overflows: bool = False) -> Tensor:
    """Return a tensor or a Python number as a tensor of ``dtype``; see :func:`as_number`."""
    if isinstance(value, Tensor):
        return value if value.dtype == dtype else Cast.apply(value, dtype)
    return wrap(as_number(value, dtype, who, overflows=overflows))


def with_dtype(x: Tensor, dtype: DTypeLike | None, who: str) -> Tensor:
    """Return ``x`` in a dtype that a caller has named; as it is without one."""
    return x if dtype is None else convert(x, as_dtype(dtype, who), who)


def one_number(value: Any, dtype: np.dtype[Any], who: str) -> Tensor:
    """Return a number, or a tensor of zero axes, as a tensor of ``dtype``.

    Raises:
        ValueError: if it has axes, or is out of the dtype's range.
    """
    if isinstance(value, (int, float)):
        return convert(value, dtype, who)
    number = operand(value, who)
    if number.data.ndim:
        raise ValueError(f"{who}: expected one number, got shape {number.shape}")
    as_number(number.item(), dtype, who)
    return convert(number, dtype, who)


def common_dtype(*values: Any) -> np.dtype[Any]:
    """Return the dtype in which tensors and Python numbers combine, as in PyTorch.

    The kinds rise from boolean over integer to floating. Tensors with axes decide; one without
    axes counts only if its kind is higher than theirs, and a number only if its kind is higher
    still: it is then int64 or float32.
    """
    dtypes = {value.data.dtype for value in values if isinstance(value, Tensor)}
    if len(dtypes) == 1 and next(iter(dtypes)).kind == "f":
        return dtypes.pop()  # the usual case: nothing is of a higher kind
    levels: tuple[list[np.dtype[Any]], ...] = [], [], []
    for value in values:
        if isinstance(value, Tensor):
            levels[0 if value.data.ndim else 1].append(value.data.dtype)
        elif isinstance(value, float):
            levels[2].append(DEFAULT_DTYPE)
        else:
            levels[2].append(np.dtype(bool if isinstance(value, bool) else np.int64))
    result = np.dtype(np.bool_)
    for level in levels:
        if level:
            dtype = functools.reduce(higher_dtype, level)
            if RANKS[dtype.kind] > RANKS[result.kind]:
                result = dtype
    return result


def higher_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which tensors of two dtypes combine."""
    # NumPy makes float64 of int64 and float32.
    rank_a, rank_b = RANKS[a.kind], RANKS[b.kind]
    return np.promote_types(a, b) if rank_a == rank_b else a if rank_a > rank_b else b


def promoted(who: str, *values: Any, overflows: bool = False) -> tuple[Tensor, ...]:
    """Return tensors, arrays and Python numbers as tensors of their common dtype.

    Raises:
        TypeError: if one does not hold numbers.
        ValueError: if a number is out of the range of that dtype.
    """
    taken = [v if isinstance(v, (Tensor, int, float)) else operand(v, who) for v in values]
    dtype = common_dtype(*taken)
    return tuple([convert(value, dtype, who, overflows=overflows) for value in taken])


def operands(a: Any, b: Any, who: str) -> tuple[Tensor, Tensor]:
    """Return two operands of their common dtype, whose shapes broadcast.

    Raises:
        TypeError: if one does not hold numbers.
        ValueError: if the shapes do not broadcast, or a number is out of the dtype's range.
    """
    # The short ways first, of two tensors of one dtype and of numbers that are of no higher kind.
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    if not both and isinstance(a, Tensor) and isinstance(b, _NUMBERS.get(a.dtype.kind, ())):
        return a, convert(b, a.dtype, who, overflows=True)
    if not both and isinstance(b, Tensor) and isinstance(a, _NUMBERS.get(b.dtype.kind, ())):
        return convert(a, b.dtype, who, overflows=True), b
    if not both or a.dtype != b.dtype:
        a, b = promoted(who, a, b, overflows=True)
    check_broadcast(a, b, who)
    return a, b


def check_broadcast(a: Tensor, b: Tensor, who: str) -> None:
    """Raise a ValueError unless the shapes broadcast."""
    if a.shape != b.shape and a.ndim and b.ndim:
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise ValueError(
                f"{who}: shapes {a.shape} and {b.shape} do not broadcast: from the last axis "
                "backwards, sizes must be equal or 1"
            ) from None


def broadcasts_to(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a shape broadcasts to just the one wanted."""
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def wide(x: Array) -> Array:
    """Return float16 as float32, to compute with, and other numbers as they are.

    As PyTorch does: sums and squares of float16 are often beyond its range, 65504, and rounded to
    11 bits at each step. What has been computed is rounded once.
    """
    return x.astype(np.float32) if x.dtype == np.float16 else x


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
        total = kernels.active().sums(x.data, axes, True)
        return np.asarray(total, x.dtype).reshape(shape)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return grad.expand(*ctx.shape)


def save_factors(ctx: Node, a: Tensor, b: Tensor) -> None:
    """Keep each of two factors if the gradient of the other one, which it is in, is wanted."""
    wanted_a, wanted_b = ctx.needs_input_grad[:2]
    ctx.save_for_backward(a if wanted_b else None, b if wanted_a else None)


def wanted(ctx: Node, *gradients: Callable[[], Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients that are asked for, one an argument; no other is computed."""
    needs = zip(gradients, ctx.needs_input_grad)
    return tuple([gradient() if needed else None for gradient, needed in needs])


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``x`` summed to ``shape``, from which it was broadcast."""
    return x if x.data.shape == shape else SumTo.apply(x, shape)


def normalize_axis(axis: int, ndim: int, who: str) -> int:
    """Return ``axis`` counted from the front.

    Raises:
        IndexError: if there is no such axis.
        TypeError: if it is not an integer.
    """
    if not is_whole(axis):
        raise TypeError(f"{who}: an axis must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise IndexError(f"{who}: axis {axis} is out of range for {ndim} axes")
    return int(axis) % ndim


def with_axis(x: Tensor, axis: int, who: str) -> tuple[Tensor, int]:
    """Return ``x`` and an axis of it, counted from the front; as in PyTorch, a number has one.

    Raises:
        IndexError: if there is no such axis.
    """
    axis = normalize_axis(axis, x.data.ndim or 1, who)
    return (x if x.data.ndim else x.reshape(1)), axis


def normalize_axes(
    axis: int | tuple[int, ...] | list[int] | None, ndim: int, who: str
) -> tuple[int, ...]:
    """Return the axes to work along, counted from the front; None means all of them.

    As in PyTorch, a tensor with zero axes may be asked for axis 0 or -1, and has none to return.

    Raises:
        IndexError: if there is no such axis.
        ValueError: if one is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axis(a, ndim or 1, who) for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{who}: an axis is named twice in {axis}")
    return axes if ndim else ()


def with_axes(x: Any, who: str, least: int = 0, most: int = 64) -> Tensor:
    """Return ``x`` as a tensor; ValueError is raised unless it has so many axes."""
    x = operand(x, who)
    if not least <= x.ndim <= most:
        bound = f"at least {least}" if x.ndim < least else f"at most {most}"
        raise ValueError(f"{who}: expected {bound} axes, got shape {x.shape}")
    return x


def as_float(value: Any, name: str, who: str) -> float:
    """Return a setting that must be a number.

    Raises:
        TypeError: if it is none.
    """
    if isinstance(value, Tensor) and value.data.size == 1:
        value = value.item()
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{who}: {name} must be a number, got {value!r}")
    return float(value)


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
        ValueError: if one is too small, or beyond all arrays.
    """
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list, np.ndarray)):
        sizes = tuple(sizes[0])
    result = []
    for size in sizes:
        try:
            number = None if isinstance(size, bool) else operator.index(size)
        except (TypeError, ValueError):  # a tensor may hold no integer, or several
            number = None
        if number is None:
            raise TypeError(f"{who}: expected integers or one tuple of them, got {size!r}")
        if abs(number) > sys.maxsize:
            raise ValueError(f"{who}: {number} is no size or place that an array can have")
        result.append(number)
    if minimum is not None and any(size < minimum for size in result):
        raise ValueError(f"{who}: expected sizes of at least {minimum}, got {tuple(result)}")
    return tuple(result)
