"""A convolution prepared for many calls on inputs of one shape: inference with fixed weights.

Weights are brought into the form that the products want once, buffers for padding and patches are
kept, and bias, activation and residual are applied to each block while it is in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid.kernels.numpy import _activation
from lucid.kernels.numpy._conv import Padding, Pair, output_size

# Channels by kernel width, the floats of a patch that lie side by side, up to which an image is
# taken apart into its channels.
_SHORT_RUN = 16

# Floats in a block of the output: with its input it fits the second-level cache.
_BLOCK = 1 << 18

Run = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], None]


def prepare_conv(
    input_shape: tuple[int, int, int, int],
    weight: np.ndarray,
    bias: np.ndarray,
    activation: tuple[Any, ...] | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[tuple[int, int, int, int], Run]:
    """Return the output's shape and a function ``run(x, out, residual)``.

    ``run`` writes ``act(conv(x) + bias) + residual`` into ``out``; all are C-contiguous NHWC
    arrays that do not overlap, and ``residual`` may be None.

    Args:
        input_shape: ``(N, H, W, I)``.
        weight: ``(O, I/groups, kh, kw)``.
        bias: ``(O,)``.
        activation: None, ``("clip", low, high)``, ``("gelu", tanh)``, ``("silu",)`` or
            ``("hardswish",)``.
        stride: vertical and horizontal.
        padding: ``((top, bottom), (left, right))``.
        dilation: vertical and horizontal.
        groups: number of groups.
    """
    n, h, w, channels = input_shape
    o, i, kh, kw = weight.shape
    shape = (
        n,
        output_size(h, kh, stride[0], padding[0], dilation[0]),
        output_size(w, kw, stride[1], padding[1], dilation[1]),
        o,
    )
    finish = _finisher(bias, activation)
    if kh == kw == groups == 1 and padding == ((0, 0), (0, 0)):
        return shape, _pointwise(weight, stride, finish)
    if groups == 1 and i * kw <= _SHORT_RUN and min(map(min, padding)) >= 0:
        # Short runs are not worth copying; the bias is part of the product.
        finish = _finisher(None, activation)
        run = _dense_by_planes(input_shape, weight, bias, stride, padding, dilation, shape, finish)
        return shape, run
    pad = _Padder(input_shape, padding, weight.dtype)
    if i == groups == 1 or i > 1 or o != channels:
        return shape, _dense(weight, stride, dilation, groups, shape, pad, finish)
    return shape, _depthwise(weight, stride, dilation, shape, pad, finish)


def _finisher(
    bias: np.ndarray | None, activation: tuple[Any, ...] | None
) -> Callable[[np.ndarray, np.ndarray | None], None]:
    function = bounds = None
    if activation is not None:
        name, *settings = activation
        if name == "clip":
            bounds = settings
        else:
            function = getattr(_activation, name)

    def finish(block: np.ndarray, residual: np.ndarray | None) -> None:
        if bias is not None:
            np.add(block, bias, out=block)
        if bounds is not None:
            np.clip(block, *bounds, out=block)  # a tenth of np.maximum's and np.minimum's time
        if function is not None:
            block[...] = function(block, *settings)
        if residual is not None:
            np.add(block, residual, out=block)

    return finish


class _Padder:
    """One image with zeros around, in a buffer whose border stays zero from call to call."""

    def __init__(
        self, input_shape: tuple[int, int, int, int], padding: Padding, dtype: np.dtype[Any]
    ) -> None:
        _, h, w, c = input_shape
        (top, bottom), (left, right) = padding
        self.buffer = np.zeros((h + top + bottom, w + left + right, c), dtype)
        self.inner = self.buffer[top : top + h, left : left + w]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        np.copyto(self.inner, image)
        return self.buffer


def _pointwise(weight: np.ndarray, stride: Pair, finish: Any) -> Run:
    o, i = weight.shape[:2]
    matrix = np.ascontiguousarray(weight.reshape(o, i).T)
    step = max(512, _BLOCK // max(o, i))  # fewer rows would be a slow product

    def run(x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> None:
        if stride != (1, 1):
            x = np.ascontiguousarray(x[:, :: stride[0], :: stride[1]])
        rows, results = x.reshape(-1, i), out.reshape(-1, o)
        others = None if residual is None else residual.reshape(-1, o)
        for start in range(0, len(rows), step):
            rest = slice(start, start + step)
            np.matmul(rows[rest], matrix, out=results[rest])
            finish(results[rest], None if others is None else others[rest])

    return run


def _depthwise(
    weight: np.ndarray,
    stride: Pair,
    dilation: Pair,
    shape: tuple[int, int, int, int],
    pad: _Padder,
    finish: Any,
) -> Run:
    _, height, width, c = shape
    kh, kw = weight.shape[2:]
    taps = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))  # (kh, kw, C)
    by_row, by_column, by_channel = pad.buffer.strides
    steps = (by_row * dilation[0], by_column * dilation[1])
    if stride[1] == 1:
        # Columns and channels as one long axis, as in the unprepared kernel.
        windows = as_strided(
            pad.buffer, (height, width * c, kh, kw), (by_row * stride[0], by_channel, *steps)
        )
        taps, signature = np.tile(taps, (1, 1, width)), "hkij,ijk->hk"
    else:
        windows = as_strided(
            pad.buffer,
            (height, width, c, kh, kw),
            (by_row * stride[0], by_column * stride[1], by_channel, *steps),
        )
        signature = "hwcij,ijc->hwc"

    def run(x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> None:
        for index, image in enumerate(x):
            pad(image)
            np.einsum(signature, windows, taps, out=out[index].reshape(windows.shape[:-2]))
            finish(out[index], None if residual is None else residual[index])

    return run


def _dense(
    weight: np.ndarray,
    stride: Pair,
    dilation: Pair,
    groups: int,
    shape: tuple[int, int, int, int],
    pad: _Padder,
    finish: Any,
) -> Run:
    _, height, width, o = shape
    _, i, kh, kw = weight.shape
    wide = o // groups
    matrices = [
        np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(-1, wide))
        for kernel in np.split(weight, groups)
    ]
    by_row, by_column, by_channel = pad.buffer.strides
    row = width * kh * kw * i
    step = max(1, min(height, 2 * _BLOCK // max(1, row)))
    step = math.ceil(height / math.ceil(height / step))
    patches = np.empty((step, width, kh, kw, i), weight.dtype)

    def run(x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> None:
        for index, image in enumerate(x):
            padded = pad(image)
            for start in range(0, height, step):
                count = min(step, height - start)
                rest = slice(start, start + count)
                block = out[index, rest]
                for group, matrix in enumerate(matrices):
                    windows = as_strided(
                        padded[start * stride[0] :, :, group * i :],
                        (count, width, kh, kw, i),
                        (
                            by_row * stride[0],
                            by_column * stride[1],
                            by_row * dilation[0],
                            by_column * dilation[1],
                            by_channel,
                        ),
                    )
                    np.copyto(patches[:count], windows)
                    rows = patches[:count].reshape(count * width, -1)
                    if groups == 1:
                        np.matmul(rows, matrix, out=block.reshape(-1, o))
                    else:
                        block[..., group * wide : (group + 1) * wide] = (rows @ matrix).reshape(
                            count, width, wide
                        )
                finish(block, None if residual is None else residual[index, rest])

    return run


def _dense_by_planes(
    input_shape: tuple[int, int, int, int],
    weight: np.ndarray,
    bias: np.ndarray,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    shape: tuple[int, int, int, int],
    finish: Any,
) -> Run:
    """A convolution of few channels, such as an RGB image's.

    A channel of an image is a plane, and each tap a row of the patch matrix: copies of whole rows
    instead of ``kw * channels`` floats at a time, 130 µs for a 224×224 image instead of 220. The
    last row of the matrix is ones, for the bias.
    """
    _, h, w, i = input_shape
    _, height, width, o = shape
    kh, kw = weight.shape[2:]
    (top, bottom), (left, right) = padding
    planes = np.zeros((i, h + top + bottom, w + left + right), weight.dtype)
    inner = planes[:, top : top + h, left : left + w]
    matrix = np.concatenate([weight.reshape(o, -1).T, bias[None]])
    length = len(matrix) - 1
    step = max(1, min(height, 2 * _BLOCK // max(1, width * len(matrix))))
    step = math.ceil(height / math.ceil(height / step))
    by_plane, by_row, by_column = planes.strides
    blocks = []
    for start in range(0, height, step):
        count = min(step, height - start)
        windows = as_strided(
            planes[:, start * stride[0] :],
            (i, kh, kw, count, width),
            (
                by_plane,
                by_row * dilation[0],
                by_column * dilation[1],
                by_row * stride[0],
                by_column * stride[1],
            ),
        )
        blocks.append((slice(start, start + count), windows))
    memory = np.ones(len(matrix) * step * width, weight.dtype)

    def run(x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> None:
        for index, image in enumerate(x):
            np.copyto(inner, image.transpose(2, 0, 1))
            for rows, windows in blocks:
                count = rows.stop - rows.start
                patches = memory[: len(matrix) * count * width].reshape(len(matrix), -1)
                np.copyto(patches[:length].reshape(windows.shape), windows)
                patches[length] = 1  # blocks of other sizes wrote there
                block = out[index, rows]
                np.matmul(patches.T, matrix, out=block.reshape(-1, o))
                finish(block, None if residual is None else residual[index, rows])

    run.takes_any_order = True  # type: ignore[attr-defined]
    return run
