"""Convolution: three operations on images of two axes that are each other's derivatives.

Rows are images of height 1, and the frames that a kernel of three axes meets become channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import sizes
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.kernels.geometry import NOTHING, Conv, Epilogue, Pair, Shape
from lucid.ops._axes import for_axes
from lucid.ops._common import Array, operand, save_factors, wanted
from lucid.ops._layout import check_image, check_positive, from_nhwc, times, to_nhwc
from lucid.ops._shape import pad

__all__ = ["conv1d", "conv2d", "conv3d"]


class Conv2d(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, weight: Tensor, bias: Tensor | None, conv: Conv) -> Array:
        save_factors(ctx, x, weight)
        ctx.x_shape, ctx.weight_shape, ctx.conv = x.shape, weight.shape, conv
        epilogue = NOTHING if bias is None else Epilogue(shift=bias.data)
        return from_nhwc(kernels.active().conv2d(to_nhwc(x.data), weight.data, conv, epilogue))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: ConvInputGrad.apply(grad, weight, ctx.x_shape[2:], ctx.conv),
            lambda: ConvWeightGrad.apply(x, grad, ctx.weight_shape, ctx.conv),
            lambda: grad.sum((0, 2, 3)),
        )


class ConvInputGrad(Function):
    """The transposed convolution: linear in the output's gradient and in the weights."""

    @staticmethod
    def forward(ctx: Node, grad: Tensor, weight: Tensor, size: Pair, conv: Conv) -> Array:
        save_factors(ctx, grad, weight)
        ctx.weight_shape, ctx.conv = weight.shape, conv
        shape = (grad.shape[0], *size, weight.shape[1] * conv.groups)
        return from_nhwc(
            kernels.active().conv2d_input_grad(to_nhwc(grad.data), weight.data, shape, conv)
        )

    @staticmethod
    def backward(ctx: Node, grad_x: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: Conv2d.apply(grad_x, weight, None, ctx.conv),
            lambda: ConvWeightGrad.apply(grad_x, grad, ctx.weight_shape, ctx.conv),
        )


class ConvWeightGrad(Function):
    """The correlation of input and output gradient: linear in both."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, grad: Tensor, shape: Shape, conv: Conv) -> Array:
        save_factors(ctx, x, grad)
        ctx.x_shape, ctx.conv = x.shape, conv
        return kernels.active().conv2d_weight_grad(to_nhwc(x.data), to_nhwc(grad.data), shape, conv)

    @staticmethod
    def backward(ctx: Node, grad_weight: Tensor) -> tuple[Tensor | None, ...]:
        x, grad = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: ConvInputGrad.apply(grad, grad_weight, ctx.x_shape[2:], ctx.conv),
            lambda: Conv2d.apply(x, grad_weight, None, ctx.conv),
        )


def conv_padding(
    padding: Any, kernel: tuple[int, ...], stride: Any, dilation: Any, who: str
) -> tuple[Pair, ...]:
    """Return ``(before, after)`` of each axis from a number, several, "same" or "valid".

    "same" pads ``dilation·(kernel - 1)`` in all, the larger half at the end, as PyTorch does.

    Raises:
        ValueError: for another word, or "same" with a stride over 1.
    """
    if not isinstance(padding, str):
        return tuple([(n, n) for n in sizes(padding, len(kernel), "padding", who)])
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise ValueError(
            f"{who}: padding must be one or two integers, 'same' or 'valid', got {padding!r}"
        )
    if max(stride) > 1:
        raise ValueError(f"{who}: padding='same' needs stride 1, got stride {stride}")
    both = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return tuple([(n // 2, n - n // 2) for n in both])


def convolve(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    r"""Cross-correlate images with kernels.

    .. math::

        y_{n,o,p,q} = b_o + \sum_{c,i,j} w_{o,c,i,j}\;
            x_{n,\,c',\; s p + d i - \text{pad},\; s q + d j - \text{pad}}

    where :math:`c'` counts the input channels of the group that :math:`o` belongs to.

    Args:
        input: images ``(N, I, H, W)``, or one ``(I, H, W)``, floating point; fastest with the
            channels last in memory.
        weight: kernels ``(O, I/groups, kh, kw)``.
        bias: ``(O,)`` or None.
        stride: step between positions.
        padding: zeros on each side, or "same" (stride 1 only) or "valid" (none).
        dilation: distance between the taps of a kernel.
        groups: input and output channels are split into this many independent convolutions.

    Returns:
        ``(N, O, H', W')`` or ``(O, H', W')`` with
        ``H' = (H + 2·padding - dilation·(kh - 1) - 1) // stride + 1``, in
        channels-last memory whatever the input's (PyTorch keeps the input's).

    Raises:
        ValueError: if shapes do not fit each other, or the kernel does not fit into the image.
        TypeError: if dtypes differ or are not floating point.
    """
    settings = stride, padding, dilation, groups
    x, w, b, conv = checked(who, axes, input, weight, bias, *settings)
    if axes == 2:
        return Conv2d.apply(x, w, b, conv)
    if axes == 1:
        return Conv2d.apply(x.unsqueeze(-2), w.unsqueeze(-2), b, as_rows(conv)).squeeze(-2)
    x = pad(x, (0, 0, 0, 0, *conv.padding[0]))
    frames = taps(x.shape[2], w.shape[2], conv.stride[0], conv.dilation[0])
    count = len(frames)
    x = x[:, :, frames].permute(0, 2, 1, 3, 4, 5).flatten(2, 3).flatten(0, 1)
    y = Conv2d.apply(x, w.flatten(1, 2), b, of_frames(conv))
    return y.reshape(-1, count, *y.shape[1:]).permute(0, 2, 1, 3, 4)


conv1d, conv2d, conv3d = for_axes(convolve, "conv")


def as_rows(conv: Any) -> Conv:
    """Return the geometry of images of height 1."""
    return Conv((1, *conv.stride), ((0, 0), *conv.padding), (1, *conv.dilation), conv.groups)


def of_frames(conv: Any) -> Conv:
    """Return the geometry of the two last of three axes."""
    return Conv(conv.stride[1:], conv.padding[1:], conv.dilation[1:], conv.groups)


def taps(length: int, kernel: int, stride: int, dilation: int) -> Array:
    """Return where along an axis a kernel reads: ``(positions, kernel)``."""
    starts = np.arange(0, length - dilation * (kernel - 1), stride)
    return starts[:, None] + np.arange(kernel) * dilation


def checked(
    who: str,
    axes: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor | None, Conv]:
    """Return a convolution's arguments as tensors, and its geometry, in ``axes`` entries.

    The arguments are those of :func:`conv2d`, which ``who`` was called with, and so are the errors.
    """
    x, w, b = check_operands(who, input, weight, bias, groups, axes)
    kernel = w.shape[2:]
    step = sizes(stride, axes, "stride", who, 1)
    spread = sizes(dilation, axes, "dilation", who, 1)
    pads: Any = conv_padding(padding, kernel, step, spread, who)
    size = tuple(
        [
            (length + before + after - d * (k - 1) - 1) // s + 1
            for length, k, s, (before, after), d in zip(x.shape[2:], kernel, step, pads, spread)
        ]
    )
    check_positive(size, x, f"a kernel of {times(kernel)}", who)
    geometry: Any = step, pads, spread, int(groups)
    return x, w, b, Conv(*geometry)


def check_operands(
    who: str, input: Any, weight: Any, bias: Any, groups: int, axes: int, transposed: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return input, weight and bias as tensors, whose shapes and dtypes fit each other.

    Raises:
        ValueError: if shapes or groups do not.
        TypeError: if dtypes do not, or are not floating point.
    """
    x, w = operand(input, who), operand(weight, who)
    check_image(x, who, axes)
    if w.ndim != axes + 2:
        channels = "I, O/groups" if transposed else "O, I/groups"
        taps = {1: "k", 2: "kh, kw", 3: "kd, kh, kw"}[axes]
        raise ValueError(
            f"{who}: expected a weight of shape ({channels}, {taps}), got shape {w.shape}"
        )
    if x.dtype != w.dtype:
        raise TypeError(
            f"{who}: input and weight must have the same dtype, got {x.dtype} and {w.dtype}; "
            "convert one with astype()"
        )
    first, second = w.shape[0], w.shape[1] * groups
    in_channels, out_channels = (first, second) if transposed else (second, first)
    if x.shape[1] != in_channels:
        raise ValueError(
            f"{who}: expected {in_channels} input channels (axis 1), got {x.shape[1]} from an "
            f"input of shape {x.shape}"
        )
    if groups < 1 or first % groups:
        raise ValueError(
            f"{who}: groups must divide the {first} {'input' if transposed else 'output'} "
            f"channels, got groups={groups}"
        )
    b = None if bias is None else operand(bias, who)
    if b is not None and (b.shape != (out_channels,) or b.dtype != w.dtype):
        raise ValueError(
            f"{who}: expected a bias of shape ({out_channels},) and dtype {w.dtype}, got shape "
            f"{b.shape} and dtype {b.dtype}"
        )
    return x, w, b
