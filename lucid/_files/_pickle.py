"""Pickles as data: an interpreter of their opcodes that makes data and runs no code.

Python's own unpickler imports and calls whatever a file names. Here a name stands for something
only if the caller's table has it, and only a :class:`Builder` of that table can be called; any
other name is an error that says it. Memory is bounded by a :class:`Budget`, whatever a file asks
for. The opcodes are described in Python's ``pickletools``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, NoReturn

from lucid._check import short

_DEEPEST = 100  # levels of nesting; what walks through data is recursive
_MOST_SHARED = 1_000_000  # values that sharing may add, as seen by whoever walks through the data
_LONGEST_INTEGER = 64  # bytes
_KEYS = (str, int, float, bool, bytes, type(None))
_SCALARS = (*_KEYS, bytearray, complex)
_NOTHING = object()

# Bytes, at most, for which no object tells them: of a place on a stack or in a list, of a key and
# its value in a dictionary (tables that grow are there twice for a moment), of a mark, of what the
# garbage collector adds to an object, and of what is known of a settled one.
_PLACE, _ENTRY, _MARK, _EXTRA, _SETTLED = 18, 96, 50, 16, 200


class UnreadableError(ValueError):
    """The file is sound but holds what cannot be read."""


class Budget:
    """The memory that reading a file may take."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def spend(self, count: int) -> None:
        """Take ``count`` bytes, or give them back; raise ValueError if they are not left."""
        self._left -= count
        if self._left < 0:
            raise ValueError(
                f"what it holds would take more than {self._limit >> 20} MiB of memory, far more "
                "than the file has"
            )


@dataclass(frozen=True)
class Builder:
    """What a name in a pickle stands for that is called there, with the arguments in the file."""

    call: Callable[..., Any]


@dataclass(frozen=True)
class Unknown:
    """What only code could make: the class or function of a name that the table does not have."""

    name: str


class Place(NamedTuple):
    """Where in the data a value is."""

    parent: Place | None = None
    key: Any = None
    depth: int = 0

    def __str__(self) -> str:
        keys: list[str] = []
        place = self
        while place.parent is not None:
            keys.insert(0, str(place.key))
            place = place.parent
        return f"entry {short('.'.join(keys))}" if keys else "it"


class Interpreter:
    """Reads one pickle after the other from a file.

    Args:
        file: at the start of the first.
        end: where the part of the file ends that may be read.
        known: what names stand for, as ``"module.name"``: a :class:`Builder`, or a value.
        persistent: called with the parts of a persistent id, a tuple.
        budget: what may be taken.
    """

    def __init__(
        self,
        file: IO[bytes],
        end: int,
        known: Mapping[str, Any],
        persistent: Callable[..., Any],
        budget: Budget,
    ) -> None:
        self._file = file
        self._left = end - file.tell()
        self._known = known
        self._persistent = persistent
        self._budget = budget

    def load(self, replace: Callable[[Any, Place], Any] | None = None) -> Any:
        """Return what the next pickle holds.

        Args:
            replace: called with each value that is no plain data, as a builder may make, and with
                its place; what it returns takes its place.

        Raises:
            UnreadableError: if a name stands for nothing, or ``replace`` says so.
            ValueError: if this is no pickle of data, or takes too much memory.
        """
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._unknown: list[Unknown] = []
        self._steps = 0
        replace = replace or refuse
        try:
            while (code := self._read(1)) != b".":
                self._steps += 1
                self._step(code)
            value = self._settled(self._pop(), replace)
            if self._unknown:  # it was thrown away again
                replace(self._unknown[0], Place())
            return value
        except UnreadableError:
            raise
        except Exception as error:
            if self._unknown:  # the cause, since nothing is known of what they make
                replace(self._unknown[0], Place())
            if isinstance(error, IndexError):
                raise ValueError("an opcode lacks its arguments") from error
            raise

    # -- reading

    def _read(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError("it ends in the middle of a pickle")
        self._left -= count
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("it ends in the middle of a pickle")
        return data

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._read(struct.calcsize(form)))[0]

    def _bytes(self, form: str) -> bytes:
        count = self._number(form)
        if count > self._left:
            raise ValueError(f"a text of {count} bytes is longer than the file")
        self._reserve(count)
        return self._read(count)

    def _reserve(self, count: int) -> None:
        """Raise ValueError if there is no memory for what will be pushed."""
        self._budget.spend(count)
        self._budget.spend(-count)

    def _text(self, form: str) -> str:
        data = self._bytes(form)
        self._reserve(len(data) if data.isascii() else 5 * len(data))
        return data.decode("utf-8", "surrogatepass")

    def _line(self) -> str:
        line = self._file.readline(min(self._left, 1000))
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("a name in it has no end")
        return line[:-1].decode()

    def _integer(self, form: str) -> int:
        count = self._number(form)
        if not 0 <= count <= _LONGEST_INTEGER:
            raise ValueError(f"an integer of {count} bytes")
        return int.from_bytes(self._read(count), "little", signed=True)

    # -- the stack

    def _push(self, value: Any) -> None:
        """Push a new value."""
        self._budget.spend(sys.getsizeof(value) + _EXTRA + _PLACE)
        self._stack.append(value)

    def _push_again(self, value: Any) -> None:
        """Push a value that something else holds too."""
        self._budget.spend(_PLACE)
        self._stack.append(value)

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise IndexError
        return self._stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        self._budget.spend(-_PLACE)
        return value

    def _pops(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        self._budget.spend(-_MARK - _PLACE * len(items))
        return items

    def _remember(self, number: int) -> None:
        missing = number + 1 - len(self._memo)
        if missing > 1000:  # they are counted, some programs begin at 1
            raise ValueError(f"value {number} is numbered before those before it")
        self._budget.spend(_PLACE * max(0, missing))
        self._memo.extend([_NOTHING] * missing)
        self._memo[number] = self._top()

    def _keys(self, keys: list[Any]) -> list[Any]:
        self._budget.spend(_ENTRY * len(keys))
        return check_keys(keys)

    # -- opcodes

    def _step(self, code: bytes) -> None:
        match code:
            case b"q" | b"r":  # BINPUT, LONG_BINPUT
                self._remember(self._number("<B" if code == b"q" else "<I"))
            case b"\x94":  # MEMOIZE
                self._remember(len(self._memo))
            case b"h" | b"j":  # BINGET, LONG_BINGET
                number = self._number("<B" if code == b"h" else "<I")
                if number >= len(self._memo) or self._memo[number] is _NOTHING:
                    raise ValueError(f"value {number} is used before it is made")
                self._push_again(self._memo[number])
            case b"(":  # MARK
                self._budget.spend(_MARK)
                self._marks.append(len(self._stack))
            case b"X" | b"\x8c" | b"\x8d":  # BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
                self._push(self._text({b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q"}[code]))
            case b"U" | b"T":  # SHORT_BINSTRING, BINSTRING: the texts of Python 2
                self._push(self._text("<B" if code == b"U" else "<I"))
            case b"C" | b"B" | b"\x8e":  # SHORT_BINBYTES, BINBYTES, BINBYTES8
                self._push(self._bytes({b"C": "<B", b"B": "<I", b"\x8e": "<Q"}[code]))
            case b"\x96":  # BYTEARRAY8
                data = self._bytes("<Q")
                self._reserve(2 * len(data))
                self._push(bytearray(data))
            case b"K" | b"M" | b"J" | b"G":  # BININT1, BININT2, BININT, BINFLOAT
                self._push(self._number({b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}[code]))
            case b"\x8a" | b"\x8b":  # LONG1, LONG4
                self._push(self._integer("<B" if code == b"\x8a" else "<i"))
            case b"N":  # NONE
                self._push_again(None)
            case b"\x88" | b"\x89":  # NEWTRUE, NEWFALSE
                self._push_again(code == b"\x88")
            case b")" | b"\x85" | b"\x86" | b"\x87":  # EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3
                self._push(tuple(self._pops(b")\x85\x86\x87".index(code))))
            case b"t":  # TUPLE
                self._push(tuple(self._pop_mark()))
            case b"]":  # EMPTY_LIST
                self._push([])
            case b"}":  # EMPTY_DICT
                self._push({})
            case b"\x8f":  # EMPTY_SET
                self._push(set())
            case b"\x91":  # FROZENSET
                self._push(frozenset(self._keys(self._pop_mark())))
            case b"a" | b"e":  # APPEND, APPENDS
                items = self._pops(1) if code == b"a" else self._pop_mark()
                self._budget.spend(_PLACE * len(items))
                self._target(list).extend(items)
            case b"s" | b"u":  # SETITEM, SETITEMS
                items = self._pops(2) if code == b"s" else self._pop_mark()
                if len(items) % 2:
                    raise ValueError("a key without a value")
                keys = self._keys(items[::2])
                self._target(dict).update(zip(keys, items[1::2]))
            case b"\x90":  # ADDITEMS
                items = self._pop_mark()
                self._target(set).update(self._keys(items))
            case b"c":  # GLOBAL
                self._push(self._global(self._line(), self._line()))
            case b"\x93":  # STACK_GLOBAL
                self._push(self._global(*self._pops(2)))
            case b"R" | b"\x81":  # REDUCE, NEWOBJ
                self._call(*self._pops(2))
            case b"\x92":  # NEWOBJ_EX
                called, *arguments = self._pops(3)
                self._call(called, tuple(arguments))
            case b"i":  # INST
                self._call(self._global(self._line(), self._line()), tuple(self._pop_mark()))
            case b"b":  # BUILD
                state = self._pop()
                self._build(self._top(), state)
            case b"Q":  # BINPERSID
                parts = self._pop()
                if type(parts) is not tuple or not parts:
                    raise ValueError(f"a persistent id that is a {type(parts).__name__}, no tuple")
                self._push(self._persistent(*parts))
            case b"0":  # POP
                self._pop()
            case b"1":  # POP_MARK
                self._pop_mark()
            case b"2":  # DUP
                self._push_again(self._top())
            case b"\x80":  # PROTO
                if (version := self._number("<B")) > 5:
                    raise ValueError(f"protocol {version} of pickles, expected at most 5")
            case b"\x95":  # FRAME, a hint for those who read in parts
                self._read(8)
            case _:
                raise ValueError(f"the opcode {code!r}, which no pickle of tensors has")

    def _target(self, kind: type) -> Any:
        """Return the container on top, to be filled; one of a kind that is not known is let go."""
        value = self._top()
        if isinstance(value, Unknown):
            return kind()
        if type(value) is not kind:
            raise ValueError(f"items of a {kind.__name__} are put into a {type(value).__name__}")
        return value

    def _global(self, module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            raise ValueError(f"a {type(name).__name__} in a {type(module).__name__} is named")
        self._budget.spend(_ENTRY + len(module) + len(name))
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"  # Python 2's
        if full in self._known:
            return self._known[full]
        unknown = Unknown(full)
        self._unknown.append(unknown)
        return unknown

    def _call(self, called: Any, arguments: Any) -> None:
        if isinstance(called, Unknown):
            self._push_again(called)  # nothing is called: it stands for what would have come
            return
        if not isinstance(called, Builder) or type(arguments) is not tuple:
            raise ValueError(f"a {type(called).__name__} is called")
        # What is made of a text or a list is as large as that.
        self._budget.spend(sum(_size(value) for value in arguments))
        try:
            self._push(called.call(*arguments))
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"a value is made of parts that PyTorch does not write: {error}"
            ) from error

    def _build(self, made: Any, state: Any) -> None:
        if type(made) is not dict and not isinstance(made, Unknown):  # of these, let them go
            if not hasattr(made, "set_state"):
                raise ValueError(f"attributes of a {type(made).__name__} are set")
            made.set_state(state)

    # -- the end

    def _settled(self, root: Any, replace: Callable[[Any, Place], Any]) -> Any:
        """Return data, once whoever walks through them comes to an end."""
        done: dict[int, tuple[Any, int] | None] = {}
        most = _MOST_SHARED + self._steps

        def settle(value: Any, place: Place) -> tuple[Any, int]:
            """Return a value, and how many there are in it, the shared ones each time."""
            kind = type(value)
            if kind in _SCALARS:
                return value, 1
            identity = id(value)
            if identity in done:
                if (made := done[identity]) is None:
                    raise ValueError(f"{place} contains itself")
                return made
            if place.depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
            self._budget.spend(_SETTLED)
            done[identity] = None
            counts = 1
            if kind is dict or kind is list or kind is tuple:
                target = list(value) if kind is tuple else value
                for key in value if kind is dict else range(len(value)):
                    inside = Place(place, key, place.depth + 1)
                    target[key], count = settle(target[key], inside)
                    counts += count
                value = tuple(target) if kind is tuple else value
            elif kind is set or kind is frozenset:
                counts += len(value)
            else:
                value = replace(value, place)
            if counts > most:
                raise ValueError(f"it unfolds to more than {most} values")
            done[identity] = made = (value, counts)
            return made

        return settle(root, Place())[0]


def refuse(value: Any, place: Place) -> NoReturn:
    """Raise UnreadableError for a value that is no data."""
    name = short(value.name)[1:-1] if isinstance(value, Unknown) else "a class or a function"
    raise UnreadableError(
        f"{place} holds {name}, which only code can make, and no code that a file "
        "names is run; save the tensors alone, in PyTorch: torch.save(model.state_dict(), path)"
    )


def check_keys(keys: list[Any]) -> list[Any]:
    """Return keys of a dictionary or items of a set; raise ValueError if one cannot be that.

    Deep tuples and huge integers, whose hashes can take for ever, are none.
    """
    for key in keys:
        for part in key if type(key) is tuple else (key,):
            if type(part) not in _KEYS or (type(part) is int and abs(part) >> 64):
                raise ValueError(f"a {type(part).__name__} is, or is part of, a key")
    return keys


def _size(value: Any) -> int:
    """Return the bytes, at most, of what can be made of a value."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, tuple):
        return _PLACE * len(value)
    return _ENTRY * len(value) if isinstance(value, (list, dict, set, frozenset)) else 0
