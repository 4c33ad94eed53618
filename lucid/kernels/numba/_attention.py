"""Attention prepared for many calls on inputs of one shape: no matrix of scores in memory.

A chunk is a block of query rows: their scores against all keys fill some rows of memory of its
thread, where the softmax is taken in place, and are multiplied with the values from there. The
softmax's divisor is applied to the result, whose rows are shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.kernels import numpy as reference
from lucid.kernels.numba._activation import tiles_activated
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba._prepared import Planned
from lucid.kernels.numba._product import addresses
from lucid.kernels.numba._softmax import exponentials, scale_row
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    TILE_ROWS,
    WIDTH,
    Instruction,
    empty,
    floats,
    kernel,
    kernel_with,
    share,
    words,
)
from lucid.kernels.numba.machine._packing import pack_panel
from lucid.kernels.numba.machine._tile import AT, Tile, tiles
from lucid.kernels.prepared import Prepared

Array = np.ndarray

# Floats of scores in a block: 128 KiB. Multiply-adds worth a chunk: some 5 µs.
_BLOCK = 1 << 15
_WORTH = 1 << 18


@kernel
def pack_keys_and_values(
    chunk, thread, keys, values, packed_keys, packed_values, s, e, v, factors, key_row, key_column,
    value_row, value_column,
):  # fmt: skip
    """Pack one panel of one image's transposed keys, or of its values."""
    key_panels, value_panels = (s + PANEL - 1) // PANEL, (v + PANEL - 1) // PANEL
    image, panel = chunk // (key_panels + value_panels), chunk % (key_panels + value_panels)
    if panel < key_panels:
        target = packed_keys + (image * key_panels + panel) * (1 + e) * PANEL * FLOAT
        source = words(keys)[image] + panel * PANEL * key_row
        count = min(PANEL, s - panel * PANEL)
        pack_panel(source, key_column, key_row, e, count, target + PANEL * FLOAT, factors)
    else:
        panel -= key_panels
        target = packed_values + (image * value_panels + panel) * (1 + s) * PANEL * FLOAT
        source = words(values)[image] + panel * PANEL * value_column
        count = min(PANEL, v - panel * PANEL)
        pack_panel(source, value_row, value_column, s, count, target + PANEL * FLOAT, 0)
    zeros = floats(target)
    for j in range(PANEL):
        zeros[j] = np.float32(0)


@kernel_with(of_scores=Tile, of_values=Tile)
def attend(
    chunk, thread, of_scores, of_values, q, out, packed_keys, packed_values, length, e, s, v,
    blocks, scratch, scratch_bytes,
):  # fmt: skip
    """A block of rows of ``softmax(q·kᵀ)·v`` of one image."""
    image = chunk // blocks
    start, stop = share(length, chunk % blocks, blocks)
    count = stop - start
    scores, row_bytes = scratch + thread * scratch_bytes, of_scores[AT.c_row]
    sums = floats(scores + count * row_bytes)
    rows = words(q)[image] + start * of_scores[AT.a_row]
    target = out + (image * length + start) * v * FLOAT
    panels = (s + PANEL - 1) // PANEL
    for panel in range(panels):
        # Whole vectors: the rows have room, and the panels zeros, for what is too much.
        width = min(PANEL, (s + WIDTH - 1) // WIDTH * WIDTH - panel * PANEL)
        packed = packed_keys + (image * panels + panel) * (1 + e) * PANEL * FLOAT
        tiles(of_scores, 0, count, rows, packed, scores + panel * PANEL * FLOAT, 0, width)
    for row in range(count):
        at = scores + row * row_bytes
        sums[row] = np.float32(1) / exponentials(at, at, s)
    panels = (v + PANEL - 1) // PANEL
    for panel in range(panels):
        width = min(PANEL, v - panel * PANEL)
        packed = packed_values + (image * panels + panel) * (1 + s) * PANEL * FLOAT
        tiles(of_values, 0, count, scores, packed, target + panel * PANEL * FLOAT, 0, width)
    for row in range(count):
        scale_row(target + row * v * FLOAT, v, sums[row])


@kernel
def image_addresses(chunk, thread, q, k, v, tables, images, q_bytes, k_bytes, v_bytes):
    """Write the tables that the kernels above read, for images that follow each other."""
    table = words(tables)
    for i in range(images):
        table[i] = q + i * q_bytes
        table[images + i] = k + i * k_bytes
        table[2 * images + i] = v + i * v_bytes


def attention_instructions(
    arrays: Sequence[Array],
    tables: Sequence[Array],
    factors: Array | None,
    empty: Callable[..., Array],
) -> tuple[list[Instruction], Any]:
    """Return those that write ``softmax(q·kᵀ)·v``, and what must live for them.

    Args:
        arrays: the result ``(…, L, V)``, C-contiguous, ``q`` ``(…, L, E)``, whose rows lie in one
            piece, ``k`` ``(…, S, E)`` and ``v`` ``(…, S, V)``.
        tables: where the matrices of queries, keys and values of each image start.
        factors: of the scores, for a panel, or None.
        empty: gives memory.
    """
    out, q, k, v = arrays
    (length, e), (s, v_width) = q.shape[-2:], v.shape[-2:]
    images = math.prod(out.shape[:-2])
    key_panels, value_panels = -(-s // PANEL), -(-v_width // PANEL)
    packed_keys = empty((images * key_panels, 1 + e, PANEL))
    packed_values = empty((images * value_panels, 1 + s, PANEL))
    score_row = -(-s // WIDTH) * WIDTH
    threads = _threads.get_num_threads()
    blocks = -(-length * score_row // _BLOCK)
    if threads > 1:
        wanted = min(images * length * s * (e + v_width) // _WORTH + 1, 8 * threads)
        blocks = max(blocks, -(-wanted // images))
    blocks = min(blocks, -(-length // TILE_ROWS))
    size = -(-(-(-length // blocks) * (score_row + 1)) // 16) * 16
    scratch = empty((threads * size,))
    pack = pack_keys_and_values.pack(
        images * (key_panels + value_panels), keys=tables[1], values=tables[2],
        packed_keys=packed_keys, packed_values=packed_values, s=s, e=e, v=v_width,
        factors=factors, key_row=k.strides[-2], key_column=k.strides[-1],
        value_row=v.strides[-2], value_column=v.strides[-1],
    )  # fmt: skip
    code = tiles_activated.address
    apply = attend.pack(
        images * blocks, of_scores=Tile(code, e, a_row=q.strides[-2], c_row=FLOAT * score_row),
        of_values=Tile(code, s, a_row=FLOAT * score_row, c_row=FLOAT * v_width), q=tables[0],
        out=out, packed_keys=packed_keys, packed_values=packed_values, length=length, e=e, s=s,
        v=v_width, blocks=blocks, scratch=scratch, scratch_bytes=FLOAT * size,
    )  # fmt: skip
    return [pack, apply], (arrays, scratch, tables, packed_keys, packed_values, factors)


def factors_of(scale: float) -> Array | None:
    """Return the scores' factor as it is multiplied into the packed keys."""
    return None if scale == 1 else np.full(PANEL, scale, np.float32)


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
    factors = factors_of(scale)

    def instructions(*arrays: Array) -> tuple[list[Instruction], Any]:
        tables = [addresses(array, lead) for array in arrays[1:]]
        return attention_instructions(arrays, tables, factors, empty)

    def conform(q: Array, *others: Array) -> tuple[Array, ...]:
        return q if q.strides[-1] == q.itemsize else np.ascontiguousarray(q), *others

    return Planned(instructions, conform)
