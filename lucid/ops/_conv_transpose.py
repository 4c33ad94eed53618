"""Transposed convolution: the gradient of a convolution's input, as an operation of its own."""

from __future__ import annotations

from typing import Any

from lucid._check import sizes
from lucid.autograd import Tensor
from lucid.kernels.geometry import Conv
from lucid.ops._axes import for_axes
from lucid.ops._conv import ConvInputGrad, as_rows, check_operands, of_frames, taps
from lucid.ops._index import PutAdd
from lucid.ops._layout import check_positive, times

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def transpose(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
) -> Tensor:
    """Add each input, times its kernel, to the output: the gradient of the input of ``conv2d``.

    Args:
        input: images ``(N, I, H, W)``, or one ``(I, H, W)``, floating point.
        weight: kernels ``(I, O/groups, kh, kw)``.
        bias: ``(O,)`` or None.
        stride: step between the places of neighbouring inputs in the output.
        padding: how much is cut off on each side of the output.
        output_padding: how much of it is left at the end: there the convolution has several sizes
            of input for one of output.
        groups: input and output channels are split into this many independent parts.
        dilation: distance between the taps of a kernel.

    Returns:
        ``(N, O, H', W')`` or ``(O, H', W')`` with
        ``H' = (H - 1)·stride - 2·padding + dilation·(kh - 1) + output_padding + 1``.

    Raises:
        ValueError: if shapes do not fit each other, or ``output_padding`` is neither below the
            stride nor below the dilation.
        TypeError: if dtypes differ or are not floating point.
    """
    x, w, b = check_operands(who, input, weight, bias, groups, axes, transposed=True)
    kernel = w.shape[2:]
    step = sizes(stride, axes, "stride", who, 1)
    sides = sizes(padding, axes, "padding", who)
    extra = sizes(output_padding, axes, "output_padding", who)
    spread = sizes(dilation, axes, "dilation", who, 1)
    if any(e >= max(s, d) for e, s, d in zip(extra, step, spread)):
        raise ValueError(
            f"{who}: output_padding must be smaller than the stride or the dilation, got "
            f"{output_padding!r} for stride {stride!r} and dilation {dilation!r}"
        )
    pads: Any = tuple([(side, side - e) for side, e in zip(sides, extra)])
    size: Any = tuple(
        [
            (length - 1) * s - before - after + d * (k - 1) + 1
            for length, s, (before, after), d, k in zip(x.shape[2:], step, pads, spread, kernel)
        ]
    )
    check_positive(size, x, f"what is left of kernels of {times(kernel)}", who)
    geometry: Any = step, pads, spread, int(groups)
    conv: Any = Conv(*geometry)
    if axes == 1:
        rows = x.unsqueeze(-2), w.unsqueeze(-2), (1, *size), as_rows(conv)
        y = ConvInputGrad.apply(*rows).squeeze(-2)
    elif axes == 2:
        y = ConvInputGrad.apply(x, w, size, conv)
    else:
        n, _, depth = x.shape[:3]
        frames = x.permute(0, 2, 1, 3, 4).flatten(0, 1)
        y = ConvInputGrad.apply(frames, w.flatten(1, 2), size[1:], of_frames(conv))
        y = y.reshape(n, depth, -1, kernel[0], *size[1:]).permute(0, 2, 1, 3, 4, 5)
        (before, after), length = pads[0], size[0]
        places = taps(length + before + after, kernel[0], step[0], spread[0])
        whole = slice(None)
        shape = (*y.shape[:2], length + before + max(after, 0), *size[1:])
        y = PutAdd.apply(y, (whole, whole, places), shape)[:, :, before : before + length]
    return y if b is None else y + b.reshape(-1, *(1,) * axes)


conv_transpose1d, conv_transpose2d, conv_transpose3d = for_axes(transpose, "conv_transpose")
