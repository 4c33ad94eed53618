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

    _settings = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

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

    _settings = _shown = ("upscale_factor",)

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor


class PixelUnshuffle(FunctionLayer, function=ops.pixel_unshuffle):
    """Pixels become channels; as :func:`lucid.nn.functional.pixel_unshuffle`."""

    _settings = _shown = ("downscale_factor",)

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor


class ChannelShuffle(FunctionLayer, function=ops.channel_shuffle):
    """Channels of the groups by turns; as :func:`lucid.nn.functional.channel_shuffle`."""

    _settings = _shown = ("groups",)

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups


class Unfold(FunctionLayer, function=ops.unfold):
    """Windows as columns. Arguments as in :func:`lucid.nn.functional.unfold`."""

    _settings: tuple[str, ...] = ("kernel_size", "dilation", "padding", "stride")
    _shown = _settings

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride


class Fold(Unfold, function=ops.fold):
    """Columns added up to images. Arguments as in :func:`lucid.nn.functional.fold`."""

    _settings = _shown = ("output_size", *Unfold._settings)

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size
