"""Windows as columns and back, and channels as pixels and back."""

from __future__ import annotations

from typing import Any

from lucid._check import count, pair
from lucid.autograd import Tensor
from lucid.ops._axes import batched
from lucid.ops._common import operand
from lucid.ops._index import PutAdd, getitem
from lucid.ops._join import stack
from lucid.ops._layout import check_axes, check_positive, times
from lucid.ops._shape import pad

__all__ = ["channel_shuffle", "fold", "pixel_shuffle", "pixel_unshuffle", "unfold"]


def _elements(
    who: str, x: Tensor, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[list[tuple[slice, ...]], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return where each element of the windows stands, and kernel, padding and windows' number."""
    kernel = pair(kernel_size, "kernel_size", who, 1)
    spread, step = pair(dilation, "dilation", who, 1), pair(stride, "stride", who, 1)
    sides = pair(padding, "padding", who)
    height, width = (
        (length + 2 * side - d * (k - 1) - 1) // s + 1
        for length, side, k, s, d in zip(size, sides, kernel, step, spread)
    )
    check_positive((height, width), x, f"a window of {times(kernel)}", who)
    rows, columns = (
        [slice(i * d, i * d + (number - 1) * s + 1, s) for i in range(k)]
        for number, k, s, d in zip((height, width), kernel, step, spread)
    )
    whole = slice(None), slice(None)
    return [(*whole, i, j) for i in rows for j in columns], kernel, sides, (height, width)


def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Return the windows of images as columns.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        kernel_size: the window's size.
        dilation: distance between the elements of a window.
        padding: zeros on each side.
        stride: step between windows.

    Returns:
        ``(N, C·kh·kw, L)`` for L windows, row by row; a convolution is a product with it.
    """
    return batched(_unfold, "unfold", 2, input, kernel_size, dilation, padding, stride)


def _unfold(who: str, axes: int, input: Any, *settings: Any) -> Tensor:
    x = operand(input, who)
    check_axes(x, who, axes)
    n, c, *size = x.shape
    elements, _, (rows, columns), (height, width) = _elements(who, x, size, *settings)
    padded = pad(x, (columns, columns, rows, rows))
    windows = stack([getitem(padded, element) for element in elements], 2)
    return windows.reshape(n, c * len(elements), height * width)


def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Return images in which columns, as :func:`unfold` returns them, are added up.

    Args:
        input: columns ``(N, C·kh·kw, L)``, or ``(C·kh·kw, L)`` of one image.
        output_size: height and width of the images.
        kernel_size: the window's size.
        dilation: distance between the elements of a window.
        padding: what is cut off on each side.
        stride: step between windows.

    Raises:
        ValueError: if there are no such windows.
    """
    who = "fold"
    return batched(_fold, who, 1, input, output_size, kernel_size, dilation, padding, stride)


def _fold(who: str, axes: int, input: Any, output_size: Any, *settings: Any) -> Tensor:
    x, size = operand(input, who), pair(output_size, "output_size", who, 1)
    check_axes(x, who, axes)
    elements, kernel, (top, left), (height, width) = _elements(who, x, size, *settings)
    number = len(elements)
    if x.shape[1] % number or x.shape[2] != height * width:
        raise ValueError(
            f"{who}: expected columns (N, C·{number}, {height * width}) of windows of "
            f"{times(kernel)} in images of {times(size)}, got shape {x.shape}"
        )
    n, c = x.shape[0], x.shape[1] // number
    windows = x.reshape(n, c, number, height, width)
    y: Any = 0
    for place, element in enumerate(elements):
        shape = (n, c, size[0] + 2 * top, size[1] + 2 * left)
        y = y + PutAdd.apply(windows[:, :, place], element, shape)
    return getitem(y, (..., slice(top, top + size[0]), slice(left, left + size[1])))


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Return ``(*, C, H·r, W·r)`` of ``(*, C·r², H, W)``: channels become pixels.

    Args:
        input: images.
        upscale_factor: r (Shi et al. 2016).
    """
    x, r = operand(input, "pixel_shuffle"), count(upscale_factor, "upscale_factor", "pixel_shuffle")
    if x.ndim < 3 or x.shape[-3] % r**2:
        raise ValueError(
            f"pixel_shuffle: expected {r**2}·C channels (axis -3), got shape {x.shape}"
        )
    *batch, c, h, w = x.shape
    y = x.reshape(-1, c // r**2, r, r, h, w) if x.data.size else x.reshape(0, 1, r, r, 1, 1)
    return y.permute(0, 1, 4, 2, 5, 3).reshape(*batch, c // r**2, h * r, w * r)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """Return ``(*, C·r², H, W)`` of ``(*, C, H·r, W·r)``: pixels become channels.

    Args:
        input: images.
        downscale_factor: r.
    """
    who = "pixel_unshuffle"
    x, r = operand(input, who), count(downscale_factor, "downscale_factor", who)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ValueError(f"{who}: expected images whose sides {r} divides, got shape {x.shape}")
    *batch, c, h, w = x.shape
    y = x.reshape(-1, c, h // r, r, w // r, r) if x.data.size else x.reshape(0, 1, 1, r, 1, r)
    return y.permute(0, 1, 3, 5, 2, 4).reshape(*batch, c * r**2, h // r, w // r)


def channel_shuffle(input: Any, groups: int) -> Tensor:
    """Return ``(N, C, *)`` with the channels of the groups by turns.

    Args:
        input: images.
        groups: how many groups of neighbouring channels there are (Zhang et al. 2018).
    """
    who = "channel_shuffle"
    x, number = operand(input, who), count(groups, "groups", who)
    if x.ndim < 3 or x.shape[1] % number:
        raise ValueError(f"{who}: groups={groups} must divide the channels of shape {x.shape}")
    shape = x.shape
    return x.reshape(shape[0], number, shape[1] // number, *shape[2:]).swapaxes(1, 2).reshape(shape)
