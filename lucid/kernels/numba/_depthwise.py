"""Depthwise convolution: each channel with its own small kernel.

A few adjacent output pixels are summed in registers, one vector of channels after the other, so
that each vector of weights that is read serves all of them. The pixels whose kernel hangs over the
left or right edge go one at a time, over the taps that meet the image.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv, Pair, Shape
from lucid.kernels.numba._activation import finish
from lucid.kernels.numba._batch_norm import Records, record_arguments, write_record
from lucid.kernels.numba.machine import _emit, _threads
from lucid.kernels.numba.machine._emit import Value, load_value, store_value
from lucid.kernels.numba.machine._native import (
    FLOAT,
    WIDTH,
    Instruction,
    Words,
    bits_to_float,
    emits,
    float_bits,
    floats,
    i64,
    kernel,
    kernel_with,
    piece,
    pixel_step,
    places,
)
from lucid.kernels.numba.machine._vector import bounded, load, spread, store

Array = np.ndarray

# Pixels that are summed at once: 7 divides the widths of maps of 224 pixels, 4 those of 256.
PIXELS = (7, 4, 2, 1)
# Channels that are summed at once: with vectors of 8 floats two, a whole cache line, of which the
# second half is not fetched again. 7 pixels · 2 sums and 2 weights fill the 16 registers.
_WIDTHS = (16, 8) if WIDTH == 8 else (WIDTH,)


class _Sums(NamedTuple):
    """The settings of sums over taps. Steps are in bytes."""

    channels: int
    tap: int  # from one tap's input pixel to the next: dilation · channels
    tap_row: int  # the same vertically
    pixel: int  # from one output pixel's input to the next one's: stride · channels
    kernel_row: int  # from one row of weights to the next
    out_pixel: int  # from one output pixel to the next
    low: int  # bounds of the result, as the bits of a float32
    high: int


_AT = places(_Sums)


def _sum_function(module: Any, pixels: int, width: int) -> Any:
    """Return the function that sums ``pixels`` outputs, ``width`` channels at a time."""
    vector = _emit.floats_of(width)

    def write(
        builder: Any, x: Any, weights: Any, bias: Any, out: Any, tap_rows: Any, taps: Any,
        first: Any, last: Any, settings: Any,
    ) -> None:  # fmt: skip
        setting = functools.partial(_emit.setting, builder, settings)
        low, high = (_emit.float_setting(builder, settings, i, vector) for i in (_AT.low, _AT.high))
        channel_bytes = builder.mul(setting(_AT.channels), i64(FLOAT))
        tap, tap_row, pixel = setting(_AT.tap), setting(_AT.tap_row), setting(_AT.pixel)
        kernel_row, out_pixel = setting(_AT.kernel_row), setting(_AT.out_pixel)

        def of_channels(at: Any) -> None:
            def of_row(x_row: Any, w_row: Any, *row_sums: Any) -> list[Any]:
                def of_tap(x_tap: Any, w_tap: Any, *sums: Any) -> list[Any]:
                    weight = load_value(builder, w_tap, vector)
                    new = []
                    for p, total in enumerate(sums):
                        place = builder.add(x_tap, builder.mul(pixel, i64(p)))
                        value = load_value(builder, place, vector)
                        new.append((value * weight + Value(builder, total)).ir)
                    return [builder.add(x_tap, tap), builder.add(w_tap, channel_bytes), *new]

                _, _, *sums = _emit.loop(builder, taps, [x_row, w_row, *row_sums], of_tap)
                return [builder.add(x_row, tap_row), builder.add(w_row, kernel_row), *sums]

            start = load_value(builder, builder.add(bias, at), vector).ir
            starts = [builder.add(x, at), builder.add(weights, at), *[start] * pixels]
            _, _, *sums = _emit.loop(builder, tap_rows, starts, of_row)
            for p, total in enumerate(sums):
                place = builder.add(builder.add(out, at), builder.mul(out_pixel, i64(p)))
                store_value(Value(builder, total).clip(low, high), place)

        _emit.channel_loop(builder, width, first, last, of_channels)

    kind = ir.FunctionType(ir.VoidType(), [i64] * 8 + [i64.as_pointer()])
    return _emit.function(module, f"lucid_depthwise_{pixels}_{width}", kind, "noinline", write)


@emits(*(i64,) * 8, Words)
def _sum_pixels(builder: Any, pixels: Any, *args: Any) -> None:
    """Sum and finish adjacent output pixels, as many as PIXELS holds, all channels.

    The arguments are ``pixels, x, weights, bias, out, tap rows, taps in a row, channels`` and the
    settings.
    """
    *places, channels, settings = args

    def call(count: int) -> None:
        def some(width: int, first: Any, last: Any) -> None:
            function = _sum_function(builder.module, count, width)
            builder.call(function, [*places, first, last, settings])

        _emit.over_channels(builder, channels, some, _WIDTHS)

    _emit.choice(builder, pixels, {count: functools.partial(call, count) for count in PIXELS})


@piece
def _copy_channels(x, h, w, pixel, channels, first, count, left, padded_w, out, out_pixel):
    """Copy some channels of rows ``first`` to ``first + count``, with zeros around, to ``out``."""
    begin, skip = min(padded_w, max(0, left)), max(0, -left)
    end = begin + max(0, min(w - skip, padded_w - begin))
    for i in range(count):
        row = first + i
        inside = row >= 0 and row < h
        source = x + (row * w + skip) * pixel
        for column in range(padded_w):
            target = out + (i * padded_w + column) * out_pixel
            if inside and column >= begin and column < end:
                at = source + (column - begin) * pixel
                for c in range(0, channels, WIDTH):
                    store(target + c * FLOAT, load(at + c * FLOAT, channels - c), channels - c)
            else:
                for c in range(0, channels, WIDTH):
                    store(target + c * FLOAT, spread(np.float32(0)), channels - c)


@piece
def _group(rest):
    """Return how many of the adjacent pixels that are left to sum at once."""
    if rest >= 7 and rest != 8:
        return 7
    return 4 if rest >= 4 else 2 if rest >= 2 else 1


@piece
def taps_inside(start, step, taps, size):
    """The first of the taps at ``start + i · step`` within ``size``, and the one after the last."""
    first = min(taps, max(0, (-start + step - 1) // step))
    return first, max(first, min(taps, (size - 1 - start) // step + 1))


class _Sizes(NamedTuple):
    """What the kernel reads of shapes and strides; steps are in bytes."""

    x_pixel: int
    out_image: int
    out_row: int
    h: int
    w: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    top: int
    left: int
    rows: int
    blocks: int
    scratch_bytes: int
    padded_w: int
    kind: int


_SIZE = _Sizes(*range(len(_Sizes._fields)))  # which word is what


@kernel_with(sums=_Sums, sizes=_Sizes)
def depthwise(chunk, thread, sums, sizes, x, taps, out, scratch, records, record_size):
    """Some output rows and channels of one image."""
    h, w, oh, ow = sizes[_SIZE.h], sizes[_SIZE.w], sizes[_SIZE.oh], sizes[_SIZE.ow]
    kh, kw, sh, sw = sizes[_SIZE.kh], sizes[_SIZE.kw], sizes[_SIZE.sh], sizes[_SIZE.sw]
    dh, dw, top, left = sizes[_SIZE.dh], sizes[_SIZE.dw], sizes[_SIZE.top], sizes[_SIZE.left]
    rows, blocks, x_pixel = sizes[_SIZE.rows], sizes[_SIZE.blocks], sizes[_SIZE.x_pixel]
    all_channels, out_pixel = sums[_AT.channels], sums[_AT.out_pixel]
    parts = (oh + rows - 1) // rows
    image, part, block = chunk // (parts * blocks), chunk // blocks % parts, chunk % blocks
    start, stop = part * rows, min(oh, (part + 1) * rows)
    vectors = (all_channels + WIDTH - 1) // WIDTH
    channel = vectors * block // blocks * WIDTH
    channels = min(all_channels, vectors * (block + 1) // blocks * WIDTH) - channel
    tap_bytes = FLOAT * all_channels
    bias = taps + channel * FLOAT
    weights = bias + tap_bytes
    source = x + image * h * w * x_pixel + channel * FLOAT
    target = out + image * sizes[_SIZE.out_image] + channel * FLOAT
    copy = scratch + thread * sizes[_SIZE.scratch_bytes]
    if scratch != 0:
        first_row, count = start * sh - top, (stop - 1 - start) * sh + (kh - 1) * dh + 1
        _copy_channels(
            source, h, w, x_pixel, channels, first_row, count, left, sizes[_SIZE.padded_w], copy,
            sums[_AT.tap] // dw,
        )  # fmt: skip
    # Output columns whose kernel lies within the image: first to last.
    first = min(ow, max(0, (left + sw - 1) // sw))
    last = min(ow, max(first, (w - 1 - dw * (kw - 1) + left) // sw + 1))
    for y in range(start, stop):
        line_out = target + y * sizes[_SIZE.out_row]
        if scratch != 0:
            line = copy + (y - start) * sh * (sums[_AT.tap_row] // dh)
            column = 0
            while column < ow:
                count = _group(ow - column)
                at, out_at = line + column * sums[_AT.pixel], line_out + column * out_pixel
                _sum_pixels(count, at, weights, bias, out_at, kh, kw, channels, sums)
                column += count
        else:
            above = y * sh - top
            i0, i1 = taps_inside(above, dh, kh, h)
            line = source + (above + i0 * dh) * w * x_pixel
            row_weights = weights + i0 * kw * tap_bytes
            column = 0
            while column < ow:
                before = column * sw - left
                j0, j1 = 0, kw
                count = 1
                if column >= first and column < last:
                    count = _group(last - column)
                else:
                    j0, j1 = taps_inside(before, dw, kw, w)
                out_at = line_out + column * out_pixel
                if i1 > i0 and j1 > j0:
                    at, tap_at = line + (before + j0 * dw) * x_pixel, row_weights + j0 * tap_bytes
                    _sum_pixels(count, at, tap_at, bias, out_at, i1 - i0, j1 - j0, channels, sums)
                else:  # the kernel lies in the padding
                    _only_bias(bias, out_at, count, channels, sums)
                column += count
        if sizes[_SIZE.kind] != 0:
            finish(sizes[_SIZE.kind], ow, channels, line_out, out_pixel, 0, 0)
    if records != 0:  # while the rows are in the cache
        record = records + (image * parts + part) * record_size * 8
        at, count = target + start * sizes[_SIZE.out_row], (stop - start) * ow
        write_record(record, all_channels, channel, channels, at, out_pixel, count)


@piece
def _only_bias(bias, out, pixels, channels, sums):
    low, high = spread(bits_to_float(sums[_AT.low])), spread(bits_to_float(sums[_AT.high]))
    for c in range(0, channels, WIDTH):
        at, rest = c * FLOAT, channels - c
        value = bounded(load(bias + at, rest), low, high)
        for p in range(pixels):
            store(out + p * sums[_AT.out_pixel] + at, value, rest)


@kernel
def pack_taps(
    chunk, thread, weight, channels, channel, rows, row, taps, tap, scale, bias, packed
):  # fmt: skip
    """Write a depthwise convolution's bias and weights ``(1 + kh·kw, C)``, times a factor."""
    out = floats(packed)
    for c in range(channels):
        out[c] = floats(bias)[c] if bias != 0 else np.float32(0)
    for c in range(channels):
        factor = floats(scale)[c] if scale != 0 else np.float32(1)
        for i in range(rows):
            for j in range(taps):
                value = floats(weight + c * channel + i * row + j * tap)[0]
                out[(1 + i * taps + j) * channels + c] = value * factor


def pack_taps_instruction(
    weight: Array, packed: Array, scale: Array | None, bias: Array | None
) -> Instruction:
    """Return the instruction that packs a weight ``(C, 1, kh, kw)`` of any strides.

    ``packed`` is ``(1 + kh·kw, C)``: the bias, then the taps times ``scale``.
    """
    channels, _, rows, taps = weight.shape
    channel, _, row, tap = weight.strides
    return pack_taps.pack(
        1, weight=weight, channels=channels, channel=channel, rows=rows, row=row, taps=taps,
        tap=tap, scale=scale, bias=bias, packed=packed,
    )  # fmt: skip


# Multiply-adds worth a chunk: some 5 µs.
_WORTH = 1 << 16
# Pixels this far apart in bytes compete for the same few places of the nearest cache (32 KiB, 8
# ways). A map of such pixels is copied to scratch memory some channels at a time and padded there:
# 5×5 over 7×7 pixels of 1024 channels went from 38 to 59 GFLOP/s. Others would lose more by the
# copy than they win at the edges, and lose by blocks of channels alone: long rows are read ahead.
_PERIOD = 4096
_NARROW = 16  # the largest width for which that was measured
# Floats of scratch memory: 64 KiB.
_BLOCK = 1 << 14


class _Cut(NamedTuple):
    """How a depthwise convolution is cut: rows and blocks of channels of a chunk, its scratch."""

    rows: int
    blocks: int
    padded_w: int
    pixel: int  # floats from one padded pixel to the next; 0: no scratch memory
    scratch: int  # floats a thread


def _cut(
    shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    kernel: Pair,
    conv: Conv,
    step: int,
) -> _Cut:
    """Return how to cut the convolution of a map whose pixels are ``step`` bytes apart."""
    channels = shape[3]
    oh, ow = out_shape[1:3]
    (kh, kw), (sh, sw), (dh, dw) = kernel, conv.stride, conv.dilation
    if ow > _NARROW or step % _PERIOD:
        rows = max(1, min(oh, _WORTH // (ow * channels * kh * kw)))
        return _Cut(rows, 1, 0, 0, 0)
    work = oh * ow * kh * kw * channels
    vectors = -(-channels // WIDTH)
    padded_w = (ow - 1) * sw + (kw - 1) * dw + 1
    padded_h = (oh - 1) * sh + (kh - 1) * dh + 1
    blocks = max(work // (2 * _WORTH), -(-padded_h * padded_w * channels // _BLOCK), 1)
    blocks = min(blocks, vectors)
    # An odd number of cache lines from pixel to pixel spreads them best.
    lines = -(-(-(-vectors // blocks) * WIDTH * FLOAT) // 64)
    pixel = (lines + 1 - lines % 2) * 16
    size = padded_h * padded_w * pixel
    return _Cut(oh, blocks, padded_w, pixel, size)


def depthwise_scratch(x: Array, out_shape: tuple[int, ...], kernel: Pair, conv: Conv) -> int:
    """Return the floats of scratch memory that all threads of the convolution need."""
    cut = _cut(x.shape, out_shape, kernel, conv, pixel_step(x))
    return cut.scratch * _threads.get_num_threads()


@functools.lru_cache(maxsize=256)
def _settings(
    shape: Shape,
    step: int,
    out_shape: Shape,
    out_strides: tuple[int, ...],
    kernel: Pair,
    conv: Conv,
    bounds: Bounds,
    kind: int,
) -> tuple[int, _Sums, _Sizes]:
    """Return the records of a convolution, and its settings."""
    images, h, w, channels = shape
    oh, ow = out_shape[1:3]
    (kh, kw), (sh, sw), ((top, _), (left, _)), (dh, dw), _ = kernel, *conv
    cut = _cut(shape, out_shape, kernel, conv, step)
    pixel = FLOAT * cut.pixel or step
    low, high = map(float_bits, bounds)
    sums = _Sums(
        channels=channels,
        tap=dw * pixel,
        tap_row=dh * pixel * (cut.padded_w or w),
        pixel=sw * pixel,
        kernel_row=kw * FLOAT * channels,
        out_pixel=out_strides[2],
        low=low,
        high=high,
    )
    sizes = _Sizes(
        x_pixel=step, out_image=out_strides[0], out_row=out_strides[1], h=h, w=w, oh=oh, ow=ow,
        kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw, top=top, left=left, rows=cut.rows,
        blocks=cut.blocks, scratch_bytes=FLOAT * cut.scratch, padded_w=cut.padded_w, kind=kind,
    )  # fmt: skip
    return images * -(-oh // cut.rows), sums, sizes


def depthwise_instruction(
    x: Array,
    packed: Array,
    out: Array,
    kernel: Pair,
    conv: Conv,
    scratch: Array | None,
    bounds: Bounds = NO_BOUNDS,
    records: Records | None = None,
    kind: int = 0,
) -> Instruction:
    """Return the instruction for a depthwise convolution of NHWC ``x`` into ``out``.

    The pixels of ``x`` may be spaced evenly, ``out`` may be any view with adjacent channels.
    ``scratch`` has as many floats as :func:`depthwise_scratch` says. ``records`` take the
    statistics of the channels of a contiguous ``out``.
    """
    count, sums, sizes = _settings(
        x.shape, pixel_step(x), out.shape, out.strides, kernel, conv, bounds, kind
    )
    return depthwise.pack(
        count * sizes.blocks,
        sums=sums,
        sizes=sizes,
        x=x,
        taps=packed,
        out=out,
        scratch=scratch if sizes.scratch_bytes else None,
        **record_arguments(records, count, sums.channels),
    )
