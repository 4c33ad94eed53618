"""Tensors from nothing and from numbers; random ones are in a file of their own.

Sizes are given as integers or as one tuple: ``zeros(2, 3)`` or ``zeros((2, 3))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor
from lucid.autograd._dtype import DEFAULT_DTYPE, as_dtype, as_number
from lucid.autograd._tensor import import_array, wrap
from lucid.ops._common import Array, as_float, convert, one_number, operand, shape_argument

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full",
    "full_like", "linspace", "ones", "ones_like", "scalar_tensor", "tensor", "tril_indices",
    "triu_indices", "zeros", "zeros_like",
]  # fmt: skip


def finished(array: Array, requires_grad: bool) -> Tensor:
    tensor = wrap(array)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def chosen_dtype(dtype: Any, who: str, default: DTypeLike = DEFAULT_DTYPE) -> np.dtype[Any]:
    return as_dtype(default if dtype is None else dtype, who)


def tensor(data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return a new tensor with a copy of ``data``.

    Args:
        data: Python numbers, (nested) lists, a NumPy array, another tensor, or any object with
            ``__array__`` or ``__dlpack__``.
        dtype: the NumPy dtype. Without it floating-point data become float32 (float64 arrays
            too, unlike PyTorch); integers and booleans keep their kind.
        requires_grad: record operations on it.

    Raises:
        TypeError: if the data are not real numbers in a rectangular shape.
    """
    return Tensor(data, dtype, requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Return ``data`` as a tensor: itself or its memory where that is of the dtype, else a copy.

    Args:
        data: as in :func:`tensor`.
        dtype: the NumPy dtype. Without it a tensor or an array keeps its own (float64 too).
    """
    if isinstance(data, (np.ndarray, np.generic)):
        data = _around(np.asarray(data), "as_tensor")
    if not isinstance(data, Tensor):
        return tensor(data, dtype)
    return data if dtype is None else convert(data, as_dtype(dtype, "as_tensor"), "as_tensor")


def scalar_tensor(s: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return one number, ``s``, as a tensor without axes, float32 unless ``dtype`` says else.

    Arguments as in :func:`zeros`.
    """
    wanted = chosen_dtype(dtype, "scalar_tensor")
    return finished(one_number(s, wanted, "scalar_tensor").data, requires_grad)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """Return a tensor that shares the memory and the dtype of ``ndarray``.

    Args:
        ndarray: of any shape; a change in one is a change in the other.

    Raises:
        TypeError: if it is no array of real numbers, integers or booleans, or has another byte
            order than this machine.
    """
    if not isinstance(ndarray, np.ndarray):
        got = type(ndarray).__name__
        raise TypeError(f"from_numpy: expected an array of real numbers, got {got}")
    return _around(ndarray, "from_numpy")


def _around(array: Array, who: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        got = f"an array of {array.dtype}"
        raise TypeError(f"{who}: expected an array of real numbers, got {got}")
    if not array.dtype.isnative:
        raise TypeError(
            f"{who}: expected numbers in this machine's byte order, got {array.dtype}; convert "
            f"them, such as by .astype({array.dtype.name!r})"
        )
    return wrap(array)


def from_dlpack(ext_tensor: Any, *, copy: bool | None = None) -> Tensor:
    """Return a tensor that shares the memory of an array or tensor of another library.

    Both see what is written into either. lucid's count of changes in place does not see what the
    other library writes, as with :func:`from_numpy`: a value that a gradient needs must not be
    changed there.

    Args:
        ext_tensor: any object with ``__dlpack__`` in the CPU's memory, such as a tensor of PyTorch,
            an array of NumPy, CuPy's pinned memory, or a tensor of lucid.
        copy: copy the values instead of sharing them. None and False share them, always.

    Returns:
        A tensor of the same dtype that needs no gradient. It is read-only if the memory is, or if
        ``ext_tensor`` is older than DLPack 1.0, which cannot tell.

    Raises:
        TypeError: if it has no ``__dlpack__``, or no real numbers, integers or booleans.
        ValueError: if its memory is not the CPU's.
        BufferError: if it cannot be shared, such as a tensor that requires grad.

    Example:
        >>> array = np.zeros(3, np.float32)
        >>> x = lucid.from_dlpack(array)
        >>> x[0] = 5
        >>> array
        array([5., 0., 0.], dtype=float32)
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        raise TypeError(
            "from_dlpack: expected an array or tensor with __dlpack__, got "
            f"{type(ext_tensor).__name__}"
        )
    if isinstance(ext_tensor, Tensor):
        if ext_tensor.requires_grad:
            ext_tensor.__dlpack__()  # tells that it cannot
        shared = ext_tensor.detach()
    else:
        shared = _around(import_array(ext_tensor, "from_dlpack"), "from_dlpack")
    return shared.clone() if copy else shared


def zeros(*size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return zeros of shape ``size``, float32 unless ``dtype`` says else.

    Args:
        *size: the sizes of the axes: integers, or one tuple of them.
        dtype: the NumPy dtype; float32 if left out.
        requires_grad: record operations on it.
    """
    return finished(
        np.zeros(shape_argument(size, "zeros"), chosen_dtype(dtype, "zeros")), requires_grad
    )


def ones(*size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return ones of shape ``size``. Arguments as in :func:`zeros`."""
    return finished(
        np.ones(shape_argument(size, "ones"), chosen_dtype(dtype, "ones")), requires_grad
    )


def empty(*size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return a tensor of whatever was in memory. Arguments as in :func:`zeros`."""
    return finished(
        np.empty(shape_argument(size, "empty"), chosen_dtype(dtype, "empty")), requires_grad
    )


def full(
    size: Any, fill_value: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Return ``fill_value``, a number, in every element of a tensor of shape ``size``.

    Without ``dtype`` it is the fill value's: float32, int64 or bool. See :func:`zeros`.
    """
    value = operand(fill_value, "full").data
    if value.size != 1:
        raise ValueError(f"full: expected one number to fill with, got shape {value.shape}")
    wanted = chosen_dtype(dtype, "full", value.dtype)
    # A Python float as it is: ``value`` has it in float32.
    exact = fill_value if isinstance(fill_value, (int, float)) else value.item()
    number = as_number(exact, wanted, "full", overflows=True)
    return finished(np.full(shape_argument((size,), "full"), number, wanted), requires_grad)


def eye(
    n: int, m: int | None = None, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Return an ``n`` by ``m`` matrix with ones on its diagonal; ``m`` is ``n`` unless given.

    Other arguments as in :func:`zeros`.
    """
    shape = shape_argument((n, n if m is None else m), "eye")
    return finished(np.eye(*shape, dtype=chosen_dtype(dtype, "eye")), requires_grad)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``start, start + step, …`` up to, without, ``end``; ``arange(end)`` starts at 0.

    Integers give int64, a float among the arguments gives float32. As in PyTorch, int64 takes the
    arguments without their fractions; the other integer dtypes take ``start`` and ``step`` so, as
    many times as the step given fits.

    Args:
        start: the first number.
        end: where to stop; it is not included.
        step: the distance, negative to go down.
        dtype: the NumPy dtype.
        requires_grad: record operations on it.

    Raises:
        ValueError: if ``step`` is 0 or leads away from ``end``, or a number is not finite.
    """
    if end is None:
        start, end = 0, start
    limits = [v.item() if isinstance(v, Tensor) else v for v in (start, end, step)]
    if not all(isinstance(v, (int, float, np.number)) for v in limits):
        raise TypeError(f"arange: expected numbers, got {start!r}, {end!r}, {step!r}")
    if not all(map(math.isfinite, limits)):
        raise ValueError(f"arange: expected finite numbers, got {', '.join(map(str, limits))}")
    whole = all(isinstance(v, (int, np.integer)) for v in limits)
    wanted = chosen_dtype(dtype, "arange", np.int64 if whole else DEFAULT_DTYPE)
    start, end, step = map(int, limits) if whole or wanted == np.int64 else limits
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: a step of {step} does not lead from {start} to {end}")
    if wanted.kind in "iu":
        fits = -((start - end) // step) if isinstance(step, int) else (end - start) / step
        array = int(start) + int(step) * np.arange(math.ceil(fits))
    else:
        # In float64 first: float32 steps would add up to a different count of elements.
        array = np.arange(start, end, step, dtype=np.int64 if whole else np.float64)
    return finished(array.astype(wanted, copy=False), requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``steps`` equally spaced numbers from ``start`` to ``end``, both included.

    As in PyTorch, an integer dtype takes both without their fractions, and then each number
    between them: the first half counted from ``start``, the second from ``end``.

    Args:
        start: the first number.
        end: the last number.
        steps: how many.
        dtype: the NumPy dtype; float32 if left out.
        requires_grad: record operations on it.
    """
    (count,) = shape_argument((steps,), "linspace")
    wanted = chosen_dtype(dtype, "linspace")
    if wanted.kind not in "iu":
        start, end = as_float(start, "start", "linspace"), as_float(end, "end", "linspace")
        with np.errstate(invalid="ignore"):
            array = np.linspace(start, end, count, dtype=wanted)
        return finished(array, requires_grad)
    first, last = (int(one_number(v, wanted, "linspace").item()) for v in (start, end))
    distance = (last - first) / max(count - 1, 1)
    places = np.arange(count)
    front, back = first + distance * places, last - distance * (count - 1 - places)
    array = np.where((places < count // 2) | (count == 1), front, back).astype(wanted)
    return finished(array, requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike = np.int64) -> Tensor:
    """Return the places of a matrix's lower triangle, as two rows: those of rows and of columns.

    Args:
        row: how many rows the matrix has.
        col: how many columns.
        offset: the diagonal that ends the triangle: 0 is the main one, 1 the one above.
        dtype: the dtype of the places.
    """
    shape_argument((row, col), "tril_indices")
    places = np.tril_indices(row, offset, col)
    return wrap(np.stack(places).astype(as_dtype(dtype, "tril_indices")))


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DTypeLike = np.int64) -> Tensor:
    """Return the places of a matrix's upper triangle. See :func:`tril_indices`."""
    shape_argument((row, col), "triu_indices")
    places = np.triu_indices(row, offset, col)
    return wrap(np.stack(places).astype(as_dtype(dtype, "triu_indices")))


def zeros_like(input: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return zeros of the shape, dtype and memory layout of ``input``.

    Args:
        input: any shape.
        dtype: another dtype than that of ``input``.
        requires_grad: record operations on it.
    """
    array = operand(input, "zeros_like").data
    return finished(
        np.zeros_like(array, chosen_dtype(dtype, "zeros_like", array.dtype)), requires_grad
    )


def ones_like(input: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return ones of the shape, dtype and memory layout of ``input``. See :func:`zeros_like`."""
    array = operand(input, "ones_like").data
    return finished(
        np.ones_like(array, chosen_dtype(dtype, "ones_like", array.dtype)), requires_grad
    )


def empty_like(input: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return an uninitialised tensor of ``input``'s shape and dtype. See :func:`zeros_like`."""
    array = operand(input, "empty_like").data
    return finished(
        np.empty_like(array, chosen_dtype(dtype, "empty_like", array.dtype)), requires_grad
    )


def full_like(
    input: Any, fill_value: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Return the number ``fill_value`` in the input's shape and dtype. See :func:`zeros_like`."""
    array = operand(input, "full_like").data
    wanted = chosen_dtype(dtype, "full_like", array.dtype)
    number = one_number(fill_value, wanted, "full_like").data
    return finished(np.full_like(array, number, wanted), requires_grad)


# -- tensors of the dtype of another: methods alone ------------------------------------------------

SHAPED = (empty, ones, zeros)


def like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method that makes what ``function`` does, of the tensor's dtype."""

    def method(
        input: Tensor, *size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
    ) -> Tensor:
        wanted = input.dtype if dtype is None else dtype
        return function(*size, dtype=wanted, requires_grad=requires_grad)

    method.__name__ = method.__qualname__ = f"new_{function.__name__}"
    method.__doc__ = f"Return what :func:`lucid.{function.__name__}` does, of this tensor's dtype."
    return method


def new_full(
    input: Tensor,
    size: Any,
    fill_value: Any,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return what :func:`full` does, of this tensor's dtype."""
    return full(size, fill_value, input.dtype if dtype is None else dtype, requires_grad)


def new_tensor(
    input: Tensor, data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Return what :func:`tensor` does, of this tensor's dtype."""
    return tensor(data, input.dtype if dtype is None else dtype, requires_grad)
