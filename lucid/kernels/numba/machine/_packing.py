"""Matrices packed into panels, as the tiles read them.

A packed matrix is a row of panels, each of PANEL columns: first the bias of these columns, then
their weights, one row for each k. So the tile reads it from start to end. A factor for each
column (a batch norm's) is multiplied into the weights here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lucid.kernels.numba.machine._native import (
    PANEL,
    VECTOR,
    WIDTH,
    empty,
    floats,
    i64,
    kernel,
    pointer,
)
from lucid.kernels.numba.machine._vector import load, store

Array = np.ndarray


class Packed(NamedTuple):
    """A matrix ``(k, n)`` and a bias ``(n,)`` in panels: ``data`` is ``(panels, 1 + k, PANEL)``."""

    data: Array
    k: int
    n: int


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
def pack_transposed(chunk, thread, source, row, n, k, factor, bias, target):
    """Pack panel ``chunk`` of the transposed of a matrix ``(n, k)``, as weights are stored."""
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
def pack_rows(chunk, thread, source, row, n, k, target):
    """Pack panel ``chunk`` of a matrix ``(k, n)``, as it lies."""
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
    return pack_transposed.pack(
        len(packed.data),
        source=weight,
        row=4 * packed.k,
        n=packed.n,
        k=packed.k,
        factor=scale,
        bias=bias,
        target=packed.data,
    )


def pack_rows_row(weight: Array, packed: Packed) -> tuple[int, ...]:
    """Return the row of a plan that packs a contiguous ``weight`` ``(k, n)`` as it is."""
    return pack_rows.pack(
        len(packed.data),
        source=weight,
        row=4 * packed.n,
        n=packed.n,
        k=packed.k,
        target=packed.data,
    )


# -- a panel at a time, of a matrix with any strides --------------------------------------------


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
def copy_block(source, row, column, rows, columns, target):
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
