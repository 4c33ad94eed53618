"""Devices: there is one, the CPU; what programs say of devices is taken and checked."""

from __future__ import annotations

from typing import Any

# What a string begins with that names a device, not a dtype.
_KINDS = ("cpu", "cuda", "mps", "xpu", "hpu", "meta")


class device:
    """Where a tensor lies: always the CPU, which is the one device of lucid.

    Args:
        type: ``"cpu"`` or another device.
        index: its number; nothing depends on it.

    Raises:
        ValueError: if it is another device than the CPU.

    Example:
        >>> device = lucid.device("cuda" if lucid.cuda.is_available() else "cpu")
        >>> lucid.zeros(3, device=device).device
        device(type='cpu')
    """

    __slots__ = ("index", "type")

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        kind, _, number = str(type).partition(":")
        if kind != "cpu" or not (number or "0").isdecimal():
            raise ValueError(
                f"device: expected 'cpu', the one device that lucid has, got {str(type)!r}; "
                "lucid.cuda.is_available() tells that there is no other"
            )
        self.type = kind
        self.index = int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


CPU = device()


def is_device(value: Any) -> bool:
    """Return whether an argument of ``to`` is the CPU, and no dtype.

    Raises:
        ValueError: if it is another device.
    """
    if isinstance(value, str) and value.partition(":")[0] in _KINDS:
        value = device(value)
    return isinstance(value, device)
