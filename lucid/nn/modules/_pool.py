"""Pooling layers."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from lucid._check import sizes
from lucid.autograd import Tensor
from lucid.nn.modules._layer import NOT_GIVEN, FunctionLayer
from lucid.ops import _pool as ops

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip

Size: TypeAlias = "int | tuple[int, ...]"


class _Pool(FunctionLayer, function=None):
    """A pooling over as many axes as the end of its class's name says."""

    _axes: ClassVar[int]

    def __init_subclass__(cls, function: Any = NOT_GIVEN) -> None:
        super().__init_subclass__(function)
        if callable(function):
            cls._axes = int(function.__name__[-2])


class _WindowPool(_Pool, function=None):
    """Pooling over windows that move by a stride, by default the window's size."""

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0

    def _check(self) -> None:
        self.stride = self.kernel_size if self.stride is None else self.stride
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            sizes(getattr(self, name), self._axes, name, type(self).__name__, least)


class _MaxPool(_WindowPool, function=None):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    dilation: Size = 1
    return_indices: bool = False
    ceil_mode: bool = False

    def _check(self) -> None:
        super()._check()
        sizes(self.dilation, self._axes, "dilation", type(self).__name__, 1)


class MaxPool1d(_MaxPool, function=ops.max_pool1d):
    """The maximum of each window of ``(N, C, L)``; else as :class:`MaxPool2d`."""


class MaxPool2d(_MaxPool, function=ops.max_pool2d):
    """The maximum of each window. Arguments as in :func:`lucid.nn.functional.max_pool2d`.

    Shapes: input ``(N, C, H, W)``, output ``(N, C, H', W')``.

    Example:
        >>> images = lucid.arange(16.0).reshape(1, 1, 4, 4)
        >>> nn.MaxPool2d(2)(images)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
        >>> nn.MaxPool2d(3, stride=1)(images).shape
        (1, 1, 2, 2)
    """


class MaxPool3d(_MaxPool, function=ops.max_pool3d):
    """The maximum of each window of ``(N, C, D, H, W)``; else as :class:`MaxPool2d`."""


class _AvgPool(_WindowPool, function=None):
    _shown = ("kernel_size", "stride", "padding")
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None


class AvgPool1d(_AvgPool, function=ops.avg_pool1d):
    """The mean of each window of ``(N, C, L)``; else as :class:`AvgPool2d`."""


class AvgPool2d(_AvgPool, function=ops.avg_pool2d):
    """The mean of each window. Arguments as in :func:`lucid.nn.functional.avg_pool2d`.

    Shapes: input ``(N, C, H, W)``, output ``(N, C, H', W')``.
    """


class AvgPool3d(_AvgPool, function=ops.avg_pool3d):
    """The mean of each window of ``(N, C, D, H, W)``; else as :class:`AvgPool2d`."""


class _MaxUnpool(_WindowPool, function=None):
    def forward(  # type: ignore[override]
        self, input: Any, indices: Any, output_size: Any = None
    ) -> Tensor:
        """Return zeros with the maxima at their places."""
        settings = self.kernel_size, self.stride, self.padding, output_size
        return self._function(input, indices, *settings)


class MaxUnpool1d(_MaxUnpool, function=ops.max_unpool1d):
    """The way back from :class:`MaxPool1d`; as :func:`lucid.nn.functional.max_unpool2d`."""


class MaxUnpool2d(_MaxUnpool, function=ops.max_unpool2d):
    """The way back from :class:`MaxPool2d`; as :func:`lucid.nn.functional.max_unpool2d`."""


class MaxUnpool3d(_MaxUnpool, function=ops.max_unpool3d):
    """The way back from :class:`MaxPool3d`; as :func:`lucid.nn.functional.max_unpool2d`."""


class _AdaptivePool(_Pool, function=None):
    _shown = ("output_size",)
    output_size: int | tuple[int | None, ...] | None

    def _check(self) -> None:
        given = self.output_size
        given = given if isinstance(given, (tuple, list)) else (given,)
        wanted = tuple([1 if size is None else size for size in given])
        sizes(wanted, self._axes, "output_size", type(self).__name__)


class AdaptiveAvgPool1d(_AdaptivePool, function=ops.adaptive_avg_pool1d):
    """As :class:`AdaptiveAvgPool2d`, of rows ``(N, C, L)``."""


class AdaptiveAvgPool2d(_AdaptivePool, function=ops.adaptive_avg_pool2d):
    """Means over windows chosen so that the output has ``output_size``.

    Args:
        output_size: height and width, or one number for both; None keeps the input's.
    """


class AdaptiveAvgPool3d(_AdaptivePool, function=ops.adaptive_avg_pool3d):
    """As :class:`AdaptiveAvgPool2d`, of volumes ``(N, C, D, H, W)``."""


class _AdaptiveMaxPool(_AdaptivePool, function=None):
    _shown = ("output_size",)
    return_indices: bool = False


class AdaptiveMaxPool1d(_AdaptiveMaxPool, function=ops.adaptive_max_pool1d):
    """As :class:`AdaptiveMaxPool2d`, of rows ``(N, C, L)``."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool, function=ops.adaptive_max_pool2d):
    """Maxima over the windows of :class:`AdaptiveAvgPool2d`.

    Args:
        output_size: height and width, or one number for both; None keeps the input's.
        return_indices: whether to return also where in ``H·W`` each maximum stands.
    """


class AdaptiveMaxPool3d(_AdaptiveMaxPool, function=ops.adaptive_max_pool3d):
    """As :class:`AdaptiveMaxPool2d`, of volumes ``(N, C, D, H, W)``."""
