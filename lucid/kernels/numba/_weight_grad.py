"""Gradients of weights: sums over all pixels of products of two channels.

Each is cut into parts of the pixels with sums of their own, which are then added up. The parts do
not depend on which thread computes them, so a result is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lucid.kernels.geometry import Conv, Pair
from lucid.kernels.numba._dense import _copy_rows
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    PANEL,
    TILE_ROWS,
    WIDTH,
    address,
    address_of,
    empty,
    f32,
    floats,
    i64,
    kernel,
    pointer,
    share,
    words,
    workspace,
)
from lucid.kernels.numba.machine._tile import (
    A_SEGMENT,
    A_STEP,
    B_SEGMENT,
    B_STEP,
    C_ROW,
    LENGTH,
    SEGMENTS,
    TILE_ARGUMENTS,
    multiply_add,
    tile_transposed,
)

Array = np.ndarray

# Rows of a plan, and a function that returns the result when they have run. It holds all the arrays
# whose addresses are in the rows.
Rows = tuple[list[tuple[int, ...]], Callable[[], Array]]

DEPTHWISE_KERNELS = ((3, 3), (5, 5))

# Multiply-adds worth a part: some 10 µs.
_WORTH = 1 << 19


def _tile_arguments(**values: int) -> list[int]:
    row = [0] * TILE_ARGUMENTS
    for name, value in values.items():
        row[_INDEX[name]] = value
    return row


_INDEX = {
    "a_segment": A_SEGMENT, "a_step": A_STEP, "b_segment": B_SEGMENT, "b_step": B_STEP,
    "c_row": C_ROW, "length": LENGTH, "segments": SEGMENTS,
}  # fmt: skip


@kernel
def add_parts(chunk, thread, chunks, source, out, parts, size):
    """Write the sum of parts, ``(parts, size)``, a block of it."""
    start, stop = share(size, chunk, chunks)
    target, first = floats(out), floats(source)
    for i in range(start, stop):
        target[i] = first[i]
    for part in range(1, parts):
        values = floats(source + part * size * 4)
        for i in range(start, stop):
            target[i] += values[i]


def _add_parts_row(parts: Array, out: Array) -> tuple[int, ...]:
    chunks = max(1, min(64, parts.size >> 15))
    return add_parts.pack(chunks, source=parts, out=out, parts=len(parts), size=out.size)


# -- matrices -------------------------------------------------------------------------------------

# Rows that a tile sums before it goes back to memory: 32 columns of them fill half the first-level
# cache.
_STEPS = 128

_A, _B, _OUT, _PART_BYTES, _ROWS, _N1, _N2, _PARTS, _BLOCKS_1, _BLOCKS_2 = range(
    2 * TILE_ARGUMENTS, 2 * TILE_ARGUMENTS + 10
)


@kernel
def transposed_product(args, chunk, thread):
    """One block of ``aᵀ·b`` over one part of the rows."""
    blocks_1, blocks_2 = args[_BLOCKS_1], args[_BLOCKS_2]
    part = chunk // (blocks_1 * blocks_2)
    block_1, block_2 = chunk // blocks_2 % blocks_1, chunk % blocks_2
    n1, n2, rows = args[_N1], args[_N2], args[_ROWS]
    out = args[_OUT] + part * args[_PART_BYTES]
    start = n1 * block_1 // blocks_1
    count = n1 * (block_1 + 1) // blocks_1 - start
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    panels = (n2 + PANEL - 1) // PANEL
    first_panel = panels * block_2 // blocks_2
    last_panel = panels * (block_2 + 1) // blocks_2
    first_column, last_column = first_panel * PANEL, min(n2, last_panel * PANEL)
    for i in range(start, start + count):
        row = floats(out + i * n2 * 4)
        for j in range(first_column, last_column):
            row[j] = np.float32(0)
    sections = (rows + _STEPS - 1) // _STEPS
    for section in range(sections * part // args[_PARTS], sections * (part + 1) // args[_PARTS]):
        whole = (section + 1) * _STEPS <= rows
        # A second set of arguments serves the last section, which is shorter.
        settings = args if whole else words(address_of(args) + 8 * TILE_ARGUMENTS)
        a = args[_A] + section * _STEPS * n1 * 4
        b = args[_B] + section * _STEPS * n2 * 4
        for panel in range(first_panel, last_panel):
            width = min(PANEL, n2 - panel * PANEL)
            for index in range(tiles):
                i = start + count * index // tiles
                tile_transposed(
                    start + count * (index + 1) // tiles - i,
                    a + i * 4,
                    b + panel * PANEL * 4,
                    out + (i * n2 + panel * PANEL) * 4,
                    0,
                    width,
                    settings,
                )


def product_transposed(a: Array, b: Array) -> Rows:
    """Return rows for ``aᵀ @ b`` of contiguous float32 ``(rows, n1)`` and ``(rows, n2)``."""
    rows, n1 = a.shape
    n2 = b.shape[1]
    out = empty((n1, n2))
    tiles, panels = -(-n1 // TILE_ROWS), -(-n2 // PANEL)
    wanted = min(rows * n1 * n2 // _WORTH + 1, 8 * _threads.get_num_threads())
    sections = -(-rows // _STEPS)
    # Cut the result as long as its pieces are not small, then the rows.
    blocks_2 = min(-(-panels // 4), wanted)
    blocks_1 = min(-(-tiles // 4), -(-wanted // blocks_2))
    count = min(sections, -(-wanted // (blocks_1 * blocks_2)))
    parts = workspace.empty((count, n1, n2)) if count > 1 else out[None]
    settings = {"a_step": 4 * n1, "b_step": 4 * n2, "c_row": 4 * n2, "segments": 1}
    plan = [
        (
            transposed_product.address,
            count * blocks_1 * blocks_2,
            *_tile_arguments(length=_STEPS, **settings),
            *_tile_arguments(length=rows % _STEPS, **settings),
            address(a),
            address(b),
            address(parts),
            4 * n1 * n2,
            rows,
            n1,
            n2,
            count,
            blocks_1,
            blocks_2,
        )
    ]
    if count > 1:
        plan.append(_add_parts_row(parts, out))

    def result(inputs: tuple[Array, ...] = (a, b, parts)) -> Array:
        return out

    return plan, result


# -- dense ----------------------------------------------------------------------------------------

(
    _X, _GRAD, _SUMS, _SCRATCH, _SCRATCH_BYTES, _IMAGES, _H, _W, _C, _OH, _OW, _O,
    _KH, _KW, _STRIDE, _TOP, _LEFT, _PADDED_W, _SPLITS, _BLOCK_ROWS, _STRIDE_W,
) = range(TILE_ARGUMENTS, TILE_ARGUMENTS + 21)  # fmt: skip


@kernel
def dense_sums(args, chunk, thread):
    """The sums ``(kh·kw·C, O)`` over one part of the blocks of output rows."""
    h, w, c, oh, ow, o = args[_H], args[_W], args[_C], args[_OH], args[_OW], args[_O]
    kh, kw, stride, rows = args[_KH], args[_KW], args[_STRIDE], args[_BLOCK_ROWS]
    run = kw * c
    sums = args[_SUMS] + chunk * kh * run * o * 4
    target = floats(sums)
    for i in range(kh * run * o):
        target[i] = np.float32(0)
    scratch = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
    per_image = oh // rows
    blocks = args[_IMAGES] * per_image
    tiles = (run + TILE_ROWS - 1) // TILE_ROWS
    for block in range(blocks * chunk // args[_SPLITS], blocks * (chunk + 1) // args[_SPLITS]):
        image, y = block // per_image, block % per_image * rows
        _copy_rows(
            args[_X] + image * h * w * c * 4,
            h,
            w,
            c,
            y * stride - args[_TOP],
            (rows - 1) * stride + kh,
            args[_LEFT],
            args[_PADDED_W],
            scratch,
        )
        grad = args[_GRAD] + (image * oh + y) * ow * o * 4
        for panel in range((o + PANEL - 1) // PANEL):
            width = min(PANEL, o - panel * PANEL)
            for i in range(kh):
                source = scratch + i * args[_PADDED_W] * c * 4
                for index in range(tiles):
                    j = run * index // tiles
                    tile_transposed(
                        run * (index + 1) // tiles - j,
                        source + j * 4,
                        grad + panel * PANEL * 4,
                        sums + ((i * run + j) * o + panel * PANEL) * 4,
                        0,
                        width,
                        args,
                    )


# Floats that a block of rows and its gradient may touch: 256 KiB.
_BLOCK = 1 << 16


def _block_rows(oh: int, row_floats: int) -> int:
    """Return the largest divisor of ``oh`` for which so many rows fit the cache."""
    most = max(1, _BLOCK // row_floats)
    return max(rows for rows in range(1, oh + 1) if oh % rows == 0 and (rows <= most or rows == 1))


def dense_weight_grad(x: Array, grad: Array, kernel_size: Pair, conv: Conv) -> Rows:
    """Return rows for the gradient ``(O, C, kh, kw)`` of a dense convolution of dilation 1."""
    images, h, w, c = x.shape
    oh, ow, o = grad.shape[1:]
    (kh, kw), (sh, sw), ((top, _), (left, _)) = kernel_size, conv.stride, conv.padding
    padded_w = (ow - 1) * sw + kw
    rows = _block_rows(oh, sh * padded_w * c + ow * o)
    blocks = images * (oh // rows)
    size = kh * kw * c * o
    threads = _threads.get_num_threads()
    splits = max(1, min(blocks, 4 * threads, images * oh * ow * size // _WORTH))
    scratch_size = -(-((rows - 1) * sh + kh) * padded_w * c // 16) * 16 + 16
    parts = workspace.empty((splits, kh * kw * c, o))
    scratch = workspace.empty((threads, scratch_size))
    sums = parts[0] if splits == 1 else empty((kh * kw * c, o))
    plan = [
        (
            dense_sums.address,
            splits,
            *_tile_arguments(
                a_step=4 * sw * c,
                a_segment=4 * sh * padded_w * c,
                b_step=4 * o,
                b_segment=4 * ow * o,
                c_row=4 * o,
                length=ow,
                segments=rows,
            ),
            address(x),
            address(grad),
            address(parts),
            address(scratch),
            4 * scratch_size,
            images,
            h,
            w,
            c,
            oh,
            ow,
            o,
            kh,
            kw,
            sh,
            top,
            left,
            padded_w,
            splits,
            rows,
        )
    ]
    if splits > 1:
        plan.append(_add_parts_row(parts, sums))

    def result(inputs: tuple[Array, ...] = (x, grad, parts, scratch)) -> Array:
        # A copy in any case: the sums may lie in the workspace, and already in this order.
        return sums.reshape(kh, kw, c, o).transpose(3, 2, 0, 1).copy()

    return plan, result


# -- depthwise ------------------------------------------------------------------------------------


def _depthwise_function(module: Any, kh: int, kw: int, width: int) -> Any:
    """Return the function that adds a block's sums for all taps, ``width`` channels at a time.

    The sums of all taps stay in registers while the pixels pass by.
    """
    name = f"lucid_depthwise_sums_{kh}_{kw}_{width}"
    if name in module.globals:
        return module.globals[name]
    # x, grad, sums, rows, columns, x row step, x pixel step, stride down, stride right, grad row,
    # grad pixel, first channel, after the last
    kind = ir.FunctionType(ir.VoidType(), [i64] * 13)
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    x, grad, sums, rows, columns, x_row, x_pixel = function.args[:7]
    down, right, grad_row, grad_pixel, first, last = function.args[7:]
    vector = ir.VectorType(f32, width) if width > 1 else f32
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    blocks = {n: function.append_basic_block(n) for n in ("channel", "row", "pixel", "row_end")}
    channel_end, after = (function.append_basic_block(n) for n in ("channel_end", "after"))

    def load(place: Any) -> Any:
        return builder.load(pointer(builder, place, vector), align=4, typ=vector)

    taps = [
        builder.add(builder.mul(x_row, i64(i)), builder.mul(x_pixel, i64(j)))
        for i in range(kh)
        for j in range(kw)
    ]
    zero = ir.Constant(vector, 0.0 if width == 1 else [0.0] * width)
    entry = builder.block
    builder.cbranch(builder.icmp_signed("<", first, last), blocks["channel"], after)

    builder.position_at_end(blocks["channel"])
    channel = builder.phi(i64)
    channel.add_incoming(first, entry)
    at = builder.mul(channel, i64(4))
    x_channel, grad_channel = builder.add(x, at), builder.add(grad, at)
    builder.branch(blocks["row"])

    builder.position_at_end(blocks["row"])
    row, x_at, grad_at = builder.phi(i64), builder.phi(i64), builder.phi(i64)
    row_sums = [builder.phi(vector) for _ in taps]
    starts = [i64(0), x_channel, grad_channel, *[zero] * len(taps)]
    for phi, value in zip([row, x_at, grad_at, *row_sums], starts):
        phi.add_incoming(value, blocks["channel"])
    builder.branch(blocks["pixel"])

    builder.position_at_end(blocks["pixel"])
    column, x_here, grad_here = builder.phi(i64), builder.phi(i64), builder.phi(i64)
    totals = [builder.phi(vector) for _ in taps]
    for phi, value in zip([column, x_here, grad_here, *totals], [i64(0), x_at, grad_at, *row_sums]):
        phi.add_incoming(value, blocks["row"])
    factor = load(grad_here)
    new = [
        multiply_add(builder, load(builder.add(x_here, tap)), factor, total)
        for tap, total in zip(taps, totals)
    ]
    following = [
        builder.add(column, i64(1)),
        builder.add(x_here, right),
        builder.add(grad_here, grad_pixel),
    ]
    for phi, value in zip([column, x_here, grad_here, *totals], [*following, *new]):
        phi.add_incoming(value, blocks["pixel"])
    more = builder.icmp_signed("<", following[0], columns)
    builder.cbranch(more, blocks["pixel"], blocks["row_end"])

    builder.position_at_end(blocks["row_end"])
    following = [builder.add(row, i64(1)), builder.add(x_at, down), builder.add(grad_at, grad_row)]
    for phi, value in zip([row, x_at, grad_at, *row_sums], [*following, *new]):
        phi.add_incoming(value, blocks["row_end"])
    more = builder.icmp_signed("<", following[0], rows)
    builder.cbranch(more, blocks["row"], channel_end)

    builder.position_at_end(channel_end)
    for index, value in enumerate(new):
        place = builder.add(builder.add(sums, at), builder.mul(grad_pixel, i64(index)))
        value = builder.fadd(value, load(place))
        builder.store(value, pointer(builder, place, vector), align=4)
    channel_next = builder.add(channel, i64(width))
    channel.add_incoming(channel_next, channel_end)
    builder.cbranch(builder.icmp_signed("<", channel_next, last), blocks["channel"], after)

    builder.position_at_end(after)
    builder.ret_void()
    return function


@intrinsic
def _add_depthwise(
    typingctx, size, x, grad, sums, rows, columns, x_row, x_pixel, down, right, grad_row, channels
):
    """Add a block's sums for the taps of a kernel of ``size``², all channels."""

    def codegen(context, builder, sig, values):
        size, *rest, channels = values
        pixel_bytes = builder.mul(channels, i64(4))
        whole = builder.and_(channels, i64(-WIDTH))
        after = builder.append_basic_block("after")
        impossible = builder.append_basic_block("impossible")
        switch = builder.switch(size, impossible)
        for kh, kw in DEPTHWISE_KERNELS:
            block = builder.append_basic_block("size")
            switch.add_case(i64(kh), block)
            builder.position_at_end(block)
            for width, first, last in ((WIDTH, i64(0), whole), (1, whole, channels)):
                builder.call(
                    _depthwise_function(builder.module, kh, kw, width),
                    [*rest, pixel_bytes, first, last],
                )
            builder.branch(after)
        builder.position_at_end(impossible)
        builder.unreachable()
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 12), codegen


@kernel
def depthwise_sums(args, chunk, thread):
    """The sums ``(kh·kw, C)`` over one part of the blocks of output rows."""
    h, w, c, oh, ow = args[_H], args[_W], args[_C], args[_OH], args[_OW]
    kh, kw, stride, rows = args[_KH], args[_KW], args[_STRIDE], args[_BLOCK_ROWS]
    sums = args[_SUMS] + chunk * kh * kw * c * 4
    target = floats(sums)
    for i in range(kh * kw * c):
        target[i] = np.float32(0)
    scratch = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
    per_image = oh // rows
    blocks = args[_IMAGES] * per_image
    padded_row, pixel = args[_PADDED_W] * c * 4, c * 4
    for block in range(blocks * chunk // args[_SPLITS], blocks * (chunk + 1) // args[_SPLITS]):
        image, y = block // per_image, block % per_image * rows
        _copy_rows(
            args[_X] + image * h * w * pixel,
            h,
            w,
            c,
            y * stride - args[_TOP],
            (rows - 1) * stride + kh,
            args[_LEFT],
            args[_PADDED_W],
            scratch,
        )
        _add_depthwise(
            kh,
            scratch,
            args[_GRAD] + (image * oh + y) * ow * pixel,
            sums,
            rows,
            ow,
            padded_row,
            pixel,
            stride * padded_row,
            args[_STRIDE_W] * pixel,
            ow * pixel,
            c,
        )


def depthwise_weight_grad(x: Array, grad: Array, kernel_size: Pair, conv: Conv) -> Rows:
    """Return rows for the gradient ``(C, 1, kh, kw)`` of a depthwise one of dilation 1."""
    images, h, w, c = x.shape
    oh, ow = grad.shape[1:3]
    (kh, kw), (sh, sw), ((top, _), (left, _)) = kernel_size, conv.stride, conv.padding
    padded_w = (ow - 1) * sw + kw
    rows = _block_rows(oh, sh * padded_w * c + ow * c)
    blocks = images * (oh // rows)
    threads = _threads.get_num_threads()
    work = images * oh * ow * c * kh * kw
    splits = max(1, min(blocks, 8 * threads, work // (_WORTH // 8)))
    scratch_size = -(-((rows - 1) * sh + kh) * padded_w * c // 16) * 16 + 16
    parts = workspace.empty((splits, kh * kw, c))
    scratch = workspace.empty((threads, scratch_size))
    row = (
        depthwise_sums.address,
        splits,
        *[0] * TILE_ARGUMENTS,
        address(x),
        address(grad),
        address(parts),
        address(scratch),
        4 * scratch_size,
        images,
        h,
        w,
        c,
        oh,
        ow,
        c,
        kh,
        kw,
        sh,
        top,
        left,
        padded_w,
        splits,
        rows,
        sw,
    )

    def result(inputs: tuple[Array, ...] = (x, grad, scratch)) -> Array:
        return np.ascontiguousarray(parts.sum(axis=0).T).reshape(c, 1, kh, kw)

    return [row], result
