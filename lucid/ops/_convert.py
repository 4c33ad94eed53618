"""Tensors of another dtype; to another device they need not go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor
from lucid.autograd._device import is_device
from lucid.ops import _elementwise as elementwise


def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: DTypeLike | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Return ``input`` converted to a dtype, or to that of another tensor; or itself.

    Args:
        input: any shape.
        *args: a dtype, a tensor, a device, or a device and a dtype; then ``non_blocking`` and
            ``copy``.
        device: the CPU.
        dtype: the dtype.
        non_blocking: without effect.
        copy: return a copy even if there is nothing to convert.
        memory_format: without effect.

    Raises:
        ValueError: if a device is not the CPU.
        TypeError: if a dtype is none.
    """
    dtype = dtype_argument(args, device, dtype)
    copy = copy or [flag for flag in args if isinstance(flag, bool)][1:] == [True]
    result = input if dtype is None else elementwise.astype(input, dtype)
    return result.clone() if copy and result is input else result


def dtype_argument(args: tuple[Any, ...], device: Any, dtype: Any) -> Any:
    """Return the dtype that ``to`` was asked for, None if there is none.

    Raises:
        ValueError: if a device is not the CPU.
    """
    if device is not None and not is_device(device):
        raise TypeError(f"to: expected a device such as 'cpu', got {device!r}")
    for value in args:
        if isinstance(value, Tensor):
            dtype = value.dtype
        elif value is not None and not isinstance(value, bool) and not is_device(value):
            dtype = value
    return dtype


def cpu(input: Tensor) -> Tensor:
    """Return ``input``, which is on the CPU."""
    return input


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """Return ``input`` converted to the dtype of ``other``."""
    return elementwise.astype(input, other.dtype)


def _convert(name: str, dtype: Any) -> Callable[[Tensor], Tensor]:
    def method(x: Tensor) -> Tensor:
        return elementwise.astype(x, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Return the tensor converted to {np.dtype(dtype)}."
    return method


# The methods that are called as a dtype is.
NAMED = {
    name: _convert(name, dtype)
    for name, dtype in {
        "half": np.float16,
        "float": np.float32,
        "double": np.float64,
        "byte": np.uint8,
        "char": np.int8,
        "short": np.int16,
        "int": np.int32,
        "long": np.int64,
        "bool": np.bool_,
    }.items()
}
