"""Compiled C functions, and the machine operations that Python has no words for.

Every kernel is a C function ``void kernel(const int64 *args, int64 chunk, int64 thread)``: its
arguments (addresses, sizes, bits of floats) lie side by side as 64-bit integers, and it does one
chunk of its work. So the thread pool can call any of them, a plan of many is a table of such
instructions, and each is compiled once for all array layouts. Machine code is kept on disk.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import math
import operator
import os
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir

from lucid.kernels import _memory
from lucid.kernels.numba.machine import _cache, _code, _compile, _compiler
from lucid.kernels.numba.machine._code import Code
from lucid.kernels.numba.machine._compiler import natives

void = ir.VoidType()
i32, i64 = ir.IntType(32), ir.IntType(64)
f32, f64 = ir.FloatType(), ir.DoubleType()

Words = i64.as_pointer()

Settings = TypeVar("Settings", bound=tuple[int, ...])
Result = TypeVar("Result")

# The address of a kernel, its number of chunks, and its arguments.
Instruction = Sequence[int]

# What all names of kernels would begin with.
_PACKAGE = "lucid.kernels.numba."

# Bytes of an element in memory.
FLOAT = 4


def compiled(sig: Any) -> Callable[[Callable[..., Any]], Native]:
    """Decorate a function of plain numbers and pointers to become a C function, at first use."""
    return lambda function: Native(function, sig)


_KERNEL = ir.FunctionType(void, [Words, i64, i64])


def piece(function: Callable[..., Any]) -> Any:
    """Decorate a function to be a piece of kernels: they may call it, and other pieces."""
    function.is_piece = True  # type: ignore[attr-defined]
    return function


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorate a function to become a kernel.

    Its parameters are ``chunk``, ``thread`` and then its arguments by name, as :meth:`Kernel.pack`
    takes them.
    """
    return Kernel(function, {})


def kernel_with(**settings: type) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a kernel of which some arguments are settings: named tuples of integers.

    The kernel gets a pointer to their words, which it can hand on, as to a tile. They come first,
    each given here by its class. Settings that depend on shapes alone can be kept from call to
    call: to name thirty arguments takes Python 4 µs.
    """
    return lambda function: Kernel(function, settings)


def places(settings: type[Settings]) -> Settings:
    """Return which word of a kernel's settings is what, under the names of their class."""
    return settings(*range(len(settings.__annotations__)))


class Native:
    """A C function that is read from the cache on disk, or compiled, when its address is asked.

    Attributes:
        name: of its module and itself; its machine code is kept under it.
        address: where the machine code starts.
        is_long: whether to compile it may take seconds, not tenths: then it is begun first.
        call: the function for Python, by ctypes: it runs without the interpreter's lock.
    """

    address: int
    call: Any
    is_long = True

    def __init__(
        self, function: Callable[..., Any], sig: Any, unpack: Callable[..., Any] | None = None
    ) -> None:
        self._recipe = function, sig, unpack
        self._count = 3 if unpack else len(inspect.signature(function).parameters)
        self.__doc__, self.__name__ = function.__doc__, function.__name__
        self.name = f"{function.__module__}.{function.__qualname__}".removeprefix(_PACKAGE)
        if self.name in natives:
            raise ValueError(f"{self.name}: there are two, which the cache would not tell apart")
        natives[self.name] = self

    def __getattr__(self, name: str) -> Any:  # for what is not there yet
        if name not in ("address", "call"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        if not self.load() and not (_compiler.wait_for(self.name) and self.load()):
            self.make()
        return self.__dict__[name]

    def load(self) -> bool:
        """Read the machine code from the cache, and return whether it was there."""
        with _loading:
            if "address" not in self.__dict__ and (kept := _cache.load(self.name)) is not None:
                self._take(Code.parse(kept))
            return "address" in self.__dict__

    def make(self) -> None:
        """Compile it now, unless it can be read from the cache, and keep it there."""
        with _loading:
            if not self.load():
                _compiler.announce()
                code = self.compile()
                _cache.save(self.name, code.dump())
                self._take(code)

    def compile(self) -> Code:
        """Return the machine code, made by this process."""
        return _compile.compile_code(*self._recipe)

    def _take(self, code: Code) -> None:
        address = _code.load(code) if code.entry >= 0 else _compile.load_object(code)
        # Who has no result does not ask for it.
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_int64,) * self._count)
        self.call, self.address = kind(address), address


_loading = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child must not begin while a function is loaded
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )


class Kernel(Native):
    """A C function that the thread pool calls."""

    def __init__(self, function: Callable[..., Any], settings: dict[str, Any]) -> None:
        names = list(inspect.signature(function).parameters)
        self.is_long = bool(settings)
        if names[0] == "args":  # it reads all of its arguments by place
            super().__init__(function, _KERNEL)
            return
        self._settings, self._fields = list(settings), names[2 + len(settings) :]
        if names[2:] != [*self._settings, *self._fields]:
            raise TypeError(f"{function.__name__}: expected {self._settings} first, got {names}")
        self._is_told_chunks = "chunks" in self._fields
        self._in_order = operator.itemgetter(*self._fields) if self._fields else lambda given: ()
        sizes = [len(kind._fields) for kind in settings.values()]
        super().__init__(function, _KERNEL, _unpacker(sizes, len(self._fields)))

    def pack(self, chunks: int, **arguments: Any) -> Instruction:
        """Return the instruction to run the kernel, in so many chunks, with arguments by name.

        Of an array it holds the address, so the array must live as long; of a float its bits, and
        for None 0. A kernel that has a parameter ``chunks`` is told how many there are.
        """
        if self._is_told_chunks:
            arguments["chunks"] = chunks
        if len(arguments) != len(self._settings) + len(self._fields):
            names = [*self._settings, *self._fields]
            raise TypeError(f"{self.__name__}: expected {names}, got {list(arguments)}")
        instruction = [self.address, chunks]
        for name in self._settings:
            instruction += arguments[name]
        for value in self._in_order(arguments):
            kind = value.__class__
            instruction.append(value if kind is int else _WORD[kind](value))
        return instruction


def _unpacker(sizes: list[int], count: int) -> Callable[..., Any]:
    """Return what emits a kernel's arguments: pointers to settings of such sizes, and numbers."""
    *starts, end = itertools.accumulate([0, *sizes])

    def unpack(builder: Any, args: Any, chunk: Any, thread: Any) -> list[Any]:
        places = [builder.gep(args, [i64(i)], source_etype=i64) for i in range(end + count)]
        words = [builder.load(place, typ=i64) for place in places[end:]]
        return [chunk, thread, *(places[start] for start in starts), *words]

    return unpack


@piece
def share(size, chunk, chunks):
    """Where a chunk's share of a range begins and ends."""
    return size * chunk // chunks, size * (chunk + 1) // chunks


# Behind the head of every Python object, an array object begins with the address of its data: C
# extensions that use NumPy are compiled with that layout. Reading it takes 0.2 µs, asking the
# array for its interface 1.1 µs, and a kernel needs some six addresses.
_HEAD = object.__basicsize__
_word_at = ctypes.c_size_t.from_address


def _interface_address(array: np.ndarray) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def address(array: np.ndarray) -> int:
    """Return where an array's data start."""
    return _word_at(id(array) + _HEAD).value


_probe = np.empty(3)[1:]
if sys.implementation.name != "cpython" or address(_probe) != _interface_address(_probe):
    address = _interface_address


def pixel_step(images: np.ndarray) -> int:
    """Return the bytes from one pixel ``(…, C)`` to the next; they lie evenly, but maybe spaced."""
    return FLOAT * images.shape[-1] if images.flags.c_contiguous else images.strides[-2]


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialised float32 array that starts at a cache line; large ones are recycled.

    Vectors of 64 bytes that straddle two lines cost two reads; NumPy aligns to 16 bytes.
    """
    if FLOAT * math.prod(shape) >= _memory.SMALLEST:
        return _memory.empty(shape)
    return _aligned(np.empty(math.prod(shape) + 16, np.float32), math.prod(shape)).reshape(shape)


def _aligned(raw: np.ndarray, size: int) -> np.ndarray:
    skip = -address(raw) % 64 // FLOAT
    return raw[skip : skip + size]


class Workspace(threading.local):
    """Memory for packed weights and padded rows, kept from call to call, one for each thread.

    Fresh memory of some megabytes comes from the system page by page, which takes longer than
    filling it.
    """

    def __init__(self) -> None:
        self.raw = np.empty(16, np.float32)
        self.outgrown: list[np.ndarray] = []  # what was given out before may lie there
        self.used = 0
        self.pretended = 0  # where it does as if it lay

    def start(self) -> None:
        """Take back all that was given out."""
        self.outgrown.clear()
        self.used = 0

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an uninitialised array that is valid until the next :meth:`start`."""
        size = math.prod(shape)
        first = self.used
        self.used = first + -(-size // 16) * 16
        if self.pretended:
            return stand_in(self.pretended + FLOAT * first, shape, "f")
        if self.used + 16 > self.raw.size:
            self.outgrown.append(self.raw)
            self.raw = np.empty(2 * self.used + 16, np.float32)
            first, self.used = 0, -(-size // 16) * 16
        return _aligned(self.raw[first:], size).reshape(shape)

    def pretend(self, place: int, function: Callable[[], Result]) -> tuple[Result, int]:
        """Return what a function returns that is given stand-ins, and the floats that it took."""
        self.start()
        self.pretended = place
        try:
            return function(), self.used
        finally:
            self.pretended = 0


workspace = Workspace()


class _StandIn:
    def __init__(self, place: int, shape: tuple[int, ...], dtype: str) -> None:
        kind = np.dtype(dtype).str
        self.__array_interface__ = {
            "data": (place, False), "shape": shape, "typestr": kind, "version": 3,
        }  # fmt: skip


def stand_in(place: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array at an address where nothing is: to make instructions for, not to be read."""
    return np.asarray(_StandIn(place, shape, dtype))


@functools.lru_cache(maxsize=64)
def float_bits(value: float) -> int:
    """Return the bits of a float32 as an integer, for an instruction."""
    with np.errstate(over="ignore"):  # beyond its range it is infinite
        return int(np.float32(value).view(np.int32))


# How the word of an instruction is made of a value that is no integer.
_WORD: dict[type, Callable[[Any], int]] = {
    np.ndarray: address,
    float: float_bits,
    bool: int,
    type(None): lambda none: 0,
}


# -- what the machine has -------------------------------------------------------------------------


def _features() -> frozenset[str]:
    """Return the features for which code is generated."""
    kept = _cache.load("processor")
    text = _compile.features() if kept is None else kept.decode()
    if kept is None:
        _cache.save("processor", text.encode())
    triple, *names = text.split(",")
    features = {name[1:] for name in names if name.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):  # all have it; LLVM cannot tell on every system
        features.add("neon")
    return frozenset(features)


FEATURES = _features()

# Floats in a vector register, and the rows of a tile of two vectors that fill the registers:
# 32 registers hold 14·2 sums, 2 weights and 2 inputs; 16 hold 6·2 sums, 2 weights and 2 inputs.
# For NEON, LLVM wants three for inputs: of 14·2 sums it would keep one in memory.
if "avx512f" in FEATURES:
    WIDTH, TILE_ROWS = 16, 14
elif "avx2" in FEATURES or "avx" in FEATURES:
    WIDTH, TILE_ROWS = 8, 6
elif "neon" in FEATURES:
    WIDTH, TILE_ROWS = 4, 13
else:
    WIDTH, TILE_ROWS = 4, 6

# Vector registers.
REGISTERS = 32 if "avx512f" in FEATURES or "neon" in FEATURES else 16

# Columns in a panel of packed weights.
PANEL = 2 * WIDTH

VECTOR = ir.VectorType(f32, WIDTH)


# -- instructions ---------------------------------------------------------------------------------


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """Emit the conversion of an integer to a pointer to ``kind``."""
    return builder.inttoptr(address, ir.PointerType(kind))


def declared(module: Any, kind: Any, name: str) -> Any:
    """Return a module's function of that name, which is declared at its first use there."""
    return module.globals.get(name) or ir.Function(module, kind, name)


def emits(*kinds: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that writes instructions, so that compiled code can call it.

    It takes LLVM's builder and the arguments, which are of such types.
    """

    def decorate(write: Callable[..., Any]) -> Any:
        write.emitted = kinds  # type: ignore[attr-defined]
        return write

    return decorate


@emits(i64)
def bits_to_float(builder: Any, bits: Any) -> Any:
    """The float32 whose bits are the low half of an integer."""
    return builder.bitcast(builder.trunc(bits, i32), f32)


@emits(i64)
def floats(builder: Any, address: Any) -> Any:
    """The float32 numbers at an address."""
    return pointer(builder, address, f32)


@emits(i64)
def f64s(builder: Any, address: Any) -> Any:
    """The float64 numbers at an address."""
    return pointer(builder, address, f64)


@emits(i64)
def i32s(builder: Any, address: Any) -> Any:
    """The 32-bit integers at an address."""
    return pointer(builder, address, i32)


@emits(i64)
def words(builder: Any, address: Any) -> Any:
    """The 64-bit integers at an address."""
    return pointer(builder, address, i64)


def caller(sig: Any) -> Any:
    """Return a function for compiled code that calls the C function at an address.

    It takes the address and the arguments; ``sig`` is that of the C function, which returns none.
    """

    @emits(i64, *sig.args)
    def call(builder: Any, address: Any, *args: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
        builder.call(pointer(builder, address, kind), args)

    return call


call_kernel = caller(ir.FunctionType(void, [i64, i64, i64]))


@emits(i64)
def load_acquire(builder: Any, address: Any) -> Any:
    """Read an integer that other threads write; what they wrote before it is then seen."""
    return builder.load_atomic(pointer(builder, address, i64), "acquire", 8, typ=i64)


@emits(i64, i64)
def store_release(builder: Any, address: Any, value: Any) -> None:
    """Write an integer that other threads read, after all that was written before it."""
    builder.store_atomic(value, pointer(builder, address, i64), "release", 8)


@emits(i64, i64)
def atomic_add(builder: Any, address: Any, value: Any) -> Any:
    """Add to an integer in memory and return what it was."""
    return builder.atomic_rmw("add", pointer(builder, address, i64), value, "acq_rel")


@emits(i64, i64)
def atomic_exchange(builder: Any, address: Any, value: Any) -> Any:
    """Replace an integer in memory and return what it was."""
    return builder.atomic_rmw("xchg", pointer(builder, address, i64), value, "acq_rel")


@emits(i64, i64, i64)
def compare_exchange(builder: Any, address: Any, expected: Any, value: Any) -> Any:
    """Replace an integer in memory if it is as expected, and tell whether it was."""
    place = pointer(builder, address, i64)
    result = builder.cmpxchg(place, expected, value, "acq_rel", "acquire")
    return builder.extract_value(result, 1)


_PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "yield", "arm64": "yield"}


@emits()
def pause(builder: Any) -> None:
    """Tell the processor that this is a loop that waits."""
    text = _PAUSE.get(platform.machine().lower(), "")
    kind = ir.FunctionType(void, [])
    builder.call(ir.InlineAsm(kind, text, "~{memory}", side_effect=True), [])


@emits()
def give_way(builder: Any) -> None:
    """Let another thread have this core, if one waits for it."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    builder.call(declared(builder.module, ir.FunctionType(i32, []), name), [])
