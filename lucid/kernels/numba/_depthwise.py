"""Depthwise convolution: each channel with its own small kernel.

A few adjacent output pixels are summed in registers, one vector of channels after the other, so
that each vector of weights that is read serves all of them. The pixels whose kernel hangs over the
left or right edge go one at a time, over the taps that meet the image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv, Pair
from lucid.kernels.numba._activation import finish
from lucid.kernels.numba._batch_norm import Records, write_record
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    WIDTH,
    address,
    f32,
    float_bits,
    floats,
    i64,
    kernel,
    pixel_step,
    pointer,
)
from lucid.kernels.numba.machine._tile import ACTIVATION, multiply_add
from lucid.kernels.numba.machine._vector import load, spread, store

Array = np.ndarray

# Pixels that are summed at once: 7 divides the widths of maps of 224 pixels, 4 those of 256.
PIXELS = (7, 4, 2, 1)

# What the summing function reads from its row of arguments. Steps are in bytes.
(
    CHANNELS,
    TAP,  # from one tap's input pixel to the next: dilation · channels
    TAP_ROW,  # the same vertically
    PIXEL,  # from one output pixel's input to the next one's: stride · channels
    KERNEL_ROW,  # from one row of weights to the next
    OUT_PIXEL,  # from one output pixel to the next
    LOW,
    HIGH,
) = range(8)


def _sum_function(module: Any, pixels: int, width: int) -> Any:
    """Return the function that sums ``pixels`` outputs, ``width`` channels at a time."""
    name = f"lucid_depthwise_{pixels}_{width}"
    if name in module.globals:
        return module.globals[name]
    # x, weights, bias, out, tap rows, taps in a row, first channel, channels, arguments
    kind = ir.FunctionType(ir.VoidType(), [i64] * 8 + [i64.as_pointer()])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    x, weights, bias, out, tap_rows, taps, first, last, args = function.args
    vector = ir.VectorType(f32, width) if width > 1 else f32

    def splat(builder: Any, value: Any) -> Any:
        if width == 1:
            return value
        empty = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(empty, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return builder.shuffle_vector(one, empty, zeros)

    def load(builder: Any, place: Any) -> Any:
        return builder.load(pointer(builder, place, vector), align=4, typ=vector)

    builder = ir.IRBuilder(function.append_basic_block("entry"))

    def argument(index: int) -> Any:
        return builder.load(builder.gep(args, [i64(index)], source_etype=i64), typ=i64)

    def bound(index: int) -> Any:
        return splat(builder, builder.bitcast(builder.trunc(argument(index), ir.IntType(32)), f32))

    channel_bytes = builder.mul(argument(CHANNELS), i64(4))
    tap, tap_row, pixel = argument(TAP), argument(TAP_ROW), argument(PIXEL)
    kernel_row, out_pixel = argument(KERNEL_ROW), argument(OUT_PIXEL)
    low, high = bound(LOW), bound(HIGH)
    entry = builder.block
    blocks = {
        n: function.append_basic_block(n) for n in ("channel", "row", "tap", "row_end", "end")
    }
    after = function.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", first, last), blocks["channel"], after)

    builder.position_at_end(blocks["channel"])
    channel = builder.phi(i64)
    channel.add_incoming(first, entry)
    at = builder.mul(channel, i64(4))
    start = load(builder, builder.add(bias, at))
    x_channel, w_channel = builder.add(x, at), builder.add(weights, at)
    builder.branch(blocks["row"])

    builder.position_at_end(blocks["row"])
    row, x_row, w_row = builder.phi(i64), builder.phi(i64), builder.phi(i64)
    row_sums = [builder.phi(vector) for _ in range(pixels)]
    for phi, value in zip([row, x_row, w_row], [i64(0), x_channel, w_channel]):
        phi.add_incoming(value, blocks["channel"])
    for phi in row_sums:
        phi.add_incoming(start, blocks["channel"])
    builder.branch(blocks["tap"])

    builder.position_at_end(blocks["tap"])
    index, x_tap, w_tap = builder.phi(i64), builder.phi(i64), builder.phi(i64)
    sums = [builder.phi(vector) for _ in range(pixels)]
    for phi, value in zip([index, x_tap, w_tap, *sums], [i64(0), x_row, w_row, *row_sums]):
        phi.add_incoming(value, blocks["row"])
    weight = load(builder, w_tap)
    new = []
    for p in range(pixels):
        value = load(builder, builder.add(x_tap, builder.mul(pixel, i64(p))))
        new.append(multiply_add(builder, value, weight, sums[p]))
    following = (
        builder.add(index, i64(1)),
        builder.add(x_tap, tap),
        builder.add(w_tap, channel_bytes),
    )
    for phi, value in zip([index, x_tap, w_tap, *sums], [*following, *new]):
        phi.add_incoming(value, blocks["tap"])
    builder.cbranch(builder.icmp_signed("<", following[0], taps), blocks["tap"], blocks["row_end"])

    builder.position_at_end(blocks["row_end"])
    following = (
        builder.add(row, i64(1)),
        builder.add(x_row, tap_row),
        builder.add(w_row, kernel_row),
    )
    for phi, value in zip([row, x_row, w_row, *row_sums], [*following, *new]):
        phi.add_incoming(value, blocks["row_end"])
    builder.cbranch(builder.icmp_signed("<", following[0], tap_rows), blocks["row"], blocks["end"])

    builder.position_at_end(blocks["end"])
    out_channel = builder.add(out, at)
    for p, value in enumerate(new):
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
        place = builder.add(out_channel, builder.mul(out_pixel, i64(p)))
        builder.store(value, pointer(builder, place, vector), align=4)
    channel_next = builder.add(channel, i64(width))
    channel.add_incoming(channel_next, blocks["end"])
    builder.cbranch(builder.icmp_signed("<", channel_next, last), blocks["channel"], after)

    builder.position_at_end(after)
    builder.ret_void()
    return function


@intrinsic
def _sum_pixels(typingctx, pixels, x, weights, bias, out, tap_rows, taps, channels, args):
    """Sum and finish adjacent output pixels, as many as PIXELS holds, all channels."""

    def codegen(context, builder, sig, values):
        pixels, x, weights, bias, out, tap_rows, taps, channels, args = values
        whole = builder.and_(channels, i64(-WIDTH))
        after = builder.append_basic_block("after")
        impossible = builder.append_basic_block("impossible")
        switch = builder.switch(pixels, impossible)
        for count in PIXELS:
            block = builder.append_basic_block("pixels")
            switch.add_case(i64(count), block)
            builder.position_at_end(block)
            for width, first, last in ((WIDTH, i64(0), whole), (1, whole, channels)):
                builder.call(
                    _sum_function(builder.module, count, width),
                    [x, weights, bias, out, tap_rows, taps, first, last, args],
                )
            builder.branch(after)
        builder.position_at_end(impossible)
        builder.unreachable()
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 8, types.CPointer(types.int64)), codegen


(
    _X, _TAPS, _OUT, _OUT_IMAGE, _OUT_ROW, _H, _W, _OH, _OW, _KH, _KW, _SH, _SW, _DH, _DW,
    _TOP, _LEFT, _ROWS, _BLOCKS, _SCRATCH, _SCRATCH_BYTES, _PADDED_W, _RECORDS, _RECORD_SIZE,
    _X_PIXEL,
) = range(8, 33)  # fmt: skip


@njit
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
                    store(target + c * 4, load(at + c * 4, channels - c), channels - c)
            else:
                for c in range(0, channels, WIDTH):
                    store(target + c * 4, spread(np.float32(0)), channels - c)


@njit
def _group(rest):
    """Return how many of the adjacent pixels that are left to sum at once."""
    if rest >= 7 and rest != 8:
        return 7
    return 4 if rest >= 4 else 2 if rest >= 2 else 1


@kernel
def depthwise(args, chunk, thread):
    """Some output rows and channels of one image."""
    all_channels = args[CHANNELS]
    h, w, oh, ow = args[_H], args[_W], args[_OH], args[_OW]
    kh, kw, sh, sw = args[_KH], args[_KW], args[_SH], args[_SW]
    dh, dw, top, left = args[_DH], args[_DW], args[_TOP], args[_LEFT]
    rows, blocks = args[_ROWS], args[_BLOCKS]
    parts = (oh + rows - 1) // rows
    image, part, block = chunk // (parts * blocks), chunk // blocks % parts, chunk % blocks
    start, stop = part * rows, min(oh, (part + 1) * rows)
    vectors = (all_channels + WIDTH - 1) // WIDTH
    channel = vectors * block // blocks * WIDTH
    channels = min(all_channels, vectors * (block + 1) // blocks * WIDTH) - channel
    pixel_bytes = args[_X_PIXEL]
    tap_bytes = 4 * all_channels
    bias = args[_TAPS] + channel * 4
    weights = bias + tap_bytes
    source = args[_X] + image * h * w * pixel_bytes + channel * 4
    target = args[_OUT] + image * args[_OUT_IMAGE] + channel * 4
    scratch = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
    if args[_SCRATCH] != 0:
        _copy_channels(
            source,
            h,
            w,
            pixel_bytes,
            channels,
            start * sh - top,
            (stop - 1 - start) * sh + (kh - 1) * dh + 1,
            left,
            args[_PADDED_W],
            scratch,
            args[TAP] // dw,
        )
    # Output columns whose kernel lies within the image: first to last.
    first = min(ow, max(0, (left + sw - 1) // sw))
    last = min(ow, max(first, (w - 1 - dw * (kw - 1) + left) // sw + 1))
    for y in range(start, stop):
        out = target + y * args[_OUT_ROW]
        if args[_SCRATCH] != 0:
            line = scratch + (y - start) * sh * (args[TAP_ROW] // dh)
            x = 0
            while x < ow:
                count = _group(ow - x)
                _sum_pixels(
                    count,
                    line + x * args[PIXEL],
                    weights,
                    bias,
                    out + x * args[OUT_PIXEL],
                    kh,
                    kw,
                    channels,
                    args,
                )
                x += count
        else:
            # Taps that meet the image: those of i with 0 <= y·s - top + i·d < h.
            above = y * sh - top
            i0 = min(kh, max(0, (-above + dh - 1) // dh))
            i1 = max(i0, min(kh, (h - 1 - above) // dh + 1))
            line = source + (above + i0 * dh) * w * pixel_bytes
            row_weights = weights + i0 * kw * tap_bytes
            x = 0
            while x < ow:
                before = x * sw - left
                j0, j1 = 0, kw
                count = 1
                if x >= first and x < last:
                    count = _group(last - x)
                else:
                    j0 = min(kw, max(0, (-before + dw - 1) // dw))
                    j1 = max(j0, min(kw, (w - 1 - before) // dw + 1))
                if i1 > i0 and j1 > j0:
                    _sum_pixels(
                        count,
                        line + (before + j0 * dw) * pixel_bytes,
                        row_weights + j0 * tap_bytes,
                        bias,
                        out + x * args[OUT_PIXEL],
                        i1 - i0,
                        j1 - j0,
                        channels,
                        args,
                    )
                else:  # the kernel lies in the padding
                    _only_bias(bias, out + x * args[OUT_PIXEL], count, channels, args)
                x += count
        if args[ACTIVATION] != 0:
            finish(args[ACTIVATION], ow, channels, out, args[OUT_PIXEL], 0, 0)
    if args[_RECORDS] != 0:  # while the rows are in the cache
        write_record(
            args[_RECORDS] + (image * parts + part) * args[_RECORD_SIZE] * 8,
            all_channels,
            channel,
            channels,
            target + start * args[_OUT_ROW],
            args[OUT_PIXEL],
            (stop - start) * ow,
        )


@intrinsic
def _low_high(typingctx, args):
    """The bounds, as floats."""

    def codegen(context, builder, sig, values):
        numbers = []
        for index in (LOW, HIGH):
            word = builder.load(builder.gep(values[0], [i64(index)], source_etype=i64), typ=i64)
            numbers.append(builder.bitcast(builder.trunc(word, ir.IntType(32)), f32))
        return context.make_tuple(builder, sig.return_type, numbers)

    return types.UniTuple(types.float32, 2)(types.CPointer(types.int64)), codegen


@njit
def _only_bias(bias, out, pixels, channels, args):
    low, high = _low_high(args)
    source = floats(bias)
    for p in range(pixels):
        target = floats(out + p * args[OUT_PIXEL])
        for c in range(channels):
            value = source[c]
            value = low if value < low else value
            target[c] = high if value > high else value


@kernel
def pack_taps(chunk, thread, weight, channels, taps, scale, bias, packed):
    """Write a depthwise convolution's bias and weights ``(1 + kh·kw, C)``, times a factor."""
    source, out = floats(weight), floats(packed)
    for c in range(channels):
        out[c] = floats(bias)[c] if bias != 0 else np.float32(0)
    for c in range(channels):
        factor = floats(scale)[c] if scale != 0 else np.float32(1)
        for t in range(taps):
            out[(1 + t) * channels + c] = source[c * taps + t] * factor


def pack_taps_row(
    weight: Array, packed: Array, scale: Array | None, bias: Array | None
) -> tuple[int, ...]:
    """Return the row of a plan that packs a contiguous weight ``(C, 1, kh, kw)``.

    ``packed`` is ``(1 + kh·kw, C)``: the bias, then the taps times ``scale``.
    """
    taps, channels = packed.shape[0] - 1, packed.shape[1]
    return pack_taps.pack(
        1, weight=weight, channels=channels, taps=taps, scale=scale, bias=bias, packed=packed
    )


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
    lines = -(-(-(-vectors // blocks) * WIDTH * 4) // 64)
    pixel = (lines + 1 - lines % 2) * 16
    size = padded_h * padded_w * pixel
    return _Cut(oh, blocks, padded_w, pixel, size)


def depthwise_scratch(x: Array, out_shape: tuple[int, ...], kernel: Pair, conv: Conv) -> int:
    """Return the floats of scratch memory that :func:`depthwise_row` needs, for all threads."""
    cut = _cut(x.shape, out_shape, kernel, conv, pixel_step(x))
    return cut.scratch * _threads.get_num_threads()


def depthwise_row(
    x: Array,
    packed: Array,
    out: Array,
    kernel_size: Pair,
    conv: Conv,
    scratch: Array | None,
    bounds: Bounds = NO_BOUNDS,
    records: Records | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan for a depthwise convolution of NHWC ``x`` into ``out``.

    The pixels of ``x`` may be spaced evenly, ``out`` may be any view with adjacent channels.
    ``scratch`` has as many floats as :func:`depthwise_scratch` says. ``records`` take the
    statistics of the channels of a contiguous ``out``.
    """
    images, h, w, channels = x.shape
    oh, ow = out.shape[1:3]
    kh, kw = kernel_size
    step = pixel_step(x)
    cut = _cut(x.shape, out.shape, kernel_size, conv, step)
    stride, ((top, _), (left, _)), dilation, _ = conv
    parts = -(-oh // cut.rows)
    pixel = 4 * cut.pixel or step
    line = pixel * (cut.padded_w or w)
    return (
        depthwise.address,
        images * parts * cut.blocks,
        channels,
        dilation[1] * pixel,
        dilation[0] * line,
        stride[1] * pixel,
        kw * 4 * channels,
        out.strides[2],
        *map(float_bits, bounds),
        address(x),
        address(packed),
        address(out),
        *out.strides[:2],
        h,
        w,
        oh,
        ow,
        kh,
        kw,
        *stride,
        *dilation,
        top,
        left,
        cut.rows,
        cut.blocks,
        address(scratch) if cut.scratch and scratch is not None else 0,
        4 * cut.scratch,
        cut.padded_w,
        *((0, 0) if records is None else records.make(images * parts, channels)),
        step,
    )
