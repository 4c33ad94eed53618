"""Convolution and its two gradients.

Images are C-contiguous NHWC arrays, weights have the logical shape ``(O, I/groups, kh, kw)``. A
batch is divided over the threads; each prepares its part's convolution and runs it once, see
``_prepared``.

The input gradient of a convolution of stride 1 is a convolution of the output gradient with the
flipped weights; one of stride s splits into s·s such convolutions, one for each phase of the
input position (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

import math

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.geometry import NOTHING, PLAIN, UNIT, Conv, Epilogue, Pair, Shape
from lucid.kernels.numpy._calls import HERE, ON_THREADS, Calls
from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._pieces import Columns, multiply_transposed
from lucid.kernels.numpy._prepared import (
    DepthwiseWindows,
    Patches,
    as_matrix,
    pointwise_rows,
    prepared,
    slices,
)
from lucid.kernels.numpy._threads import ELEMENT, images_in_parts, in_parts, sum_parts


def calls_of(images: np.ndarray) -> Calls:
    """Return what does the work on images: with one alone, on several threads."""
    return ON_THREADS if len(images) == 1 else HERE


def work(y: np.ndarray, weight_shape: tuple[int, ...]) -> int:
    """Return how many elements' worth of work a convolution with output ``y`` is."""
    return max(y.size, y.size * math.prod(weight_shape[1:]) // ELEMENT)


@in_float32
def conv2d(
    x: np.ndarray, weight: np.ndarray, conv: Conv = PLAIN, epilogue: Epilogue = NOTHING
) -> np.ndarray:
    """Return the cross-correlation ``(N, H', W', O)`` of ``x`` ``(N, H, W, I)`` with ``weight``.

    Each block of its sums goes through the epilogue, such as a bias, or a batch norm and a clip,
    while it is in the cache.
    """
    y = empty(conv.output_shape(x.shape, weight.shape), x.dtype)
    if y.size == 0:
        return y

    def images(part: slice) -> None:
        prepared(x[part].shape, weight, conv, epilogue)(y[part], x[part], calls=calls_of(x))

    images_in_parts(images, len(x), work(y, weight.shape))
    return y


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

    images_in_parts(images, len(grad), work(grad, weight.shape))
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
        part = target if conv.stride == UNIT else empty(target.shape, gx.dtype)
        prepared(grad.shape, kernel, phase.conv, NOTHING)(part, grad, calls=calls_of(grad))
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
        rows = pointwise_rows(x, conv.stride)
        out = empty((o, rows.shape[1]), grad.dtype)
        multiply_transposed(grad.reshape(-1, o), rows, out)
        return out.reshape(weight_shape)
    if conv.is_by_channel(weight_shape):
        return _depthwise_weight_grad(x, grad, weight_shape, conv)
    return _dense_weight_grad(x, grad, weight_shape, conv)


def _pointwise_input_grad(
    gx: np.ndarray, grad: np.ndarray, weight: np.ndarray, stride: Pair
) -> None:
    rows, matrix = grad.reshape(-1, grad.shape[3]), weight.reshape(len(weight), -1)
    columns = Columns(matrix, len(rows))
    is_whole = stride == UNIT
    out = gx.reshape(len(rows), -1) if is_whole else empty((len(rows), gx.shape[3]), gx.dtype)

    def some_rows(part: slice) -> None:
        columns.multiply(rows[part], out[part])

    calls_of(grad).divide(some_rows, len(rows), out.size * rows.shape[1] // ELEMENT)
    if not is_whole:
        gx[...] = 0
        gx[:, :: stride[0], :: stride[1]] = out.reshape(*grad.shape[:3], -1)


def _dense_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: tuple[int, ...],
    conv: Conv,
) -> np.ndarray:
    o, i, kh, kw = weight_shape
    n, height = grad.shape[:2]
    wide = o // conv.groups
    patches = Patches(x.shape, weight_shape, conv, grad.dtype)
    totals = np.zeros((conv.groups, kh * kw * i, wide), grad.dtype)
    matrix = None
    product = np.empty(totals.shape[1:], grad.dtype)
    for images in slices(slice(0, n), patches.images):
        padded = patches.pad(x[images])
        for group, total in enumerate(totals):
            view = patches.of_group(padded, group)
            for rows in slices(slice(0, height), patches.rows):
                part = grad[images, rows, :, group * wide : (group + 1) * wide]
                matrix = as_matrix(view[:, rows], matrix)
                multiply_transposed(matrix, part.reshape(-1, wide), product)
                total += product
    gw = totals.reshape(conv.groups, kh, kw, i, wide).transpose(0, 4, 3, 1, 2)
    return np.ascontiguousarray(gw).reshape(weight_shape)


def _depthwise_weight_grad(
    x: np.ndarray,
    grad: np.ndarray,
    weight_shape: tuple[int, ...],
    conv: Conv,
) -> np.ndarray:
    o, _, kh, kw = weight_shape
    channels = x.shape[3]
    row = grad.shape[2] * channels
    taken = DepthwiseWindows(x.shape, weight_shape, conv, grad.dtype)
    # One sum a column of the map; then what each further part adds to it.
    by_position, more = empty((2, kh, kw, row if taken.by_row else 0), grad.dtype)
    total = np.zeros((kh, kw, channels, o // channels), grad.dtype)
    for part in slices(slice(0, len(x)), taken.images):
        view, g = taken(x[part]), grad[part]
        if taken.by_row:
            sums = more if part.start else by_position
            np.einsum("nhkij,nhk->ijk", view, g.reshape(*g.shape[:2], row), out=sums)
            if part.start:
                by_position += more
        elif o == channels:
            total[..., 0] += np.einsum("nhwcij,nhwc->ijc", view, g)
        else:
            wide = g.reshape(*g.shape[:3], channels, -1)
            total += np.einsum("nhwcij,nhwcm->ijcm", view, wide)
    if taken.by_row:
        total[..., 0] = by_position.reshape(kh, kw, grad.shape[2], channels).sum(axis=2)
    return np.ascontiguousarray(total.transpose(2, 3, 0, 1)).reshape(weight_shape)
