"""Pooling layers."""

from __future__ import annotations

from typing import Any, TypeAlias

from lucid.autograd import Tensor
from lucid.nn.modules._module import Module
from lucid.ops import _pool as ops
from lucid.ops._layout import pair

Size: TypeAlias = "int | tuple[int, int]"


class MaxPool2d(Module):
    """The maximum of each window; see :func:`lucid.nn.functional.max_pool2d`.

    Args:
        kernel_size: the window's size.
        stride: step between windows; by default the window's size.
        padding: minus infinity on each side, at most half the window.
        dilation: distance between the elements of a window.
        return_indices: only False.
        ceil_mode: also take a last window that reaches over the end.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        if return_indices:
            raise ValueError("MaxPool2d: return_indices=True is not supported")
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        pair(self.kernel_size, "kernel_size", "MaxPool2d", 1)
        pair(self.stride, "stride", "MaxPool2d", 1)
        pair(self.padding, "padding", "MaxPool2d")
        pair(self.dilation, "dilation", "MaxPool2d", 1)

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, C, H', W')`` for images ``(N, C, H, W)``."""
        return ops.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window; see :func:`lucid.nn.functional.avg_pool2d`.

    Args:
        kernel_size: the window's size.
        stride: step between windows; by default the window's size.
        padding: zeros on each side, at most half the window.
        ceil_mode: also take a last window that reaches over the end.
        count_include_pad: count the padding's zeros as elements.
        divisor_override: divide by this instead of by the number of elements.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        pair(self.kernel_size, "kernel_size", "AvgPool2d", 1)
        pair(self.stride, "stride", "AvgPool2d", 1)
        pair(self.padding, "padding", "AvgPool2d")

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, C, H', W')`` for images ``(N, C, H, W)``."""
        return ops.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over windows chosen so that the output has ``output_size``.

    Args:
        output_size: height and width, or one number for both; None keeps the input's.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        pair(
            tuple(1 if size is None else size for size in sizes), "output_size", "AdaptiveAvgPool2d"
        )
        self.output_size = output_size

    def forward(self, input: Any) -> Tensor:
        """Return ``(N, C, H', W')`` for images ``(N, C, H, W)``."""
        return ops.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"output_size={self.output_size}"
