"""What a tensor says of itself and of its memory."""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor
from lucid.autograd._device import CPU, device
from lucid.ops._common import normalize_axis

__all__ = ["is_complex", "is_floating_point", "is_nonzero", "is_same_size", "is_signed"]


def is_floating_point(input: Tensor) -> bool:
    """Return whether the elements are floating-point numbers."""
    return input.data.dtype.kind == "f"


def is_complex(input: Tensor) -> bool:
    """Return False: there are no complex tensors."""
    return False


def is_signed(input: Tensor) -> bool:
    """Return whether the elements may be negative."""
    return input.data.dtype.kind in "fi"


def is_nonzero(input: Tensor) -> bool:
    """Return whether the one element is not 0; ValueError if there is not just one."""
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Return whether both have the same shape."""
    return input.data.shape == other.data.shape


def dim(input: Tensor) -> int:
    """Return the number of axes."""
    return input.data.ndim


def element_size(input: Tensor) -> int:
    """Return the bytes of one element."""
    return input.data.itemsize


def is_contiguous(input: Tensor, memory_format: Any = None) -> bool:
    """Return whether the elements lie in memory one after the other, in the order of the axes.

    Images often do not: their channels come last, whatever ``memory_format`` asks for.
    """
    return input.data.flags.c_contiguous


def stride(input: Tensor, dim: int | None = None) -> Any:
    """Return how many elements lie between neighbours along each axis, or along ``dim``."""
    strides = tuple(step // input.data.itemsize for step in input.data.strides)
    return strides if dim is None else strides[normalize_axis(dim, len(strides), "stride")]


def data_ptr(input: Tensor) -> int:
    """Return the address of the first element; 0 if there is none."""
    return int(input.data.__array_interface__["data"][0]) if input.data.size else 0


def storage_offset(input: Tensor) -> int:
    """Return how many elements of the memory that it views lie before its first one."""
    if not input.data.size:
        return 0
    base = input.data
    while getattr(base.base, "__array_interface__", None) is not None:
        base = base.base  # type: ignore[assignment]
    start = int(base.__array_interface__["data"][0])
    return (data_ptr(input) - start) // input.data.itemsize


def get_device(input: Tensor) -> int:
    """Return -1, the number of the CPU."""
    return -1


# Beside the public functions, which are methods too.
METHODS = (data_ptr, dim, element_size, get_device, is_contiguous, storage_offset, stride)


def device_of(input: Tensor) -> device:
    """The CPU; see :class:`lucid.device`."""
    return CPU


def is_cpu(input: Tensor) -> bool:
    """True."""
    return True


def is_cuda(input: Tensor) -> bool:
    """False."""
    return False


def nbytes(input: Tensor) -> int:
    """The bytes of all elements."""
    return input.data.nbytes


PROPERTIES = {
    "device": device_of,
    "is_cpu": is_cpu,
    "is_cuda": is_cuda,
    "itemsize": element_size,
    "nbytes": nbytes,
}
