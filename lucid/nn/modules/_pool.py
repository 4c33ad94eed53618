"""Pooling layers."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from lucid._check import sizes
from lucid.autograd import Tensor
from lucid.nn.modules._layer import FunctionLayer
from lucid.ops import _pool as ops

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip

Size: TypeAlias = "int | tuple[int, ...]"


class _Pool(FunctionLayer):
    """A pooling over as many axes as the end of its class's name says."""

    _axes: ClassVar[int]

    def __init_subclass__(cls, function: Any = None) -> None:
        super().__init_subclass__(function)
        if function is not None:
            cls._axes = int(function.__name__[-2])


class _WindowPool(_Pool):
    """Pooling over windows that move by a stride."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        who = type(self).__name__
        sizes(self.kernel_size, self._axes, "kernel_size", who, 1)
        sizes(self.stride, self._axes, "stride", who, 1)
        sizes(self.padding, self._axes, "padding", who)


class _MaxPool(_WindowPool):
    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    _settings = (*_shown, "return_indices")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        sizes(dilation, self._axes, "dilation", type(self).__name__, 1)
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode


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


class _AvgPool(_WindowPool):
    _shown = ("kernel_size", "stride", "padding")
    _settings = (*_shown, "ceil_mode", "count_include_pad", "divisor_override")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override


class AvgPool1d(_AvgPool, function=ops.avg_pool1d):
    """The mean of each window of ``(N, C, L)``; else as :class:`AvgPool2d`."""


class AvgPool2d(_AvgPool, function=ops.avg_pool2d):
    """The mean of each window. Arguments as in :func:`lucid.nn.functional.avg_pool2d`.

    Shapes: input ``(N, C, H, W)``, output ``(N, C, H', W')``.
    """


class AvgPool3d(_AvgPool, function=ops.avg_pool3d):
    """The mean of each window of ``(N, C, D, H, W)``; else as :class:`AvgPool2d`."""


class _MaxUnpool(_WindowPool):
    _settings = _shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__(kernel_size, stride, padding)

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


class _AdaptivePool(_Pool):
    _settings: tuple[str, ...] = ("output_size",)
    _shown = ("output_size",)

    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        super().__init__()
        given = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
        wanted = tuple([1 if size is None else size for size in given])
        sizes(wanted, self._axes, "output_size", type(self).__name__)
        self.output_size = output_size


class AdaptiveAvgPool1d(_AdaptivePool, function=ops.adaptive_avg_pool1d):
    """As :class:`AdaptiveAvgPool2d`, of rows ``(N, C, L)``."""


class AdaptiveAvgPool2d(_AdaptivePool, function=ops.adaptive_avg_pool2d):
    """Means over windows chosen so that the output has ``output_size``.

    Args:
        output_size: height and width, or one number for both; None keeps the input's.
    """


class AdaptiveAvgPool3d(_AdaptivePool, function=ops.adaptive_avg_pool3d):
    """As :class:`AdaptiveAvgPool2d`, of volumes ``(N, C, D, H, W)``."""


class _AdaptiveMaxPool(_AdaptivePool):
    _settings = ("output_size", "return_indices")

    def __init__(
        self, output_size: int | tuple[int | None, ...] | None, return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


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
