"""How LLVM's instructions are written: numbers with Python's operators, loops, choices, functions.

Nothing here depends on what a compiler recognises: what is written so is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from lucid.kernels.numba.machine._native import (
    FLOAT,
    VECTOR,
    WIDTH,
    declared,
    f32,
    i32,
    i64,
    pointer,
    void,
)

_FLAGS = ("contract",)  # a·b + c in one instruction


def floats_of(width: int) -> Any:
    """Return the type of so many floats: a vector, or for one a number."""
    return ir.VectorType(f32, width) if width > 1 else f32


def constant(number: float, kind: Any = VECTOR) -> Any:
    """Return a constant float or vector of equal floats."""
    is_vector = isinstance(kind, ir.VectorType)
    return ir.Constant(kind, [float(number)] * kind.count if is_vector else float(number))


class Value:
    """A vector in a formula, or a float; numbers beside it stand for vectors of that number."""

    def __init__(self, builder: Any, ir_value: Any) -> None:
        self.builder, self.ir = builder, ir_value

    def _other(self, other: Value | float) -> Any:
        return other.ir if isinstance(other, Value) else constant(other, self.ir.type)

    def _new(self, operation: str, a: Any, b: Any) -> Value:
        return Value(self.builder, getattr(self.builder, operation)(a, b, flags=_FLAGS))

    def __add__(self, other: Value | float) -> Value:
        return self._new("fadd", self.ir, self._other(other))

    def __sub__(self, other: Value | float) -> Value:
        return self._new("fsub", self.ir, self._other(other))

    def __rsub__(self, other: float) -> Value:
        return self._new("fsub", self._other(other), self.ir)

    def __mul__(self, other: Value | float) -> Value:
        return self._new("fmul", self.ir, self._other(other))

    def __truediv__(self, other: Value | float) -> Value:
        return self._new("fdiv", self.ir, self._other(other))

    def __rtruediv__(self, other: float) -> Value:
        return self._new("fdiv", self._other(other), self.ir)

    __radd__, __rmul__ = __add__, __mul__

    def choose(
        self, relation: str, bound: Value | float, yes: Value | float, no: Value | float
    ) -> Value:
        """Return ``yes`` where a relation to ``bound`` holds, elsewhere and for NaN ``no``."""
        condition = self.builder.fcmp_ordered(relation, self.ir, self._other(bound))
        chosen = self.builder.select(condition, self._other(yes), self._other(no))
        return Value(self.builder, chosen)

    def clip(self, low: Value | float, high: Value | float) -> Value:
        """Return this within bounds; NaN stays."""
        above = self.choose("<", low, low, self)
        return above.choose(">", high, high, above)


def spread(builder: Any, number: Any, kind: Any = VECTOR) -> Any:
    """Emit a vector of one number; ``kind`` may be the number's own type."""
    if kind is number.type:
        return number
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, i32(0))
    zeros = ir.Constant(ir.VectorType(i32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def load_value(builder: Any, address: Any, kind: Any = VECTOR) -> Value:
    """Emit a read of a float or a vector at an address."""
    return Value(builder, builder.load(pointer(builder, address, kind), align=FLOAT, typ=kind))


def prefetch(builder: Any, place: Any, to_write: bool = False) -> None:
    """Emit a request for the cache line at a pointer, to read or write it; any pointer will do."""
    place = builder.bitcast(place, f32.as_pointer())
    kind = ir.FunctionType(void, [place.type, i32, i32, i32])
    function = declared(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [place, i32(int(to_write)), i32(3), i32(1)])  # near, data


def store_value(value: Value, address: Any) -> None:
    """Emit a write of a float or a vector to an address."""
    builder = value.builder
    builder.store(value.ir, pointer(builder, address, value.ir.type), align=FLOAT)


class Masked:
    """Loads and stores of the first ``count`` floats of a vector; the others are not touched."""

    def __init__(self, builder: Any, count: Any) -> None:
        self.builder = builder
        limit = spread(builder, builder.trunc(count, i32), ir.VectorType(i32, WIDTH))
        numbers = ir.Constant(ir.VectorType(i32, WIDTH), list(range(WIDTH)))
        self.mask = builder.icmp_signed("<", numbers, limit)

    def _declare(self, name: str, result: Any, args: list[Any]) -> Any:
        kind = ir.FunctionType(result, args)
        full = f"llvm.masked.{name}.v{WIDTH}f32.p0"
        return declared(self.builder.module, kind, full)

    def load(self, place: Any, others: Any = None) -> Any:
        """Return the floats at ``place``, and those of ``others`` (zeros) after them."""
        function = self._declare("load", VECTOR, [place.type, i32, self.mask.type, VECTOR])
        others = constant(0) if others is None else others
        return self.builder.call(function, [place, i32(FLOAT), self.mask, others])

    def store(self, value: Any, place: Any) -> None:
        function = self._declare("store", void, [VECTOR, place.type, i32, self.mask.type])
        self.builder.call(function, [value, place, i32(FLOAT), self.mask])


def setting(builder: Any, settings: Any, index: int) -> Any:
    """Emit a read of one of the integers that settings are."""
    return builder.load(builder.gep(settings, [i64(index)], source_etype=i64), typ=i64)


def float_setting(builder: Any, settings: Any, index: int, kind: Any = VECTOR) -> Value:
    """Emit a read of a float32's bits among settings, and a vector of that number."""
    bits = builder.trunc(setting(builder, settings, index), i32)
    return Value(builder, spread(builder, builder.bitcast(bits, f32), kind))


def loop(
    builder: Any,
    times: Any,
    starts: Sequence[Any],
    body: Callable[..., Sequence[Any]],
    unrolled: int = 1,
) -> Sequence[Any]:
    """Emit a loop that runs at least once, and return the values after the last round.

    ``body`` takes the values of a round, at first ``starts``, and returns those of the next. LLVM
    is to write so many rounds one after the other as ``unrolled`` says.
    """
    before = builder.block
    block, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(block)
    builder.position_at_end(block)
    phis = [builder.phi(i64), *[builder.phi(value.type) for value in starts]]
    following = body(*phis[1:])
    done = builder.add(phis[0], i64(1))
    for phi, start, value in zip(phis, [i64(0), *starts], [done, *following]):
        phi.add_incoming(start, before)
        phi.add_incoming(value, builder.block)
    branch = builder.cbranch(builder.icmp_signed("<", done, times), block, after)
    if unrolled > 1:
        count = builder.module.add_metadata(["llvm.loop.unroll.count", i32(unrolled)])
        told = builder.module.add_metadata([count])
        told.operands = told, count  # LLVM knows a loop's by its first part, which is itself
        branch.set_metadata("llvm.loop", told)
    builder.position_at_end(after)
    return following


def over_channels(
    builder: Any,
    channels: Any,
    write: Callable[[int, Any, Any], None],
    widths: Sequence[int] = (WIDTH,),
) -> None:
    """Emit ``write(width, first, last)`` for each of falling widths, then one channel at a time.

    ``first`` and ``last`` say where a run of channels begins and ends.
    """
    first = i64(0)
    for width in widths:
        last = builder.and_(channels, i64(-width))
        write(width, first, last)
        first = last
    write(1, first, channels)


def channel_loop(
    builder: Any, width: int, first: Any, last: Any, body: Callable[[Any], None]
) -> None:
    """Emit ``body`` for the bytes from channel 0 to each ``width``-th channel of a range."""
    size = builder.sub(last, first)
    with builder.if_then(builder.icmp_signed(">", size, i64(0))):
        times = builder.sdiv(size, i64(width))
        start = builder.mul(first, i64(FLOAT))

        def once(at: Any) -> tuple[Any]:
            body(at)
            return (builder.add(at, i64(width * FLOAT)),)

        loop(builder, times, [start], once)


def choice(builder: Any, number: Any, cases: Mapping[int, Callable[[], None]]) -> None:
    """Emit a choice among cases by their numbers; there are no others."""
    after, impossible = (builder.append_basic_block(name) for name in ("after", "impossible"))
    switch = builder.switch(number, impossible)
    for count, write in cases.items():
        block = builder.append_basic_block("case")
        switch.add_case(i64(count), block)
        builder.position_at_end(block)
        write()
        builder.branch(after)
    builder.position_at_end(impossible)
    builder.unreachable()
    builder.position_at_end(after)


def function(module: Any, name: str, kind: Any, attribute: str, write: Callable[..., Any]) -> Any:
    """Return a module's function; ``write(builder, *args)`` writes it at its first use there."""
    if name not in module.globals:
        made = ir.Function(module, kind, name)
        made.linkage = "internal"
        made.attributes.add(attribute)
        builder = ir.IRBuilder(made.append_basic_block("entry"))
        result = write(builder, *made.args)
        builder.ret_void() if result is None else builder.ret(result)
    return module.globals[name]
