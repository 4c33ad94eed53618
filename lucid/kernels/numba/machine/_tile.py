"""The innermost loop of every product: a tile of the result held in registers.

``tile`` adds products of a column of numbers and a row of two vectors, step by step:

    sums[r, :] = b[0, :] + Σ_k a[r, k] · b[1 + k, :]      r < rows ≤ TILE_ROWS

so a packed panel starts with the bias. It is written in LLVM's language, because the sums must stay
in registers over the whole loop, and no compiler promises that for a loop over arrays. A step loads
two vectors of b, spreads each a[r, k] over a vector, and does two multiply-adds for each row. With
14 rows of 2·16 floats that is 28 multiply-adds for 16 loads: the multipliers are the limit.

The steps come in ``segments``, runs of contiguous a: one for a matrix; for a convolution the
pixels under one row of the kernel.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

from llvmlite import ir

from lucid.kernels.numba.machine import _emit
from lucid.kernels.numba.machine._emit import Masked, Value
from lucid.kernels.numba.machine._native import (
    FLOAT,
    PANEL,
    REGISTERS,
    TILE_ROWS,
    VECTOR,
    WIDTH,
    Words,
    caller,
    compiled,
    emits,
    f32,
    float_bits,
    i64,
    piece,
    places,
    share,
    void,
)


class Tile(NamedTuple):
    """The settings of tiles. Steps are in bytes."""

    code: int  # the address of what computes them: ``tiles_activated`` or ``tiles_transposed``
    length: int  # steps in a run
    a_row: int = 0  # from one row of a to the next (unused where a is transposed)
    c_row: int = 0  # from one row of the result to the next
    residual_row: int = 0  # the same of what is added to the result
    segments: int = 1  # runs of steps
    a_segment: int = 0  # from the start of one run of a to the next
    b_step: int = FLOAT * PANEL  # from one row of b to the next
    low: int = float_bits(-math.inf)  # bounds of the result, as the bits of a float32
    high: int = float_bits(math.inf)
    a_step: int = 0  # from one step of a to the next, where a is transposed
    b_segment: int = 0  # from the start of one run of b to the next, where a is transposed
    b_panel: int = 0  # from b to the panel to be read ahead, or 0; not where a is transposed


AT = places(Tile)
# Steps of a tile that are written one after the other. With AVX2, 16 images take 1.04 of the time
# with one; of many registers a step is itself long.
_UNROLLED = 4 if REGISTERS == 16 else 2
# Whether tiles ask early for what they will need: the next panel's weights and, before their sums,
# the lines of the result and of the residual (AVX2: 0.9 to 1.0 of the time). With AVX-512 panels
# took 1.1 of the time for one image of conv_large, on two threads; lines were not measured.
READS_AHEAD = WIDTH == 8


def _offset(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """The address ``offset`` bytes after the pointer ``base``, as a pointer to ``kind``."""
    byte = builder.bitcast(base, ir.IntType(8).as_pointer())
    return builder.bitcast(
        builder.gep(byte, [offset], source_etype=ir.IntType(8)), kind.as_pointer()
    )


def _tile_function(module: Any, rows: int, vectors: int, transposed: bool, partial: bool) -> Any:
    """Return the function for one size of tile, written at the first call for a module.

    Args:
        module: where to put it.
        rows: rows of the tile.
        vectors: vectors in a row.
        transposed: the rows of a are adjacent floats and its steps far apart, the result is
            added to what is there, and there is no bias, residual or bound: for weight gradients.
        partial: not all columns exist in b, which only happens to a transposed a.
    """
    name = f"lucid_tile_{rows}_{vectors}_{int(transposed)}{int(partial)}"
    # a, b, c, residual, number of columns, ahead, its step, settings
    kind = ir.FunctionType(ir.VoidType(), [i64] * 7 + [i64.as_pointer()])
    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    float_p = f32.as_pointer()

    def write(
        builder: Any, a: Any, b: Any, c: Any, residual: Any, columns: Any, ahead: Any,
        ahead_step: Any, settings: Any,
    ) -> None:  # fmt: skip
        setting = functools.partial(_emit.setting, builder, settings)
        b_step, a_row, a_segment = setting(AT.b_step), setting(AT.a_row), setting(AT.a_segment)
        length, segments = setting(AT.length), setting(AT.segments)
        a_step = setting(AT.a_step) if transposed else i64(FLOAT)
        b_segment = setting(AT.b_segment) if transposed else None
        whole: list[Masked | None] = [None] * vectors
        part: list[Masked | None] = [
            Masked(builder, builder.sub(columns, i64(v * WIDTH))) for v in range(vectors)
        ]

        def load(place: Any, mask: Masked | None) -> Any:
            if mask is None:
                return builder.load(place, align=FLOAT, typ=VECTOR)
            return mask.load(place)

        def load_b(base: Any) -> list[Any]:
            places = [
                _offset(builder, base, i64(v * WIDTH * FLOAT), VECTOR) for v in range(vectors)
            ]
            return [load(p, mask) for p, mask in zip(places, part if partial else whole)]

        def places(base: Any, row_bytes: Any) -> list[Any]:
            start = builder.inttoptr(base, float_p)
            steps = [
                builder.add(builder.mul(row_bytes, i64(r)), i64(v * WIDTH * FLOAT))
                for r, v in cells
            ]
            return [_offset(builder, start, offset, VECTOR) for offset in steps]

        is_alone = builder.icmp_signed("==", residual, i64(0))
        if READS_AHEAD:  # a row is 64 bytes or fewer: one line
            for place in places(c, setting(AT.c_row))[::vectors]:
                _emit.prefetch(builder, place, to_write=True)
            with builder.if_then(builder.not_(is_alone)):
                for place in places(residual, setting(AT.residual_row))[::vectors]:
                    _emit.prefetch(builder, place)

        b_start = builder.inttoptr(b, float_p)
        if transposed:
            first = [_emit.constant(0)] * vectors
        else:
            first = load_b(b_start)
            b_start = _offset(builder, b_start, b_step, f32)

        def segment(a_base: Any, b_base: Any, ahead_base: Any, *sums_in: Any) -> list[Any]:
            def step(a_at: Any, b_at: Any, ahead_at: Any, *sums: Any) -> list[Any]:
                if READS_AHEAD and not transposed:
                    _emit.prefetch(builder, ahead_at)
                weights = [Value(builder, weight) for weight in load_b(b_at)]
                new = []
                for r in range(rows):
                    offset = i64(FLOAT * r) if transposed else builder.mul(a_row, i64(r))
                    number = builder.load(_offset(builder, a_at, offset, f32), typ=f32)
                    value = Value(builder, _emit.spread(builder, number))
                    row = sums[r * vectors : (r + 1) * vectors]
                    new += [(value * w + Value(builder, s)).ir for w, s in zip(weights, row)]
                after = [(a_at, a_step), (b_at, b_step), (ahead_at, ahead_step)]
                return [*[_offset(builder, at, size, f32) for at, size in after], *new]

            starts = [a_base, b_base, ahead_base, *sums_in]
            unrolled = 1 if transposed else _UNROLLED
            _, b_end, ahead_end, *sums = _emit.loop(builder, length, starts, step, unrolled)
            a_next = _offset(builder, a_base, a_segment, f32)
            b_next = _offset(builder, b_base, b_segment, f32) if transposed else b_end
            return [a_next, b_next, ahead_end, *sums]

        starts = [builder.inttoptr(a, float_p), b_start, builder.inttoptr(ahead, float_p)]
        sums = _emit.loop(builder, segments, [*starts, *first * rows], segment)[3:]
        values = [Value(builder, total) for total in sums]

        def finish(masks: list[Masked | None], summand: Any, summand_row: Any) -> None:
            """Write the sums, plus what is at an address."""
            targets = places(c, setting(AT.c_row))
            others = targets if summand is None else places(summand, summand_row)
            for (_, v), value, target, other in zip(cells, values, targets, others):
                if summand is not None:
                    value = value + Value(builder, load(other, masks[v]))
                if (mask := masks[v]) is None:
                    builder.store(value.ir, target, align=FLOAT)
                else:
                    mask.store(value.ir, target)

        if transposed:
            finish(part if partial else whole, c, setting(AT.c_row))
            return
        low, high = (_emit.float_setting(builder, settings, at) for at in (AT.low, AT.high))
        values = [value.clip(low, high) for value in values]
        is_whole = builder.icmp_signed(">=", columns, i64(vectors * WIDTH))
        with builder.if_else(is_whole) as blocks:
            for block, masks in zip(blocks, (whole, part)):
                with block, builder.if_else(is_alone) as (alone, added):
                    with alone:
                        finish(masks, None, None)
                    with added:
                        finish(masks, residual, setting(AT.residual_row))

    return _emit.function(module, name, kind, "noinline", write)


def _any_tile(builder: Any, args: Any, transposed: bool) -> None:
    """Emit a choice by the rows, vectors and, of a transposed a, masks of a tile."""
    rows, columns, rest = args[0], args[5], list(args[1:])
    narrow = builder.icmp_signed("<=", columns, i64(WIDTH))
    number = builder.add(builder.mul(rows, i64(4)), builder.mul(builder.zext(narrow, i64), i64(2)))
    if transposed:
        whole = builder.select(narrow, i64(WIDTH), i64(PANEL))
        partial = builder.icmp_signed("<", columns, whole)
        number = builder.add(number, builder.zext(partial, i64))

    def call(rows: int, is_narrow: bool, is_partial: bool) -> None:
        vectors = 1 if is_narrow else 2
        function = _tile_function(builder.module, rows, vectors, transposed, is_partial)
        builder.call(function, rest)

    partials = (False, True) if transposed else (False,)
    sizes = itertools.product(range(1, TILE_ROWS + 1), (False, True), partials)
    cases = {4 * r + 2 * n + p: functools.partial(call, r, n, p) for r, n, p in sizes}
    _emit.choice(builder, number, cases)


_ARGUMENTS = (*(i64,) * 8, Words)


@emits(*_ARGUMENTS)
def tile(builder: Any, *args: Any) -> None:
    """Compute one tile of a product and finish it.

    ``c = clip(b[0] + a·b[1:], low, high) + residual`` for 1 to TILE_ROWS rows and 1 to PANEL
    columns. The arguments are ``rows, a, b, c, residual, columns, ahead, ahead_step, settings``;
    ``a``, ``b``, ``c`` and ``residual`` (0: none) are addresses; ``b`` is packed. In each step the
    cache line at ``ahead`` is asked for, which then goes on by ``ahead_step`` bytes.
    """
    _any_tile(builder, args, transposed=False)


@emits(*_ARGUMENTS)
def _tile_transposed(builder: Any, *args: Any) -> None:
    """Add ``aᵀ·b`` to one tile ``c``: both are read as they lie, by rows of the sum."""
    _any_tile(builder, args, transposed=True)


# Many kernels compute tiles, and the code of all sizes of them takes a second to compile. So it is
# a function of its own, and kernels call it by its address: it takes nanoseconds for many tiles.
TILES = ir.FunctionType(void, [Words, *(i64,) * 7])
_call = caller(TILES)


@piece
def tiles(settings, kind, rows, a, b, c, residual, columns):
    """Compute some rows of a panel's product, as the settings say; see there for the arguments."""
    _call(settings[AT.code], settings, kind, rows, a, b, c, residual, columns)


@compiled(TILES)
def tiles_transposed(settings, kind, rows, a, b, c, residual, columns):
    """Add ``aᵀ·b`` to some rows of ``c``, any number; these are adjacent columns of ``a``.

    There is no activation and no residual.
    """
    count = (rows + TILE_ROWS - 1) // TILE_ROWS
    for index in range(count):
        row, stop = share(rows, index, count)
        c_at = c + row * settings[AT.c_row]
        _tile_transposed(stop - row, a + row * FLOAT, b, c_at, 0, columns, 0, 0, settings)
