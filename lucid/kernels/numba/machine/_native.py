"""Compiled C functions and the few machine operations that Numba does not offer.

Every kernel is a C function ``void kernel(const int64 *args, int64 chunk, int64 thread)``: its
arguments (addresses, sizes, bits of floats) lie side by side as 64-bit integers, and it does one
chunk of its work. So the thread pool can call any of them, a plan of many is a table of such
instructions, and Numba compiles each once for all array layouts. Machine code is kept on disk.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import inspect
import itertools
import math
import operator
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.extending import intrinsic

from lucid.kernels import _memory

i64 = ir.IntType(64)
f32 = ir.FloatType()

Words = types.CPointer(types.int64)

Settings = TypeVar("Settings", bound=tuple[int, ...])

# The address of a kernel, its number of chunks, and its arguments.
Instruction = Sequence[int]

# Bytes of an element in memory.
FLOAT = 4


def compiled(sig: Any) -> Callable[[Callable[..., Any]], Native]:
    """Decorate a function of plain numbers and pointers to become a C function, at first use."""
    return lambda function: Native(function, sig)


_KERNEL = types.void(Words, types.int64, types.int64)


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
    """A C function that is compiled, or read from the cache on disk, when its address is asked.

    Attributes:
        address: where the machine code starts.
        call: the function for Python, by ctypes: it runs without the interpreter's lock.
    """

    address: int
    call: Any

    def __init__(self, function: Callable[..., Any], sig: Any) -> None:
        self._source = self._function = function
        self._sig = sig
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __getattr__(self, name: str) -> Any:  # for what is not there yet
        if name not in ("address", "call"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        with global_compiler_lock:
            if name not in self.__dict__:
                args = self._sig.args, self._sig.return_type
                native = _Announced(self._function, args, {}, {"error_model": "numpy"})
                native.enable_caching(self._source)
                native.compile()
                self._compiled = native
                self.call, self.address = native.ctypes, int(native.address)
        return self.__dict__[name]


class Kernel(Native):
    """A C function that the thread pool calls."""

    def __init__(self, function: Callable[..., Any], settings: dict[str, Any]) -> None:
        names = list(inspect.signature(function).parameters)
        if names[0] == "args":  # it reads all of its arguments by place
            super().__init__(function, _KERNEL)
            return
        self._settings, self._fields = list(settings), names[2 + len(settings) :]
        if names[2:] != [*self._settings, *self._fields]:
            raise TypeError(f"{function.__name__}: expected {self._settings} first, got {names}")
        self._is_told_chunks = "chunks" in self._fields
        self._in_order = operator.itemgetter(*self._fields) if self._fields else lambda given: ()
        sizes = [len(kind._fields) for kind in settings.values()]
        super().__init__(_unpacked(function, sizes, len(self._fields)), _KERNEL)
        self._source = function
        self.__doc__, self.__name__ = function.__doc__, function.__name__

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


def _unpacked(function: Callable[..., Any], sizes: list[int], count: int) -> Callable[..., Any]:
    """Return a function of ``args``, ``chunk``, ``thread`` that calls one of named arguments.

    Args:
        function: takes ``chunk``, ``thread``, pointers to settings, and other arguments.
        sizes: of the settings, in words.
        count: of the other arguments.
    """
    starts = list(itertools.accumulate([0, *sizes]))
    end = starts.pop()

    @intrinsic
    def unpack(typingctx: Any, args: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            def place(i: int) -> Any:
                return builder.gep(values[0], [i64(i)], source_etype=i64)

            words = [builder.load(place(end + i), typ=i64) for i in range(count)]
            return context.make_tuple(builder, sig.return_type, [*map(place, starts), *words])

        return types.Tuple((Words,) * len(starts) + (types.int64,) * count)(args), codegen

    named = njit(error_model="numpy")(function)

    def entry(args, chunk, thread):
        named(chunk, thread, *unpack(args))

    # Machine code from several processes is loaded by its symbols, which are made of these.
    entry.__module__, entry.__qualname__ = function.__module__, f"{function.__qualname__}.entry"
    return entry


@njit
def share(size, chunk, chunks):
    """Where a chunk's share of a range begins and ends."""
    return size * chunk // chunks, size * (chunk + 1) // chunks


if hasattr(os, "register_at_fork"):  # a child must not begin in the middle of a compilation
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


class _Announced(CFunc):
    """Tells the user why a first call takes seconds, and keeps the machine code if it can."""

    told = False
    warned = False

    def enable_caching(self, source: Callable[..., Any]) -> None:
        try:
            self._cache = _Cache(source)
        except Exception as error:  # no folder can be written: Numba has no class of its own for it
            _Announced.warn(str(error))

    def _compile_uncached(self) -> Any:
        if not _Announced.told and isinstance(self._cache, _Cache):
            _Announced.told = True
            print(
                "lucid: compiling the fast kernels for this machine, some seconds each, once "
                f"(kept in {self._cache.cache_path})",
                file=sys.stderr,
            )
        return super()._compile_uncached()

    @staticmethod
    def warn(reason: str) -> None:
        """Say, once, that machine code is not kept."""
        if not _Announced.warned:
            _Announced.warned = True
            warnings.warn(
                "the fast kernels are compiled at every start, some seconds each, as they cannot "
                f"be kept ({reason}); NUMBA_CACHE_DIR names a folder for them",
                RuntimeWarning,
                stacklevel=2,
            )


class _Cache(FunctionCache):
    """Numba's cache, with one file for a function, which is checked, and errors that do not end us.

    The machine code depends on the other files of the kernels as well, which Numba does not know.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _File(Path(self._cache_path), self._impl.filename_base)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # Which code and values the function is made of, the digest of all files says.
        return sig, codegen.magic_tuple(), self._py_func.__qualname__

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            # Numba would load all that it compiles with: 0.4 of the 1.0 s that lucid.compile takes.
            # Machine code refers to its runtime alone.
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception:  # whatever it is that was read: it is compiled again, and replaced
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _Announced.warn(str(error))


class _File:
    """A function's machine code on disk, behind a digest of that and of all it depends on.

    Each kind of processor has a file of its own.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def load(self, key: Any) -> Any:
        """Return what was saved under a key, or None if that is not what the file holds."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST], content[_DIGEST:]
        return pickle.loads(data) if digest == _digest(key, data) else None

    def save(self, key: Any, data: Any) -> None:
        """Replace what the file holds; several processes may do it at once."""
        path, dumped = self._path(key), dumps(data)
        temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
        try:
            temporary.write_bytes(_digest(key, dumped) + dumped)
            if path.is_dir():
                path.rmdir()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        _, processor, _ = key
        return (
            self._folder
            / f"{self._name}.{hashlib.sha256(repr(processor).encode()).hexdigest()[:8]}.nbc"
        )


_DIGEST = hashlib.sha256().digest_size


def _digest(key: Any, data: bytes) -> bytes:
    return hashlib.sha256(f"{key} {_source_digest()}".encode() + data).digest()


@functools.cache
def _source_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parents[2].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
        self.used = 0

    def start(self) -> None:
        """Take back all that was given out."""
        self.used = 0

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an uninitialised array that is valid until the next :meth:`start`."""
        size = math.prod(shape)
        first = self.used
        self.used = first + -(-size // 16) * 16
        if self.used + 16 > self.raw.size:
            # Arrays that were given out before keep the old memory alive.
            self.raw = np.empty(2 * self.used + 16, np.float32)
            first, self.used = 0, -(-size // 16) * 16
        return _aligned(self.raw[first:], size).reshape(shape)


workspace = Workspace()


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
    """Return the features for which Numba generates code; its cache is kept apart by them."""
    triple, _, names = cpu_target.target_context.codegen().magic_tuple()
    features = {name[1:] for name in names.split(",") if name.startswith("+")}
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

# Columns in a panel of packed weights.
PANEL = 2 * WIDTH

VECTOR = ir.VectorType(f32, WIDTH)


# -- instructions ---------------------------------------------------------------------------------


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """Emit the conversion of an integer to a pointer to ``kind``."""
    return builder.inttoptr(address, ir.PointerType(kind))


def emits(sig: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that writes instructions to become one that compiled code can call.

    It takes LLVM's builder and the arguments; ``sig`` is the signature for compiled code.
    """

    def decorate(write: Callable[..., Any]) -> Any:
        def typed(typingctx: Any, *kinds: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                result = write(builder, *args)
                return context.get_dummy_value() if result is None else result

            return sig, codegen

        functools.update_wrapper(typed, write)
        names = ["typingctx", *(f"arg{i}" for i in range(len(sig.args)))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        # Numba counts the parameters, and knows no others.
        typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in names]
        )
        return intrinsic(typed)

    return decorate


@emits(types.float32(types.int64))
def bits_to_float(builder: Any, bits: Any) -> Any:
    """The float32 whose bits are the low half of an integer."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(32)), f32)


@emits(types.CPointer(types.float32)(types.int64))
def floats(builder: Any, address: Any) -> Any:
    """The float32 numbers at an address."""
    return pointer(builder, address, f32)


@emits(types.CPointer(types.float64)(types.int64))
def f64s(builder: Any, address: Any) -> Any:
    """The float64 numbers at an address."""
    return pointer(builder, address, ir.DoubleType())


@emits(types.CPointer(types.int32)(types.int64))
def i32s(builder: Any, address: Any) -> Any:
    """The 32-bit integers at an address."""
    return pointer(builder, address, ir.IntType(32))


@emits(Words(types.int64))
def words(builder: Any, address: Any) -> Any:
    """The 64-bit integers at an address."""
    return pointer(builder, address, i64)


@emits(types.void(types.int64, types.int64, types.int64, types.int64))
def call_kernel(builder: Any, address: Any, args: Any, chunk: Any, thread: Any) -> None:
    """Call the kernel at an address."""
    kind = ir.FunctionType(ir.VoidType(), [i64.as_pointer(), i64, i64])
    builder.call(pointer(builder, address, kind), [pointer(builder, args, i64), chunk, thread])


@emits(types.int64(types.int64))
def load_acquire(builder: Any, address: Any) -> Any:
    """Read an integer that other threads write; what they wrote before it is then seen."""
    return builder.load_atomic(pointer(builder, address, i64), "acquire", 8, typ=i64)


@emits(types.void(types.int64, types.int64))
def store_release(builder: Any, address: Any, value: Any) -> None:
    """Write an integer that other threads read, after all that was written before it."""
    builder.store_atomic(value, pointer(builder, address, i64), "release", 8)


@emits(types.int64(types.int64, types.int64))
def atomic_add(builder: Any, address: Any, value: Any) -> Any:
    """Add to an integer in memory and return what it was."""
    return builder.atomic_rmw("add", pointer(builder, address, i64), value, "acq_rel")


@emits(types.int64(types.int64, types.int64))
def atomic_exchange(builder: Any, address: Any, value: Any) -> Any:
    """Replace an integer in memory and return what it was."""
    return builder.atomic_rmw("xchg", pointer(builder, address, i64), value, "acq_rel")


@emits(types.boolean(types.int64, types.int64, types.int64))
def compare_exchange(builder: Any, address: Any, expected: Any, value: Any) -> Any:
    """Replace an integer in memory if it is as expected, and tell whether it was."""
    place = pointer(builder, address, i64)
    result = builder.cmpxchg(place, expected, value, "acq_rel", "acquire")
    return builder.extract_value(result, 1)


binding.initialize_native_asmparser()  # for the instruction below
_PAUSE = {"x86_64": "pause", "aarch64": "yield", "arm64": "yield"}


@emits(types.void())
def pause(builder: Any) -> None:
    """Tell the processor that this is a loop that waits."""
    triple = cpu_target.target_context.codegen().magic_tuple()[0]
    text = _PAUSE.get(triple.split("-")[0], "")
    kind = ir.FunctionType(ir.VoidType(), [])
    builder.call(ir.InlineAsm(kind, text, "~{memory}", side_effect=True), [])


@emits(types.void())
def give_way(builder: Any) -> None:
    """Let another thread have this core, if one waits for it."""
    name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    kind = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
