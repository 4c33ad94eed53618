"""Layers that resize images, and trade channels for pixels."""

from __future__ import annotations

from typing import Any

from lucid.nn.modules._layer import FunctionLayer
from lucid.ops import _fold as ops
from lucid.ops._resize import interpolate

__all__ = [
    "ChannelShuffle", "Fold", "PixelShuffle", "PixelUnshuffle", "Unfold", "Upsample",
    "UpsamplingBilinear2d", "UpsamplingNearest2d",
]  # fmt: skip


class Upsample(FunctionLayer, function=interpolate):
    """Resizes images. Arguments as in :func:`lucid.nn.functional.interpolate`."""

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        name = "size" if self.scale_factor is None else "scale_factor"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resizes images by the nearest pixel. Arguments as in :class:`Upsample`."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Resizes images bilinearly, the corners aligned. Arguments as in :class:`Upsample`."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(FunctionLayer, function=ops.pixel_shuffle):
    """Channels become pixels; as :func:`lucid.nn.functional.pixel_shuffle`."""

    upscale_factor: int


class PixelUnshuffle(FunctionLayer, function=ops.pixel_unshuffle):
    """Pixels become channels; as :func:`lucid.nn.functional.pixel_unshuffle`."""

    downscale_factor: int


class ChannelShuffle(FunctionLayer, function=ops.channel_shuffle):
    """Channels of the groups by turns; as :func:`lucid.nn.functional.channel_shuffle`."""

    groups: int


class Unfold(FunctionLayer, function=ops.unfold):
    """Windows as columns. Arguments as in :func:`lucid.nn.functional.unfold`."""

    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1


class Fold(FunctionLayer, function=ops.fold):
    """Columns added up to images. Arguments as in :func:`lucid.nn.functional.fold`."""

    output_size: Any
    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1
