"""Two-dimensional convolution: three operations that are each other's derivatives."""

from __future__ import annotations

from typing import Any

from lucid import kernels
from lucid._check import pair
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.kernels.geometry import NO_PADDING, NOTHING, UNIT, Conv, Epilogue, Padding, Pair, Shape
from lucid.ops._common import Array, operand, save_factors, wanted
from lucid.ops._layout import check_image, check_positive, from_nhwc, to_nhwc

__all__ = ["conv2d"]


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
            lambda: ConvInputGrad.apply(grad, weight, ctx.x_shape, ctx.conv),
            lambda: ConvWeightGrad.apply(x, grad, ctx.weight_shape, ctx.conv),
            lambda: grad.sum((0, 2, 3)),
        )


class ConvInputGrad(Function):
    """The transposed convolution: linear in the output's gradient and in the weights."""

    @staticmethod
    def forward(
        ctx: Node, grad: Tensor, weight: Tensor, shape: tuple[int, ...], conv: Conv
    ) -> Array:
        save_factors(ctx, grad, weight)
        ctx.weight_shape, ctx.conv = weight.shape, conv
        n, c, h, w = shape
        return from_nhwc(
            kernels.active().conv2d_input_grad(to_nhwc(grad.data), weight.data, (n, h, w, c), conv)
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
            lambda: ConvInputGrad.apply(grad, grad_weight, ctx.x_shape, ctx.conv),
            lambda: Conv2d.apply(x, grad_weight, None, ctx.conv),
        )


def conv_padding(padding: Any, kernel: Pair, stride: Pair, dilation: Pair, who: str) -> Padding:
    """Return ``((top, bottom), (left, right))`` from a number, two numbers, "same" or "valid".

    "same" pads ``dilation·(kernel - 1)`` in all, the larger half at the end, as PyTorch does.

    Raises:
        ValueError: for another word, or "same" with a stride over 1.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return NO_PADDING
        if padding != "same":
            raise ValueError(
                f"{who}: padding must be one or two integers, 'same' or 'valid', got {padding!r}"
            )
        if stride != UNIT:
            raise ValueError(f"{who}: padding='same' needs stride 1, got stride {stride}")
        rows, columns = (d * (k - 1) for k, d in zip(kernel, dilation))
        return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    vertical, horizontal = pair(padding, "padding", who)
    return (vertical, vertical), (horizontal, horizontal)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
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
    return apply_conv2d("conv2d", input, weight, bias, stride, padding, dilation, groups)


def apply_conv2d(who: str, input: Any, weight: Any, bias: Any, *settings: Any) -> Tensor:
    """Check the arguments, as :func:`checked` takes them, and convolve."""
    input = operand(input, who)
    if input.ndim == 3:
        return apply_conv2d(who, input.unsqueeze(0), weight, bias, *settings).squeeze(0)
    return Conv2d.apply(*checked(who, input, weight, bias, *settings))


def apply_conv_epilogue(
    who: str, input: Any, weight: Tensor, epilogue: Epilogue, *settings: Any
) -> Tensor:
    """Convolve and finish the sums: inference only, nothing is recorded."""
    x, w, _, conv = checked(who, input, weight, None, *settings)
    return wrap(from_nhwc(kernels.active().conv2d(to_nhwc(x.data), w.data, conv, epilogue)))


def checked(
    who: str,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor | None, Conv]:
    """Return a convolution's arguments as tensors, and its geometry.

    The arguments are those of :func:`conv2d`, which ``who`` was called with, and so are the errors.
    """
    x, w = operand(input, who), operand(weight, who)
    check_image(x, who)
    if w.ndim != 4:
        raise ValueError(
            f"{who}: expected a weight of shape (O, I/groups, kh, kw), got shape {w.shape}"
        )
    if x.dtype != w.dtype:
        raise TypeError(
            f"{who}: input and weight must have the same dtype, got {x.dtype} and {w.dtype}; "
            "convert one with astype()"
        )
    out_channels, in_channels = w.shape[0], w.shape[1] * groups
    if x.shape[1] != in_channels:
        raise ValueError(
            f"{who}: expected {in_channels} input channels (axis 1), got {x.shape[1]} from an "
            f"input of shape {x.shape}"
        )
    if groups < 1 or out_channels % groups:
        raise ValueError(
            f"{who}: groups must divide the {out_channels} output channels, got groups={groups}"
        )
    b = None if bias is None else operand(bias, who)
    if b is not None and (b.shape != (out_channels,) or b.dtype != w.dtype):
        raise ValueError(
            f"{who}: expected a bias of shape ({out_channels},) and dtype {w.dtype}, got shape "
            f"{b.shape} and dtype {b.dtype}"
        )
    kernel = w.shape[2], w.shape[3]
    step, spread = pair(stride, "stride", who, 1), pair(dilation, "dilation", who, 1)
    pads = conv_padding(padding, kernel, step, spread, who)
    conv = Conv(step, pads, spread, int(groups))
    size = conv.output_size((x.shape[2], x.shape[3]), kernel)
    check_positive(size, x, f"a kernel of {kernel[0]}×{kernel[1]}", who)
    return x, w, b, conv
