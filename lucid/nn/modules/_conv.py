"""Conv2d."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count, pair
from lucid.autograd import Tensor
from lucid.nn.modules._layer import WeightedLayer
from lucid.ops._conv import apply_conv2d, conv_padding

__all__ = ["Conv2d"]


class Conv2d(WeightedLayer):
    """Cross-correlates images with learned kernels; see :func:`lucid.nn.functional.conv2d`.

    Args:
        in_channels: I, the input's channels.
        out_channels: O, the output's.
        kernel_size: height and width of the kernels, or one number for both.
        stride: step between positions.
        padding: zeros on each side, or ``"same"`` (with stride 1) or ``"valid"`` (none).
        dilation: distance between the taps of a kernel.
        groups: input and output channels are split into this many independent convolutions.
        bias: whether to add a number to each output channel.
        padding_mode: only ``"zeros"``.
        dtype: of the parameters, float32 by default.

    Shapes: input ``(N, I, H, W)``, output ``(N, O, H', W')``, ``weight``
    ``(O, I/groups, kh, kw)``, ``bias`` ``(O,)``. Both begin uniform within ±1/√fan_in, where
    fan_in = I/groups·kh·kw. One image may come without the batch axis.

    Example:
        >>> conv = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        >>> conv(lucid.zeros(1, 3, 32, 32)).shape
        (1, 8, 16, 16)
        >>> nn.Conv2d(8, 8, 3, groups=8).weight.shape  # depthwise: one kernel a channel
        (8, 1, 3, 3)
    """

    padding: str | tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        who = "Conv2d"
        self.in_channels = count(in_channels, "in_channels", who)
        self.out_channels = count(out_channels, "out_channels", who)
        self.kernel_size = pair(kernel_size, "kernel_size", who, 1)
        self.stride = pair(stride, "stride", who, 1)
        self.dilation = pair(dilation, "dilation", who, 1)
        self.groups = count(groups, "groups", who)
        conv_padding(padding, self.kernel_size, self.stride, self.dilation, who)  # only checked
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding", who)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{who}: groups must divide {name}={getattr(self, name)}, got groups={groups}"
                )
        if padding_mode != "zeros":
            raise ValueError(
                f"{who}: only padding_mode='zeros' is supported, got {padding_mode!r}; for others "
                "pad the input with nn.functional.pad first"
            )
        self.padding_mode = padding_mode
        self._register_weight(
            (self.out_channels, self.in_channels // self.groups, *self.kernel_size), bias, dtype
        )

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, O, H', W')`` for images ``(N, I, H, W)``."""
        return apply_conv2d("Conv2d", input, self.weight, self.bias, *self._settings)

    @property
    def _settings(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups."""
        return self.stride, self.padding, self.dilation, self.groups

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
