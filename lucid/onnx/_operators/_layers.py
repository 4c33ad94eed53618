"""Convolution whose padding differs from side to side, or follows from the input's size."""

from __future__ import annotations

from typing import Any

from lucid import nn
from lucid.autograd import Tensor
from lucid.kernels.geometry import Padding, Pair
from lucid.ops import _conv
from lucid.ops._layout import check_positive


def pads_of(pads: Padding | str, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    """Return padding for an input of ``size``: ``"SAME_UPPER"`` gives ``size / stride`` outputs."""
    if isinstance(pads, tuple):
        return pads
    found = []
    for axis in (0, 1):
        outputs = -(-size[axis] // stride[axis])
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        total = max((outputs - 1) * stride[axis] + reach - size[axis], 0)
        low = total // 2 if pads == "SAME_UPPER" else total - total // 2
        found.append((low, total - low))
    return found[0], found[1]


def convolve(
    who: str,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Pair,
    pads: Padding | str,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """Convolve images with padding as in :func:`pads_of`."""
    kernel = weight.shape[2], weight.shape[3]
    around = pads_of(pads, input.shape[2:], kernel, stride, dilation)
    largest = max(around[0]), max(around[1])
    settings = stride, largest, dilation, groups
    x, w, b, conv = _conv.checked(who, 2, input, weight, bias, *settings)
    conv = conv._replace(padding=around)
    size = conv.output_size((x.shape[2], x.shape[3]), kernel)
    check_positive(size, x, f"a kernel of {kernel[0]}×{kernel[1]}", who)
    return _conv.Conv2d.apply(x, w, b, conv)


class PaddedConv2d(nn.Conv2d):
    """A convolution with padding of its own on each side.

    Args:
        *args: as in :class:`lucid.nn.Conv2d`.
        pads: ``((top, bottom), (left, right))``; or ``"SAME_UPPER"`` or ``"SAME_LOWER"``, so many
            zeros that there is an output for each ``stride`` inputs, with the odd one at the end
            or at the beginning.
        **settings: as in :class:`lucid.nn.Conv2d`.
    """

    def __init__(self, *args: Any, pads: Padding | str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.pads = pads

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, O, H', W')`` for images ``(N, I, H, W)``."""
        settings = self.stride, self.pads, self.dilation, self.groups
        return convolve("PaddedConv2d", input, self.weight, self.bias, *settings)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them, and the padding."""
        return f"{super().extra_repr()}, pads={self.pads}"
