"""Matrix products: weights packed once into panels, then tiles on all threads.

A packed matrix is a row of panels, each of PANEL columns: first the bias of these columns, then
their weights, one row for each k. So the tile reads it from start to end. A factor for each
column (a batch norm's) is multiplied into the weights here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lucid.kernels.numba import _threads
from lucid.kernels.numba._activation import finish
from lucid.kernels.numba._batch_norm import Records, write_record
from lucid.kernels.numba._native import (
    PANEL,
    TILE_ROWS,
    VECTOR,
    WIDTH,
    address,
    empty,
    float_bits,
    floats,
    i64,
    kernel,
    pixel_step,
    pointer,
)
from lucid.kernels.numba._tile import A_ROW, ACTIVATION, C_ROW, RESIDUAL_ROW, TILE_ARGUMENTS, tile

Array = np.ndarray

INFINITY = float("inf")


class Packed(NamedTuple):
    """A matrix ``(k, n)`` and a bias ``(n,)`` in panels: ``data`` is ``(panels, 1 + k, PANEL)``."""

    data: Array
    k: int
    n: int


# -- packing --------------------------------------------------------------------------------------


@intrinsic
def transpose_block(typingctx, source, source_row, target, target_row, factor):
    """Transpose WIDTH × WIDTH floats, times ``factor`` (address of WIDTH floats, or 0: none).

    Interleaving the first half of the vectors with the second, log2(WIDTH) times over, is the
    transposition.
    """

    def codegen(context, builder, sig, args):
        source, source_row, target, target_row, factor = args
        half = WIDTH // 2
        low = [i // 2 + (i % 2) * WIDTH for i in range(WIDTH)]
        masks = [
            ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [i + shift for i in low])
            for shift in (0, half)
        ]
        vectors = []
        for row in range(WIDTH):
            address = builder.add(source, builder.mul(source_row, i64(row)))
            vectors.append(builder.load(pointer(builder, address, VECTOR), align=4, typ=VECTOR))
        for _ in range(WIDTH.bit_length() - 1):
            vectors = [
                builder.shuffle_vector(vectors[i], vectors[i + half], mask)
                for i in range(half)
                for mask in masks
            ]
        ones = ir.Constant(VECTOR, [1.0] * WIDTH)
        given = builder.icmp_signed("!=", factor, i64(0))
        before = builder.block
        with builder.if_then(given):
            loaded = builder.load(pointer(builder, factor, VECTOR), align=4, typ=VECTOR)
            inside = builder.block
        scale = builder.phi(VECTOR)
        scale.add_incoming(ones, before)
        scale.add_incoming(loaded, inside)
        for row, vector in enumerate(vectors):
            address = builder.add(target, builder.mul(target_row, i64(row)))
            value = builder.fmul(vector, scale)
            builder.store(value, pointer(builder, address, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 5), codegen


@kernel
def pack_transposed(args, chunk, thread):
    """Pack panel ``chunk`` of the transposed of a matrix ``(n, k)``, as weights are stored."""
    source, row, n, k, factor, bias, target = (
        args[0], args[1], args[2], args[3], args[4], args[5], args[6]
    )  # fmt: skip
    first = chunk * PANEL
    count = min(PANEL, n - first)
    target += chunk * (1 + k) * PANEL * 4
    out, biases, factors = floats(target), floats(bias), floats(factor)
    for j in range(PANEL):
        out[j] = biases[first + j] if bias != 0 and j < count else np.float32(0)
    for half in range(0, PANEL, WIDTH):
        whole = 0
        if count - half >= WIDTH:
            whole = k // WIDTH * WIDTH
            factor_at = factor + (first + half) * 4 if factor != 0 else 0
            for i in range(0, whole, WIDTH):
                transpose_block(
                    source + (first + half) * row + i * 4,
                    row,
                    target + ((1 + i) * PANEL + half) * 4,
                    PANEL * 4,
                    factor_at,
                )
        for j in range(half, half + WIDTH):
            if j < count:
                weights = floats(source + (first + j) * row)
                scale = factors[first + j] if factor != 0 else np.float32(1)
                for i in range(whole, k):
                    out[(1 + i) * PANEL + j] = weights[i] * scale
            else:
                for i in range(whole, k):
                    out[(1 + i) * PANEL + j] = np.float32(0)


@kernel
def pack_rows(args, chunk, thread):
    """Pack panel ``chunk`` of a matrix ``(k, n)``, as it lies."""
    source, row, n, k, target = args[0], args[1], args[2], args[3], args[4]
    first = chunk * PANEL
    count = min(PANEL, n - first)
    out = floats(target + chunk * (1 + k) * PANEL * 4)
    for j in range(PANEL):
        out[j] = np.float32(0)
    for i in range(k):
        weights = floats(source + i * row + first * 4)
        if count == PANEL:
            for j in range(PANEL):
                out[(1 + i) * PANEL + j] = weights[j]
        else:
            for j in range(PANEL):
                out[(1 + i) * PANEL + j] = weights[j] if j < count else np.float32(0)


def packed_like(k: int, n: int, allocate: Callable[[tuple[int, ...]], Array] = empty) -> Packed:
    """Return room for a packed matrix ``(k, n)``."""
    return Packed(allocate((-(-n // PANEL), 1 + k, PANEL)), k, n)


def pack_row(
    weight: Array, packed: Packed, scale: Array | None = None, bias: Array | None = None
) -> tuple[int, ...]:
    """Return the row of a plan that packs the transposed of a contiguous ``weight`` ``(n, k)``.

    Column j of the packed matrix is row j of ``weight`` times ``scale[j]``.
    """
    return (
        pack_transposed.address,
        len(packed.data),
        address(weight),
        4 * packed.k,
        packed.n,
        packed.k,
        0 if scale is None else address(scale),
        0 if bias is None else address(bias),
        address(packed.data),
    )


def pack_rows_row(weight: Array, packed: Packed) -> tuple[int, ...]:
    """Return the row of a plan that packs a contiguous ``weight`` ``(k, n)`` as it is."""
    return (
        pack_rows.address,
        len(packed.data),
        address(weight),
        4 * packed.n,
        packed.n,
        packed.k,
        address(packed.data),
    )


# -- the product ----------------------------------------------------------------------------------

(
    _X, _ROWS, _PACKED, _PANEL_BYTES, _COLUMNS, _OUT, _RESIDUAL, _ROW_BLOCKS, _COLUMN_BLOCKS,
    _RECORDS, _RECORD_SIZE,
) = range(TILE_ARGUMENTS, TILE_ARGUMENTS + 11)  # fmt: skip


@kernel
def product(args, chunk, thread):
    """One block of rows and panels of ``clip(x @ packed + bias, low, high) + residual``."""
    row_blocks, column_blocks = args[_ROW_BLOCKS], args[_COLUMN_BLOCKS]
    # Neighbours share the panels: threads, which begin at both ends, then read half of them each.
    row_block, column_block = chunk % row_blocks, chunk // row_blocks
    rows, columns = args[_ROWS], args[_COLUMNS]
    start = rows * row_block // row_blocks
    count = rows * (row_block + 1) // row_blocks - start
    panels = (columns + PANEL - 1) // PANEL
    # Tiles of nearly equal height: a last one of few rows would leave the multipliers idle.
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    first_panel = panels * column_block // column_blocks
    last_panel = panels * (column_block + 1) // column_blocks
    for panel in range(first_panel, last_panel):
        weights = args[_PACKED] + panel * args[_PANEL_BYTES]
        width = min(PANEL, columns - panel * PANEL)
        for index in range(tiles):
            row = start + count * index // tiles
            height = start + count * (index + 1) // tiles - row
            offset = panel * PANEL * 4
            residual = args[_RESIDUAL]
            if residual != 0:
                residual += row * args[RESIDUAL_ROW] + offset
            kind = args[ACTIVATION]
            out = args[_OUT] + row * args[C_ROW] + offset
            tile(
                height,
                args[_X] + row * args[A_ROW],
                weights,
                out,
                residual if kind == 0 else 0,
                width,
                args,
            )
            if kind != 0:
                finish(kind, height, width, out, args[C_ROW], residual, args[RESIDUAL_ROW])
    if args[_RECORDS] != 0:  # while the block is in the cache
        first = first_panel * PANEL
        write_record(
            args[_RECORDS] + row_block * args[_RECORD_SIZE] * 8,
            columns,
            first,
            min(columns, last_panel * PANEL) - first,
            args[_OUT] + start * args[5] + first * 4,
            args[5],
            count,
        )


# Floats of x that a chunk may touch: 256 KiB, a quarter of a core's second-level cache, so that
# they stay there while the panels pass by.
_BLOCK = 1 << 16
# Multiply-adds worth a chunk: some 5 µs.
_WORTH = 1 << 18


def grid(rows: int, k: int, n: int) -> tuple[int, int]:
    """Return into how many blocks of rows and of panels a product is cut.

    Rows first: depthwise layers are cut by rows as well, and a core then finds what it wrote itself
    in its own cache. Panels too where there are few rows; a thread reads a part of the weights.
    """
    threads = _threads.get_num_threads()
    tiles, panels = -(-rows // TILE_ROWS), -(-n // PANEL)
    wanted = 1 if threads == 1 else min(rows * k * n // _WORTH + 1, 8 * threads)
    row_blocks = min(tiles, max(wanted, -(-rows * k // _BLOCK)), _threads.MAX_CHUNKS)
    column_blocks = min(panels, -(-wanted // row_blocks))
    return row_blocks, column_blocks


def product_row(
    x: Array,
    packed: Packed,
    out: Array,
    low: float | None = None,
    high: float | None = None,
    residual: Array | None = None,
    records: Records | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan for ``out = clip(x @ packed + bias, low, high) + residual``.

    All are float32: ``x`` ``(rows, k)``, ``out`` and ``residual`` ``(rows, n)``, or images of such
    pixels. They are contiguous, but the pixels of ``x`` and ``out`` may be spaced.
    ``records`` take the statistics of the columns of ``out``.
    """
    rows = out.size // packed.n
    row_blocks, column_blocks = grid(rows, packed.k, packed.n)
    return (
        product.address,
        row_blocks * column_blocks,
        pixel_step(x),
        1,
        packed.k,
        0,
        4 * PANEL,
        pixel_step(out),
        4 * packed.n,
        float_bits(-INFINITY if low is None else low),
        float_bits(INFINITY if high is None else high),
        0,
        0,
        address(x),
        rows,
        address(packed.data),
        4 * PANEL * (1 + packed.k),
        packed.n,
        address(out),
        0 if residual is None else address(residual),
        row_blocks,
        column_blocks,
        *((0, 0) if records is None else records.make(row_blocks, packed.n)),
    )
