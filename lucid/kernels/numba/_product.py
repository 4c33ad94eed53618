"""Products of matrices without BLAS and its threads: of any two, or with one packed before.

A chunk computes a block of rows and panels of one product. It packs one panel of ``b`` after the
other into memory of its thread, whatever the layout of ``b``, and lets tiles of rows of ``a`` run
over it. So nothing is copied as a whole, and a transposed matrix needs no copy of its own. Rows of
``a`` are read where they lie; if ``a`` is transposed, the chunk's block of it is copied once.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lucid.kernels.numba._activation import finish
from lucid.kernels.numba._batch_norm import Records, write_record
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    PANEL,
    TILE_ROWS,
    WIDTH,
    address,
    empty,
    float_bits,
    floats,
    kernel,
    pixel_step,
    share,
    words,
    workspace,
)
from lucid.kernels.numba.machine._packing import Packed, copy_block, pack_panel
from lucid.kernels.numba.machine._tile import (
    A_ROW,
    ACTIVATION,
    B_STEP,
    C_ROW,
    HIGH,
    LENGTH,
    LOW,
    RESIDUAL_ROW,
    SEGMENTS,
    TILE_ARGUMENTS,
    tile,
)
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

(
    _A, _B, _C, _M, _K, _N, _A_ROW, _A_COLUMN, _B_STEP, _B_COLUMN, _BIAS, _ROW_BLOCKS,
    _COLUMN_BLOCKS, _ITEMS, _CHUNKS, _SCRATCH, _SCRATCH_BYTES, _PASSES, _LOW, _HIGH,
    _TABLES,  # whether A, B and C are tables of addresses, one for each product
) = range(21)  # fmt: skip

_SETTINGS_BYTES = -(-8 * TILE_ARGUMENTS // 64) * 64


@kernel
def products(args, chunk, thread):
    """Some blocks of ``c = a·b + bias``, for a table of addresses of each."""
    scratch = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
    settings = words(scratch)
    for index in range(TILE_ARGUMENTS):
        settings[index] = 0
    settings[SEGMENTS] = 1
    settings[B_STEP] = PANEL * 4
    settings[C_ROW] = settings[RESIDUAL_ROW] = args[_N] * 4
    settings[LOW], settings[HIGH] = args[_LOW], args[_HIGH]
    panel_at = scratch + _SETTINGS_BYTES
    items, chunks = args[_ITEMS], args[_CHUNKS]
    for item in range(items * chunk // chunks, items * (chunk + 1) // chunks):
        _block(args, item, settings, panel_at)


@njit
def _block(args, item, settings, panel_at):
    m, k, n, passes = args[_M], args[_K], args[_N], args[_PASSES]
    row_blocks, column_blocks = args[_ROW_BLOCKS], args[_COLUMN_BLOCKS]
    batch, block = item // (row_blocks * column_blocks), item % (row_blocks * column_blocks)
    row_block, column_block = block // column_blocks, block % column_blocks
    a, b, c = args[_A], args[_B], args[_C]
    if args[_TABLES] != 0:
        a, b, c = words(a)[batch], words(b)[batch], words(c)[batch]
    start = m * row_block // row_blocks
    count = m * (row_block + 1) // row_blocks - start
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    panels = (n + PANEL - 1) // PANEL
    bias = args[_BIAS]
    copy_at = panel_at + (1 + (k + passes - 1) // passes) * PANEL * 4
    for part in range(passes):
        first = k * part // passes
        depth = k * (part + 1) // passes - first
        a_at = a + start * args[_A_ROW] + first * args[_A_COLUMN]
        settings[LENGTH] = depth
        settings[A_ROW] = args[_A_ROW]
        if args[_A_COLUMN] != 4:
            copy_block(a_at, args[_A_ROW], args[_A_COLUMN], count, depth, copy_at)
            a_at = copy_at
            settings[A_ROW] = depth * 4
        for panel in range(
            panels * column_block // column_blocks, panels * (column_block + 1) // column_blocks
        ):
            width = min(PANEL, n - panel * PANEL)
            zeros, biases = floats(panel_at), floats(bias + panel * PANEL * 4)
            for j in range(PANEL):
                zeros[j] = biases[j] if bias != 0 and part == 0 and j < width else np.float32(0)
            b_at = b + first * args[_B_STEP] + panel * PANEL * args[_B_COLUMN]
            pack_panel(b_at, args[_B_STEP], args[_B_COLUMN], depth, width, panel_at + PANEL * 4, 0)
            for index in range(tiles):
                row = count * index // tiles
                c_at = c + (start + row) * n * 4 + panel * PANEL * 4
                tile(
                    count * (index + 1) // tiles - row,
                    a_at + row * settings[A_ROW],
                    panel_at,
                    c_at,
                    c_at if part > 0 else 0,  # later passes add to the sums of the earlier ones
                    width,
                    settings,
                )


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
    copied = a.strides[-1] != 4
    size = _SETTINGS_BYTES // 4 + (1 + depth) * PANEL
    if copied:
        size += -(-m // row_blocks) * depth
    size = -(-size // 16) * 16
    tables = [addresses(array, lead) for array in (a, b, out)] if batch > 1 else []
    workspace.start()
    scratch = workspace.empty((size * _threads.get_num_threads(),))
    _threads.run(
        _threads.plan(
            (
                products.address,
                chunks,
                *(address(table) for table in tables or (a, b, out)),
                m,
                k,
                n,
                *a.strides[-2:],
                *b.strides[-2:],
                0 if bias is None else address(bias),
                row_blocks,
                column_blocks,
                items,
                chunks,
                address(scratch),
                4 * size,
                passes,
                float_bits(-math.inf),
                float_bits(math.inf),
                batch > 1,
            )
        )
    )
    return out


# -- with a matrix that is packed ---------------------------------------------------------------

(
    _X, _ROWS, _PACKED, _PANEL_BYTES, _COLUMNS, _OUT, _RESIDUAL,
    _PACKED_ROW_BLOCKS, _PACKED_COLUMN_BLOCKS, _RECORDS, _RECORD_SIZE,
) = range(TILE_ARGUMENTS, TILE_ARGUMENTS + 11)  # fmt: skip


@kernel
def product(args, chunk, thread):
    """One block of rows and panels of ``clip(x @ packed + bias, low, high) + residual``."""
    row_blocks, column_blocks = args[_PACKED_ROW_BLOCKS], args[_PACKED_COLUMN_BLOCKS]
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
_PACKED_BLOCK = 1 << 16


def grid(rows: int, k: int, n: int) -> tuple[int, int]:
    """Return into how many blocks of rows and of panels a product is cut.

    Rows first: depthwise layers are cut by rows as well, and a core then finds what it wrote itself
    in its own cache. Panels too where there are few rows; a thread reads a part of the weights.
    """
    threads = _threads.get_num_threads()
    tiles, panels = -(-rows // TILE_ROWS), -(-n // PANEL)
    wanted = 1 if threads == 1 else min(rows * k * n // _WORTH + 1, 8 * threads)
    row_blocks = min(tiles, max(wanted, -(-rows * k // _PACKED_BLOCK)), _threads.MAX_CHUNKS)
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
        float_bits(-math.inf if low is None else low),
        float_bits(math.inf if high is None else high),
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


@njit
def _four_columns(x, weight, out, rows, k, n, x_row, weight_row, bias, column):
    """Four inner products at once: x is read once for them, and their sums do not wait."""
    zero = spread(np.float32(0))
    for row in range(rows):
        a = x + row * x_row
        w0 = weight + column * weight_row
        w1, w2, w3 = w0 + weight_row, w0 + 2 * weight_row, w0 + 3 * weight_row
        s0 = s1 = s2 = s3 = zero
        for i in range(0, k, WIDTH):
            at, rest = i * 4, k - i
            value = load(a + at, rest)
            s0 = value * load(w0 + at, rest) + s0
            s1 = value * load(w1 + at, rest) + s1
            s2 = value * load(w2 + at, rest) + s2
            s3 = value * load(w3 + at, rest) + s3
        result = floats(out + (row * n + column) * 4)
        result[0], result[1], result[2], result[3] = total(s0), total(s1), total(s2), total(s3)
        if bias != 0:
            for j in range(4):
                result[j] += floats(bias)[column + j]


@njit
def _one_column(x, weight, out, rows, k, n, x_row, weight_row, bias, column):
    for row in range(rows):
        s = spread(np.float32(0))
        for i in range(0, k, WIDTH):
            a = load(x + row * x_row + i * 4, k - i)
            s = a * load(weight + column * weight_row + i * 4, k - i) + s
        value = total(s)
        if bias != 0:
            value += floats(bias)[column]
        floats(out + (row * n + column) * 4)[0] = value


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
        if m <= _FEW and a.strides[1] == b.strides[0] == 4:
            return _few_rows(a, b.T, None)
        if n <= _FEW and a.strides[1] == b.strides[0] == 4:
            return _few_rows(b.T, a, None).T
        if n <= _FEW and a.strides[0] == 4:  # rows of a lie across: better as rows of the panels
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
    if len(x) <= _FEW and x.strides[1] == weight.strides[1] == 4:
        return _few_rows(x, weight, bias)
    return _multiply(x, weight.T, bias, ())
