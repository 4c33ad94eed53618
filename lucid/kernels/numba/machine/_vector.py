"""Vectors of WIDTH floats in compiled code, where LLVM does not find them by itself.

It vectorises a loop over one long row well. Here are the loops over columns of short rows, whose
sums should stay in registers from row to row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lucid.kernels.numba.machine import _emit
from lucid.kernels.numba.machine._emit import Masked, Value
from lucid.kernels.numba.machine._native import (
    VECTOR,
    WIDTH,
    declared,
    emits,
    f32,
    i32,
    i64,
    piece,
    pointer,
)


@emits(f32)
def spread(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    return _emit.spread(builder, number)


@emits(i64)
def _load_whole(builder: Any, place: Any) -> Any:
    return _emit.load_value(builder, place).ir


@emits(i64, i64)
def _load_part(builder: Any, place: Any, count: Any) -> Any:
    return Masked(builder, count).load(pointer(builder, place, VECTOR))


@emits(i64, i64, VECTOR)
def _load_part_or(builder: Any, place: Any, count: Any, others: Any) -> Any:
    return Masked(builder, count).load(pointer(builder, place, VECTOR), others)


@emits(i64, VECTOR)
def _store_whole(builder: Any, place: Any, value: Any) -> None:
    _emit.store_value(Value(builder, value), place)


@emits(i64, VECTOR, i64)
def _store_part(builder: Any, place: Any, value: Any, count: Any) -> None:
    Masked(builder, count).store(value, pointer(builder, place, VECTOR))


@piece
def load(place, count):
    """The floats at an address; where ``count`` is less than WIDTH so many, then zeros."""
    if count >= WIDTH:
        return _load_whole(place)
    return _load_part(place, count)


@piece
def load_or(place, count, others):
    """Like :func:`load`, with floats of the vector ``others`` after the first ``count``."""
    if count >= WIDTH:
        return _load_whole(place)
    return _load_part_or(place, count, others)


@piece
def store(place, value, count):
    """Write a vector to an address, or its first ``count`` floats."""
    if count >= WIDTH:
        _store_whole(place, value)
    else:
        _store_part(place, value, count)


@emits(VECTOR, VECTOR, VECTOR)
def fused(builder: Any, *args: Any) -> Any:
    """``a · b + c``, in one instruction if the machine has it.

    Operators are fused too, but of ``a · b + c · d`` one product only, and LLVM chooses which.
    """
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    name = f"llvm.fmuladd.v{WIDTH}f32"
    return builder.call(declared(builder.module, kind, name), args)


@emits(VECTOR)
def root(builder: Any, value: Any) -> Any:
    """The square root."""
    kind = ir.FunctionType(VECTOR, [VECTOR])
    name = f"llvm.sqrt.v{WIDTH}f32"
    return builder.call(declared(builder.module, kind, name), [value])


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@emits(VECTOR, VECTOR)
def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where one is NaN, ``a``."""
    return _larger(builder, a, b)


@emits(VECTOR, VECTOR)
def maximum_or_nan(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where either is NaN, NaN."""
    larger = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
    return builder.select(larger, b, a)


@emits(VECTOR, VECTOR, VECTOR)
def bounded(builder: Any, *args: Any) -> Any:
    """``min(max(value, low), high)``; NaN passes."""
    value, low, high = (Value(builder, arg) for arg in args)
    return value.clip(low, high).ir


@emits(VECTOR, VECTOR, VECTOR, VECTOR)
def where_inside(builder: Any, *args: Any) -> Any:
    """0 where ``place`` is not above ``low`` or reaches ``high``, else ``value``: also at NaN."""
    value, place, low, high = (Value(builder, arg) for arg in args)
    return place.choose(">=", high, 0.0, place.choose("<=", low, 0.0, value)).ir


def _across(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function that combines the floats of a vector: halves, then halves of these."""

    @emits(VECTOR)
    def function(builder: Any, value: Any) -> Any:
        half = WIDTH // 2
        while half:
            numbers = [(i + half) % WIDTH for i in range(WIDTH)]
            mask = ir.Constant(ir.VectorType(i32, WIDTH), numbers)
            value = combine(builder, value, builder.shuffle_vector(value, value, mask))
            half //= 2
        return builder.extract_element(value, i32(0))

    return function


total = _across(lambda builder, a, b: builder.fadd(a, b))
largest = _across(lambda builder, a, b: _larger(builder, b, a))
