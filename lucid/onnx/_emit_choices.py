"""How comparisons, logic and the places of extrema are said in ONNX. See ``_emit.py``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.graph import Value
from lucid.onnx._context import Context

# ufunc -> the operator, and the opset that has it; one whose result is turned round has "Not".
_COMPARISONS: dict[Any, tuple[str, int]] = {
    np.equal: ("Equal", 11),
    np.not_equal: ("Not Equal", 11),
    np.less: ("Less", 11),
    np.less_equal: ("LessOrEqual", 12),
    np.greater: ("Greater", 11),
    np.greater_equal: ("GreaterOrEqual", 12),
}
_LOGIC = {np.logical_and: "And", np.logical_or: "Or", np.logical_xor: "Xor", np.logical_not: "Not"}
_BITS = {np.bitwise_and: "And", np.bitwise_or: "Or", np.bitwise_xor: "Xor", np.invert: "Not"}
# isfinite is made of them.
_TESTS = {np.isnan: "IsNaN", np.isinf: "IsInf"}


def compare(context: Context, ufunc: Any, *given: Any) -> str:
    """Add a comparison, a test or logic."""
    if ufunc in _LOGIC:
        return context.node(_LOGIC[ufunc], *[context.cast(x, np.dtype(bool)) for x in given])
    if ufunc in _BITS:
        if given[0].dtype.kind == "b":
            return context.node(_BITS[ufunc], *given)
        context.need(18, f"Bitwise{_BITS[ufunc]}")
        return context.node(f"Bitwise{_BITS[ufunc]}", *given)
    if ufunc not in _COMPARISONS:
        return _test(context, ufunc, given[0])
    kind, opset = _COMPARISONS[ufunc]
    context.need(opset, kind)
    a, b = given
    if not hasattr(b, "dtype"):  # a number, which may lie between integers
        dtype = a.dtype if a.dtype.kind == "f" or isinstance(b, int) else np.dtype(np.float64)
        a, b = context.cast(a, dtype), np.asarray(b, dtype)
    negated, _, kind = kind.rpartition(" ")
    made = context.node(kind, a, b)
    return context.node("Not", made) if negated else made


def _test(context: Context, ufunc: Any, x: Any) -> str:
    given = context.cast(x, np.dtype(np.float32)) if x.dtype.kind != "f" else x
    if ufunc in _TESTS:
        return context.node(_TESTS[ufunc], given)
    if ufunc is not np.isfinite:
        name = ufunc.__name__.lstrip("_")
        raise context.refuse(f"by {name} is no operation that the exporter knows")
    wrong = context.node("Or", *[context.node(kind, given) for kind in _TESTS.values()])
    return context.node("Not", wrong)


def arg(context: Context, x: Value, axis: int | None, keepdim: bool, function: Any) -> str:
    """Add an ArgMax or ArgMin, along an axis or of all elements."""
    kind = "ArgMax" if function is np.argmax else "ArgMin"
    given = context.cast(x, np.dtype(np.int32)) if x.dtype.kind == "b" else x
    if axis is not None:
        return context.node(kind, given, axis=int(axis), keepdims=int(keepdim))
    flat = context.node("Reshape", given, np.array([-1]))
    place = context.node(kind, flat, axis=0, keepdims=0)
    return context.node("Reshape", place, np.ones(x.ndim if keepdim else 0, np.int64))


def rows(context: Context, table: Any, places: Any) -> str:
    """Add a Gather."""
    return context.node("Gather", table, context.cast(places, np.dtype(np.int64)), axis=0)
