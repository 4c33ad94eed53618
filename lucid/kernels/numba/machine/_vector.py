"""Vectors of WIDTH floats in compiled code, where LLVM does not find them by itself.

It vectorises a loop over one long row well. Here are the loops over columns of short rows, whose
sums should stay in registers from row to row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

from lucid.kernels.numba.machine._native import VECTOR, WIDTH, pointer
from lucid.kernels.numba.machine._tile import Masked


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="lucid_vector")


vector = _VectorType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, VECTOR)


@intrinsic
def spread(typingctx: Any, number: Any) -> Any:
    """A vector of one number."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        empty = ir.Constant(VECTOR, ir.Undefined)
        one = builder.insert_element(empty, args[0], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(one, empty, zeros)

    return vector(types.float32), codegen


@intrinsic
def _load_whole(typingctx: Any, place: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(pointer(builder, args[0], VECTOR), align=4, typ=VECTOR)

    return vector(types.int64), codegen


@intrinsic
def _load_part(typingctx: Any, place: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Masked(builder, args[1]).load(pointer(builder, args[0], VECTOR))

    return vector(types.int64, types.int64), codegen


@intrinsic
def _load_part_or(typingctx: Any, place: Any, count: Any, others: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Masked(builder, args[1]).load(pointer(builder, args[0], VECTOR), args[2])

    return vector(types.int64, types.int64, vector), codegen


@intrinsic
def _store_whole(typingctx: Any, place: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], pointer(builder, args[0], VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


@intrinsic
def _store_part(typingctx: Any, place: Any, value: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        Masked(builder, args[2]).store(args[1], pointer(builder, args[0], VECTOR))
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), codegen


@njit
def load(place, count):
    """The floats at an address; where ``count`` is less than WIDTH so many, then zeros."""
    if count >= WIDTH:
        return _load_whole(place)
    return _load_part(place, count)


@njit
def load_or(place, count, others):
    """Like :func:`load`, with floats of the vector ``others`` after the first ``count``."""
    if count >= WIDTH:
        return _load_whole(place)
    return _load_part_or(place, count, others)


@njit
def store(place, value, count):
    """Write a vector to an address, or its first ``count`` floats."""
    if count >= WIDTH:
        _store_whole(place, value)
    else:
        _store_part(place, value, count)


def _operator(function: Any, operation: str) -> None:
    """Let an operator of Python serve vectors; a product in a sum becomes one multiply-add."""

    @type_callable(function)
    def typed(context: Any) -> Any:
        return lambda a, b: vector if (a, b) == (vector, vector) else None

    @lower_builtin(function, vector, vector)
    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, operation)(*args, flags=("contract",))


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def fused(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a · b + c``, in one instruction if the machine has it.

    Operators are fused too, but of ``a · b + c · d`` one product only, and LLVM chooses which: not
    always the same one, as it optimises a kernel again when that is read from the cache.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fmuladd.v{WIDTH}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(vector, vector, vector), codegen


@intrinsic
def root(typingctx: Any, value: Any) -> Any:
    """The square root."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR])
        name = f"llvm.sqrt.v{WIDTH}f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(vector), codegen


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where one is NaN, ``a``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        return builder.select(builder.fcmp_ordered(">", b, a), b, a)

    return vector(vector, vector), codegen


@intrinsic
def maximum_or_nan(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors; where either is NaN, NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        larger = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
        return builder.select(larger, b, a)

    return vector(vector, vector), codegen


def _select(builder: Any, comparison: str, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    return builder.select(builder.fcmp_ordered(comparison, a, b), then, otherwise)


@intrinsic
def bounded(typingctx: Any, value: Any, low: Any, high: Any) -> Any:
    """``min(max(value, low), high)``; NaN passes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, low, high = args
        value = _select(builder, "<", value, low, low, value)
        return _select(builder, ">", value, high, high, value)

    return vector(vector, vector, vector), codegen


@intrinsic
def where_inside(typingctx: Any, value: Any, place: Any, low: Any, high: Any) -> Any:
    """0 where ``place`` is not above ``low`` or reaches ``high``, else ``value``: also at NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, place, low, high = args
        zero = ir.Constant(VECTOR, [0.0] * WIDTH)
        value = _select(builder, "<=", place, low, zero, value)
        return _select(builder, ">=", place, high, zero, value)

    return vector(vector, vector, vector, vector), codegen


def _across(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function that combines the floats of a vector: halves, then halves of these."""

    @intrinsic
    def function(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (value,) = args
            half = WIDTH // 2
            while half:
                numbers = [(i + half) % WIDTH for i in range(WIDTH)]
                mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), numbers)
                value = combine(builder, value, builder.shuffle_vector(value, value, mask))
                half //= 2
            return builder.extract_element(value, ir.IntType(32)(0))

        return types.float32(vector), codegen

    return function


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


total = _across(lambda builder, a, b: builder.fadd(a, b))
largest = _across(_larger)
