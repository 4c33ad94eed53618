"""What a tensor says of itself and of its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid.autograd import Tensor
from lucid.autograd._device import CPU
from lucid.ops._common import normalize_axis

__all__ = ["is_complex", "is_floating_point", "is_nonzero", "is_same_size", "is_signed"]


def _fact(name: str, doc: str, value: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return a function of a tensor alone that tells one thing."""

    def fact(input: Tensor) -> Any:
        return value(input)

    fact.__name__ = fact.__qualname__ = name
    fact.__doc__ = f"Return {doc}."
    return fact


is_floating_point = _fact(
    "is_floating_point", "whether the elements are floats", lambda x: x.data.dtype.kind == "f"
)
is_signed = _fact(
    "is_signed", "whether the elements may be negative", lambda x: x.data.dtype.kind in "fi"
)
is_complex = _fact("is_complex", "False: there are no complex tensors", lambda x: False)
is_nonzero = _fact("is_nonzero", "whether the one element that there is is not 0", bool)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Return whether both have the same shape."""
    return input.data.shape == other.data.shape


def is_contiguous(input: Tensor, memory_format: Any = None) -> bool:
    """Return whether the elements lie in memory one after the other, in the order of the axes.

    Images often do not: their channels come last, whatever ``memory_format`` asks for.
    """
    return input.data.flags.c_contiguous


def stride(input: Tensor, dim: int | None = None) -> Any:
    """Return how many elements lie between neighbours along each axis, or along ``dim``."""
    strides = tuple(step // input.data.itemsize for step in input.data.strides)
    return strides if dim is None else strides[normalize_axis(dim, len(strides), "stride")]


def _start(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def storage_offset(input: Tensor) -> int:
    """Return how many elements of the memory that it views lie before its first one."""
    if not input.data.size:
        return 0
    base: Any = input.data
    while getattr(base.base, "__array_interface__", None) is not None:
        base = base.base
    return (_start(input.data) - _start(base)) // input.data.itemsize


# Beside the public functions, which are methods too.
METHODS: dict[str, Callable[..., Any]] = {
    "dim": _fact("dim", "the number of axes", lambda x: x.data.ndim),
    "element_size": _fact("element_size", "the bytes of one element", lambda x: x.data.itemsize),
    "data_ptr": _fact(
        "data_ptr",
        "the address of the first element, 0 if there is none",
        lambda x: _start(x.data) if x.data.size else 0,
    ),
    "get_device": _fact("get_device", "-1, the number of the CPU", lambda x: -1),
    "is_contiguous": is_contiguous,
    "storage_offset": storage_offset,
    "stride": stride,
}

PROPERTIES: dict[str, Callable[[Tensor], Any]] = {
    "device": _fact("device", "the CPU; see :class:`lucid.device`", lambda x: CPU),
    "is_cpu": _fact("is_cpu", "True", lambda x: True),
    "is_cuda": _fact("is_cuda", "False", lambda x: False),
    "itemsize": METHODS["element_size"],
    "nbytes": _fact("nbytes", "the bytes of all elements", lambda x: x.data.nbytes),
}
