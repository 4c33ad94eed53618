"""Dense convolution without matrices of patches.

Channels come last, so the taps of one row of the kernel are one contiguous run of ``kw·C`` floats.
A pixel's patch is ``kh`` such runs, and the next pixel's lies ``stride·C`` floats further: the
tile of the matrix product reads them in place. Only the padding needs a copy, of the few input
rows that a chunk of output rows uses.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv, Pair, Shape
from lucid.kernels.numba._activation import tiles_activated
from lucid.kernels.numba._batch_norm import Records, record_arguments, write_record
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    Instruction,
    float_bits,
    floats,
    kernel_with,
    piece,
    places,
)
from lucid.kernels.numba.machine._packing import Packed
from lucid.kernels.numba.machine._tile import AT, Tile, tiles

Array = np.ndarray


@piece
def copy_rows(x, h, w, c, first, count, left, padded_w, out):
    """Copy rows ``first`` to ``first + count`` of an image, with zeros around, to ``out``."""
    width = padded_w * c
    begin, skip = min(width, max(0, left) * c), max(0, -left) * c
    kept = max(0, min(w * c - skip, width - begin))
    for i in range(count):
        row = first + i
        target = floats(out + i * width * FLOAT)
        if row < 0 or row >= h:
            for j in range(width):
                target[j] = np.float32(0)
            continue
        source = floats(x + (row * w * c + skip) * FLOAT)
        for j in range(begin):
            target[j] = np.float32(0)
        for j in range(kept):
            target[begin + j] = source[j]
        for j in range(begin + kept, width):
            target[j] = np.float32(0)


class _Sizes(NamedTuple):
    """What the kernel reads of shapes and strides; steps are in bytes."""

    h: int
    w: int
    c: int
    oh: int
    ow: int
    columns: int
    stride: int
    top: int
    left: int
    padded_w: int
    rows: int  # of the output in a chunk
    scratch_bytes: int  # of a thread
    panel_bytes: int
    out_image: int
    out_row: int
    residual_image: int
    residual_line: int
    kind: int  # of the activation


_AT = places(_Sizes)


@kernel_with(tile=Tile, sizes=_Sizes)
def dense(chunk, thread, tile, sizes, x, packed, out, residual, scratch, records, record_size):
    """Some output rows of one image."""
    h, w, c, oh, ow = sizes[_AT.h], sizes[_AT.w], sizes[_AT.c], sizes[_AT.oh], sizes[_AT.ow]
    stride, columns, rows = sizes[_AT.stride], sizes[_AT.columns], sizes[_AT.rows]
    per_image = (oh + rows - 1) // rows
    image, start = chunk // per_image, chunk % per_image * rows
    stop = min(oh, start + rows)
    source = x + image * h * w * c * FLOAT
    first = start * stride - sizes[_AT.top]
    if scratch != 0:
        copy = scratch + thread * sizes[_AT.scratch_bytes]
        count = (stop - 1 - start) * stride + tile[AT.segments]
        copy_rows(source, h, w, c, first, count, sizes[_AT.left], sizes[_AT.padded_w], copy)
        source = copy
    else:
        source += (first * w - sizes[_AT.left]) * c * FLOAT
    target = out + image * sizes[_AT.out_image]
    for panel in range((columns + PANEL - 1) // PANEL):
        weights, skip = packed + panel * sizes[_AT.panel_bytes], panel * PANEL * FLOAT
        width = min(PANEL, columns - panel * PANEL)
        for y in range(start, stop):
            a = source + (y - start) * stride * tile[AT.a_segment]
            other = residual
            if residual != 0:
                other += image * sizes[_AT.residual_image] + y * sizes[_AT.residual_line] + skip
            line = target + y * sizes[_AT.out_row] + skip
            tiles(tile, sizes[_AT.kind], ow, a, weights, line, other, width)
    if records != 0:  # while the block is in the cache
        record = records + chunk * record_size * 8
        at = target + start * sizes[_AT.out_row]
        write_record(record, columns, 0, columns, at, tile[AT.c_row], (stop - start) * ow)


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
    # A multiple of 16: then the memory of the next thread starts at a cache line, too.
    floats_needed = ((rows - 1) * sh + kh) * padded_w * c + 15
    return rows, padded_w, floats_needed // 16 * 16


def scratch_size(
    shape: tuple[int, ...], out_shape: tuple[int, ...], kernel: Pair, conv: Conv
) -> int:
    """Return the floats of scratch memory that all threads of the convolution need."""
    size = _geometry(shape, out_shape, kernel, conv)[2]
    return size * _threads.get_num_threads()


@functools.lru_cache(maxsize=256)
def _settings(
    shape: Shape,
    out_shape: Shape,
    out_strides: tuple[int, ...],
    residual_strides: tuple[int, ...],
    kernel: Pair,
    conv: Conv,
    bounds: Bounds,
    kind: int,
) -> tuple[int, Tile, _Sizes]:
    """Return the chunks of a convolution, and its settings."""
    images, h, w, c = shape
    oh, ow, o = out_shape[1:]
    rows, padded_w, size = _geometry(shape, out_shape, kernel, conv)
    stride, ((top, _), (left, _)), *_ = conv
    low, high = map(float_bits, bounds)
    tile = Tile(
        tiles_activated.address,
        length=kernel[1] * c,
        a_row=FLOAT * stride[1] * c,
        c_row=out_strides[2],
        residual_row=residual_strides[2],
        segments=kernel[0],
        a_segment=FLOAT * padded_w * c,
        low=low,
        high=high,
    )
    panel_bytes = FLOAT * PANEL * (1 + kernel[0] * kernel[1] * c)
    sizes = _Sizes(
        h=h, w=w, c=c, oh=oh, ow=ow, columns=o, stride=stride[0], top=top, left=left,
        padded_w=padded_w, rows=rows, scratch_bytes=FLOAT * size, panel_bytes=panel_bytes,
        out_image=out_strides[0], out_row=out_strides[1], residual_image=residual_strides[0],
        residual_line=residual_strides[1], kind=kind,
    )  # fmt: skip
    return images * -(-oh // rows), tile, sizes


def dense_instruction(
    x: Array,
    packed: Packed,
    out: Array,
    kernel: Pair,
    conv: Conv,
    scratch: Array | None,
    bounds: Bounds = NO_BOUNDS,
    residual: Array | None = None,
    records: Records | None = None,
    kind: int = 0,
) -> Instruction:
    """Return the instruction for a dense convolution, of dilation 1, of NHWC ``x`` into ``out``.

    ``out`` and ``residual`` may be views; only the channels must be adjacent.
    ``packed`` holds the weights ``(O, kh·kw·I)``, taps before channels; ``scratch`` has as
    many floats as :func:`scratch_size` says. The result is clipped before the residual is added.
    ``records`` take the statistics of the channels of a contiguous ``out``.
    """
    others = (0, 0, 0) if residual is None else residual.strides
    chunks, tile, sizes = _settings(
        x.shape, out.shape, out.strides, others, kernel, conv, bounds, kind
    )
    return dense.pack(
        chunks,
        tile=tile,
        sizes=sizes,
        x=x,
        packed=packed.data,
        out=out,
        residual=residual,
        scratch=scratch if sizes.scratch_bytes else None,
        **record_arguments(records, chunks, packed.n),
    )
