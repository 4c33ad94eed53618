"""A convolution prepared for many calls on inputs of one shape: inference with fixed weights.

Weights are brought into the form that the products want once, buffers for padding are kept, and
bias, activation and residual are applied to each block while it is in the cache.

The products of one image use BLAS's threads as long as those get cores, see ``product_in_parts``,
where that makes no difference to the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.geometry import Conv, Padding, Pair
from lucid.kernels.numpy import _activation
from lucid.kernels.numpy._conv import depthwise_windows, row_windows, windows
from lucid.kernels.numpy._rows import rows_together
from lucid.kernels.numpy._steps import Step
from lucid.kernels.numpy._threads import (
    ELEMENT,
    get_num_threads,
    in_parts,
    product_in_parts,
    ways_of_products,
)
from lucid.kernels.prepared import Prepared

# Channels by kernel width, the floats of a patch that lie side by side, up to which an image is
# taken apart into its channels.
_SHORT_RUN = 16

# Floats in a block of the output: it stays in the caches, and two threads have few calls to make.
_BLOCK = 1 << 18

# With fewer rows a thread, a product is divided by its columns: each thread reads all weights.
_FEW_ROWS = 128

# Multiply-adds of a product that take as long as one of a depthwise convolution.
_TAP = 8

_ALL = slice(None)

Run = Callable[..., None]  # of the output, the input and perhaps a residual


def prepare_conv(
    input_shape: tuple[int, int, int, int],
    weight: np.ndarray,
    bias: np.ndarray,
    activation: tuple[Any, ...] | None,
    conv: Conv,
) -> Prepared:
    """Return a step ``run(out, x)``: ``act(conv(x) + bias)``.

    With ``run(out, x, residual)`` the residual is added after the activation.

    Args:
        input_shape: ``(N, H, W, I)``.
        weight: ``(O, I/groups, kh, kw)``.
        bias: ``(O,)``.
        activation: None, ``("clip", low, high)``, ``("gelu", tanh)``, ``("silu",)`` or
            ``("hardswish",)``.
        conv: its geometry.
    """
    channels, (o, i, _, kw) = input_shape[3], weight.shape
    shape = conv.output_shape(input_shape, weight.shape)
    divide = _Division(input_shape, shape, weight.dtype)
    pixels = shape[1] * shape[2]
    is_pointwise = conv.is_pointwise(weight.shape)
    uncut = min(map(min, conv.padding)) >= 0
    if not is_pointwise and conv.groups == 1 and i * kw <= _SHORT_RUN and uncut:
        # Short runs are not worth copying; the bias is part of the product.
        finish = _finisher(None, activation, pixels)
        run = _dense_by_planes(input_shape, weight, bias, conv, shape, finish, divide)
        return Step(divide.of(run), in_any_layout=True)
    finish = _finisher(bias, activation, pixels)
    if is_pointwise:
        run = _pointwise(weight, conv.stride, pixels, finish, divide)
    elif i == conv.groups == 1 or i > 1 or o != channels:
        pad = _Padder(input_shape, conv.padding, weight.dtype)
        run = _dense(weight, conv, shape, pad, finish, divide)
    else:
        run = _depthwise(weight, conv, input_shape, shape, finish, divide)
    return Step(divide.of(run))


class _Division:
    """On whose threads a convolution computes: it calls tasks on slices of the work.

    For one image the clock decides between BLAS's threads and lucid's, so those must give the same
    to the last bit. BLAS sums in another order for products of one row, and with several threads
    for some lengths of a row: which ones depends on its kernel for this machine. So the ways are
    compared on random numbers when the convolution is prepared. Where they differ, and with another
    number of threads, the work is always divided.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int, int],
        shape: tuple[int, int, int, int],
        dtype: np.dtype[Any],
    ) -> None:
        self.input_shape, self.shape, self.dtype = input_shape, shape, dtype
        self._free_with = 0  # the number of threads with which the clock may decide
        self._way: Callable[..., Any] | None = None  # the one to take while they are compared

    def of(self, run: Run) -> Run:
        """Return ``run``, which divides its work by this."""
        if self.input_shape[0] == 1 and self._gives_the_same_in_all_ways(run):
            self._free_with = get_num_threads()
        return run

    def __call__(self, task: Callable[[slice], None], count: int, multiply_adds: int) -> None:
        if self._way is not None:
            self._way(task, count, multiply_adds)
        elif self._free_with == get_num_threads():
            product_in_parts(task, count, multiply_adds)
        else:
            in_parts(task, count, multiply_adds // ELEMENT)

    def _gives_the_same_in_all_ways(self, run: Run) -> bool:
        x = np.random.default_rng(0).standard_normal(self.input_shape).astype(self.dtype)
        results = []
        for self._way in ways_of_products():
            results.append(empty(self.shape, self.dtype))
            run(results[-1], x)
        self._way = None
        first, *others = results
        return all(np.array_equal(first, other) for other in others)


def _finisher(
    bias: np.ndarray | None, activation: tuple[Any, ...] | None, pixels: int
) -> Callable[..., None]:
    """Return a function that adds bias, activation and residual to a block of a map's pixels."""
    function = bounds = None
    long_bias = None if bias is None else np.tile(bias, rows_together(pixels, len(bias)))
    if activation is not None:
        name, *settings = activation
        if name == "clip":
            bounds = settings
        else:
            function = getattr(_activation, name)

    def finish(block: np.ndarray, residual: np.ndarray | None, columns: slice = _ALL) -> None:
        if bias is not None and long_bias is not None:
            if block.flags.c_contiguous and block.size % long_bias.size == 0:
                rows = block.reshape(-1, long_bias.size)
                np.add(rows, long_bias, out=rows)
            else:
                np.add(block, bias[columns], out=block)
        if bounds is not None:
            np.clip(block, *bounds, out=block)  # a tenth of np.maximum's and np.minimum's time
        if function is not None:
            block[...] = function(block, *settings)
        if residual is not None:
            np.add(block, residual, out=block)

    return finish


class _Padder:
    """Images with zeros around, in a buffer whose border stays zero from call to call."""

    def __init__(
        self,
        input_shape: tuple[int, int, int, int],
        padding: Padding,
        dtype: np.dtype[Any],
        images: int = 1,
    ) -> None:
        _, h, w, c = input_shape
        (top, bottom), (left, right) = padding
        self.buffer = np.zeros((images, h + top + bottom, w + left + right, c), dtype)
        self.inner = self.buffer[:, top : top + h, left : left + w]

    def __call__(self, images: np.ndarray) -> None:
        np.copyto(self.inner[: len(images)], images)


def _pointwise(
    weight: np.ndarray, stride: Pair, pixels: int, finish: Any, divide: _Division
) -> Run:
    o, i = weight.shape[:2]
    matrix = np.ascontiguousarray(weight.reshape(o, i).T)
    together = rows_together(pixels, o)
    # Fewer rows than 512 would be a slow product.
    step = max(1, max(512, _BLOCK // max(o, i)) // together) * together

    def run(out: np.ndarray, x: np.ndarray, residual: np.ndarray | None = None) -> None:
        if stride != (1, 1):
            x = np.ascontiguousarray(x[:, :: stride[0], :: stride[1]])
        rows, results = x.reshape(-1, i), out.reshape(-1, o)
        others = None if residual is None else residual.reshape(-1, o)

        def some_rows(part: slice) -> None:
            for start in range(part.start, part.stop, step):
                rest = slice(start, min(start + step, part.stop))
                np.matmul(rows[rest], matrix, out=results[rest])
                finish(results[rest], None if others is None else others[rest])

        def some_columns(part: slice) -> None:
            block = results[:, part]
            np.matmul(rows, matrix[:, part], out=block)
            finish(block, None if others is None else others[:, part], part)

        if len(rows) < 2 * _FEW_ROWS:
            divide(some_columns, o, results.size * i)
        else:
            divide(some_rows, len(rows), results.size * i)

    return run


def _depthwise(
    weight: np.ndarray,
    conv: Conv,
    input_shape: tuple[int, int, int, int],
    shape: tuple[int, int, int, int],
    finish: Any,
    divide: _Division,
) -> Run:
    n, height, width, c = shape
    kh, kw = weight.shape[2:]
    # Some images in one call, as many as a core's cache holds.
    together = max(1, min(n, _BLOCK // math.prod(input_shape[1:])))
    pad = _Padder(input_shape, conv.padding, weight.dtype, together)
    taps = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))  # (kh, kw, C)
    if conv.stride[1] == 1:
        view = row_windows(pad.buffer, (kh, kw), conv, (height, width))
        taps, signature = np.tile(taps, (1, 1, width)), "nhkij,ijk->nhk"
    else:
        view = depthwise_windows(pad.buffer, (kh, kw), conv, (height, width))
        signature = "nhwcij,ijc->nhwc"

    def run(out: np.ndarray, x: np.ndarray, residual: np.ndarray | None = None) -> None:
        for start in range(0, n, together):
            images = slice(start, min(start + together, n))
            count = images.stop - start
            pad(x[images])

            def some_rows(rows: slice, images: slice = images, count: int = count) -> None:
                part, block = view[:count, rows], out[images, rows]
                np.einsum(signature, part, taps, out=block.reshape(part.shape[:-2]))
                finish(block, None if residual is None else residual[images, rows])

            divide(some_rows, height, count * height * width * c * kh * kw * _TAP)

    return run


def _dense(
    weight: np.ndarray,
    conv: Conv,
    shape: tuple[int, int, int, int],
    pad: _Padder,
    finish: Any,
    divide: _Division,
) -> Run:
    _, height, width, o = shape
    _, i, kh, kw = weight.shape
    dtype = weight.dtype
    wide = o // conv.groups
    patches_of = [
        windows(pad.buffer[..., group * i : (group + 1) * i], (kh, kw), conv, (height, width))[0]
        for group in range(conv.groups)
    ]
    matrices = [
        np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(-1, wide))
        for kernel in np.split(weight, conv.groups)
    ]
    row = width * kh * kw * i
    step = max(1, min(height, 2 * _BLOCK // max(1, row)))
    step = math.ceil(height / math.ceil(height / step))

    def some_rows(out: np.ndarray, residual: np.ndarray | None, part: slice) -> None:
        patches = empty((min(step, part.stop - part.start), width, kh, kw, i), dtype)
        for start in range(part.start, part.stop, step):
            count = min(step, part.stop - start)
            rest = slice(start, start + count)
            block = out[rest]
            for group, matrix in enumerate(matrices):
                np.copyto(patches[:count], patches_of[group][rest])
                rows = patches[:count].reshape(count * width, -1)
                if conv.groups == 1:
                    np.matmul(rows, matrix, out=block.reshape(-1, o))
                else:
                    block[..., group * wide : (group + 1) * wide] = (rows @ matrix).reshape(
                        count, width, wide
                    )
            finish(block, None if residual is None else residual[rest])

    def run(out: np.ndarray, x: np.ndarray, residual: np.ndarray | None = None) -> None:
        for index in range(len(x)):
            pad(x[index : index + 1])
            target, other = out[index], None if residual is None else residual[index]
            task = functools.partial(some_rows, target, other)
            divide(task, height, target.size * row // width)

    return run


def _dense_by_planes(
    input_shape: tuple[int, int, int, int],
    weight: np.ndarray,
    bias: np.ndarray,
    conv: Conv,
    shape: tuple[int, int, int, int],
    finish: Any,
    divide: _Division,
) -> Run:
    """A convolution of few channels, such as an RGB image's.

    A channel of an image is a plane, and each tap a row of the patch matrix: copies of whole rows
    instead of ``kw * channels`` floats at a time, 130 µs for a 224×224 image instead of 220. The
    last row of the matrix is ones, for the bias.
    """
    _, h, w, i = input_shape
    _, height, width, o = shape
    kh, kw = weight.shape[2:]
    dtype = weight.dtype
    (top, bottom), (left, right) = conv.padding
    planes = np.zeros((i, h + top + bottom, w + left + right), dtype)
    inner = planes[:, top : top + h, left : left + w]
    matrix = np.concatenate([weight.reshape(o, -1).T, bias[None]])
    length = len(matrix) - 1
    step = max(1, min(height, 2 * _BLOCK // max(1, width * len(matrix))))
    step = math.ceil(height / math.ceil(height / step))
    view = windows(planes[..., None], (kh, kw), conv, (height, width))[..., 0]
    view = view.transpose(0, 3, 4, 1, 2)  # (I, kh, kw, H', W')

    def some_rows(out: np.ndarray, residual: np.ndarray | None, part: slice) -> None:
        memory = empty(len(matrix) * min(step, part.stop - part.start) * width, dtype)
        for start in range(part.start, part.stop, step):
            count = min(step, part.stop - start)
            rows = slice(start, start + count)
            patches = memory[: len(matrix) * count * width].reshape(len(matrix), -1)
            patches[length] = 1
            np.copyto(patches[:length].reshape(i, kh, kw, count, width), view[:, :, :, rows])
            block = out[rows]
            np.matmul(patches.T, matrix, out=block.reshape(-1, o))
            finish(block, None if residual is None else residual[rows])

    def run(out: np.ndarray, x: np.ndarray, residual: np.ndarray | None = None) -> None:
        for index, image in enumerate(x):
            np.copyto(inner, image.transpose(2, 0, 1))
            target, other = out[index], None if residual is None else residual[index]
            task = functools.partial(some_rows, target, other)
            divide(task, height, target.size * len(matrix))

    return run
