"""Pooling layers."""

from __future__ import annotations

from typing import TypeAlias

from lucid._check import pair
from lucid.nn.modules._layer import FunctionLayer
from lucid.ops import _pool as ops

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]

Size: TypeAlias = "int | tuple[int, int]"


class _WindowPool(FunctionLayer):
    """Pooling over windows that move by a stride."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        who = type(self).__name__
        pair(self.kernel_size, "kernel_size", who, 1)
        pair(self.stride, "stride", who, 1)
        pair(self.padding, "padding", who)


class MaxPool2d(_WindowPool, function=ops.max_pool2d):
    """The maximum of each window.

    Arguments as in :func:`lucid.nn.functional.max_pool2d`, and ``return_indices``, only False.

    Shapes: input ``(N, C, H, W)``, output ``(N, C, H', W')``.

    Example:
        >>> images = lucid.arange(16.0).reshape(1, 1, 4, 4)
        >>> nn.MaxPool2d(2)(images)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
        >>> nn.MaxPool2d(3, stride=1)(images).shape
        (1, 1, 2, 2)
    """

    _settings = _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        if return_indices:
            raise ValueError("MaxPool2d: return_indices=True is not supported")
        super().__init__(kernel_size, stride, padding)
        pair(dilation, "dilation", "MaxPool2d", 1)
        self.dilation = dilation
        self.ceil_mode = ceil_mode


class AvgPool2d(_WindowPool, function=ops.avg_pool2d):
    """The mean of each window. Arguments as in :func:`lucid.nn.functional.avg_pool2d`.

    Shapes: input ``(N, C, H, W)``, output ``(N, C, H', W')``.
    """

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


class AdaptiveAvgPool2d(FunctionLayer, function=ops.adaptive_avg_pool2d):
    """Means over windows chosen so that the output has ``output_size``.

    Args:
        output_size: height and width, or one number for both; None keeps the input's.
    """

    _settings = _shown = ("output_size",)

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        pair(
            tuple(1 if size is None else size for size in sizes), "output_size", "AdaptiveAvgPool2d"
        )
        self.output_size = output_size
