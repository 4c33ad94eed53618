"""Products of matrices without BLAS and its threads: of any two, or with one packed before.

A chunk computes a block of rows and panels of one product. It packs one panel of ``b`` after the
other into memory of its thread, whatever the layout of ``b``, and lets tiles of rows of ``a`` run
over it. So nothing is copied as a whole, and a transposed matrix needs no copy of its own. Rows of
``a`` are read where they lie; if ``a`` is transposed, the chunk's block of it is copied once.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from lucid.kernels.geometry import NO_BOUNDS, Bounds
from lucid.kernels.numba._activation import tiles_activated
from lucid.kernels.numba._batch_norm import Records, record_arguments, write_record
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    TILE_ROWS,
    WIDTH,
    Instruction,
    address,
    empty,
    float_bits,
    floats,
    kernel,
    kernel_with,
    piece,
    pixel_step,
    places,
    share,
    words,
    workspace,
)
from lucid.kernels.numba.machine._packing import Packed, copy_block, pack_panel
from lucid.kernels.numba.machine._tile import AT, READS_AHEAD, Tile, tiles
from lucid.kernels.numba.machine._vector import load, spread, total
from lucid.kernels.numpy import _product as reference

Array = np.ndarray

# Steps of a sum in one pass: a panel of them is 64 KiB, so that with a block of rows of ``a`` it
# stays in a core's second-level cache.
_DEPTH = 512
# Floats of ``a`` in a block of rows: 256 KiB. Packing a panel is then a few percent of its use.
_BLOCK = 1 << 16
# Multiply-adds worth a chunk: some 5 µs.
_WORTH = 1 << 18

# Products of at most so many multiply-adds are NumPy's. A launch costs some 10 µs, in which its
# BLAS has done them, and up to here it starts no threads: OpenBLAS does above 2^18 for a matrix
# times a matrix, at 9216 for a matrix times a vector.
_SMALL = 1 << 18
_SMALL_VECTOR = 9216

# At most so many rows are multiplied without packing, by inner products.
_FEW = 4


# -- of any two matrices ------------------------------------------------------------------------

_TILE_BYTES = -(-8 * len(Tile._fields) // 64) * 64


@kernel_with(settings=Tile)
def products(
    chunk, thread, settings, a, b, c, m, k, n, a_row, a_column, b_step, b_column, bias, row_blocks,
    column_blocks, items, chunks, scratch, scratch_bytes, passes, has_tables,
):  # fmt: skip
    """Some blocks of ``c = a·b + bias``; a, b and c may be tables of addresses, one a product."""
    own_at = scratch + thread * scratch_bytes
    own = words(own_at)  # settings to be changed
    for index in range(len(AT)):
        own[index] = settings[index]
    panel_at = own_at + _TILE_BYTES
    copy_at = panel_at + (1 + (k + passes - 1) // passes) * PANEL * FLOAT
    panels = (n + PANEL - 1) // PANEL
    first_item, last_item = share(items, chunk, chunks)
    for item in range(first_item, last_item):
        batch, block = item // (row_blocks * column_blocks), item % (row_blocks * column_blocks)
        a_whole, b_whole, c_whole = a, b, c
        if has_tables:
            a_whole, b_whole, c_whole = words(a)[batch], words(b)[batch], words(c)[batch]
        start, stop = share(m, block // column_blocks, row_blocks)
        first_panel, last_panel = share(panels, block % column_blocks, column_blocks)
        for part in range(passes):
            first, last = share(k, part, passes)
            depth = last - first
            a_at = a_whole + start * a_row + first * a_column
            own[AT.length], own[AT.a_row] = depth, a_row
            if a_column != FLOAT:
                copy_block(a_at, a_row, a_column, stop - start, depth, copy_at)
                a_at = copy_at
                own[AT.a_row] = depth * FLOAT
            for panel in range(first_panel, last_panel):
                column = panel * PANEL
                width = min(PANEL, n - column)
                zeros, biases = floats(panel_at), floats(bias + column * FLOAT)
                for j in range(PANEL):
                    zeros[j] = biases[j] if bias != 0 and part == 0 and j < width else np.float32(0)
                b_at, target = (
                    b_whole + first * b_step + column * b_column,
                    panel_at + PANEL * FLOAT,
                )
                pack_panel(b_at, b_step, b_column, depth, width, target, 0)
                c_at = c_whole + (start * n + column) * FLOAT
                # Later passes add to the sums of the earlier ones.
                tiles(own, 0, stop - start, a_at, panel_at, c_at, c_at if part > 0 else 0, width)


def addresses(array: Array, lead: tuple[int, ...]) -> Array:
    """Return where each matrix of ``array`` starts when its leading axes broadcast to ``lead``."""
    place = address(array)
    strides = array.strides[:-2]
    shape = array.shape[:-2]
    missing = len(lead) - len(shape)
    table: Array = np.array([place])
    for axis, size in enumerate(lead):
        own = axis - missing
        step = strides[own] if own >= 0 and shape[own] > 1 else 0
        table = (table[:, None] + np.arange(size) * step).ravel()
    return table


def _grid(batch: int, m: int, k: int, n: int) -> tuple[int, int, int]:
    """Return the passes over ``k`` and into how many blocks of rows and of panels to cut."""
    threads = _threads.get_num_threads()
    passes = -(-k // _DEPTH)
    depth = -(-k // passes)
    tiles, panels = -(-m // TILE_ROWS), -(-n // PANEL)
    row_blocks = min(tiles, -(-m * depth // _BLOCK))
    if threads == 1:
        return passes, row_blocks, 1
    wanted = min(batch * m * k * n // _WORTH + 1, 8 * threads)
    column_blocks = min(panels, max(1, -(-wanted // (batch * row_blocks))))
    if batch * row_blocks * column_blocks < wanted:
        row_blocks = min(tiles, -(-wanted // (batch * column_blocks)))
    return passes, row_blocks, column_blocks


def _multiply(a: Array, b: Array, bias: Array | None, lead: tuple[int, ...]) -> Array:
    """Return ``a @ b + bias`` for float32 arrays of any strides, none of them empty."""
    m, k = a.shape[-2:]
    n = b.shape[-1]
    out = empty((*lead, m, n))
    batch = math.prod(lead)
    passes, row_blocks, column_blocks = _grid(batch, m, k, n)
    items = batch * row_blocks * column_blocks
    each = max(1, min(_WORTH // max(1, m * k * n // (row_blocks * column_blocks)), items))
    chunks = min(-(-items // each), _threads.MAX_CHUNKS)
    depth = -(-k // passes)
    size = _TILE_BYTES // FLOAT + (1 + depth) * PANEL
    if a.strides[-1] != FLOAT:  # a block of it is copied
        size += -(-m // row_blocks) * depth
    size = -(-size // 16) * 16
    tables = [addresses(array, lead) for array in (a, b, out)] if batch > 1 else [a, b, out]
    tile = Tile(tiles_activated.address, depth, c_row=FLOAT * n, residual_row=FLOAT * n)
    workspace.start()
    scratch = workspace.empty((size * _threads.get_num_threads(),))
    instruction = products.pack(
        chunks, settings=tile, a=tables[0], b=tables[1], c=tables[2], m=m, k=k, n=n,
        a_row=a.strides[-2], a_column=a.strides[-1], b_step=b.strides[-2], b_column=b.strides[-1],
        bias=bias, row_blocks=row_blocks, column_blocks=column_blocks, items=items,
        scratch=scratch, scratch_bytes=FLOAT * size, passes=passes, has_tables=batch > 1,
    )  # fmt: skip
    _threads.launch(instruction)
    return out


# -- with a matrix that is packed ---------------------------------------------------------------


class _Sizes(NamedTuple):
    """What the kernel reads of the matrices' sizes."""

    rows: int
    columns: int
    panel_bytes: int
    row_blocks: int
    column_blocks: int
    kind: int  # of the activation


_AT = places(_Sizes)


@kernel_with(tile=Tile, sizes=_Sizes)
def product(chunk, thread, tile, sizes, x, packed, out, residual, records, record_size):
    """One block of rows and panels of ``act(x @ packed + bias) + residual``."""
    columns, row_blocks = sizes[_AT.columns], sizes[_AT.row_blocks]
    # Neighbours share the panels: threads, which begin at both ends, then read half of them each.
    row_block, column_block = chunk % row_blocks, chunk // row_blocks
    start, stop = share(sizes[_AT.rows], row_block, row_blocks)
    panels = (columns + PANEL - 1) // PANEL
    first_panel, last_panel = share(panels, column_block, sizes[_AT.column_blocks])
    a, target = x + start * tile[AT.a_row], out + start * tile[AT.c_row]
    for panel in range(first_panel, last_panel):
        column = panel * PANEL
        other = residual
        if residual != 0:
            other += start * tile[AT.residual_row] + column * FLOAT
        b, width = packed + panel * sizes[_AT.panel_bytes], min(PANEL, columns - column)
        c, kind = target + column * FLOAT, sizes[_AT.kind]
        tiles(tile, kind, stop - start, a, b, c, other, width)
    if records != 0:  # while the block is in the cache
        first = first_panel * PANEL
        count = min(columns, last_panel * PANEL) - first
        record, at = records + row_block * record_size * 8, target + first * FLOAT
        write_record(record, columns, first, count, at, tile[AT.c_row], stop - start)


# Floats of x that a chunk may touch: 256 KiB, a quarter of a core's second-level cache, so that
# they stay there while the panels pass by.
_PACKED_BLOCK = 1 << 16


# With at most so many rows in a block a panel is used too little to hide where it comes from, and
# the next is read ahead. A product of 49 rows takes 0.83 of the time, one of 392 no less.
_READ_AHEAD = 256 if READS_AHEAD else 0


# Rows of a block below which it reads weights faster than they come from the third-level cache. The
# 49 rows of mobilenetv4_conv_large's last layers were 9 blocks, each of which read 4 MB; by panels
# one image takes 0.92 of the time (AVX2), conv_small and hybrid_medium 0.96.
_FEW_ROWS = 12


def grid(rows: int, k: int, n: int) -> tuple[int, int]:
    """Return into how many blocks of rows and of panels a product is cut.

    Rows first: depthwise layers are cut by rows as well, and a core then finds what it wrote itself
    in its own cache. Panels too where there are few rows; a thread reads a part of the weights.
    Panels first where blocks of rows would be small: then a thread reads no weights twice.
    """
    threads = _threads.get_num_threads()
    heights, panels = -(-rows // TILE_ROWS), -(-n // PANEL)
    wanted = 1 if threads == 1 else min(rows * k * n // _WORTH + 1, 8 * threads)
    least = max(-(-rows * k // _PACKED_BLOCK), -(-wanted // panels))
    row_blocks = min(heights, max(wanted, least), _threads.MAX_CHUNKS)
    if rows < _FEW_ROWS * row_blocks:
        row_blocks = min(row_blocks, least)
    column_blocks = min(panels, -(-wanted // row_blocks))
    return row_blocks, column_blocks


@functools.lru_cache(maxsize=256)
def _settings(
    rows: int, k: int, n: int, a_row: int, c_row: int, bounds: Bounds, kind: int, threads: int
) -> tuple[Tile, _Sizes]:
    """Return the settings of a product, which depend on how many threads there are."""
    row_blocks, column_blocks = grid(rows, k, n)
    low, high = map(float_bits, bounds)
    panel = FLOAT * PANEL * (1 + k)
    tile = Tile(
        tiles_activated.address, k, a_row, c_row, residual_row=FLOAT * n, low=low, high=high,
        b_panel=panel if rows <= _READ_AHEAD * row_blocks else 0,
    )  # fmt: skip
    return tile, _Sizes(rows, n, panel, row_blocks, column_blocks, kind)


def product_instruction(
    x: Array,
    packed: Packed,
    out: Array,
    bounds: Bounds = NO_BOUNDS,
    residual: Array | None = None,
    records: Records | None = None,
    kind: int = 0,
) -> Instruction:
    """Return the instruction for ``out = clip(x @ packed + bias, *bounds) + residual``.

    All are float32: ``x`` ``(rows, k)``, ``out`` and ``residual`` ``(rows, n)``, or images of such
    pixels. They are contiguous, but the pixels of ``x`` and ``out`` may be spaced.
    ``records`` take the statistics of the columns of ``out``.
    """
    data, k, n = packed
    threads, steps = _threads.get_num_threads(), (pixel_step(x), pixel_step(out))
    tile, sizes = _settings(out.size // n, k, n, *steps, bounds, kind, threads)
    return product.pack(
        sizes.row_blocks * sizes.column_blocks,
        tile=tile,
        sizes=sizes,
        x=x,
        packed=data,
        out=out,
        residual=residual,
        **record_arguments(records, sizes.row_blocks, n),
    )


# -- few rows -------------------------------------------------------------------------------------


@kernel
def inner_products(chunk, thread, x, weight, out, rows, k, n, chunks, x_row, weight_row, bias):
    """Some columns of ``x @ weight.T + bias`` for few rows: the weights are read once."""
    start, stop = share(n, chunk, chunks)
    for column in range(start, stop, 4):
        if column + 4 <= stop:
            _four_columns(x, weight, out, rows, k, n, x_row, weight_row, bias, column)
        else:
            for last in range(column, stop):
                _one_column(x, weight, out, rows, k, n, x_row, weight_row, bias, last)


@piece
def _four_columns(x, weight, out, rows, k, n, x_row, weight_row, bias, column):
    """Four inner products at once: x is read once for them, and their sums do not wait."""
    zero = spread(np.float32(0))
    for row in range(rows):
        a = x + row * x_row
        w0 = weight + column * weight_row
        w1, w2, w3 = w0 + weight_row, w0 + 2 * weight_row, w0 + 3 * weight_row
        s0 = s1 = s2 = s3 = zero
        for i in range(0, k, WIDTH):
            at, rest = i * FLOAT, k - i
            value = load(a + at, rest)
            s0 = value * load(w0 + at, rest) + s0
            s1 = value * load(w1 + at, rest) + s1
            s2 = value * load(w2 + at, rest) + s2
            s3 = value * load(w3 + at, rest) + s3
        result = floats(out + (row * n + column) * FLOAT)
        result[0], result[1], result[2], result[3] = total(s0), total(s1), total(s2), total(s3)
        if bias != 0:
            for j in range(4):
                result[j] += floats(bias)[column + j]


@piece
def _one_column(x, weight, out, rows, k, n, x_row, weight_row, bias, column):
    for row in range(rows):
        s = spread(np.float32(0))
        for i in range(0, k, WIDTH):
            a = load(x + row * x_row + i * FLOAT, k - i)
            s = a * load(weight + column * weight_row + i * FLOAT, k - i) + s
        value = total(s)
        if bias != 0:
            value += floats(bias)[column]
        floats(out + (row * n + column) * FLOAT)[0] = value


def _few_rows(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``x @ weight.T + bias``; the last axes of both are contiguous."""
    (m, k), n = x.shape, len(weight)
    out = empty((m, n))
    most = min(n, 8 * _threads.get_num_threads())
    _threads.launch(
        inner_products.pack(
            _threads.chunks_of(m * k * n, _WORTH // 4, most),
            x=x,
            weight=weight,
            out=out,
            rows=m,
            k=k,
            n=n,
            x_row=x.strides[0],
            weight_row=weight.strides[0],
            bias=bias,
        )
    )
    return out


# -- what operations call -------------------------------------------------------------------------


@accelerates(reference.matmul)
def matmul(a: Array, b: Array) -> Array:
    if a.dtype != np.float32 or b.dtype != np.float32:
        return NotImplemented
    (m, k), n = a.shape[-2:], b.shape[-1]
    if k != b.shape[-2]:
        return NotImplemented  # NumPy raises
    lead = a.shape[:-2]
    if lead != b.shape[:-2]:
        lead = np.broadcast_shapes(lead, b.shape[:-2])
    work = math.prod(lead) * m * k * n
    if work <= (_SMALL_VECTOR if m == 1 or n == 1 else _SMALL):
        return NotImplemented
    if not lead:
        if m <= _FEW and a.strides[1] == b.strides[0] == FLOAT:
            return _few_rows(a, b.T, None)
        if n <= _FEW and a.strides[1] == b.strides[0] == FLOAT:
            return _few_rows(b.T, a, None).T
        if (
            n <= _FEW and a.strides[0] == FLOAT
        ):  # rows of a lie across: better as rows of the panels
            return _multiply(b.T, a.T, None, lead).T
    return _multiply(a, b, None, lead)


@accelerates(reference.linear)
def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    if not x.dtype == weight.dtype == np.float32 or x.size == 0 or weight.size == 0:
        return NotImplemented
    if bias is not None:
        if bias.dtype != np.float32:
            return NotImplemented
        bias = np.ascontiguousarray(bias)
    if len(x) * weight.size <= (_SMALL_VECTOR if len(x) == 1 else _SMALL):
        return NotImplemented
    if len(x) <= _FEW and x.strides[1] == weight.strides[1] == FLOAT:
        return _few_rows(x, weight, bias)
    return _multiply(x, weight.T, bias, ())
