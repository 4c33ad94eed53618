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

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lucid.kernels.numba.machine._native import PANEL, TILE_ROWS, VECTOR, WIDTH, f32, i64
from lucid.kernels.numba.machine._threads import ARGUMENTS, ROW

i32 = ir.IntType(32)

# What a tile's row of arguments holds. Steps are in bytes.
(
    A_ROW,  # from one row of a to the next (unused where a is transposed)
    SEGMENTS,  # runs of steps
    LENGTH,  # steps in a run
    A_SEGMENT,  # from the start of one run of a to the next
    B_STEP,  # from one row of b to the next
    C_ROW,  # from one row of the result to the next
    RESIDUAL_ROW,  # the same of what is added to the result
    LOW,  # bounds of the result, as the bits of a float32
    HIGH,
    A_STEP,  # from one step of a to the next, where a is transposed
    B_SEGMENT,  # from the start of one run of b to the next, where a is transposed
) = range(11)
TILE_ARGUMENTS = 11

# The last word of a row holds the kind of an activation that is no clipping (0: none). Kernels
# apply it to what a tile has written, while it is in the nearest cache.
ACTIVATION = ROW - ARGUMENTS - 1


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, i32(0))
    zeros = ir.Constant(ir.VectorType(i32, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), zeros)


def _offset(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """The address ``offset`` bytes after the pointer ``base``, as a pointer to ``kind``."""
    byte = builder.bitcast(base, ir.IntType(8).as_pointer())
    return builder.bitcast(
        builder.gep(byte, [offset], source_etype=ir.IntType(8)), kind.as_pointer()
    )


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a·b + c``, in one instruction where the processor has one."""
    flags = ("contract",)
    return builder.fadd(builder.fmul(a, b, flags=flags), c, flags=flags)


class Masked:
    """Loads and stores of the first ``count`` floats of a vector; the others are not touched."""

    def __init__(self, builder: Any, count: Any) -> None:
        self.builder = builder
        kind = ir.VectorType(i32, WIDTH)
        short = builder.trunc(count, i32)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), short, i32(0))
        limit = builder.shuffle_vector(
            one, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * WIDTH)
        )
        numbers = ir.Constant(kind, list(range(WIDTH)))
        self.mask = builder.icmp_signed("<", numbers, limit)

    def _declare(self, name: str, result: Any, args: list[Any]) -> Any:
        kind = ir.FunctionType(result, args)
        full = f"llvm.masked.{name}.v{WIDTH}f32.p0"
        return cgutils.get_or_insert_function(self.builder.module, kind, full)

    def load(self, place: Any, others: Any = None) -> Any:
        """Return the floats at ``place``, and those of ``others`` (zeros) after them."""
        function = self._declare("load", VECTOR, [place.type, i32, self.mask.type, VECTOR])
        if others is None:
            others = ir.Constant(VECTOR, [0.0] * WIDTH)
        return self.builder.call(function, [place, i32(4), self.mask, others])

    def store(self, value: Any, place: Any) -> None:
        function = self._declare("store", ir.VoidType(), [VECTOR, place.type, i32, self.mask.type])
        self.builder.call(function, [value, place, i32(4), self.mask])


def _tile_function(module: Any, rows: int, vectors: int, transposed: bool, partial: bool) -> Any:
    """Return the function for one size of tile, written at the first call for a module.

    Args:
        module: where to put it.
        rows: rows of the tile.
        vectors: vectors in a row.
        transposed: the rows of a are adjacent floats and its steps far apart, the result is
            added to what is there, and there is no bias, residual or bound: for weight gradients.
        partial: not all columns exist in the result and the residual (and in b, if transposed).
    """
    name = f"lucid_tile_{rows}_{vectors}_{int(transposed)}{int(partial)}"
    if name in module.globals:
        return module.globals[name]
    # a, b, c, residual, number of columns, arguments
    kind = ir.FunctionType(ir.VoidType(), [i64, i64, i64, i64, i64, i64.as_pointer()])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, b, c, residual, columns, args = function.args

    def argument(index: int) -> Any:
        return builder.load(builder.gep(args, [i64(index)], source_etype=i64), typ=i64)

    float_p = f32.as_pointer()
    b_step, segments, length = argument(B_STEP), argument(SEGMENTS), argument(LENGTH)
    a_row, a_segment = argument(A_ROW), argument(A_SEGMENT)
    a_step = argument(A_STEP) if transposed else i64(4)
    masks: list[Masked | None] = [None] * vectors
    if partial:
        masks = [Masked(builder, builder.sub(columns, i64(v * WIDTH))) for v in range(vectors)]

    def load_b(base: Any, vector: int) -> Any:
        place = _offset(builder, base, i64(vector * WIDTH * 4), VECTOR)
        if transposed and (mask := masks[vector]) is not None:
            return mask.load(place)
        return builder.load(place, align=4, typ=VECTOR)

    b_start = builder.inttoptr(b, float_p)
    if transposed:
        first = [ir.Constant(VECTOR, [0.0] * WIDTH)] * vectors
    else:
        first = [load_b(b_start, v) for v in range(vectors)]
        b_start = _offset(builder, b_start, b_step, f32)
    start = [first[v] for _ in range(rows) for v in range(vectors)]

    a_start = builder.inttoptr(a, float_p)
    entry = builder.block
    segment_block = function.append_basic_block("segment")
    step_block = function.append_basic_block("step")
    segment_end = function.append_basic_block("segment_end")
    finish = function.append_basic_block("finish")
    builder.branch(segment_block)

    builder.position_at_end(segment_block)
    segment = builder.phi(i64)
    a_base = builder.phi(float_p)
    b_base = builder.phi(float_p)
    sums_in = [builder.phi(VECTOR) for _ in start]
    segment.add_incoming(i64(0), entry)
    a_base.add_incoming(a_start, entry)
    b_base.add_incoming(b_start, entry)
    for phi, value in zip(sums_in, start):
        phi.add_incoming(value, entry)
    builder.branch(step_block)

    builder.position_at_end(step_block)
    step = builder.phi(i64)
    a_at = builder.phi(float_p)
    b_at = builder.phi(float_p)
    sums = [builder.phi(VECTOR) for _ in start]
    step.add_incoming(i64(0), segment_block)
    a_at.add_incoming(a_base, segment_block)
    b_at.add_incoming(b_base, segment_block)
    for phi, value in zip(sums, sums_in):
        phi.add_incoming(value, segment_block)
    weights = [load_b(b_at, v) for v in range(vectors)]
    new = []
    for r in range(rows):
        offset = i64(4 * r) if transposed else builder.mul(a_row, i64(r))
        value = _splat(builder, builder.load(_offset(builder, a_at, offset, f32), typ=f32))
        new += [
            multiply_add(builder, value, weights[v], sums[r * vectors + v]) for v in range(vectors)
        ]
    a_next = _offset(builder, a_at, a_step, f32)
    b_next = _offset(builder, b_at, b_step, f32)
    step_next = builder.add(step, i64(1))
    for phi, value in zip([step, a_at, b_at, *sums], [step_next, a_next, b_next, *new]):
        phi.add_incoming(value, step_block)
    more = builder.icmp_signed("<", step_next, length)
    builder.cbranch(more, step_block, segment_end)

    builder.position_at_end(segment_end)
    segment_next = builder.add(segment, i64(1))
    a_base_next = _offset(builder, a_base, a_segment, f32)
    if transposed:
        b_next = _offset(builder, b_base, argument(B_SEGMENT), f32)
    for phi, value in zip(
        [segment, a_base, b_base, *sums_in], [segment_next, a_base_next, b_next, *new]
    ):
        phi.add_incoming(value, segment_end)
    more = builder.icmp_signed("<", segment_next, segments)
    builder.cbranch(more, segment_block, finish)

    builder.position_at_end(finish)
    c_row = argument(C_ROW)
    c_start = builder.inttoptr(c, float_p)

    def place_of(base: Any, row_bytes: Any, r: int, v: int) -> Any:
        offset = builder.add(builder.mul(row_bytes, i64(r)), i64(v * WIDTH * 4))
        return _offset(builder, base, offset, VECTOR)

    def load(place: Any, v: int) -> Any:
        mask = masks[v]
        return builder.load(place, align=4, typ=VECTOR) if mask is None else mask.load(place)

    def store(value: Any, place: Any, v: int) -> None:
        mask = masks[v]
        if mask is None:
            builder.store(value, place, align=4)
        else:
            mask.store(value, place)

    cells = [(r, v) for r in range(rows) for v in range(vectors)]
    if transposed:
        for (r, v), value in zip(cells, new):
            place = place_of(c_start, c_row, r, v)
            store(builder.fadd(value, load(place, v)), place, v)
        builder.ret_void()
        return function

    def bound(index: int) -> Any:
        bits = builder.trunc(argument(index), i32)
        return _splat(builder, builder.bitcast(bits, f32))

    low, high = bound(LOW), bound(HIGH)
    clipped = []
    for value in new:  # the comparisons are false for NaN, which so passes
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        clipped.append(builder.select(builder.fcmp_ordered(">", value, high), high, value))
    with builder.if_else(builder.icmp_signed("==", residual, i64(0))) as (alone, added):
        with alone:
            for (r, v), value in zip(cells, clipped):
                store(value, place_of(c_start, c_row, r, v), v)
        with added:
            residual_row = argument(RESIDUAL_ROW)
            other = builder.inttoptr(residual, float_p)
            for (r, v), value in zip(cells, clipped):
                value = builder.fadd(value, load(place_of(other, residual_row, r, v), v))
                store(value, place_of(c_start, c_row, r, v), v)
    builder.ret_void()
    return function


def _dispatch(builder: Any, values: Any, transposed: bool) -> None:
    """Emit a switch over the rows, vectors and masks of a tile."""
    rows, columns, rest = values[0], values[5], list(values[1:])
    after = builder.append_basic_block("after")
    impossible = builder.append_basic_block("impossible")
    narrow = builder.icmp_signed("<=", columns, i64(WIDTH))
    whole = builder.select(narrow, i64(WIDTH), i64(PANEL))
    partial = builder.icmp_signed("<", columns, whole)
    number = builder.add(
        builder.mul(rows, i64(4)),
        builder.add(builder.mul(builder.zext(narrow, i64), i64(2)), builder.zext(partial, i64)),
    )
    switch = builder.switch(number, impossible)
    for count in range(1, TILE_ROWS + 1):
        for is_narrow in (0, 1):
            for is_partial in (0, 1):
                block = builder.append_basic_block("tile")
                switch.add_case(i64(count * 4 + is_narrow * 2 + is_partial), block)
                builder.position_at_end(block)
                vectors = 1 if is_narrow else 2
                function = _tile_function(
                    builder.module, count, vectors, transposed, bool(is_partial)
                )
                builder.call(function, rest)
                builder.branch(after)
    builder.position_at_end(impossible)
    builder.unreachable()
    builder.position_at_end(after)


_ADDRESSES = (types.int64,) * 6


@intrinsic
def tile(
    typingctx: Any, rows: Any, a: Any, b: Any, c: Any, residual: Any, columns: Any, args: Any
) -> Any:
    """Compute one tile of a product and finish it.

    ``c = clip(b[0] + a·b[1:], low, high) + residual`` for 1 to TILE_ROWS rows and 1 to PANEL
    columns. ``a``, ``b``, ``c`` and ``residual`` (0: none) are addresses; ``b`` is packed.
    """

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        _dispatch(builder, values, transposed=False)
        return context.get_dummy_value()

    return types.void(*_ADDRESSES, types.CPointer(types.int64)), codegen


@intrinsic
def tile_transposed(
    typingctx: Any, rows: Any, a: Any, b: Any, c: Any, residual: Any, columns: Any, args: Any
) -> Any:
    """Add ``aᵀ·b`` to one tile ``c``: both are read as they lie, by rows of the sum."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        _dispatch(builder, values, transposed=True)
        return context.get_dummy_value()

    return types.void(*_ADDRESSES, types.CPointer(types.int64)), codegen
