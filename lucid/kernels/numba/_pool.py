"""Pooling over NHWC images; see the NumPy backend.

Padding is never made: a window's part outside the image is skipped. The gradients gather: each
input pixel asks the windows that contain it, so chunks never write to the same place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lucid.kernels.geometry import Padding, Pair
from lucid.kernels.numba._depthwise import taps_inside
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    WIDTH,
    Kernel,
    address,
    empty,
    floats,
    i32s,
    kernel,
    places,
)
from lucid.kernels.numba.machine._vector import load, spread, store
from lucid.kernels.numpy import _pool as reference

Array = np.ndarray

# Elements read that are worth a chunk: 128 KiB.
_WORTH = 1 << 15

# Vectors of channels that are summed at once: their sums stay in registers, and what they read of
# a pixel is half a kilobyte in a row.
_GROUP = 8

# Numbers that are added one by one in float32: the rounding then costs some ten units in the last
# place. Sums of more are sums of sums.
_MANY = 256


class _Windows(NamedTuple):
    """What the kernels read by place: with parameters, gradients took 1.1 to 1.4 times as long."""

    x: int  # the images, or their gradient
    y: int  # what is made of their windows, or its gradient
    taps: int  # from where in its window an element of y comes
    images: int
    h: int
    w: int
    c: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    left: int
    dh: int
    dw: int
    chunks: int


_AT = places(_Windows)


@kernel
def sum_windows(args, chunk, thread):
    """Sums of the windows of some rows of outputs."""
    x, y, h, w, c = args[_AT.x], args[_AT.y], args[_AT.h], args[_AT.w], args[_AT.c]
    oh, ow, chunks = args[_AT.oh], args[_AT.ow], args[_AT.chunks]
    # Few windows: the channels are divided as well.
    groups = (c + _GROUP * WIDTH - 1) // (_GROUP * WIDTH)
    items = args[_AT.images] * oh * ow * groups
    for item in range(items * chunk // chunks, items * (chunk + 1) // chunks):
        group, pixel = item % groups, item // groups
        image, p, q = pixel // (oh * ow), pixel // ow % oh, pixel % ow
        top, left = p * args[_AT.sh] - args[_AT.top], q * args[_AT.sw] - args[_AT.left]
        i0, i1 = max(0, top), max(0, min(h, top + args[_AT.kh]))
        j0, j1 = max(0, left), max(0, min(w, left + args[_AT.kw]))
        first = group * _GROUP * WIDTH
        source = x + (image * h * w * c + first) * FLOAT
        target = y + (pixel * c + first) * FLOAT
        if c - first >= _GROUP * WIDTH:
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = spread(np.float32(0))
            for i in range(i0, i1):
                for j in range(j0, j1):
                    at = source + (i * w + j) * c * FLOAT
                    s0 = s0 + load(at, WIDTH)
                    s1 = s1 + load(at + WIDTH * FLOAT, WIDTH)
                    s2 = s2 + load(at + WIDTH * 2 * FLOAT, WIDTH)
                    s3 = s3 + load(at + WIDTH * 3 * FLOAT, WIDTH)
                    s4 = s4 + load(at + WIDTH * 4 * FLOAT, WIDTH)
                    s5 = s5 + load(at + WIDTH * 5 * FLOAT, WIDTH)
                    s6 = s6 + load(at + WIDTH * 6 * FLOAT, WIDTH)
                    s7 = s7 + load(at + WIDTH * 7 * FLOAT, WIDTH)
            store(target, s0, WIDTH)
            store(target + WIDTH * FLOAT, s1, WIDTH)
            store(target + WIDTH * 2 * FLOAT, s2, WIDTH)
            store(target + WIDTH * 3 * FLOAT, s3, WIDTH)
            store(target + WIDTH * 4 * FLOAT, s4, WIDTH)
            store(target + WIDTH * 5 * FLOAT, s5, WIDTH)
            store(target + WIDTH * 6 * FLOAT, s6, WIDTH)
            store(target + WIDTH * 7 * FLOAT, s7, WIDTH)
        else:
            for k in range(0, c - first, WIDTH):
                rest = c - first - k
                sums = spread(np.float32(0))
                for i in range(i0, i1):
                    for j in range(j0, j1):
                        sums = sums + load(source + ((i * w + j) * c + k) * FLOAT, rest)
                store(target + k * FLOAT, sums, rest)


@kernel
def max_windows(args, chunk, thread):
    """Maxima of the windows of some rows of outputs, and the taps they came from."""
    x, y, h, w, c = args[_AT.x], args[_AT.y], args[_AT.h], args[_AT.w], args[_AT.c]
    oh, ow, chunks = args[_AT.oh], args[_AT.ow], args[_AT.chunks]
    rows = args[_AT.images] * oh
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        image, p = row // oh, row % oh
        top = p * args[_AT.sh] - args[_AT.top]
        i0, i1 = taps_inside(top, args[_AT.dh], args[_AT.kh], h)
        for q in range(ow):
            left = q * args[_AT.sw] - args[_AT.left]
            j0, j1 = taps_inside(left, args[_AT.dw], args[_AT.kw], w)
            place = (row * ow + q) * c * FLOAT
            best, taps = floats(y + place), i32s(args[_AT.taps] + place)
            for k in range(c):
                best[k] = -np.float32(np.inf)
                taps[k] = np.int32(0)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    pixel = (image * h + top + i * args[_AT.dh]) * w + left + j * args[_AT.dw]
                    values = floats(x + pixel * c * FLOAT)
                    tap = np.int32(i * args[_AT.kw] + j)
                    for k in range(c):
                        value, most = values[k], best[k]
                        # NaN is the largest; of equal values the first stays.
                        larger = (value > most) | ((value != value) & (most == most))
                        best[k] = value if larger else most
                        taps[k] = tap if larger else taps[k]


@kernel
def take_taps(args, chunk, thread):
    """The elements of the input that taps name, for some rows of outputs."""
    x, y, h, w, c = args[_AT.x], args[_AT.y], args[_AT.h], args[_AT.w], args[_AT.c]
    oh, ow, chunks = args[_AT.oh], args[_AT.ow], args[_AT.chunks]
    rows = args[_AT.images] * oh
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        image, p = row // oh, row % oh
        for q in range(ow):
            place = (row * ow + q) * c * FLOAT
            out, taps = floats(y + place), i32s(args[_AT.taps] + place)
            for k in range(c):
                i = p * args[_AT.sh] - args[_AT.top] + taps[k] // args[_AT.kw] * args[_AT.dh]
                j = q * args[_AT.sw] - args[_AT.left] + taps[k] % args[_AT.kw] * args[_AT.dw]
                inside = i >= 0 and i < h and j >= 0 and j < w
                out[k] = np.float32(0)
                if inside:
                    out[k] = floats(x + (((image * h + i) * w + j) * c + k) * FLOAT)[0]


@kernel
def spread_windows(args, chunk, thread):
    """Gradients of some rows of inputs: sums over the windows, or over those that chose them."""
    gx, grad, h, w, c = args[_AT.x], args[_AT.y], args[_AT.h], args[_AT.w], args[_AT.c]
    oh, ow, chunks = args[_AT.oh], args[_AT.ow], args[_AT.chunks]
    rows = args[_AT.images] * h
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        image, y = row // h, row % h
        for x in range(w):
            out = floats(gx + (row * w + x) * c * FLOAT)
            for k in range(c):
                out[k] = np.float32(0)
            for i in range(args[_AT.kh]):
                above = y + args[_AT.top] - i * args[_AT.dh]
                p = above // args[_AT.sh]
                if above < 0 or p >= oh or p * args[_AT.sh] != above:
                    continue
                for j in range(args[_AT.kw]):
                    before = x + args[_AT.left] - j * args[_AT.dw]
                    q = before // args[_AT.sw]
                    if before < 0 or q >= ow or q * args[_AT.sw] != before:
                        continue
                    place = ((image * oh + p) * ow + q) * c * FLOAT
                    slopes = floats(grad + place)
                    if args[_AT.taps] == 0:
                        for k in range(c):
                            out[k] += slopes[k]
                    else:
                        taps, tap = i32s(args[_AT.taps] + place), np.int32(i * args[_AT.kw] + j)
                        for k in range(c):
                            out[k] += slopes[k] if taps[k] == tap else np.float32(0)


def _launch(
    function: Kernel,
    x: Array,
    y: Array,
    taps: Array | None,
    kernel_size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    items: int,
) -> None:
    """Run a kernel over ``items`` pixels or rows, between images ``x`` and their windows' ``y``.

    ``taps`` tell from where in its window an element of ``y`` comes.
    """
    n, h, w, c = x.shape
    _, oh, ow, _ = y.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel_size, stride, dilation
    (top, _), (left, _) = padding
    chunks = _threads.chunks_of(n * oh * ow * kh * kw * c, _WORTH, items)
    windows = _Windows(
        x=address(x), y=address(y), taps=0 if taps is None else address(taps), images=n, h=h, w=w,
        c=c, oh=oh, ow=ow, kh=kh, kw=kw, sh=sh, sw=sw, top=top, left=left, dh=dh, dw=dw,
        chunks=chunks,
    )  # fmt: skip
    _threads.launch((function.address, chunks, *windows))


@accelerates(reference.max_pool2d)
def max_pool2d(
    x: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, size: Pair
) -> tuple[Array, Array]:
    if x.dtype != np.float32 or x.size == 0:
        return NotImplemented
    x = np.ascontiguousarray(x)
    shape = (x.shape[0], *size, x.shape[3])
    y, taps = empty(shape), np.empty(shape, np.int32)
    _launch(max_windows, x, y, taps, kernel, stride, padding, dilation, shape[0] * shape[1])
    return y, taps


@accelerates(reference.max_pool2d_grad)
def max_pool2d_grad(
    grad: Array,
    taps: Array,
    input_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> Array:
    if grad.dtype != np.float32 or taps.dtype != np.int32 or grad.size == 0:
        return NotImplemented
    grad, taps = np.ascontiguousarray(grad), np.ascontiguousarray(taps)
    gx = empty(input_shape)
    rows = input_shape[0] * input_shape[1]
    _launch(spread_windows, gx, grad, taps, kernel, stride, padding, dilation, rows)
    return gx


@accelerates(reference.max_pool2d_take)
def max_pool2d_take(
    x: Array, taps: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> Array:
    if x.dtype != np.float32 or taps.dtype != np.int32 or taps.size == 0:
        return NotImplemented
    x, taps = np.ascontiguousarray(x), np.ascontiguousarray(taps)
    y = empty(taps.shape)
    rows = taps.shape[0] * taps.shape[1]
    _launch(take_taps, x, y, taps, kernel, stride, padding, dilation, rows)
    return y


@accelerates(reference.sum_pool2d)
def sum_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Padding, size: Pair) -> Array:
    if x.dtype != np.float32 or x.size == 0 or max(kernel) > _MANY:
        return NotImplemented
    if kernel[0] * kernel[1] > _MANY:
        # Along the rows first, then down.
        inside = (0, 0)
        sums = sum_pool2d(
            x, (1, kernel[1]), (1, stride[1]), (inside, padding[1]), (x.shape[1], size[1])
        )
        return sum_pool2d(sums, (kernel[0], 1), (stride[0], 1), (padding[0], inside), size)
    x = np.ascontiguousarray(x)
    y = empty((x.shape[0], *size, x.shape[3]))
    items = x.shape[0] * size[0] * size[1] * -(-x.shape[3] // (_GROUP * WIDTH))
    _launch(sum_windows, x, y, None, kernel, stride, padding, (1, 1), items)
    return y


@accelerates(reference.sum_pool2d_grad)
def sum_pool2d_grad(
    grad: Array, input_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding
) -> Array:
    if grad.dtype != np.float32 or grad.size == 0:
        return NotImplemented
    grad = np.ascontiguousarray(grad)
    gx = empty(input_shape)
    rows = input_shape[0] * input_shape[1]
    _launch(spread_windows, gx, grad, None, kernel, stride, padding, (1, 1), rows)
    return gx
