"""Vectors of WIDTH floats in compiled code, where LLVM does not find them by itself.

It vectorises a loop over one long row well. Here are the loops over columns of short rows, whose
sums should stay in registers from row to row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from lucid.kernels.numba.machine import _emit
from lucid.kernels.numba.machine._emit import Masked, Value
from lucid.kernels.numba.machine._native import VECTOR, WIDTH, emits, pointer
from lucid.kernels.numba.machine._toolchain import (
    cgutils,
    ir,
    models,
    piece,
    provide,
    register_model,
    types,
)


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="lucid_vector")


vector = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, VECTOR)


@emits(vector(types.float32))
def spread(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    return _emit.spread(builder, number)


@emits(vector(types.int64))
def _load_whole(builder: Any, place: Any) -> Any:
    return _emit.load_value(builder, place).ir


@emits(vector(types.int64, types.int64))
def _load_part(builder: Any, place: Any, count: Any) -> Any:
    return Masked(builder, count).load(pointer(builder, place, VECTOR))


@emits(vector(types.int64, types.int64, vector))
def _load_part_or(builder: Any, place: Any, count: Any, others: Any) -> Any:
    return Masked(builder, count).load(pointer(builder, place, VECTOR), others)


@emits(types.void(types.int64, vector))
def _store_whole(builder: Any, place: Any, value: Any) -> None:
    _emit.store_value(Value(builder, value), place)


@emits(types.void(types.int64, vector, types.int64))
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


def _operator(function: Any, operation: str) -> None:
    """Let an operator of Python serve vectors; a product in a sum becomes one multiply-add."""

    def write(builder: Any, *args: Any) -> Any:
        return getattr(builder, operation)(*args, flags=("contract",))

    provide(function, vector(vector, vector), write)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@emits(vector(vector, vector, vector))
def fused(builder: Any, *args: Any) -> Any:
    """``a · b + c``, in one instruction if the machine has it.

    Operators are fused too, but of ``a · b + c · d`` one product only, and LLVM chooses which: not
    always the same one, as it optimises a kernel again when that is read from the cache.
    """
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    name = f"llvm.fmuladd.v{WIDTH}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@emits(vector(vector))
def root(builder: Any, value: Any) -> Any:
    """The square root."""
    kind = ir.FunctionType(VECTOR, [VECTOR])
    name = f"llvm.sqrt.v{WIDTH}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@emits(vector(vector, vector))
def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where one is NaN, ``a``."""
    return _larger(builder, a, b)


@emits(vector(vector, vector))
def maximum_or_nan(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where either is NaN, NaN."""
    larger = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
    return builder.select(larger, b, a)


@emits(vector(vector, vector, vector))
def bounded(builder: Any, *args: Any) -> Any:
    """``min(max(value, low), high)``; NaN passes."""
    value, low, high = (Value(builder, arg) for arg in args)
    return value.clip(low, high).ir


@emits(vector(vector, vector, vector, vector))
def where_inside(builder: Any, *args: Any) -> Any:
    """0 where ``place`` is not above ``low`` or reaches ``high``, else ``value``: also at NaN."""
    value, place, low, high = (Value(builder, arg) for arg in args)
    return place.choose(">=", high, 0.0, place.choose("<=", low, 0.0, value)).ir


def _across(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function that combines the floats of a vector: halves, then halves of these."""

    @emits(types.float32(vector))
    def function(builder: Any, value: Any) -> Any:
        half = WIDTH // 2
        while half:
            numbers = [(i + half) % WIDTH for i in range(WIDTH)]
            mask = ir.Constant(ir.VectorType(_emit.i32, WIDTH), numbers)
            value = combine(builder, value, builder.shuffle_vector(value, value, mask))
            half //= 2
        return builder.extract_element(value, _emit.i32(0))

    return function


total = _across(lambda builder, a, b: builder.fadd(a, b))
largest = _across(lambda builder, a, b: _larger(builder, b, a))
