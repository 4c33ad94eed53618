"""Matrices packed into panels, as the tiles read them.

A packed matrix is a row of panels, each of PANEL columns: first the bias of these columns, then
their weights, one row for each k. So the tile reads it from start to end. A factor for each
column (a batch norm's) is multiplied into the weights here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from lucid.kernels.numba.machine._emit import Value, constant, load_value, store_value
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    VECTOR,
    WIDTH,
    Instruction,
    emits,
    empty,
    floats,
    i32,
    i64,
    kernel,
    piece,
)
from lucid.kernels.numba.machine._vector import load, store

Array = np.ndarray


class Packed(NamedTuple):
    """A matrix ``(k, n)`` and a bias ``(n,)`` in panels: ``data`` is ``(panels, 1 + k, PANEL)``."""

    data: Array
    k: int
    n: int


@emits(*(i64,) * 5)
def transpose_block(
    builder: Any, source: Any, source_row: Any, target: Any, target_row: Any, factor: Any
) -> None:
    """Transpose WIDTH × WIDTH floats, times ``factor`` (address of WIDTH floats, or 0: none).

    Interleaving the first half of the vectors with the second, log2(WIDTH) times over, is the
    transposition.
    """
    half = WIDTH // 2
    low = [i // 2 + (i % 2) * WIDTH for i in range(WIDTH)]
    masks = [
        ir.Constant(ir.VectorType(i32, WIDTH), [i + shift for i in low]) for shift in (0, half)
    ]
    vectors = [
        load_value(builder, builder.add(source, builder.mul(source_row, i64(row)))).ir
        for row in range(WIDTH)
    ]
    for _ in range(WIDTH.bit_length() - 1):
        vectors = [
            builder.shuffle_vector(vectors[i], vectors[i + half], mask)
            for i in range(half)
            for mask in masks
        ]
    before = builder.block
    with builder.if_then(builder.icmp_signed("!=", factor, i64(0))):
        loaded = load_value(builder, factor).ir
        inside = builder.block
    scale = builder.phi(VECTOR)
    scale.add_incoming(constant(1), before)
    scale.add_incoming(loaded, inside)
    for row, vector in enumerate(vectors):
        value = Value(builder, builder.fmul(vector, scale))
        store_value(value, builder.add(target, builder.mul(target_row, i64(row))))


def packed_like(k: int, n: int, allocate: Callable[[tuple[int, ...]], Array] = empty) -> Packed:
    """Return room for a packed matrix ``(k, n)``."""
    return Packed(allocate((-(-n // PANEL), 1 + k, PANEL)), k, n)


@kernel
def pack_panels(
    chunk, thread, source, step, column, depth, n, rows, row, taps, tap, scale, bias, target
):  # fmt: skip
    """Pack panel ``chunk`` of weights and a bias, tap by tap, see :func:`pack_panel`."""
    first = chunk * PANEL
    count = min(PANEL, n - first)
    target += chunk * (1 + rows * taps * depth) * PANEL * FLOAT
    out, biases = floats(target), floats(bias + first * FLOAT)
    for j in range(PANEL):
        out[j] = biases[j] if bias != 0 and j < count else np.float32(0)
    factors = scale + first * FLOAT if scale != 0 else 0
    source, target = source + first * column, target + PANEL * FLOAT
    for i in range(rows):
        for j in range(taps):
            at = source + i * row + j * tap
            pack_panel(at, step, column, depth, count, target, factors)
            target += depth * PANEL * FLOAT


def pack_instruction(
    weight: Array, packed: Packed, scale: Array | None = None, bias: Array | None = None
) -> Instruction:
    """Return the instruction that packs weights ``(O, I, kh, kw)`` of any strides.

    Taps come before channels, as they lie in an image; output j is multiplied by ``scale[j]``.
    """
    _, depth, rows, taps = weight.shape
    column, step, row, tap = weight.strides
    return pack_panels.pack(
        len(packed.data), source=weight, step=step, column=column, depth=depth, n=packed.n,
        rows=rows, row=row, taps=taps, tap=tap, scale=scale, bias=bias, target=packed.data,
    )  # fmt: skip


@piece
def pack_panel(source, step, column, depth, count, target, scale):
    """Pack ``count`` columns of a matrix with any strides into a panel; no bias.

    Args:
        source: address of the first element.
        step: bytes from one row of the matrix to the next; a row is a step of the sum.
        column: bytes from one column to the next.
        depth: rows.
        count: columns, at most PANEL; the rest of the panel becomes 0.
        target: where row 0 of the panel goes.
        scale: address of a factor for each column, or 0 for none.
    """
    whole = 0  # rows that are done
    if column == FLOAT and scale == 0:
        whole = depth
        for i in range(depth):
            at, out = source + i * step, target + i * PANEL * FLOAT
            store(out, load(at, count), WIDTH)
            store(out + WIDTH * FLOAT, load(at + WIDTH * FLOAT, count - WIDTH), WIDTH)
    elif step == FLOAT and count >= WIDTH:
        whole = depth // WIDTH * WIDTH
        for half in range(0, PANEL, WIDTH):
            if count - half >= WIDTH:
                factors = scale + half * FLOAT if scale != 0 else 0
                for i in range(0, whole, WIDTH):
                    transpose_block(
                        source + half * column + i * FLOAT,
                        column,
                        target + (i * PANEL + half) * FLOAT,
                        PANEL * FLOAT,
                        factors,
                    )
            else:
                _pack_any(source, step, column, whole, half, count, target, scale)
    rest = target + whole * PANEL * FLOAT
    _pack_any(source + whole * step, step, column, depth - whole, 0, count, rest, scale)


@piece
def _pack_any(source, step, column, depth, first, count, target, scale):
    """Pack columns ``first`` to PANEL, one float after the other."""
    out, factors = floats(target), floats(scale)
    for i in range(depth):
        for j in range(first, min(count, PANEL)):
            factor = factors[j] if scale != 0 else np.float32(1)
            out[i * PANEL + j] = floats(source + i * step + j * column)[0] * factor
        for j in range(max(first, count), PANEL):
            out[i * PANEL + j] = np.float32(0)


@piece
def copy_block(source, row, column, rows, columns, target):
    """Copy a matrix with any strides to contiguous rows."""
    whole_rows = whole_columns = 0
    if row == FLOAT:
        whole_rows, whole_columns = rows // WIDTH * WIDTH, columns // WIDTH * WIDTH
        for j in range(0, whole_columns, WIDTH):
            for i in range(0, whole_rows, WIDTH):
                at = target + (i * columns + j) * FLOAT
                transpose_block(source + i * FLOAT + j * column, column, at, columns * FLOAT, 0)
    for i in range(rows):
        out = floats(target + i * columns * FLOAT)
        for j in range(whole_columns if i < whole_rows else 0, columns):
            out[j] = floats(source + i * row + j * column)[0]
