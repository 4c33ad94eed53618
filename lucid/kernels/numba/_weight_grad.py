"""Gradients of weights: sums over all pixels of products of two channels.

Each is cut into parts of the pixels with sums of their own, which are then added up. The parts do
not depend on which thread computes them, so a result is the same every time.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from lucid.kernels.geometry import Conv, Pair, Shape
from lucid.kernels.numba._dense import copy_rows
from lucid.kernels.numba.machine import _emit, _threads
from lucid.kernels.numba.machine._emit import Value, load_value, store_value
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    REGISTERS,
    TILE_ROWS,
    Instruction,
    emits,
    floats,
    i64,
    kernel,
    kernel_with,
    piece,
    places,
    share,
    workspace,
)
from lucid.kernels.numba.machine._tile import Tile, tiles, tiles_transposed

Array = np.ndarray

DEPTHWISE_KERNELS = ((3, 3), (5, 5))

# Multiply-adds worth a part: some 10 µs.
_WORTH = 1 << 19


@kernel
def add_parts(
    chunk, thread, chunks, source, out, parts, rows, inner, columns, outer_step, inner_step, step
):  # fmt: skip
    """Add up parts, some rows of them in the place of the first, and write the sums in order."""
    start, stop = share(rows, chunk, chunks)
    size, first = rows * columns, floats(source)
    for part in range(1, parts):
        values = floats(source + part * size * FLOAT)
        for i in range(start * columns, stop * columns):
            first[i] += values[i]
    for row in range(start, stop):
        sums = floats(source + row * columns * FLOAT)
        target = out + row // inner * outer_step + row % inner * inner_step
        if step == FLOAT:
            for j in range(columns):
                floats(target)[j] = sums[j]
        else:
            for j in range(columns):
                floats(target + j * step)[0] = sums[j]


def _add_parts(parts: Array, out: Array) -> Instruction:
    """Return the instruction for ``out = parts.sum(0)``; ``out`` ``(a, b, n)`` is any view."""
    rows, columns = out.shape[0] * out.shape[1], out.shape[2]
    outer_step, inner_step, step = out.strides
    return add_parts.pack(
        max(1, min(64, rows, parts.size >> 15)), source=parts, out=out, parts=len(parts),
        rows=rows, inner=out.shape[1], columns=columns, outer_step=outer_step,
        inner_step=inner_step, step=step,
    )  # fmt: skip


@piece
def clear(place, count):
    """Write zeros."""
    target = floats(place)
    for i in range(count):
        target[i] = np.float32(0)


# -- matrices -------------------------------------------------------------------------------------

# Rows that a tile sums before it goes back to memory: 32 columns of them fill half the first-level
# cache.
_STEPS = 128


@kernel_with(settings=Tile, last_settings=Tile)
def transposed_product(
    chunk, thread, settings, last_settings, a, b, out, part_bytes, rows, n1, n2, parts, blocks_1,
    blocks_2,
):  # fmt: skip
    """One block of ``aᵀ·b`` over one part of the rows.

    The rows are taken _STEPS at a time; the last of these runs, which is shorter, has settings of
    its own.
    """
    part = chunk // (blocks_1 * blocks_2)
    target = out + part * part_bytes
    start, stop = share(n1, chunk // blocks_2 % blocks_1, blocks_1)
    first_panel, last_panel = share((n2 + PANEL - 1) // PANEL, chunk % blocks_2, blocks_2)
    first, last = first_panel * PANEL, min(n2, last_panel * PANEL)
    for i in range(start, stop):
        clear(target + (i * n2 + first) * FLOAT, last - first)
    first_run, last_run = share((rows + _STEPS - 1) // _STEPS, part, parts)
    for run in range(first_run, last_run):
        own = settings if (run + 1) * _STEPS <= rows else last_settings
        a_at = a + (run * _STEPS * n1 + start) * FLOAT
        for panel in range(first_panel, last_panel):
            column = panel * PANEL
            b_at = b + (run * _STEPS * n2 + column) * FLOAT
            c_at = target + (start * n2 + column) * FLOAT
            tiles(own, 0, stop - start, a_at, b_at, c_at, 0, min(PANEL, n2 - column))


def product_transposed(a: Array, b: Array, out: Array) -> list[Instruction]:
    """Return instructions for ``out = aᵀ @ b``, float32 ``(rows, n1)`` and ``(rows, n2)``."""
    rows, n1 = a.shape
    n2 = b.shape[1]
    heights, panels = -(-n1 // TILE_ROWS), -(-n2 // PANEL)
    wanted = min(rows * n1 * n2 // _WORTH + 1, 8 * _threads.get_num_threads())
    runs = -(-rows // _STEPS)
    # Cut the result as long as its blocks are not small, then the rows.
    blocks_2 = min(-(-panels // 4), wanted)
    blocks_1 = min(-(-heights // 4), -(-wanted // blocks_2))
    count = min(runs, -(-wanted // (blocks_1 * blocks_2)))
    parts = workspace.empty((count, n1, n2)) if count > 1 else out[None]
    steps = {"a_step": FLOAT * n1, "b_step": FLOAT * n2, "c_row": FLOAT * n2}
    code = tiles_transposed.address
    instructions = [
        transposed_product.pack(
            count * blocks_1 * blocks_2,
            settings=Tile(code, _STEPS, **steps),
            last_settings=Tile(code, rows % _STEPS, **steps),
            a=a,
            b=b,
            out=parts,
            part_bytes=FLOAT * n1 * n2,
            rows=rows,
            n1=n1,
            n2=n2,
            parts=count,
            blocks_1=blocks_1,
            blocks_2=blocks_2,
        )
    ]
    if count > 1:
        instructions.append(_add_parts(parts, out[None]))
    return instructions


# -- convolutions ---------------------------------------------------------------------------------


class _Blocks(NamedTuple):
    """How the output rows of all images are cut: in blocks, and in parts of all blocks.

    Both kernels below copy the padded input rows of one block after the other to memory of their
    thread, and add its sums to those of the part.
    """

    scratch_bytes: int
    images: int
    h: int
    w: int
    c: int
    oh: int
    ow: int
    o: int
    kh: int
    kw: int
    stride: int
    stride_w: int
    top: int
    left: int
    padded_w: int
    parts: int
    rows: int  # of a block; a divisor of oh


_AT = places(_Blocks)


@piece
def _load_block(args, x, grad, block, scratch):
    """Copy a block's input rows to scratch memory, and return where its gradient starts."""
    rows, h, w, c = args[_AT.rows], args[_AT.h], args[_AT.w], args[_AT.c]
    per_image = args[_AT.oh] // rows
    image, y = block // per_image, block % per_image * rows
    first, count = (
        y * args[_AT.stride] - args[_AT.top],
        (rows - 1) * args[_AT.stride] + args[_AT.kh],
    )
    source = x + image * h * w * c * FLOAT
    copy_rows(source, h, w, c, first, count, args[_AT.left], args[_AT.padded_w], scratch)
    return grad + (image * args[_AT.oh] + y) * args[_AT.ow] * args[_AT.o] * FLOAT


@kernel_with(settings=Tile, blocks=_Blocks)
def dense_sums(chunk, thread, settings, blocks, x, grad, parts, scratch):
    """The sums ``(kh·kw·C, O)`` over one part of the blocks."""
    c, o, kh = blocks[_AT.c], blocks[_AT.o], blocks[_AT.kh]
    run = blocks[_AT.kw] * c
    sums = parts + chunk * kh * run * o * FLOAT
    clear(sums, kh * run * o)
    own = scratch + thread * blocks[_AT.scratch_bytes]
    count = blocks[_AT.images] * (blocks[_AT.oh] // blocks[_AT.rows])
    start, stop = share(count, chunk, blocks[_AT.parts])
    for block in range(start, stop):
        grad_at = _load_block(blocks, x, grad, block, own)
        for panel in range((o + PANEL - 1) // PANEL):
            skip, width = panel * PANEL * FLOAT, min(PANEL, o - panel * PANEL)
            for i in range(kh):
                source, target = i * blocks[_AT.padded_w] * c, i * run * o
                a, c_at = own + source * FLOAT, sums + target * FLOAT + skip
                tiles(settings, 0, run, a, grad_at + skip, c_at, 0, width)


# Floats that a block of rows and its gradient may touch: 256 KiB.
_BLOCK = 1 << 16


def _block_rows(oh: int, row_floats: int) -> int:
    """Return the largest divisor of ``oh`` for which so many rows fit the cache."""
    most = max(1, _BLOCK // row_floats)
    return max(rows for rows in range(1, oh + 1) if oh % rows == 0 and (rows <= most or rows == 1))


@functools.lru_cache(maxsize=256)
def _cut(
    shape: Shape, out_shape: Shape, kernel: Pair, conv: Conv, sums: int, most: int, worth: int
) -> _Blocks:
    """Return how to cut a convolution.

    Args:
        shape: of its input.
        out_shape: of its output.
        kernel: vertical, horizontal.
        conv: the convolution.
        sums: how many there are in a part.
        most: parts at most.
        worth: multiply-adds worth a part.
    """
    images, h, w, c = shape
    oh, ow, o = out_shape[1:]
    (kh, kw), (sh, sw), ((top, _), (left, _)) = kernel, conv.stride, conv.padding
    padded_w = (ow - 1) * sw + kw
    rows = _block_rows(oh, sh * padded_w * c + ow * o)
    parts = max(1, min(images * (oh // rows), most, images * oh * ow * sums // worth))
    scratch_size = -(-((rows - 1) * sh + kh) * padded_w * c // 16) * 16 + 16
    return _Blocks(
        scratch_bytes=FLOAT * scratch_size, images=images, h=h, w=w, c=c, oh=oh, ow=ow, o=o, kh=kh,
        kw=kw, stride=sh, stride_w=sw, top=top, left=left, padded_w=padded_w, parts=parts,
        rows=rows,
    )  # fmt: skip


def _memory(blocks: _Blocks, sums: int) -> tuple[Array, Array]:
    """Return room for the parts' sums and for the threads' blocks."""
    size = blocks.scratch_bytes // FLOAT
    parts = workspace.empty((blocks.parts, sums))
    return parts, workspace.empty((_threads.get_num_threads(), size))


def dense_weight_grad(x: Array, grad: Array, out: Array, conv: Conv) -> list[Instruction]:
    """Return instructions for the gradient ``(O, C, kh, kw)`` of a dense one of dilation 1."""
    o, c, kh, kw = out.shape
    ow, (sh, sw) = grad.shape[2], conv.stride
    count, most = out.size, 4 * _threads.get_num_threads()
    blocks = _cut(x.shape, grad.shape, (kh, kw), conv, count, most, _WORTH)
    parts, scratch = _memory(blocks, count)
    settings = Tile(
        tiles_transposed.address,
        length=ow,
        a_step=FLOAT * sw * c,
        a_segment=FLOAT * sh * blocks.padded_w * c,
        b_step=FLOAT * o,
        b_segment=FLOAT * ow * o,
        c_row=FLOAT * o,
        segments=blocks.rows,
    )
    arrays = {"x": x, "grad": grad, "parts": parts, "scratch": scratch}
    return [
        dense_sums.pack(blocks.parts, settings=settings, blocks=blocks, **arrays),
        _add_parts(parts, out.reshape(o, c, kh * kw).transpose(2, 1, 0)),
    ]


# -- depthwise ------------------------------------------------------------------------------------


def _depthwise_function(module: Any, kh: int, kw: int, width: int) -> Any:
    """Return the function that adds a block's sums for all taps, ``width`` channels at a time.

    The sums of all taps stay in registers while the pixels pass by, so ``kh`` may be some rows of a
    larger kernel.
    """
    vector = _emit.floats_of(width)

    def write(
        builder: Any, x: Any, grad: Any, sums: Any, rows: Any, columns: Any, x_row: Any,
        x_pixel: Any, down: Any, right: Any, grad_row: Any, grad_pixel: Any, first: Any, last: Any,
    ) -> None:  # fmt: skip
        taps = [
            builder.add(builder.mul(x_row, i64(i)), builder.mul(x_pixel, i64(j)))
            for i, j in itertools.product(range(kh), range(kw))
        ]

        def of_channels(at: Any) -> None:
            def of_row(x_at: Any, grad_at: Any, *row_sums: Any) -> list[Any]:
                def of_pixel(x_here: Any, grad_here: Any, *totals: Any) -> list[Any]:
                    factor = load_value(builder, grad_here, vector)
                    new = []
                    for tap, total in zip(taps, totals):
                        value = load_value(builder, builder.add(x_here, tap), vector)
                        new.append((value * factor + Value(builder, total)).ir)
                    return [builder.add(x_here, right), builder.add(grad_here, grad_pixel), *new]

                starts = [x_at, grad_at, *row_sums]
                _, _, *new = _emit.loop(builder, columns, starts, of_pixel)
                return [builder.add(x_at, down), builder.add(grad_at, grad_row), *new]

            zeros = [_emit.constant(0, vector)] * len(taps)
            starts = [builder.add(x, at), builder.add(grad, at), *zeros]
            _, _, *new = _emit.loop(builder, rows, starts, of_row)
            for index, value in enumerate(new):
                place = builder.add(builder.add(sums, at), builder.mul(grad_pixel, i64(index)))
                store_value(Value(builder, value) + load_value(builder, place, vector), place)

        _emit.channel_loop(builder, width, first, last, of_channels)

    kind = ir.FunctionType(ir.VoidType(), [i64] * 13)
    return _emit.function(
        module, f"lucid_depthwise_sums_{kh}_{kw}_{width}", kind, "noinline", write
    )


@emits(*(i64,) * 12)
def _add_depthwise(builder: Any, size: Any, *args: Any) -> None:
    """Add a block's sums for the taps of a kernel of ``size``², all channels.

    The arguments are ``size, x, grad, sums, rows, columns``, the bytes to the next of ``x``'s rows,
    of its pixels, of the rows and the pixels for the next output, and of ``grad``'s rows, and
    ``channels``.
    """
    x, grad, sums, *steps, channels = args
    x_row, pixel_bytes = steps[2], builder.mul(channels, i64(FLOAT))

    def call(kh: int, kw: int) -> None:
        most = min(kh, (REGISTERS - 1) // kw)

        def some(width: int, first: Any, last: Any) -> None:
            for i in range(0, kh, most):
                function = _depthwise_function(builder.module, min(most, kh - i), kw, width)
                x_at = builder.add(x, builder.mul(x_row, i64(i)))
                sums_at = builder.add(sums, builder.mul(pixel_bytes, i64(i * kw)))
                ends = [pixel_bytes, first, last]
                builder.call(function, [x_at, grad, sums_at, *steps, *ends])

        _emit.over_channels(builder, channels, some)

    cases = {kh: functools.partial(call, kh, kw) for kh, kw in DEPTHWISE_KERNELS}
    _emit.choice(builder, size, cases)


@kernel_with(blocks=_Blocks)
def depthwise_sums(chunk, thread, blocks, x, grad, parts, scratch):
    """The sums ``(kh·kw, C)`` over one part of the blocks."""
    c, ow, kh, rows = blocks[_AT.c], blocks[_AT.ow], blocks[_AT.kh], blocks[_AT.rows]
    sums = parts + chunk * kh * blocks[_AT.kw] * c * FLOAT
    clear(sums, kh * blocks[_AT.kw] * c)
    own = scratch + thread * blocks[_AT.scratch_bytes]
    pixel, padded_row = c * FLOAT, blocks[_AT.padded_w] * c * FLOAT
    down, right = blocks[_AT.stride] * padded_row, blocks[_AT.stride_w] * pixel
    count = blocks[_AT.images] * (blocks[_AT.oh] // rows)
    start, stop = share(count, chunk, blocks[_AT.parts])
    for block in range(start, stop):
        grad_at = _load_block(blocks, x, grad, block, own)
        _add_depthwise(
            kh, own, grad_at, sums, rows, ow, padded_row, pixel, down, right, ow * pixel, c
        )


def depthwise_weight_grad(x: Array, grad: Array, out: Array, conv: Conv) -> list[Instruction]:
    """Return instructions for the gradient ``(C, 1, kh, kw)`` of a depthwise one of dilation 1."""
    c, _, kh, kw = out.shape
    count, most = out.size, 8 * _threads.get_num_threads()
    blocks = _cut(x.shape, grad.shape, (kh, kw), conv, count, most, _WORTH // 8)
    parts, scratch = _memory(blocks, count)
    arrays = {"x": x, "grad": grad, "parts": parts, "scratch": scratch}
    return [
        depthwise_sums.pack(blocks.parts, blocks=blocks, **arrays),
        _add_parts(parts, out.reshape(c, 1, kh * kw).transpose(2, 1, 0)),
    ]
