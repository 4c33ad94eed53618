"""Convolutions, and transposed ones."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import DTypeLike

from lucid._check import count, one_of, sizes
from lucid.autograd import Tensor
from lucid.nn.modules._layer import WeightedLayer
from lucid.ops._axes import batched
from lucid.ops._common import operand
from lucid.ops._conv import conv_padding, convolve
from lucid.ops._conv_transpose import transpose
from lucid.ops._shape import pad

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(WeightedLayer):
    """What convolutions of one, two and three axes share, and transposed ones."""

    _axes: ClassVar[int]
    padding_mode: str

    def __init_subclass__(cls, axes: int | None = None) -> None:
        super().__init_subclass__()
        if axes is not None:
            cls._axes = axes

    def _set_sizes(
        self, channels: tuple[int, int], kernel_size: Any, stride: Any, dilation: Any, groups: int
    ) -> None:
        who, axes = type(self).__name__, self._axes
        self.in_channels = count(channels[0], "in_channels", who)
        self.out_channels = count(channels[1], "out_channels", who)
        self.kernel_size: Any = sizes(kernel_size, axes, "kernel_size", who, 1)
        self.stride: Any = sizes(stride, axes, "stride", who, 1)
        self.dilation: Any = sizes(dilation, axes, "dilation", who, 1)
        self.groups = count(groups, "groups", who)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{who}: groups must divide {name}={getattr(self, name)}, got groups={groups}"
                )

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        usual = {"padding": 0, "output_padding": 0, "dilation": 1}
        for name, number in usual.items():
            value = getattr(self, name, None)
            if value not in (None, (number,) * self._axes):
                text += f", {name}={value}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Convolution(_Conv):
    """A convolution of as many axes as its class says."""

    padding: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation, groups)
        pads = conv_padding(padding, self.kernel_size, self.stride, self.dilation, who)
        whole = not isinstance(padding, str)
        self.padding = sizes(padding, self._axes, "padding", who) if whole else padding
        self.padding_mode = one_of(padding_mode, _MODES, "padding_mode", who)
        # Other elements than zeros are added before: pad() counts from the last axis.
        self._ends = [n for ends in reversed(pads) for n in ends]
        self._register_weight(
            (self.out_channels, self.in_channels // self.groups, *self.kernel_size), bias, dtype
        )

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, O, *)`` for images ``(N, I, *)``."""
        who, settings = type(self).__name__, self._settings
        if self.padding_mode != "zeros":
            input = pad(operand(input, who), self._ends, self.padding_mode)
            settings = (self.stride, 0, self.dilation, self.groups)
        return batched(convolve, who, self._axes, input, self.weight, self.bias, *settings)

    @property
    def _settings(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups."""
        return self.stride, self.padding, self.dilation, self.groups


class Conv1d(_Convolution, axes=1):
    """Cross-correlates rows ``(N, I, L)`` with learned kernels; arguments as in :class:`Conv2d`.

    Shapes: output ``(N, O, L')``, ``weight`` ``(O, I/groups, k)``, ``bias`` ``(O,)``.
    """


class Conv2d(_Convolution, axes=2):
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
        padding_mode: ``"zeros"``, or what :func:`lucid.pad` adds: ``"reflect"``, ``"replicate"``
            or ``"circular"``.
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


class Conv3d(_Convolution, axes=3):
    """Cross-correlates volumes ``(N, I, D, H, W)``; arguments as in :class:`Conv2d`.

    Shapes: output ``(N, O, D', H', W')``, ``weight`` ``(O, I/groups, kd, kh, kw)``, ``bias``
    ``(O,)``.
    """


class _Transposed(_Conv):
    """A transposed convolution of as many axes as its class says."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation, groups)
        self.padding: Any = sizes(padding, self._axes, "padding", who)
        self.output_padding: Any = sizes(output_padding, self._axes, "output_padding", who)
        self.padding_mode = one_of(padding_mode, ("zeros",), "padding_mode", who)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self._register_weight(shape, bias, dtype, self.out_channels)

    def forward(self, input: Any, output_size: Any = None) -> Tensor:
        """Return ``(N, O, *)`` for images ``(N, I, *)``; of the last axes' sizes, if given."""
        who, extra = type(self).__name__, self.output_padding
        x = operand(input, who)
        if output_size is not None:
            length = x.shape[-self._axes :]
            geometry = zip(length, self.kernel_size, self.stride, self.padding, self.dilation)
            least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in geometry]
            extra = tuple(size - low for size, low in zip(output_size[-self._axes :], least))
            if len(extra) < self._axes or any(not 0 <= e < s for e, s in zip(extra, self.stride)):
                most = [low + s - 1 for low, s in zip(least, self.stride)]
                raise ValueError(
                    f"{who}: output_size must be between {tuple(least)} and {tuple(most)} for an "
                    f"input of shape {x.shape}, got {output_size!r}"
                )
        settings = self.stride, self.padding, extra, self.groups, self.dilation
        return batched(transpose, who, self._axes, x, self.weight, self.bias, *settings)


class ConvTranspose1d(_Transposed, axes=1):
    """Spreads rows ``(N, I, L)`` by learned kernels; arguments as in :class:`ConvTranspose2d`.

    Shapes: output ``(N, O, L')``, ``weight`` ``(I, O/groups, k)``, ``bias`` ``(O,)``.
    """


class ConvTranspose2d(_Transposed, axes=2):
    """Adds learned kernels, times the inputs: see :func:`lucid.nn.functional.conv_transpose2d`.

    Args:
        in_channels: I, the input's channels.
        out_channels: O, the output's.
        kernel_size: height and width of the kernels, or one number for both.
        stride: step between the places of neighbouring inputs in the output.
        padding: how much is cut off on each side of the output.
        output_padding: how much of it is left at the end.
        groups: input and output channels are split into this many independent parts.
        bias: whether to add a number to each output channel.
        dilation: distance between the taps of a kernel.
        padding_mode: only ``"zeros"``.
        dtype: of the parameters, float32 by default.

    Shapes: input ``(N, I, H, W)``, output ``(N, O, H', W')``, ``weight``
    ``(I, O/groups, kh, kw)``, ``bias`` ``(O,)``. Called with ``output_size``, it chooses the
    output padding that gives this size.

    Example:
        >>> layer = nn.ConvTranspose2d(8, 3, kernel_size=4, stride=2, padding=1)
        >>> layer(lucid.zeros(1, 8, 16, 16)).shape
        (1, 3, 32, 32)
    """


class ConvTranspose3d(_Transposed, axes=3):
    """Spreads volumes ``(N, I, D, H, W)``; arguments as in :class:`ConvTranspose2d`.

    Shapes: output ``(N, O, D', H', W')``, ``weight`` ``(I, O/groups, kd, kh, kw)``, ``bias``
    ``(O,)``.
    """
