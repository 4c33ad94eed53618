"""Dense convolution without matrices of patches.

Channels come last, so the taps of one row of the kernel are one contiguous run of ``kw·C`` floats.
A pixel's patch is ``kh`` such runs, and the next pixel's lies ``stride·C`` floats further: the
tile of the matrix product reads them in place. Only the padding needs a copy, of the few input
rows that a chunk of output rows uses.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv, Pair
from lucid.kernels.numba._activation import finish
from lucid.kernels.numba._batch_norm import Records, write_record
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    PANEL,
    TILE_ROWS,
    address,
    float_bits,
    floats,
    kernel,
)
from lucid.kernels.numba.machine._packing import Packed
from lucid.kernels.numba.machine._tile import (
    A_ROW,
    A_SEGMENT,
    ACTIVATION,
    C_ROW,
    RESIDUAL_ROW,
    SEGMENTS,
    TILE_ARGUMENTS,
    tile,
)

Array = np.ndarray

(
    _X, _H, _W, _C, _OUT, _OUT_IMAGE, _OUT_ROW, _RES_IMAGE, _RES_ROW, _OH, _OW, _N_OUT,
    _STRIDE, _TOP, _LEFT, _PADDED_W, _PACKED, _PANEL_BYTES, _RESIDUAL, _SCRATCH,
    _SCRATCH_BYTES, _ROWS, _RECORDS, _RECORD_SIZE,
) = range(TILE_ARGUMENTS, TILE_ARGUMENTS + 24)  # fmt: skip


@njit
def _copy_rows(x, h, w, c, first, count, left, padded_w, out):
    """Copy rows ``first`` to ``first + count`` of an image, with zeros around, to ``out``."""
    width = padded_w * c
    begin, skip = min(width, max(0, left) * c), max(0, -left) * c
    kept = max(0, min(w * c - skip, width - begin))
    for i in range(count):
        row = first + i
        target = floats(out + i * width * 4)
        if row < 0 or row >= h:
            for j in range(width):
                target[j] = np.float32(0)
            continue
        source = floats(x + (row * w * c + skip) * 4)
        for j in range(begin):
            target[j] = np.float32(0)
        for j in range(kept):
            target[begin + j] = source[j]
        for j in range(begin + kept, width):
            target[j] = np.float32(0)


@kernel
def dense(args, chunk, thread):
    """Some output rows of one image."""
    h, w, c, oh, ow = args[_H], args[_W], args[_C], args[_OH], args[_OW]
    stride, columns, rows = args[_STRIDE], args[_N_OUT], args[_ROWS]
    per_image = (oh + rows - 1) // rows
    image, start = chunk // per_image, chunk % per_image * rows
    stop = min(oh, start + rows)
    source = args[_X] + image * h * w * c * 4
    first = start * stride - args[_TOP]
    if args[_SCRATCH] != 0:
        scratch = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
        count = (stop - 1 - start) * stride + args[SEGMENTS]
        _copy_rows(source, h, w, c, first, count, args[_LEFT], args[_PADDED_W], scratch)
        source = scratch
    else:
        source += first * w * c * 4
    tiles = (ow + TILE_ROWS - 1) // TILE_ROWS
    for panel in range((columns + PANEL - 1) // PANEL):
        weights = args[_PACKED] + panel * args[_PANEL_BYTES]
        width = min(PANEL, columns - panel * PANEL)
        for y in range(start, stop):
            x_row = source + (y - start) * stride * args[A_SEGMENT]
            out_row = args[_OUT] + image * args[_OUT_IMAGE] + y * args[_OUT_ROW] + panel * PANEL * 4
            for index in range(tiles):
                column = ow * index // tiles
                count = ow * (index + 1) // tiles - column
                residual = args[_RESIDUAL]
                if residual != 0:
                    residual += (
                        image * args[_RES_IMAGE]
                        + y * args[_RES_ROW]
                        + column * args[RESIDUAL_ROW]
                        + panel * PANEL * 4
                    )
                kind, out = args[ACTIVATION], out_row + column * args[C_ROW]
                tile(
                    count,
                    x_row + column * args[A_ROW],
                    weights,
                    out,
                    residual if kind == 0 else 0,
                    width,
                    args,
                )
                if kind != 0:
                    finish(kind, count, width, out, args[C_ROW], residual, args[RESIDUAL_ROW])
    if args[_RECORDS] != 0:  # while the block is in the cache
        write_record(
            args[_RECORDS] + chunk * args[_RECORD_SIZE] * 8,
            columns,
            0,
            columns,
            args[_OUT] + image * args[_OUT_IMAGE] + start * args[_OUT_ROW],
            args[C_ROW],
            (stop - start) * ow,
        )


# Floats of input that a chunk may touch, see _product; and its multiply-adds, some 10 µs.
_BLOCK = 1 << 16
_WORTH = 1 << 19


def _geometry(
    shape: tuple[int, ...], out_shape: tuple[int, ...], kernel: Pair, conv: Conv
) -> tuple[int, int, int]:
    """Return the output rows of a chunk, the padded width, and the floats of scratch a thread."""
    _, h, w, c = shape
    oh, ow, o = out_shape[1:]
    (kh, kw), (sh, sw), padding = kernel, conv.stride, conv.padding
    row_work = ow * kh * kw * c * o
    rows = min(oh, max(1, _WORTH // row_work))
    padded_w = (ow - 1) * sw + kw
    inside = (
        padding[0][0] <= 0
        and padding[1][0] <= 0
        and (oh - 1) * sh + kh - padding[0][0] <= h
        and padded_w - padding[1][0] <= w
    )
    if inside:
        return rows, w, 0
    while rows > 1 and ((rows - 1) * sh + kh) * padded_w * c > _BLOCK:
        rows -= 1
    # A few more floats, as the next thread's shall start at a cache line.
    floats_needed = ((rows - 1) * sh + kh) * padded_w * c + 15
    return rows, padded_w, floats_needed // 16 * 16


def scratch_size(
    shape: tuple[int, ...], out_shape: tuple[int, ...], kernel: Pair, conv: Conv
) -> int:
    """Return the floats of scratch memory that :func:`dense_row` needs, for all threads."""
    size = _geometry(shape, out_shape, kernel, conv)[2]
    return size * _threads.get_num_threads()


def dense_row(
    x: Array,
    packed: Packed,
    out: Array,
    kernel: Pair,
    conv: Conv,
    scratch: Array | None,
    bounds: Bounds = NO_BOUNDS,
    residual: Array | None = None,
    records: Records | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan for a dense convolution, of dilation 1, of NHWC ``x`` into ``out``.

    ``out`` and ``residual`` may be views; only the channels must be adjacent.
    ``packed`` holds the weights ``(O, kh·kw·I)``, taps before channels; ``scratch`` has as
    many floats as :func:`scratch_size` says. The result is clipped before the residual is added.
    ``records`` take the statistics of the channels of a contiguous ``out``.
    """
    images, h, w, c = x.shape
    oh, ow, o = out.shape[1:]
    rows, padded_w, size = _geometry(x.shape, out.shape, kernel, conv)
    start = address(x)
    stride, ((top, _), (left, _)), *_ = conv
    if not size:  # no copy: negative padding is a later start
        start += -left * c * 4
    chunks = images * -(-oh // rows)
    return (
        dense.address,
        chunks,
        4 * stride[1] * c,
        kernel[0],
        kernel[1] * c,
        4 * padded_w * c,
        4 * PANEL,
        out.strides[2],
        0 if residual is None else residual.strides[2],
        *map(float_bits, bounds),
        0,
        0,
        start,
        h,
        w,
        c,
        address(out),
        *out.strides[:2],
        *((0, 0) if residual is None else residual.strides[:2]),
        oh,
        ow,
        o,
        stride[0],
        top,
        left,
        padded_w,
        address(packed.data),
        4 * PANEL * (1 + packed.k),
        0 if residual is None else address(residual),
        0 if scratch is None or not size else address(scratch),
        4 * size,
        rows,
        *((0, 0) if records is None else records.make(chunks, o)),
    )
