"""Convolution and its two gradients.

Images are C-contiguous NHWC arrays, weights have the logical shape ``(O, I/groups, kh, kw)``.
Three ways, chosen by shape:

- pointwise (1×1): the image is already the matrix ``(N·H·W, C)``: one product, no copy;
- depthwise (one input channel a group): multiply-adds along the contiguous channels;
- dense (all others): patches of a cache-sized block of rows, one product a block.

The input gradient of a convolution of stride 1 is a convolution of the output gradient with the
flipped weights; one of stride s splits into s·s such convolutions, one for each phase of the
input position (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid.kernels._memory import empty
from lucid.kernels.geometry import (
    NO_BOUNDS,
    NO_PADDING,
    PLAIN,
    UNIT,
    Bounds,
    Conv,
    Padding,
    Pair,
    Shape,
)
from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._rows import BLOCK
from lucid.kernels.numpy._threads import ELEMENT, in_parts, sum_parts

# Floats in a block of patches: 1 MiB, about one core's second-level cache.
_BLOCK = 1 << 18

# Floats in the images whose depthwise convolution is one call, in a core's share of the third-level
# cache: sums of a window are bound by arithmetic, and fewer calls suit two threads.
_IMAGES = 1 << 20


def work(y: np.ndarray, weight_shape: tuple[int, ...]) -> int:
    """Return how many elements' worth of work a convolution with output ``y`` is."""
    return max(y.size, y.size * math.prod(weight_shape[1:]) // ELEMENT)


@in_float32
def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    conv: Conv = PLAIN,
) -> np.ndarray:
    """Return the cross-correlation ``(N, H', W', O)`` of ``x`` ``(N, H, W, I)`` with ``weight``."""

    def add_bias(block: np.ndarray) -> None:
        block += bias

    return _convolve(x, weight, conv, None if bias is None else add_bias)


@in_float32
def conv_norm_act(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    bounds: Bounds = NO_BOUNDS,
    conv: Conv = PLAIN,
) -> np.ndarray:
    """Return ``clip(conv2d(x, weight) * scale + shift, *bounds)``, for inference.

    ``scale`` and ``shift`` ``(O,)`` are a batch norm's; each block of the output is finished
    while it is in the cache.
    """

    def finish(block: np.ndarray) -> None:
        block *= scale
        block += shift
        if bounds != NO_BOUNDS:
            np.clip(block, *bounds, out=block)  # a tenth of np.maximum's and np.minimum's time

    return _convolve(x, weight, conv, finish)


def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    conv: Conv,
    finish: Callable[[np.ndarray], None] | None,
) -> np.ndarray:
    """Convolve, and call ``finish`` on each block ``(…, O)`` of the output when it is complete."""
    y = empty(conv.output_shape(x.shape, weight.shape), x.dtype)
    if y.size == 0:
        return y

    def images(part: slice) -> None:
        convolve_into(y[part], x[part], weight, conv, finish)

    in_parts(images, len(x), work(y, weight.shape))
    return y


def convolve_into(
    y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    conv: Conv,
    finish: Callable[[np.ndarray], None] | None,
) -> None:
    """Write the convolution of ``x`` into ``y`` on this thread, and ``finish`` each block."""
    if conv.is_pointwise(weight.shape):
        _pointwise(x, weight, conv.stride, y, finish)
    elif weight.shape[1] == 1 < conv.groups:
        _depthwise(x, weight, conv, y, finish)
    else:
        _dense(x, weight, conv, y, finish)


@in_float32
def conv2d_input_grad(
    grad: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    conv: Conv = PLAIN,
) -> np.ndarray:
    """Return the gradient of ``x``, ``input_shape`` ``(N, H, W, I)``, given that of the output."""
    if grad.size == 0 or 0 in input_shape:
        return np.zeros(input_shape, grad.dtype)
    gx = empty(input_shape, grad.dtype)

    def images(part: slice) -> None:
        input_grad_into(gx[part], grad[part], weight, conv)

    in_parts(images, len(grad), work(grad, weight.shape))
    return gx


def input_grad_into(
    gx: np.ndarray,
    grad: np.ndarray,
    weight: np.ndarray,
    conv: Conv,
) -> None:
    """Write the gradient of the input into ``gx``, on this thread."""
    if conv.is_pointwise(weight.shape):
        _pointwise_input_grad(gx, grad, weight, conv.stride)
        return
    turned = turned_weights(weight, conv.groups)
    for phase in conv.phases(gx.shape, weight.shape, grad.shape):
        target = gx[:, phase.pixels[0], phase.pixels[1]]
        if phase.taps is None:
            target[...] = 0
            continue
        kernel = np.ascontiguousarray(phase_weights(turned, phase.taps))
        source, step = grad, phase.conv
        if min(map(min, step.padding)) < 0:
            source, step = _pad(grad, step.padding), step._replace(padding=NO_PADDING)
        part = target if conv.stride == UNIT else empty(target.shape, gx.dtype)
        convolve_into(part, source, kernel, step, None)
        if part is not target:
            target[...] = part


def turned_weights(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return the weights ``(I, O/groups, kh, kw)`` of the map from the output to the input."""
    o, i, kh, kw = weight.shape
    turned = weight.reshape(groups, o // groups, i, kh, kw).swapaxes(1, 2)
    return turned.reshape(groups * i, o // groups, kh, kw)


def phase_weights(turned: np.ndarray, taps: tuple[slice, slice]) -> np.ndarray:
    """Return some taps of turned weights in the order in which their convolution meets them."""
    return turned[:, :, taps[0], taps[1]][:, :, ::-1, ::-1]


@in_float32
def conv2d_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: Shape,
    conv: Conv = PLAIN,
) -> np.ndarray:
    """Return the gradient of the weights, ``weight_shape`` ``(O, I/groups, kh, kw)``."""
    if grad.size == 0 or x.size == 0:
        return np.zeros(weight_shape, grad.dtype)

    def images(part: slice) -> np.ndarray:
        return weight_grad_part(x[part], grad[part], weight_shape, conv)

    return sum_parts(in_parts(images, len(x), work(grad, weight_shape)))


def weight_grad_part(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: tuple[int, ...],
    conv: Conv,
) -> np.ndarray:
    """Return what some images contribute to the gradient of the weights, on this thread."""
    if conv.is_pointwise(weight_shape):
        o = weight_shape[0]
        rows = _pointwise_rows(x, conv.stride)
        out = empty((o, rows.shape[1]), grad.dtype)
        return np.matmul(grad.reshape(-1, o).T, rows, out=out).reshape(weight_shape)
    if weight_shape[1] == 1 < conv.groups:
        return _depthwise_weight_grad(x, grad, weight_shape, conv)
    return _dense_weight_grad(x, grad, weight_shape, conv)


# -- pointwise --------------------------------------------------------------------------------


def _pointwise_rows(x: np.ndarray, stride: Pair) -> np.ndarray:
    return np.ascontiguousarray(x[:, :: stride[0], :: stride[1]]).reshape(-1, x.shape[3])


def _matrix(weight: np.ndarray) -> np.ndarray:
    return weight.reshape(weight.shape[0], -1)


def _pointwise(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    y: np.ndarray,
    finish: Callable[[np.ndarray], None] | None,
) -> None:
    rows = _pointwise_rows(x, stride)
    out, matrix = y.reshape(-1, y.shape[3]), _matrix(weight).T
    if finish is None:
        np.matmul(rows, matrix, out=out)
        return
    step = max(512, BLOCK // out.shape[1])  # fewer rows would be a slow product
    for start in range(0, len(out), step):
        block = out[start : start + step]
        np.matmul(rows[start : start + step], matrix, out=block)
        finish(block)


def _pointwise_input_grad(
    gx: np.ndarray, grad: np.ndarray, weight: np.ndarray, stride: Pair
) -> None:
    rows, matrix = grad.reshape(-1, grad.shape[3]), _matrix(weight)
    if stride == UNIT:
        np.matmul(rows, matrix, out=gx.reshape(len(rows), -1))
    else:
        gx[...] = 0
        gx[:, :: stride[0], :: stride[1]] = (rows @ matrix).reshape(*grad.shape[:3], -1)


# -- padding and phases -----------------------------------------------------------------------


def _pad(x: np.ndarray, padding: Padding) -> np.ndarray:
    """Return ``x`` ``(…, H, W, C)`` with zeros around; negative padding cuts away."""
    if padding == NO_PADDING:
        return np.ascontiguousarray(x)
    (top, bottom), (left, right) = padding
    h, w, c = x.shape[-3:]
    padded = empty((*x.shape[:-3], h + top + bottom, w + left + right, c), x.dtype)
    padded[...] = 0
    rows, columns = (
        slice(max(0, top), h + top + min(0, bottom)),
        slice(max(0, left), w + left + min(0, right)),
    )
    target = padded[..., rows, columns, :]
    if target.size:
        first_row, first_column = max(0, -top), max(0, -left)
        height, width = target.shape[-3:-1]
        target[...] = x[..., first_row : first_row + height, first_column : first_column + width, :]
    return padded


# -- dense ------------------------------------------------------------------------------------


def _channels(group: int, width: int) -> slice:
    return slice(group * width, (group + 1) * width)


def _dense(
    x: np.ndarray,
    weight: np.ndarray,
    conv: Conv,
    y: np.ndarray,
    finish: Callable[[np.ndarray], None] | None,
) -> None:
    for group, kernel in enumerate(np.split(weight, conv.groups)):
        matrix = kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])
        out = y[..., _channels(group, kernel.shape[0])]
        patches = _Patches(x, weight, conv, y.shape, group)
        for images, rows in patches.blocks():
            block = patches.get(images, rows)
            if conv.groups == 1:
                np.matmul(block, matrix, out=out[images, rows].reshape(-1, kernel.shape[0]))
                if finish is not None:
                    finish(out[images, rows])
            else:
                target = out[images, rows]
                target[...] = (block @ matrix).reshape(target.shape)
    if finish is not None and conv.groups > 1:
        for part in _image_blocks(y):
            finish(y[part])


def _dense_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: tuple[int, ...],
    conv: Conv,
) -> np.ndarray:
    o, i, kh, kw = weight_shape
    gw = np.empty(weight_shape, grad.dtype)
    wide = o // conv.groups
    for group in range(conv.groups):
        total = np.zeros((kh * kw * i, wide), grad.dtype)
        patches = _Patches(x, gw, conv, grad.shape, group)
        for images, rows in patches.blocks():
            part = grad[images, rows, :, _channels(group, wide)].reshape(-1, wide)
            total += patches.get(images, rows).T @ part
        gw[_channels(group, wide)] = total.reshape(kh, kw, i, wide).transpose(3, 2, 0, 1)
    return gw


def _image_blocks(x: np.ndarray) -> list[slice]:
    """Return slices of a batch: as many images at a time as a core's cache holds, at least one."""
    count = max(1, _IMAGES // max(1, x[0].size)) if len(x) else 1
    return [slice(start, min(start + count, len(x))) for start in range(0, len(x), count)]


class _Patches:
    """The patches of a convolution as rows of a matrix, some images or some rows at a time."""

    def __init__(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        conv: Conv,
        output_shape: tuple[int, ...],
        group: int,
    ) -> None:
        _, channels, self.kh, self.kw = weight.shape
        self.x = x[..., _channels(group, channels)]
        self.conv = conv
        self.channels = channels
        self.images, self.height, self.width = output_shape[:3]
        self.row = self.width * self.kh * self.kw * channels
        self.padded_images: slice | None = None

    def blocks(self) -> list[tuple[slice, slice]]:
        """Return the images and the output rows of each block."""
        images = min(self.images, max(1, _BLOCK // (self.row * self.height)))
        rows = self.height if images > 1 else max(1, min(self.height, _BLOCK // self.row))
        # Equal blocks: a small rest would be a slow product.
        images = math.ceil(self.images / math.ceil(self.images / images))
        rows = math.ceil(self.height / math.ceil(self.height / rows))
        self.buffer = empty(images * rows * self.row, self.x.dtype)
        return [
            (
                slice(image, min(image + images, self.images)),
                slice(start, min(start + rows, self.height)),
            )
            for image in range(0, self.images, images)
            for start in range(0, self.height, rows)
        ]

    def get(self, images: slice, rows: slice) -> np.ndarray:
        """Return the patches ``(images·rows·W', kh·kw·C)``, valid until the next call."""
        if images != self.padded_images:
            self.padded, self.padded_images = _pad(self.x[images], self.conv.padding), images
        kernel, size = (self.kh, self.kw), (self.height, self.width)
        patches = windows(self.padded, kernel, self.conv, size)[:, rows]
        block = self.buffer[: patches.size].reshape(patches.shape)
        np.copyto(block, patches)
        return block.reshape(-1, self.kh * self.kw * self.channels)


def windows(padded: np.ndarray, kernel: Pair, conv: Conv, size: Pair) -> np.ndarray:
    """Return the view ``(N, H', W', kh, kw, C)`` of padded images ``(N, H, W, C)``."""
    by_image, by_row, by_column, by_channel = padded.strides
    (sh, sw), (dh, dw) = conv.stride, conv.dilation
    return as_strided(
        padded,
        (len(padded), *size, *kernel, padded.shape[-1]),
        (by_image, by_row * sh, by_column * sw, by_row * dh, by_column * dw, by_channel),
    )


# -- depthwise --------------------------------------------------------------------------------


def depthwise_windows(padded: np.ndarray, kernel: Pair, conv: Conv, size: Pair) -> np.ndarray:
    """Return the view ``(N, H', W', C, kh, kw)`` of padded images."""
    return windows(padded, kernel, conv, size).transpose(0, 1, 2, 5, 3, 4)


def row_windows(padded: np.ndarray, kernel: Pair, conv: Conv, size: Pair) -> np.ndarray:
    """Return the view ``(N, H', W'·C, kh, kw)`` of padded images, for horizontal stride 1."""
    by_image, by_row, by_column, by_channel = padded.strides
    (height, width), (dh, dw) = size, conv.dilation
    return as_strided(
        padded,
        (len(padded), height, width * padded.shape[-1], *kernel),
        (by_image, by_row * conv.stride[0], by_channel, by_row * dh, by_column * dw),
    )


def _depthwise(
    x: np.ndarray,
    weight: np.ndarray,
    conv: Conv,
    y: np.ndarray,
    finish: Callable[[np.ndarray], None] | None,
) -> None:
    """Write the depthwise convolution of ``x`` into ``y``.

    With horizontal stride 1, a tap is the whole row shifted by some pixels, so columns and
    channels are one long contiguous axis: measured 1.3 to 2.3 times as fast as the windows with
    the channels innermost, most where channels are few.
    """
    o, _, kh, kw = weight.shape
    channels = x.shape[3]
    multiplier = o // channels
    taps = weight.reshape(channels, multiplier, kh, kw)
    by_row, size = multiplier == 1 == conv.stride[1], (y.shape[1], y.shape[2])
    weights = np.ascontiguousarray(taps.transpose(2, 3, 0, 1))  # (kh, kw, C, multiplier)
    if by_row:
        # The weights of each column, one after the other.
        repeated = empty((kh, kw, y.shape[2], channels), weight.dtype)
        repeated[...] = weights.transpose(0, 1, 3, 2)
        weights = repeated.reshape(kh, kw, -1)
    for part in _image_blocks(x):
        padded, out = _pad(x[part], conv.padding), y[part]
        if by_row:
            taken = row_windows(padded, (kh, kw), conv, size)
            np.einsum("nhkij,ijk->nhk", taken, weights, out=out.reshape(*out.shape[:2], -1))
        else:
            taken = depthwise_windows(padded, (kh, kw), conv, size)
            if multiplier == 1:
                np.einsum("nhwcij,ijc->nhwc", taken, weights[..., 0], out=out)
            else:
                wide = out.reshape(*out.shape[:3], channels, multiplier)
                np.einsum("nhwcij,ijcm->nhwcm", taken, weights, out=wide)
        if finish is not None:
            finish(out)


def _depthwise_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: tuple[int, ...],
    conv: Conv,
) -> np.ndarray:
    o, _, kh, kw = weight_shape
    channels = x.shape[3]
    multiplier = o // channels
    by_row, size = multiplier == 1 == conv.stride[1], (grad.shape[1], grad.shape[2])
    row = grad.shape[2] * channels
    # One sum a column of the map; then what each further part adds to it.
    by_position, more = empty((2, kh, kw, row if by_row else 0), grad.dtype)
    total = np.zeros((kh, kw, channels, multiplier), grad.dtype)
    for part in _image_blocks(x):
        padded, g = _pad(x[part], conv.padding), grad[part]
        if by_row:
            taken = row_windows(padded, (kh, kw), conv, size)
            sums = more if part.start else by_position
            np.einsum("nhkij,nhk->ijk", taken, g.reshape(*g.shape[:2], row), out=sums)
            if part.start:
                by_position += more
            continue
        taken = depthwise_windows(padded, (kh, kw), conv, size)
        if multiplier == 1:
            total[..., 0] += np.einsum("nhwcij,nhwc->ijc", taken, g)
        else:
            wide = g.reshape(*g.shape[:3], channels, multiplier)
            total += np.einsum("nhwcij,nhwcm->ijcm", taken, wide)
    if by_row:
        total[..., 0] = by_position.reshape(kh, kw, grad.shape[2], channels).sum(axis=2)
    return np.ascontiguousarray(total.transpose(2, 3, 0, 1)).reshape(weight_shape)
