"""Pooling: maxima and means over windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import sizes
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._axes import for_axes
from lucid.ops._common import Array, operand
from lucid.ops._elementwise import astype, widened
from lucid.ops._layout import (
    Padding,
    Pair,
    check_image,
    check_positive,
    from_nhwc,
    times,
    to_nhwc,
)
from lucid.ops._resize import adaptive_windows, averaging, resample
from lucid.ops._scatter import scatter

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d",
]  # fmt: skip


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


Sizes = tuple[int, ...]


class _Windows:
    """Where the windows of a pooling stand, along each axis."""

    def __init__(
        self,
        who: str,
        x: Tensor,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: bool,
    ) -> None:
        axes = x.ndim - 2
        self.kernel = sizes(kernel_size, axes, "kernel_size", who, 1)
        given = stride is not None and stride != ()
        self.stride = sizes(stride, axes, "stride", who, 1) if given else self.kernel
        self.sides = sizes(padding, axes, "padding", who)
        self.dilation = sizes(dilation, axes, "dilation", who, 1)
        if any(side > k // 2 for side, k in zip(self.sides, self.kernel)):
            raise ValueError(
                f"{who}: padding must be at most half the kernel size, got padding {self.sides} "
                f"for a kernel of {times(self.kernel)}"
            )
        pads, counts = [], []
        for length, k, s, side, d in zip(
            x.shape[2:], self.kernel, self.stride, self.sides, self.dilation
        ):
            reach = d * (k - 1) + 1
            room = length + 2 * side - reach
            size = room // s + 1
            if ceil_mode and room % s and size * s < length + side:
                size += 1  # a last window that begins inside the input or its left padding
            end = max(0, (size - 1) * s + reach - length - side)
            pads.append((side, max(end, side)))
            counts.append(size)
        self.size = tuple(counts)
        check_positive(self.size, x, f"a window of {times(self.kernel)}", who)
        self.padding = tuple(pads)  # with what ceil_mode adds at the end

    def places(self, lengths: Sizes) -> list[Array]:
        """Return which elements each window holds along each axis: ``(windows, elements)``.

        In place of padding stands the first element that is none: twice, it is no other maximum.
        """
        found = []
        for length, k, s, side, d, size in zip(
            lengths, self.kernel, self.stride, self.sides, self.dilation, self.size
        ):
            place = np.arange(size)[:, None] * s - side + np.arange(k) * d
            inside = (place >= 0) & (place < length)
            first = np.take_along_axis(place, inside.argmax(1)[:, None], 1)
            found.append(np.where(inside, place, first))
        return found


def _largest(x: Tensor, places: list[Array]) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, and where in the flat images it stands."""
    axes, index = len(places), np.zeros((1,) * 2 * len(places), np.int64)
    for axis, (place, length) in enumerate(zip(places, x.shape[2:])):
        shape = [1] * 2 * axes
        shape[axis], shape[axes + axis] = place.shape
        index = index * length + place.reshape(shape)
    index = index.reshape(*index.shape[:axes], -1)
    flat = x.flatten(2)
    values = flat.data[:, :, index]
    best = values.argmax(-1)[..., None]
    found = np.take_along_axis(np.broadcast_to(index, values.shape), best, -1)[..., 0]
    taken = flat.gather(2, wrap(found.reshape(*found.shape[:2], -1)))
    return taken.reshape(found.shape), wrap(found)


def max_pool(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    dilation: int | Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of each window.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        kernel_size: the window's size.
        stride: step between windows; by default the window's size.
        padding: minus infinity on each side, at most half the window.
        dilation: distance between the elements of a window.
        ceil_mode: also take a last window that reaches over the end.
        return_indices: also return where in ``H·W`` each maximum stands.

    Returns:
        ``(N, C, H', W')`` with ``H' = (H + 2·padding - dilation·(kernel - 1) - 1) // stride + 1``.
        The gradient goes to the first of equal maxima.

    Raises:
        ValueError: if the input is no image batch or the window does not fit.
    """
    x = operand(input, who)
    check_image(x, who, axes)
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    windows = _Windows(who, x, kernel_size, stride, padding, dilation, ceil_mode)
    if return_indices:
        return _largest(x, windows.places(x.shape[2:]))
    how = windows.kernel, windows.stride, windows.padding, windows.dilation, windows.size
    return _pooled(MaxPool2d, x, *how)


def _pooled(pool: type[Function], x: Tensor, *how: Any) -> Tensor:
    """Return what a pooling of images makes of rows, images or volumes."""
    if x.ndim == 4:
        return pool.apply(x, *how)
    if x.ndim == 3:
        return pool.apply(x.unsqueeze(-2), *_rows(*how)).squeeze(-2)
    # First within each frame, then along the frames.
    (n, c, depth), (_, height, width) = x.shape[:3], how[-1]
    y = pool.apply(x.flatten(1, 2), *[each[1:] for each in how])
    kernel, stride, padding, *dilation, size = [each[0] for each in how]
    along = (kernel, 1), (stride, 1), (padding, (0, 0)), *[(each, 1) for each in dilation]
    y = pool.apply(y.reshape(n, c, depth, height * width), *along, (size, height * width))
    return y.reshape(n, c, size, height, width)


def _rows(kernel: Any, stride: Any, padding: Any, *rest: Any) -> tuple[Any, ...]:
    """Return the geometry of images of height 1."""
    return (1, *kernel), (1, *stride), ((0, 0), *padding), *((1, *each) for each in rest)


def avg_pool(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
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
    x = operand(input, who)
    check_image(x, who, axes)
    windows = _Windows(who, x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ValueError(f"{who}: divisor_override must not be zero")
    how = windows.kernel, windows.stride, windows.padding, windows.size
    sums = _pooled(SumPool2d, widened(x), *how)
    if divisor_override is not None:
        return astype(sums / float(divisor_override), x.dtype)
    counts = np.ones((), int)
    for axis, length in enumerate(x.shape[2:]):
        along = _window_counts(length, windows, axis, count_include_pad)
        counts = np.multiply.outer(counts, along)
    return astype(sums / wrap(counts.astype(sums.dtype)), x.dtype)


def _window_counts(length: int, windows: _Windows, axis: int, include_pad: bool) -> Array:
    """Return how many elements each window counts along an axis."""
    padding = windows.sides[axis]
    start = np.arange(windows.size[axis]) * windows.stride[axis] - padding
    # What ceil_mode adds beyond the padding never counts.
    end = np.minimum(start + windows.kernel[axis], length + padding)
    if not include_pad:
        start, end = np.maximum(start, 0), np.minimum(end, length)
    return np.asarray(end - start)


def max_unpool(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    indices: Any,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    output_size: Any = None,
) -> Tensor:
    """Return images of zeros with maxima where ``max_pool2d`` has found them.

    Args:
        input: the maxima ``(N, C, H, W)`` or ``(C, H, W)``.
        indices: where they stood, as ``max_pool2d(…, return_indices=True)`` returns it.
        kernel_size: the pooling's window.
        stride: the pooling's step; by default the window's size.
        padding: the pooling's padding.
        output_size: the size of the images, if several give maxima of this size.

    Raises:
        ValueError: if the shapes of maxima and indices differ.
    """
    x, found = operand(input, who), operand(indices, who)
    check_image(x, who, axes)
    if found.ndim == axes + 1:
        found = found.unsqueeze(0)
    if found.shape != x.shape:
        raise ValueError(
            f"{who}: expected an index for each maximum, got shape {found.shape} for {x.shape}"
        )
    kernel = sizes(kernel_size, axes, "kernel_size", who, 1)
    step = sizes(stride, axes, "stride", who, 1) if stride else kernel
    sides = sizes(padding, axes, "padding", who)
    usual = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[2:], step, sides, kernel)]
    size = tuple(usual if output_size is None else output_size[-axes:])
    zeros = wrap(np.zeros((*x.shape[:2], math.prod(size)), x.dtype))
    return scatter(zeros, 2, found.flatten(2), x.flatten(2)).reshape(*x.shape[:2], *size)


def _wanted_size(who: str, x: Tensor, output_size: Any) -> Sizes:
    """Return the size of an adaptive pooling's output, in which None keeps the input's."""
    axes = x.ndim - 2
    check_image(x, who, axes)
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    wanted = tuple(wanted) * (axes if len(wanted) == 1 else 1)
    if len(wanted) != axes:
        numbers = {1: "one", 2: "two", 3: "three"}[axes]
        raise TypeError(
            f"{who}: output_size must be an integer or {numbers} of them, got {output_size!r}"
        )
    filled = tuple([n if value is None else value for n, value in zip(x.shape[2:], wanted)])
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    return sizes(filled, axes, "output_size", who)


def adaptive_avg_pool(  # noqa: D417  # its names and axes come from for_axes
    who: str, axes: int, input: Any, output_size: int | tuple[int | None, ...] | None
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
    x = operand(input, who)
    check_image(x, who, axes)
    size, lengths = _wanted_size(who, x, output_size), x.shape[2:]
    if set(size) == {1}:
        return x.mean(tuple(range(2, x.ndim)), keepdim=True)
    if 0 in size:
        kept = (slice(None), slice(None), *map(slice, size))
        return x[kept]
    if all(length % n == 0 for length, n in zip(lengths, size)):
        return avg_pool(who, axes, x, tuple([length // n for length, n in zip(lengths, size)]))
    # Windows of different sizes: weighted sums along each axis.
    return resample(x, *map(averaging, lengths, size))


def adaptive_max_pool(  # noqa: D417  # its names and axes come from for_axes
    who: str,
    axes: int,
    input: Any,
    output_size: int | tuple[int | None, ...] | None,
    return_indices: bool = False,
) -> Any:
    """Return maxima over the windows of :func:`~lucid.nn.functional.adaptive_avg_pool2d`.

    Args:
        input: images ``(N, C, H, W)``, or one ``(C, H, W)``, floating point.
        output_size: the output's height and width, or one number for both; None keeps the
            input's.
        return_indices: also return where in ``H·W`` each maximum stands.
    """
    x = operand(input, who)
    check_image(x, who, axes)
    places = []
    for length, size in zip(x.shape[2:], _wanted_size(who, x, output_size)):
        starts, ends = np.array(adaptive_windows(length, size), int).reshape(-1, 2).T[..., None]
        longest = (ends - starts).max(initial=1)
        places.append(np.minimum(starts + np.arange(longest), ends - 1))
    y, indices = _largest(x, places)
    return (y, indices) if return_indices else y


max_pool1d, max_pool2d, max_pool3d = for_axes(max_pool, "max_pool")
avg_pool1d, avg_pool2d, avg_pool3d = for_axes(avg_pool, "avg_pool")
max_unpool1d, max_unpool2d, max_unpool3d = for_axes(max_unpool, "max_unpool")
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = for_axes(
    adaptive_avg_pool, "adaptive_avg_pool"
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = for_axes(
    adaptive_max_pool, "adaptive_max_pool"
)
