"""The Python of kernels becomes LLVM's instructions.

Kernels are written in the part of Python whose things a machine has, too:

- integers of 64 bits, float32, float64 and truth values; integers of 32 bits in memory
- vectors of floats, with ``+``, ``-``, ``*`` and ``/``
- pointers, which are read and written by an index
- tuples of these, which are taken apart
- ``if``, ``while``, and ``for`` over a ``range`` with a step above zero
- calls of pieces, of functions that write instructions (``emits``), and of ``_FUNCTIONS``

What a module or an enclosing function has under a name is a constant, and what is made of Python's
own constants is computed here. A variable has the type that is first assigned to it. One that is
assigned once is known in the block of that assignment alone, a loop's number in the loop, and what
is called ``_`` nowhere.

An integer beside a float32 makes a float64, as in NumPy. Differences from Python: ``and`` and
``or`` take truth values only; an integer that is divided by 0 is divided by 1, as a processor would
end the program. Nobody looks whether a sum, difference or product has more than 64 bits, a shift is
below 64, a range's step above zero, or a variable assigned in all ways to where it is read.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import functools
import linecache
import math
import operator
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from llvmlite import ir

_BOOL, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_NUMBERS = (_BOOL, _I32, _I64, _F32, _F64)  # each has room for those before it, F32 not for I64
_FLOATS = (_F32, _F64)

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_OF_FLOATS = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}
# LLVM finds more to do where it may take it that indices do not wrap.
_OF_INTEGERS = {
    operator.add: ("add", ("nsw",)),
    operator.sub: ("sub", ("nsw",)),
    operator.mul: ("mul", ("nsw",)),
    operator.lshift: ("shl", ()),
    operator.rshift: ("ashr", ()),
    operator.and_: ("and_", ()),
    operator.or_: ("or_", ()),
}
_RELATIONS = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}


def translate(function: Callable[..., Any], builder: Any, args: list[Any]) -> None:
    """Write what a Python function does with arguments into the LLVM function of a builder.

    Raises:
        TypeError: if it is not written as above; the message ends with what was expected.
    """
    _Body(function, builder, {}, builder.function.ftype.return_type).write(args)


@functools.cache
def _definitions(path: str) -> tuple[dict[int, ast.FunctionDef], set[types.CodeType]]:
    """Return a file's functions by the lines in which they begin, and what Python makes of them."""
    tree = ast.parse("".join(linecache.getlines(path)))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = {min([n.lineno, *(d.lineno for d in n.decorator_list)]): n for n in functions}
    codes, found = [compile(tree, path, "exec", dont_inherit=True)], set()
    while codes:
        found.update(inner := [c for c in codes.pop().co_consts if isinstance(c, types.CodeType)])
        codes += inner
    return lines, found


# -- values ---------------------------------------------------------------------------------------
#
# What an expression stands for is a value of LLVM's; a tuple; or, if it is known by now, Python's.


def _is_written(value: Any) -> bool:
    return isinstance(value, ir.Value)


def _constant(value: Any) -> Any:
    """Return a number of Python's or NumPy's as one of LLVM's, which stays as it is."""
    if _is_written(value):
        return value
    if isinstance(value, (bool, np.bool_)):
        return ir.Constant(_BOOL, int(value))
    if isinstance(value, (int, np.integer)) and -(2**63) <= value < 2**63:
        return ir.Constant(_I32 if isinstance(value, np.int32) else _I64, int(value))
    if isinstance(value, (float, np.float32)):
        return ir.Constant(_F64 if isinstance(value, float) else _F32, float(value))
    raise TypeError(f"expected a number of 64 bits, got {value!r}")


def _common(a: Any, b: Any) -> Any:
    """Return the type that has room for numbers of two types, or for others of one type."""
    if a == b:
        return a
    if a not in _NUMBERS or b not in _NUMBERS:
        raise TypeError(f"expected values of one type, got {a} and {b}")
    less, kind = sorted((a, b), key=_NUMBERS.index)
    return _F64 if kind == _F32 and less != _BOOL else kind


def _flat(value: Any) -> list[Any]:
    """Return the values in tuples of tuples."""
    if isinstance(value, tuple):
        return [part for item in value for part in _flat(item)]
    return [_constant(value)]


def _shaped(like: Any, parts: Iterator[Any]) -> Any:
    """Return values in tuples as others are."""
    return tuple(_shaped(one, parts) for one in like) if isinstance(like, tuple) else next(parts)


def _kinds(value: Any) -> Any:
    return tuple(map(_kinds, value)) if isinstance(value, tuple) else _constant(value).type


def _packed(kinds: Any) -> Any:
    """Return the type of a result that is a value, some in a tuple, or nothing: no values."""
    if not isinstance(kinds, tuple):
        return kinds
    return ir.LiteralStructType(kinds) if kinds else ir.VoidType()


class _Body(ast.NodeVisitor):
    """A function that is being written; visiting an expression returns what it stands for."""

    def __init__(
        self, function: Any, builder: Any, pieces: dict[Any, tuple[Any, Any]], result: Any = None
    ) -> None:
        code = function.__code__
        self.builder, self.pieces = builder, pieces
        self.name = f"kernels: {function.__module__}.{function.__qualname__}"
        lines, codes = _definitions(code.co_filename)
        if code not in codes or code.co_firstlineno not in lines:
            raise _TranslationError(
                f"{self.name}: expected its source, with def, in {code.co_filename}, as it was "
                "when it was imported"
            )
        self.tree = lines[code.co_firstlineno]
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        inner = dict(zip(code.co_freevars, cells))
        self.outside = collections.ChainMap(inner, function.__globals__, vars(builtins))
        self.known: dict[str, Any] = {}  # what names stand for that are assigned once
        self.slots: dict[str, Any] = {}  # the memory of the others, in tuples if they are
        self.loops: list[tuple[Any, Any]] = []  # where ``continue`` and ``break`` go
        self.result = result  # the types of what is returned, once they are known
        nodes = list(ast.walk(self.tree))
        loops = {id(node.target) for node in nodes if isinstance(node, ast.For)}
        names = [node for node in nodes if isinstance(node, ast.Name)]
        stored = [node for node in names if isinstance(node.ctx, ast.Store)]
        self.own = {*code.co_varnames, *code.co_cellvars}
        self.assigned = collections.Counter(node.id for node in stored if id(node) not in loops)
        self.parameters = [argument.arg for argument in self.tree.args.args]
        self.assigned.update(self.parameters)

    def write(self, args: list[Any]) -> None:
        """Write all instructions."""
        if len(args) != len(self.parameters) or self.tree.args.vararg:
            raise _TranslationError(
                f"{self.name}: expected arguments for {self.parameters}, got {len(args)}"
            )
        for name, value in zip(self.parameters, args):
            self.assign_name(name, value)
        self.block(self.tree.body)
        if not self.builder.block.is_terminated:
            self.visit(ast.Return(None))

    def visit(self, node: ast.AST) -> Any:
        try:
            value = super().visit(node)
            # NumPy's rules for what is made of its numbers are not those here.
            return _constant(value) if isinstance(value, np.generic) else value
        except _TranslationError:
            raise
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            where = f"line {getattr(node, 'lineno', '?')}, {ast.unparse(node)!r}"
            raise _TranslationError(f"{self.name}, {where}: {error}") from error

    def generic_visit(self, node: ast.AST) -> NoReturn:
        raise TypeError(f"expected what kernels are written in, got {type(node).__name__}")

    # -- names ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """What is assigned once, in a block, is not known behind it."""
        before = dict(self.known)
        yield
        self.known = before

    def assign_name(self, name: str, value: Any) -> None:
        if name == "_":
            return
        if self.assigned[name] <= 1:
            self.known[name] = value
            return
        if name not in self.slots:
            with self.builder.goto_entry_block():
                slots = [self.builder.alloca(part.type) for part in _flat(value)]
            self.slots[name] = _shaped(value, iter(slots))
        self.store(self.slots[name], value)

    def store(self, slots: Any, value: Any) -> None:
        if isinstance(slots, tuple) and isinstance(value, tuple) and len(slots) == len(value):
            for pair in zip(slots, value):
                self.store(*pair)
        elif isinstance(slots, tuple) or isinstance(value, tuple):
            raise TypeError("expected a tuple like the one before")
        else:
            self.builder.store(self.widened(value, slots.allocated_type), slots)

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self.known:
            return self.known[node.id]
        if node.id in self.slots:
            slots = self.slots[node.id]
            values = [self.builder.load(slot, typ=slot.allocated_type) for slot in _flat(slots)]
            return _shaped(slots, iter(values))
        if node.id in self.own or node.id not in self.outside:
            raise TypeError("expected a name that is assigned before, in this block or twice")
        return self.outside[node.id]

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        value = self.visit(node.value)
        if _is_written(value):
            raise TypeError("expected a constant before the dot")
        return getattr(value, node.attr)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(map(self.visit, node.elts))

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        base = self.visit(node.value)
        if not _is_written(base):
            return base[self.visit(node.slice)]
        place, kind = self.place(base, node.slice)
        return self.builder.load(place, typ=kind)

    def place(self, base: Any, index: ast.expr) -> tuple[Any, Any]:
        """Return where a pointer's element is, and its type."""
        if not _is_written(base) or not isinstance(base.type, ir.PointerType):
            raise TypeError("expected a pointer before the index")
        number, kind = self.widened(self.visit(index), _I64), base.type.pointee
        return self.builder.gep(base, [number], source_etype=kind), kind

    # -- numbers --------------------------------------------------------------------------------

    def converted(self, value: Any, kind: Any) -> Any:
        """Return a number as one of another type, which may have no room for it."""
        value = _constant(value)
        if value.type == kind:
            return value
        is_wider = _NUMBERS.index(kind) > _NUMBERS.index(value.type)
        if value.type in _FLOATS:
            if kind not in _FLOATS:
                raise TypeError(f"expected {kind}, got {value.type}")
            name = "fpext" if is_wider else "fptrunc"
        elif value.type == _BOOL:
            name = "uitofp" if kind in _FLOATS else "zext"
        elif kind in _FLOATS:
            name = "sitofp"
        else:
            name = "sext" if is_wider else "trunc"
        return getattr(self.builder, name)(value, kind)

    def widened(self, value: Any, kind: Any) -> Any:
        """Return a value as one of a type that has room for it."""
        value = _constant(value)
        if _common(value.type, kind) != kind:
            raise TypeError(f"expected {kind}, got {value.type}")
        return self.converted(value, kind)

    def alike(self, *values: Any) -> list[Any]:
        """Return values as ones of the type that they have in common."""
        kind = functools.reduce(_common, [_constant(value).type for value in values])
        return [self.converted(value, kind) for value in values]

    def truth(self, value: Any) -> Any:
        """Return whether a number is not 0."""
        if not _is_written(value):
            return bool(value)
        return value if value.type == _BOOL else self.relation(ast.NotEq(), value, 0)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        return self.operation(node.op, self.visit(node.left), self.visit(node.right))

    def operation(self, sign: ast.operator, a: Any, b: Any) -> Any:
        """Emit ``a sign b``."""
        if type(sign) not in _OPERATORS:
            self.generic_visit(sign)
        operation = _OPERATORS[type(sign)]
        if not _is_written(a) and not _is_written(b):
            return operation(a, b)
        a, b = self.alike(a, b)
        is_vector = isinstance(a.type, ir.VectorType)
        if (is_vector or a.type in _FLOATS) and operation not in _OF_FLOATS:
            raise TypeError(f"expected integers for {type(sign).__name__}, got {a.type}")
        if is_vector:  # a product in a sum becomes one multiply-add
            return getattr(self.builder, _OF_FLOATS[operation])(a, b, flags=("contract",))
        if a.type == _BOOL and operation in (operator.and_, operator.or_):
            return getattr(self.builder, _OF_INTEGERS[operation][0])(a, b)
        if a.type not in _FLOATS:
            kind = _F64 if operation is operator.truediv else _I64
            a, b = self.widened(a, kind), self.widened(b, kind)
        if a.type in _FLOATS:
            return getattr(self.builder, _OF_FLOATS[operation])(a, b)
        if operation in _OF_INTEGERS:
            name, flags = _OF_INTEGERS[operation]
            return getattr(self.builder, name)(a, b, flags=flags)
        return self.division(a, b, operation is operator.mod)

    def division(self, a: Any, b: Any, is_rest: bool) -> Any:
        """Emit a quotient of integers that is rounded down, or its rest."""
        builder, zero = self.builder, _constant(0)
        if isinstance(b, ir.Constant):
            if b.constant == 0:
                raise TypeError("expected a divisor other than 0")
            if b.constant > 0 and b.constant & (b.constant - 1) == 0:
                if is_rest:
                    return builder.and_(a, _constant(b.constant - 1))
                return builder.ashr(a, _constant(b.constant.bit_length() - 1))
        else:
            b = builder.select(builder.icmp_signed("==", b, zero), _constant(1), b)
        rest = builder.srem(a, b)
        has_rest = builder.icmp_signed("!=", rest, zero)
        is_negative = builder.icmp_signed("<", builder.xor(rest, b), zero)
        is_below = builder.and_(has_rest, is_negative)  # the machine rounds towards zero
        if is_rest:
            return builder.select(is_below, builder.add(rest, b), rest)
        return builder.sub(builder.sdiv(a, b), builder.zext(is_below, _I64))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            value = self.truth(value)
            return self.builder.not_(value) if _is_written(value) else not value
        if not isinstance(node.op, ast.USub):
            self.generic_visit(node.op)
        if not _is_written(value):
            return -value
        is_float = value.type in _FLOATS
        return self.builder.fneg(value) if is_float else self.operation(ast.Sub(), 0, value)

    def visit_Compare(self, node: ast.Compare) -> Any:
        return self.chain(self.visit(node.left), node.ops, node.comparators)

    def chain(self, value: Any, signs: list[ast.cmpop], others: list[ast.expr]) -> Any:
        """Emit relations of neighbours, of which the first that is false decides."""
        other = self.visit(others[0])
        test = self.relation(signs[0], value, other)
        if len(others) == 1:
            return test
        return self.choice(test, lambda: self.chain(other, signs[1:], others[1:]), lambda: False)

    def relation(self, sign: ast.cmpop, a: Any, b: Any) -> Any:
        """Emit ``a sign b``, which is a truth value."""
        if type(sign) not in _RELATIONS:
            self.generic_visit(sign)
        text, compare = _RELATIONS[type(sign)]
        if not _is_written(a) and not _is_written(b):
            return compare(a, b)
        a, b = self.alike(a, b)
        if a.type not in _NUMBERS:
            raise TypeError(f"expected numbers, got {a.type}")
        if a.type not in _FLOATS:
            return self.builder.icmp_signed(text, self.widened(a, _I64), self.widened(b, _I64))
        is_true_of_nan = text == "!="
        emit = self.builder.fcmp_unordered if is_true_of_nan else self.builder.fcmp_ordered
        return emit(text, a, b)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        first, *others = node.values
        rest = others[0] if len(others) == 1 else ast.BoolOp(node.op, others)
        test = self.truth_value(first)
        if isinstance(node.op, ast.And):
            return self.choice(test, lambda: self.truth_value(rest), lambda: False)
        return self.choice(test, lambda: True, lambda: self.truth_value(rest))

    def truth_value(self, node: ast.expr) -> Any:
        value = self.visit(node)
        if _constant(value).type != _BOOL:
            raise TypeError("expected truth values beside and, or")
        return value

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        test = self.truth(self.visit(node.test))
        return self.choice(test, lambda: self.visit(node.body), lambda: self.visit(node.orelse))

    def choice(self, test: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """Emit a choice between two numbers, of which only one is computed."""
        if not _is_written(test):
            return yes() if test else no()
        builder = self.builder
        *blocks, after = (builder.append_basic_block(name) for name in ("yes", "no", "chosen"))
        builder.cbranch(test, *blocks)
        ends = []
        for block, write in zip(blocks, (yes, no)):
            builder.position_at_end(block)
            ends.append((_constant(write()), builder.block))
        kind = _common(*(value.type for value, _ in ends))
        arriving = []
        for value, block in ends:
            builder.position_at_end(block)
            arriving.append((self.widened(value, kind), block))
            builder.branch(after)
        builder.position_at_end(after)
        chosen = builder.phi(kind)
        for value, block in arriving:
            chosen.add_incoming(value, block)
        return chosen

    # -- calls ----------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> Any:
        function, args = self.visit(node.func), list(map(self.visit, node.args))
        if node.keywords:
            raise TypeError("expected arguments by place, got some by name")
        if hasattr(function, "emitted"):
            if len(args) != len(function.emitted):
                raise TypeError(f"expected {len(function.emitted)} arguments, got {len(args)}")
            given = [self.widened(*pair) for pair in zip(args, function.emitted)]
            result = function(self.builder, *given)
            return () if result is None else result
        if hasattr(function, "is_piece"):
            return self.call_piece(function, tuple(args))
        if function not in _FUNCTIONS:
            raise TypeError("expected a piece or another function that kernels can call")
        if function is len or not any(map(_is_written, args)):
            return function(*args)
        return _FUNCTIONS[function](self, *args)

    def call_piece(self, function: Any, args: tuple[Any, ...]) -> Any:
        """Emit a call of a piece, which is written once for arguments of some types."""
        key = function, _kinds(args)
        if key not in self.pieces:
            self.pieces[key] = None, None
            self.pieces[key] = self.written(function, args)
        made, result = self.pieces[key]
        if made is None:
            raise TypeError("expected a piece that does not call itself")
        value = self.builder.call(made, _flat(args))
        if not isinstance(result, tuple):
            return value
        return tuple(self.builder.extract_value(value, i) for i in range(len(result)))

    def written(self, function: Any, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """Return a piece as a new function of the module, and the types of what it returns."""
        kinds = [part.type for part in _flat(args)]
        name = f"{function.__name__}_{len(self.builder.module.globals)}"
        made = ir.Function(self.builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
        made.linkage = "internal"
        body = _Body(function, ir.IRBuilder(made.append_basic_block("entry")), self.pieces)
        body.write(list(_shaped(args, iter(made.args))))
        kind = _packed(body.result)  # only now is it known what kind of function it is
        made.ftype = ir.FunctionType(kind, kinds)
        made.type, made.return_value = made.ftype.as_pointer(), ir.values.ReturnValue(made, kind)
        return made, body.result

    def float(self, value: Any) -> Any:
        """A number as a float; an integer becomes a float64."""
        value = _constant(value)
        return value if value.type in _FLOATS else self.widened(value, _F64)

    def extreme(self, sign: ast.cmpop, *values: Any) -> Any:
        """The least or the largest: where some are equal or NaN, the one that Python takes."""
        if len(values) < 2:
            raise TypeError("expected two numbers or more, got one")
        best, *others = self.alike(*values)
        for other in others:
            best = self.builder.select(self.relation(sign, other, best), other, best)
        return best

    def intrinsic(self, name: str, value: Any) -> Any:
        """A function of LLVM's of a float."""
        value = self.float(value)
        return self.builder.call(self.builder.module.declare_intrinsic(name, [value.type]), [value])

    def is_finite(self, value: Any) -> Any:
        """Whether a float is neither infinite nor NaN: its difference from itself is NaN then."""
        value = self.float(value)
        difference = self.builder.fsub(value, value)
        return self.builder.fcmp_ordered("ord", difference, difference)

    # -- statements -----------------------------------------------------------------------------

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:  # by continue, break or return
                return
            self.visit(statement)

    def visit_Expr(self, node: ast.Expr) -> None:
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.visit(node.value)
        for target in node.targets:
            self.assign(target, value)

    def assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.assign_name(target.id, value)
        elif isinstance(target, ast.Tuple):
            for one, part in zip(target.elts, value, strict=True):
                self.assign(one, part)
        elif isinstance(target, ast.Subscript):
            place, kind = self.place(self.visit(target.value), target.slice)
            self.builder.store(self.converted(value, kind), place)
        else:
            self.generic_visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            before = self.visit_Name(node.target)
            after = self.operation(node.op, before, self.visit(node.value))
            self.assign_name(node.target.id, after)
        elif isinstance(node.target, ast.Subscript):
            place, kind = self.place(self.visit(node.target.value), node.target.slice)
            before = self.builder.load(place, typ=kind)
            value = self.operation(node.op, before, self.visit(node.value))
            self.builder.store(self.converted(value, kind), place)
        else:
            self.generic_visit(node.target)

    def visit_Return(self, node: ast.Return) -> None:
        value = () if node.value is None else self.visit(node.value)
        if self.result is None:
            self.result = _kinds(value)
        elif _packed(_kinds(value)) != _packed(self.result):
            raise TypeError(f"expected a result of {_packed(self.result)} in all ways")
        if not isinstance(value, tuple):
            self.builder.ret(_constant(value))
        elif not value:
            self.builder.ret_void()
        else:
            result: Any = ir.Constant(_packed(self.result), ir.Undefined)
            for i, part in enumerate(value):
                result = self.builder.insert_value(result, _constant(part), i)
            self.builder.ret(result)

    def visit_If(self, node: ast.If) -> None:
        test, builder = self.truth(self.visit(node.test)), self.builder
        if not _is_written(test):
            self.block(node.body if test else node.orelse)
            return
        yes, no, after = (builder.append_basic_block(name) for name in ("then", "else", "after"))
        builder.cbranch(test, yes, no)
        for block, statements in ((yes, node.body), (no, node.orelse)):
            self.inner(block, statements, after)
        self.go_on(after)

    def go_on(self, block: Any) -> None:
        """Write what follows into a block, or nothing if no way leads there."""
        self.builder.position_at_end(block)
        ends = [other.terminator for other in self.builder.function.blocks if other.terminator]
        if not any(block in end.operands for end in ends):
            self.builder.unreachable()

    def inner(self, block: Any, statements: list[ast.stmt], after: Any) -> None:
        """Write statements into a block, which goes on elsewhere."""
        self.builder.position_at_end(block)
        with self.scope():
            self.block(statements)
        if not self.builder.block.is_terminated:
            self.builder.branch(after)

    def visit_While(self, node: ast.While) -> None:
        if node.orelse:
            raise TypeError("expected a loop without else")
        builder = self.builder
        head, body, after = (builder.append_basic_block(n) for n in ("while", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        test = self.truth(self.visit(node.test))
        if _is_written(test):
            builder.cbranch(test, body, after)
        else:
            builder.branch(body if test else after)
        self.loops.append((head, after))
        self.inner(body, node.body, head)
        self.loops.pop()
        self.go_on(after)

    def visit_For(self, node: ast.For) -> None:
        call, target, builder = node.iter, node.target, self.builder
        is_range = isinstance(call, ast.Call) and self.visit(call.func) is range
        if not is_range or node.orelse or not isinstance(target, ast.Name):
            raise TypeError("expected a loop of one name over a range, without else")
        if self.assigned[target.id] or target.id in self.known:
            raise TypeError(f"expected {target.id} to be assigned by this loop alone")
        assert isinstance(call, ast.Call)
        if not 1 <= len(call.args) <= 3:
            raise TypeError(f"expected a range of 1 to 3 numbers, got {len(call.args)}")
        given = [self.widened(self.visit(arg), _I64) for arg in call.args]
        given = [_constant(0), *given] if len(given) == 1 else given
        begin, stop, step = [*given, _constant(1)][:3]
        if isinstance(step, ir.Constant) and step.constant <= 0:
            raise TypeError("expected a step above zero")
        before = builder.block
        head, body, following, after = (
            builder.append_basic_block(name) for name in ("for", "body", "next", "after")
        )
        builder.branch(head)
        builder.position_at_end(head)
        number = builder.phi(_I64)
        number.add_incoming(begin, before)
        builder.cbranch(builder.icmp_signed("<", number, stop), body, after)
        builder.position_at_end(body)
        self.loops.append((following, after))
        with self.scope():
            self.known[target.id] = number
            self.inner(body, node.body, following)
        self.loops.pop()
        builder.position_at_end(following)
        number.add_incoming(builder.add(number, step, flags=("nsw",)), following)
        builder.branch(head)
        builder.position_at_end(after)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.builder.branch(self.loops[-1][0])

    def visit_Break(self, node: ast.Break) -> None:
        self.builder.branch(self.loops[-1][1])


class _TranslationError(TypeError):
    """Says where in a kernel something else was expected."""


# What kernels can call of Python's and NumPy's functions.
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    len: len,
    min: lambda body, *values: body.extreme(ast.Lt(), *values),
    max: lambda body, *values: body.extreme(ast.Gt(), *values),
    math.isfinite: lambda body, value: body.is_finite(value),
    math.log: lambda body, value: body.intrinsic("llvm.log", value),
    math.sqrt: lambda body, value: body.intrinsic("llvm.sqrt", value),
    np.float32: lambda body, value: body.converted(value, _F32),
    np.float64: lambda body, value: body.converted(value, _F64),
    np.int32: lambda body, value: body.converted(value, _I32),
}
