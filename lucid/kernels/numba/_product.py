"""Products of any two matrices, or of batches of them, without BLAS and its threads.

A chunk computes a block of rows and panels of one product. It packs one panel of ``b`` after the
other into memory of its thread, whatever the layout of ``b``, and lets tiles of rows of ``a`` run
over it. So nothing is copied as a whole, and a transposed matrix needs no copy of its own. Rows of
``a`` are read where they lie; if ``a`` is transposed, the chunk's block of it is copied once.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lucid.kernels.numba import _threads
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba._matmul import INFINITY, transpose_block
from lucid.kernels.numba._native import (
    PANEL,
    TILE_ROWS,
    WIDTH,
    address,
    empty,
    float_bits,
    floats,
    kernel,
    share,
    words,
    workspace,
)
from lucid.kernels.numba._tile import (
    A_ROW,
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
from lucid.kernels.numba._vector import fused, load, spread, store, total
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


# -- packing --------------------------------------------------------------------------------------


@njit
def pack_panel(source, step, column, depth, count, target, scale):
    """Pack ``count`` columns of a matrix with any strides into a panel; no bias.

    Args:
        source: address of the first element.
        step: bytes from one row of the matrix to the next; a row is a step of the sum.
        column: bytes from one column to the next.
        depth: rows.
        count: columns, at most PANEL; the rest of the panel becomes 0.
        target: where row 0 of the panel goes.
        scale: address of PANEL equal factors, or 0 for none.
    """
    factor = floats(scale)[0] if scale != 0 else np.float32(1)
    whole = 0
    if column == 4:
        if scale == 0 and count == PANEL:
            for i in range(depth):
                at = source + i * step
                store(target + i * PANEL * 4, load(at, WIDTH), WIDTH)
                store(target + i * PANEL * 4 + WIDTH * 4, load(at + WIDTH * 4, WIDTH), WIDTH)
            whole = depth
    elif step == 4 and count >= WIDTH:
        whole = depth // WIDTH * WIDTH
        for half in range(0, PANEL, WIDTH):
            if count - half >= WIDTH:
                for i in range(0, whole, WIDTH):
                    transpose_block(
                        source + half * column + i * 4,
                        column,
                        target + (i * PANEL + half) * 4,
                        PANEL * 4,
                        scale,
                    )
            else:
                _pack_any(source, step, column, whole, half, count, target, factor)
    rest = target + whole * PANEL * 4
    _pack_any(source + whole * step, step, column, depth - whole, 0, count, rest, factor)


@njit
def _pack_any(source, step, column, depth, first, count, target, factor):
    """Pack columns ``first`` to PANEL, one float after the other."""
    out = floats(target)
    for i in range(depth):
        for j in range(first, min(count, PANEL)):
            out[i * PANEL + j] = floats(source + i * step + j * column)[0] * factor
        for j in range(max(first, count), PANEL):
            out[i * PANEL + j] = np.float32(0)


@njit
def _copy_block(source, row, column, rows, columns, target):
    """Copy a matrix with any strides to contiguous rows."""
    whole_rows = whole_columns = 0
    if row == 4:
        whole_rows, whole_columns = rows // WIDTH * WIDTH, columns // WIDTH * WIDTH
        for j in range(0, whole_columns, WIDTH):
            for i in range(0, whole_rows, WIDTH):
                at = target + (i * columns + j) * 4
                transpose_block(source + i * 4 + j * column, column, at, columns * 4, 0)
    for i in range(rows):
        out = floats(target + i * columns * 4)
        for j in range(whole_columns if i < whole_rows else 0, columns):
            out[j] = floats(source + i * row + j * column)[0]


# -- the product ----------------------------------------------------------------------------------

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
            _copy_block(a_at, args[_A_ROW], args[_A_COLUMN], count, depth, copy_at)
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
                float_bits(-INFINITY),
                float_bits(INFINITY),
                batch > 1,
            )
        )
    )
    return out


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
            s0 = fused(value, load(w0 + at, rest), s0)
            s1 = fused(value, load(w1 + at, rest), s1)
            s2 = fused(value, load(w2 + at, rest), s2)
            s3 = fused(value, load(w3 + at, rest), s3)
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
            s = fused(a, load(weight + column * weight_row + i * 4, k - i), s)
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
