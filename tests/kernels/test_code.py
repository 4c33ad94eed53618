"""Machine code that is kept: linked once, taken up without LLVM, and by LLVM where that must be."""

import ctypes
import itertools
import math
import struct

import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from lucid.kernels.numba.machine import _cache, _code, _compile, _link
from lucid.kernels.numba.machine._native import Native, natives

alone = pytest.mark.skipif(not _code.ALONE, reason="LLVM loads the code here")


def doubled(a, b):
    return 2 * a + b


def cleared(numbers, size):
    """Calls memset."""
    for i in range(size):
        numbers[i] = 0
    return numbers[0]


I64 = ir.IntType(64)
TWO_WORDS = ir.FunctionType(I64, [I64, I64])


def called(code):
    native = Native(doubled, TWO_WORDS)
    del natives[native.name]
    native._take(code)
    return native.call(20, 2)


def least(a, b):
    return min(a, b)


def largest(a, b):
    return max(a, b)


EXTREMES = {"min": least, "max": largest}
FLOATS = [-2.5, -0.0, 0.0, 0.5, 2.0**100, math.nan]
NUMBERS = {
    ctypes.c_int64: (I64, [-3, 0, 2**40]),
    ctypes.c_float: (ir.FloatType(), FLOATS),  # which must not become integers
    ctypes.c_double: (ir.DoubleType(), FLOATS),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("name", EXTREMES)
def test_min_and_max_are_pythons(name, kind):
    described, numbers = NUMBERS[kind]
    code = _compile.compile_code(EXTREMES[name], ir.FunctionType(described, [described] * 2))
    place = _code.load(code) if code.entry >= 0 else _compile.load_object(code)
    call = ctypes.CFUNCTYPE(kind, kind, kind)(place)
    for a, b in itertools.product(numbers, repeat=2):
        assert str(call(a, b)) == str(EXTREMES[name](a, b))


@pytest.fixture(scope="module")
def code():
    return _compile.compile_code(doubled, TWO_WORDS)


@alone
def test_code_goes_through_bytes_and_runs(code):
    again = _code.Code.parse(code.dump())
    assert again == code
    assert called(again) == 42


@alone
def test_slots_take_the_addresses_of_functions():
    made = _compile.compile_code(cleared, ir.FunctionType(I64, [I64.as_pointer(), I64]))
    names = {name for _, name in made.slots}
    assert "memset" in names
    content = _code.resolve(made, 0, lambda name: 0x1234)
    places = [place for place, name in made.slots if name]
    assert {struct.unpack_from("<Q", content, place) for place in places} == {(0x1234,)}


@alone
def test_pages_of_code_are_not_writable(code):
    address = _code.load(code)
    with open("/proc/self/maps") as file:
        regions = [line.split()[:2] for line in file]
    (rights,) = {
        rights
        for ends, rights in regions
        if int(ends.split("-")[0], 16) <= address < int(ends.split("-")[1], 16)
    }
    assert rights == "r-xp"


def test_llvm_loads_what_is_not_understood(monkeypatch):
    def refuse(data, name):
        raise _link.UnknownObjectError("as of another system")

    monkeypatch.setattr(_compile, "link", refuse)
    made = _compile.compile_code(doubled, TWO_WORDS)
    assert made.entry < 0
    assert called(_code.Code.parse(made.dump())) == 42


@alone
@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(0, b"MZ", "no ELF"), (4, b"\1", "64 bits"), (18, b"\x08\0", "machine 8")],
)
def test_other_object_files_are_refused(at, value, message):
    data = bytearray(_compile.compile_object(doubled, TWO_WORDS))
    assert _link.link(bytes(data), _compile.ENTRY).slots == []
    data[at : at + len(value)] = value
    with pytest.raises(_link.UnknownObjectError, match=message):
        _link.link(bytes(data), _compile.ENTRY)
    with pytest.raises(_link.UnknownObjectError, match="no function other"):
        _link.link(_compile.compile_object(doubled, TWO_WORDS), "other")


@alone
@pytest.mark.slow  # compiles all kernels where they are not yet
def test_no_kernel_needs_llvm_to_be_loaded():
    for native in natives.values():
        assert native.address
        assert _code.Code.parse(_cache.load(native.name)).entry >= 0, native.name
