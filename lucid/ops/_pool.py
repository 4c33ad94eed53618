"""Pooling: maxima and means over windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import pair
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import Array, operand
from lucid.ops._elementwise import astype, widened
from lucid.ops._layout import Padding, Pair, check_image, check_positive, from_nhwc, to_nhwc
from lucid.ops._resize import resample

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]


class MaxPool2d(Function):
    @staticmethod
    def forward(
        ctx: Node,
        x: Tensor,
        kernel: Pair,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        size: Pair,
    ) -> Array:
        y, taps = kernels.active().max_pool2d(
            to_nhwc(x.data), kernel, stride, padding, dilation, size
        )
        ctx.taps, ctx.shape = taps, x.shape
        ctx.how = kernel, stride, padding, dilation
        return from_nhwc(y)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return MaxPool2dGrad.apply(grad, ctx.taps, ctx.shape, ctx.how)


class MaxPool2dGrad(Function):
    @staticmethod
    def forward(
        ctx: Node, grad: Tensor, taps: Array, shape: tuple[int, ...], how: tuple[Any, ...]
    ) -> Array:
        ctx.taps, ctx.how = taps, how
        n, c, h, w = shape
        return from_nhwc(
            kernels.active().max_pool2d_grad(to_nhwc(grad.data), taps, (n, h, w, c), *how)
        )

    @staticmethod
    def backward(ctx: Node, grad_x: Tensor) -> Tensor:
        return MaxPool2dTake.apply(grad_x, ctx.taps, ctx.how)


class MaxPool2dTake(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, taps: Array, how: tuple[Any, ...]) -> Array:
        ctx.taps, ctx.how, ctx.shape = taps, how, x.shape
        return from_nhwc(kernels.active().max_pool2d_take(to_nhwc(x.data), taps, *how))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return MaxPool2dGrad.apply(grad, ctx.taps, ctx.shape, ctx.how)


class SumPool2d(Function):
    @staticmethod
    def forward(
        ctx: Node, x: Tensor, kernel: Pair, stride: Pair, padding: Padding, size: Pair
    ) -> Array:
        ctx.shape, ctx.how, ctx.size = x.shape, (kernel, stride, padding), size
        return from_nhwc(
            kernels.active().sum_pool2d(to_nhwc(x.data), kernel, stride, padding, size)
        )

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return SumPool2dGrad.apply(grad, ctx.shape, ctx.how, ctx.size)


class SumPool2dGrad(Function):
    @staticmethod
    def forward(
        ctx: Node, grad: Tensor, shape: tuple[int, ...], how: tuple[Any, ...], size: Pair
    ) -> Array:
        ctx.how, ctx.size = how, size
        n, c, h, w = shape
        return from_nhwc(kernels.active().sum_pool2d_grad(to_nhwc(grad.data), (n, h, w, c), *how))

    @staticmethod
    def backward(ctx: Node, grad_x: Tensor) -> Tensor:
        return SumPool2d.apply(grad_x, *ctx.how, ctx.size)


def _geometry(
    who: str, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Padding, Pair]:
    """Return the padding, with what ``ceil_mode`` adds at the end, and the output's size."""
    pads, sizes = [], []
    for axis in (0, 1):
        if padding[axis] > kernel[axis] // 2:
            raise ValueError(
                f"{who}: padding must be at most half the kernel size, got padding {padding} for a "
                f"kernel of {kernel[0]}×{kernel[1]}"
            )
        length, reach = x.shape[2 + axis], dilation[axis] * (kernel[axis] - 1) + 1
        room = length + 2 * padding[axis] - reach
        size = room // stride[axis] + 1
        if ceil_mode and room % stride[axis] and size * stride[axis] < length + padding[axis]:
            size += 1  # a last window that begins inside the input or its left padding
        end = max(0, (size - 1) * stride[axis] + reach - length - padding[axis])
        pads.append((padding[axis], max(end, padding[axis])))
        sizes.append(size)
    size_pair = sizes[0], sizes[1]
    check_positive(size_pair, x, f"a window of {kernel[0]}×{kernel[1]}", who)
    return (pads[0], pads[1]), size_pair


def max_pool2d(
    input: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the maximum of each window.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        kernel_size: the window's size.
        stride: step between windows; by default the window's size.
        padding: minus infinity on each side, at most half the window.
        dilation: distance between the elements of a window.
        ceil_mode: also take a last window that reaches over the end.

    Returns:
        ``(N, C, H', W')`` with ``H' = (H + 2·padding - dilation·(kernel - 1) - 1) // stride + 1``.
        The gradient goes to the first of equal maxima.

    Raises:
        ValueError: if the input is no image batch or the window does not fit.
    """
    who = "max_pool2d"
    x = operand(input, who)
    if x.ndim == 3:
        return max_pool2d(
            x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode
        ).squeeze(0)
    check_image(x, who)
    kernel = pair(kernel_size, "kernel_size", who, 1)
    step = kernel if stride is None else pair(stride, "stride", who, 1)
    spread = pair(dilation, "dilation", who, 1)
    pads, size = _geometry(who, x, kernel, step, pair(padding, "padding", who), spread, ceil_mode)
    return MaxPool2d.apply(x, kernel, step, pads, spread, size)


def avg_pool2d(
    input: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of each window.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        kernel_size: the window's size.
        stride: step between windows; by default the window's size.
        padding: zeros on each side, at most half the window.
        ceil_mode: also take a last window that reaches over the end.
        count_include_pad: count the padding's zeros as elements.
        divisor_override: divide by this instead of by the number of elements.

    Returns:
        ``(N, C, H', W')`` with ``H' = (H + 2·padding - kernel) // stride + 1``.

    Raises:
        ValueError: if the input is no image batch or the window does not fit.
    """
    who = "avg_pool2d"
    x = operand(input, who)
    if x.ndim == 3:
        return avg_pool2d(
            x.unsqueeze(0),
            kernel_size,
            stride,
            padding,
            ceil_mode,
            count_include_pad,
            divisor_override,
        ).squeeze(0)
    check_image(x, who)
    kernel = pair(kernel_size, "kernel_size", who, 1)
    step = kernel if stride is None else pair(stride, "stride", who, 1)
    sides = pair(padding, "padding", who)
    pads, size = _geometry(who, x, kernel, step, sides, (1, 1), ceil_mode)
    if divisor_override == 0:
        raise ValueError(f"{who}: divisor_override must not be zero")
    sums = SumPool2d.apply(widened(x), kernel, step, pads, size)
    if divisor_override is not None:
        return astype(sums / float(divisor_override), x.dtype)
    counts = [
        _window_counts(
            x.shape[2 + axis], kernel[axis], step[axis], sides[axis], size[axis], count_include_pad
        )
        for axis in (0, 1)
    ]
    return astype(sums / wrap(np.outer(*counts).astype(sums.dtype)), x.dtype)


def _window_counts(
    length: int, kernel: int, stride: int, padding: int, size: int, include_pad: bool
) -> np.ndarray:
    """Return how many elements each window counts along an axis."""
    start = np.arange(size) * stride - padding
    # What ceil_mode adds beyond the padding never counts.
    end = np.minimum(start + kernel, length + padding)
    if not include_pad:
        start, end = np.maximum(start, 0), np.minimum(end, length)
    return end - start


def adaptive_avg_pool2d(
    input: Any, output_size: int | tuple[int | None, int | None] | None
) -> Tensor:
    """Return means over windows chosen so that the output has ``output_size``.

    Window ``i`` of ``n`` along an axis of ``L`` elements covers ``floor(i·L/n)`` up to
    ``ceil((i+1)·L/n)``.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        output_size: the output's height and width, or one number for both; None keeps the
            input's.

    Returns:
        ``(N, C, H', W')``.

    Raises:
        ValueError: if the input is no image batch, or is empty along an axis to pool.
    """
    who = "adaptive_avg_pool2d"
    x = operand(input, who)
    if x.ndim == 3:
        return adaptive_avg_pool2d(x.unsqueeze(0), output_size).squeeze(0)
    check_image(x, who)
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2:
        raise TypeError(
            f"{who}: output_size must be an integer or two of them, got {output_size!r}"
        )
    size = pair(
        tuple(x.shape[2 + axis] if value is None else value for axis, value in enumerate(wanted)),
        "output_size",
        who,
    )
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    if size == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if 0 in size:
        return x[:, :, : size[0], : size[1]]
    height, width = x.shape[2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return avg_pool2d(x, (height // size[0], width // size[1]))
    # Windows of different sizes: weighted sums along each axis.
    return resample(x, _averaging(height, size[0]), _averaging(width, size[1]))


def _averaging(length: int, size: int) -> np.ndarray:
    """Return the matrix ``(size, length)`` that averages over the adaptive windows."""
    matrix = np.zeros((size, length))
    for i in range(size):
        start, end = i * length // size, -((i + 1) * length // -size)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
