"""Attention prepared for many calls on inputs of one shape: no matrix of scores in memory.

A chunk is a block of query rows: their scores against all keys fill some rows of memory of its
thread, where the softmax is taken in place, and are multiplied with the values from there. The
softmax's divisor is applied to the result, whose rows are shorter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid.kernels import numpy as reference
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba._prepared import Planned, Row
from lucid.kernels.numba._product import addresses
from lucid.kernels.numba._softmax import exponentials, scale_row
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    PANEL,
    TILE_ROWS,
    WIDTH,
    address,
    address_of,
    empty,
    float_bits,
    floats,
    kernel,
    words,
)
from lucid.kernels.numba.machine._packing import pack_panel
from lucid.kernels.numba.machine._tile import (
    A_ROW,
    B_STEP,
    C_ROW,
    HIGH,
    LENGTH,
    LOW,
    SEGMENTS,
    TILE_ARGUMENTS,
    tile,
)
from lucid.kernels.prepared import Prepared

Array = np.ndarray

# Floats of scores in a block: 128 KiB. Multiply-adds worth a chunk: some 5 µs.
_BLOCK = 1 << 15
_WORTH = 1 << 18


@kernel
def pack_keys_and_values(args, chunk, thread):
    """Pack one panel of one image's transposed keys, or of its values."""
    keys, values, packed_keys, packed_values = args[0], args[1], args[2], args[3]
    s, e, v, factors = args[4], args[5], args[6], args[7]
    key_panels, value_panels = (s + PANEL - 1) // PANEL, (v + PANEL - 1) // PANEL
    image, panel = chunk // (key_panels + value_panels), chunk % (key_panels + value_panels)
    if panel < key_panels:
        target = packed_keys + (image * key_panels + panel) * (1 + e) * PANEL * 4
        source = words(keys)[image] + panel * PANEL * args[8]
        count = min(PANEL, s - panel * PANEL)
        pack_panel(source, args[9], args[8], e, count, target + PANEL * 4, factors)
    else:
        panel -= key_panels
        target = packed_values + (image * value_panels + panel) * (1 + s) * PANEL * 4
        source = words(values)[image] + panel * PANEL * args[11]
        count = min(PANEL, v - panel * PANEL)
        pack_panel(source, args[10], args[11], s, count, target + PANEL * 4, 0)
    zeros = floats(target)
    for j in range(PANEL):
        zeros[j] = np.float32(0)


# Each of the two products has a row of the tile's arguments; then come these.
(
    _Q, _OUT, _PACKED_KEYS, _PACKED_VALUES, _L, _E, _S, _V, _BLOCKS, _SCRATCH, _SCRATCH_BYTES,
) = range(2 * TILE_ARGUMENTS, 2 * TILE_ARGUMENTS + 11)  # fmt: skip


@kernel
def attend(args, chunk, thread):
    """A block of rows of ``softmax(q·kᵀ)·v`` of one image."""
    length, e, s, v = args[_L], args[_E], args[_S], args[_V]
    blocks = args[_BLOCKS]
    image, block = chunk // blocks, chunk % blocks
    start = length * block // blocks
    count = length * (block + 1) // blocks - start
    tiles = (count + TILE_ROWS - 1) // TILE_ROWS
    scores = args[_SCRATCH] + thread * args[_SCRATCH_BYTES]
    row_bytes = args[C_ROW]
    sums = floats(scores + count * row_bytes)
    q = words(args[_Q])[image] + start * args[A_ROW]
    out = args[_OUT] + (image * length + start) * v * 4
    panels = (s + PANEL - 1) // PANEL
    for panel in range(panels):
        # Whole vectors: the rows have room, and the panels zeros, for what is too much.
        width = min(PANEL, (s + WIDTH - 1) // WIDTH * WIDTH - panel * PANEL)
        packed = args[_PACKED_KEYS] + (image * panels + panel) * (1 + e) * PANEL * 4
        for index in range(tiles):
            row = count * index // tiles
            height = count * (index + 1) // tiles - row
            target = scores + row * row_bytes + panel * PANEL * 4
            tile(height, q + row * args[A_ROW], packed, target, 0, width, args)
    for row in range(count):
        at = scores + row * row_bytes
        sums[row] = np.float32(1) / exponentials(at, at, s)
    panels = (v + PANEL - 1) // PANEL
    second = words(address_of(args) + 8 * TILE_ARGUMENTS)
    for panel in range(panels):
        width = min(PANEL, v - panel * PANEL)
        packed = args[_PACKED_VALUES] + (image * panels + panel) * (1 + s) * PANEL * 4
        for index in range(tiles):
            row = count * index // tiles
            height = count * (index + 1) // tiles - row
            target = out + row * v * 4 + panel * PANEL * 4
            tile(height, scores + row * row_bytes, packed, target, 0, width, second)
    for row in range(count):
        scale_row(out + row * v * 4, v, sums[row])


def _tile_arguments(a_row: int, length: int, c_row: int) -> list[int]:
    row = [0] * TILE_ARGUMENTS
    row[A_ROW], row[LENGTH], row[C_ROW] = a_row, length, c_row
    row[SEGMENTS], row[B_STEP] = 1, 4 * PANEL
    row[LOW], row[HIGH] = float_bits(-math.inf), float_bits(math.inf)
    return row


@accelerates(reference.prepare_attention)
def prepare_attention(
    q_shape: tuple[int, ...],
    k_shape: tuple[int, ...],
    v_shape: tuple[int, ...],
    scale: float,
    dtype: np.dtype,
) -> Prepared:
    if dtype != np.float32 or 0 in (*q_shape, *k_shape, *v_shape):
        return NotImplemented
    lead = np.broadcast_shapes(q_shape[:-2], k_shape[:-2], v_shape[:-2])
    images, (length, e) = math.prod(lead), q_shape[-2:]
    s, v_width = v_shape[-2:]
    key_panels, value_panels = -(-s // PANEL), -(-v_width // PANEL)
    packed_keys = empty((images * key_panels, 1 + e, PANEL))
    packed_values = empty((images * value_panels, 1 + s, PANEL))
    factors = np.full(PANEL, scale, np.float32)
    score_row = -(-s // WIDTH) * WIDTH

    def rows(out: Array, q: Array, k: Array, v: Array) -> tuple[list[Row], Any]:
        threads = _threads.get_num_threads()
        tiles = -(-length // TILE_ROWS)
        blocks = -(-length * score_row // _BLOCK)
        if threads > 1:
            wanted = min(images * length * s * (e + v_width) // _WORTH + 1, 8 * threads)
            blocks = max(blocks, -(-wanted // images))
        blocks = min(blocks, tiles)
        size = -(-(-(-length // blocks) * (score_row + 1)) // 16) * 16
        scratch = empty((threads * size,))
        tables = [addresses(array, lead) for array in (q, k, v)]
        q_at, k_at, v_at = (address(table) for table in tables)
        pack = (
            pack_keys_and_values.address,
            images * (key_panels + value_panels),
            k_at,
            v_at,
            address(packed_keys),
            address(packed_values),
            s,
            e,
            v_width,
            address(factors) if scale != 1 else 0,
            *k.strides[-2:],
            *v.strides[-2:],
        )
        apply = (
            attend.address,
            images * blocks,
            *_tile_arguments(q.strides[-2], e, 4 * score_row),
            *_tile_arguments(4 * score_row, s, 4 * v_width),
            q_at,
            address(out),
            address(packed_keys),
            address(packed_values),
            length,
            e,
            s,
            v_width,
            blocks,
            address(scratch),
            4 * size,
        )
        return [pack, apply], (q, k, v, out, scratch, tables, packed_keys, packed_values, factors)

    def conform(q: Array, *others: Array) -> tuple[Array, ...]:
        return q if q.strides[-1] == q.itemsize else np.ascontiguousarray(q), *others

    return Planned(rows, conform)
