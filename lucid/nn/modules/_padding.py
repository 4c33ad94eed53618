"""Layers that add elements around rows, images and volumes."""

from __future__ import annotations

from typing import Any, ClassVar

from lucid._check import is_whole
from lucid.autograd import Tensor
from lucid.nn.modules._module import Module
from lucid.ops._common import operand
from lucid.ops._layout import check_axes
from lucid.ops._shape import pad

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d",
    "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Padding(Module):
    """Adds elements at the ends of the last axes, as many as its class says."""

    _axes: ClassVar[int]
    _mode: ClassVar[str]
    value: float | None = None

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        given: Any = (padding,) * 2 * self._axes if is_whole(padding) else padding
        if not isinstance(given, (tuple, list)) or len(given) != 2 * self._axes:
            raise TypeError(
                f"{type(self).__name__}: padding must be an integer or {2 * self._axes} of them, "
                f"got {padding!r}"
            )
        self.padding = tuple(given)

    def forward(self, input: Any) -> Tensor:
        """Return the input with elements added."""
        who = type(self).__name__
        x = operand(input, who)
        if self._mode != "constant" and x.ndim != self._axes + 1:
            check_axes(x, who, self._axes)
        return pad(x, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"{self.padding}"


class _ConstantPadding(_Padding):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"padding={self.padding}, value={self.value}"


def _for_axes(name: str, mode: str, added: str, base: type[_Padding]) -> list[type[_Padding]]:
    """Return the layers ``name1d``, ``name2d`` and ``name3d``."""
    doc = f"""Adds {added} at the ends of the last axes; see :func:`lucid.pad`.

    ``padding`` is how many: one number, or ``(left, right, top, bottom)`` and so on.
    """
    named: dict[str, Any] = {"__doc__": doc, "__module__": __name__, "_mode": mode}
    return [type(f"{name}{axes}d", (base,), {**named, "_axes": axes}) for axes in (1, 2, 3)]


ZeroPad1d, ZeroPad2d, ZeroPad3d = _for_axes("ZeroPad", "constant", "zeros", _Padding)
ConstantPad1d, ConstantPad2d, ConstantPad3d = _for_axes(
    "ConstantPad", "constant", "``value``", _ConstantPadding
)
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _for_axes(
    "ReflectionPad", "reflect", "the mirror image without the edge", _Padding
)
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _for_axes(
    "ReplicationPad", "replicate", "the edge", _Padding
)
CircularPad1d, CircularPad2d, CircularPad3d = _for_axes(
    "CircularPad", "circular", "the other end", _Padding
)
