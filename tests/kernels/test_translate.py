"""Kernels' Python does compiled what it does in Python, or is refused."""

import ctypes
import importlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from llvmlite import ir

from lucid.kernels.numba.machine import _code, _compile
from lucid.kernels.numba.machine._native import piece

BOOL, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()
IN_C = {
    str(I64): ctypes.c_int64,
    str(F32): ctypes.c_float,
    str(F64): ctypes.c_double,
    str(BOOL): ctypes.c_bool,
}


def compiled(function, result, *kinds):
    """Return a function compiled, for Python."""
    code = _compile.compile_code(function, ir.FunctionType(result, kinds))
    place = _code.load(code) if code.entry >= 0 else _compile.load_object(code)
    in_c = [IN_C.get(str(kind), ctypes.c_void_p) for kind in (result, *kinds)]
    return ctypes.CFUNCTYPE(*in_c)(place)


def address(array):
    return array.ctypes.data


integers = st.integers(-(2**40), 2**40) | st.integers(-9, 9)


# -- numbers --------------------------------------------------------------------------------------


def quotients(a, b, out):
    out[0], out[1] = a // b, a % b
    out[2], out[3] = a // 8, a % 8
    out[4], out[5] = a // 7, a % 7
    out[6], out[7] = a // -7, a % -7
    out[8], out[9] = 100 // b, 100 % b


in_words = compiled(quotients, ir.VoidType(), I64, I64, I64.as_pointer())


@given(integers, integers)
def test_quotients_and_rests_are_pythons(a, b):
    expected = np.zeros(10, np.int64)
    if b == 0:
        quotients(a, 1, expected)  # as no processor divides by 0
    else:
        quotients(a, b, expected)
    actual = np.full(10, -1)
    in_words(a, b, address(actual))
    assert actual.tolist() == expected.tolist()


def bits(a, b, out):
    out[0], out[1], out[2] = a & b, a | b, -a
    out[3], out[4] = a << 3, a >> 3
    out[5], out[6] = min(a, b, 5), max(a, 5, b)
    out[7], out[8] = (a < b) + (a == b), not a


of_bits = compiled(bits, ir.VoidType(), I64, I64, I64.as_pointer())


@given(integers, integers)
def test_operators_of_integers_are_pythons(a, b):
    expected, actual = np.zeros(9, np.int64), np.zeros(9, np.int64)
    bits(a, b, expected)
    of_bits(a, b, address(actual))
    assert actual.tolist() == expected.tolist()


def relations(a, b, out):
    out[0], out[1], out[2] = a < b, a <= b, a == b
    out[3], out[4], out[5] = a != b, a >= b, a > b
    out[6], out[7] = a < b <= 1.0, not a < b
    out[8] = math.isfinite(a)
    out[9] = -a < b


SPECIAL = [-math.inf, -1.5, -0.0, 0.0, 1.0, math.inf, math.nan]


@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_relations_of_floats_are_pythons_also_of_nan(kind):
    function = compiled(relations, ir.VoidType(), kind, kind, I64.as_pointer())
    for a in SPECIAL:
        for b in SPECIAL:
            expected, actual = np.zeros(10, np.int64), np.zeros(10, np.int64)
            relations(a, b, expected)
            function(a, b, address(actual))
            assert actual.tolist() == expected.tolist(), (a, b)


def total(a, b):
    return a + b


def product_and_quotient(a, b):
    return a * b / a - b


ARRAYS = {str(I64): np.int64, str(F32): np.float32, str(F64): np.float64}


@pytest.mark.parametrize("function", [total, product_and_quotient])
@pytest.mark.parametrize("b", [I64, F32, F64], ids=str)
@pytest.mark.parametrize("a", [I64, F32, F64], ids=str)
def test_numbers_of_two_types_are_as_in_numpy(function, a, b):
    x = np.array([3], ARRAYS[str(a)])
    y = np.array([7], ARRAYS[str(b)]) if b is I64 else np.array([0.3], ARRAYS[str(b)])
    expected = function(x, y)
    result = next(kind for kind in (I64, F32, F64) if ARRAYS[str(kind)] == expected.dtype)
    assert compiled(function, result, a, b)(x[0], y[0]) == expected[0]


def narrowed(x, words, out):
    words[0] = np.int32(x)
    out[0], out[1] = np.float32(x), np.float64(np.float32(x)) / 3
    out[2] = math.sqrt(x)
    out[3] = math.log(np.float32(x))


def test_conversions_and_functions():
    words, out = np.zeros(2, np.int32), np.zeros(4)
    compiled(narrowed, ir.VoidType(), I64, I32.as_pointer(), F64.as_pointer())(
        2**33 + 16_777_217, address(words), address(out)
    )
    x = 2**33 + 16_777_217
    assert words.tolist() == [16_777_217, 0]
    assert out[0] == np.float32(x)
    assert out[1] == float(np.float32(x)) / 3
    assert out[2] == math.sqrt(x)
    assert out[3] == pytest.approx(math.log(x), rel=1e-7)


# -- statements -----------------------------------------------------------------------------------


def collatz(first, most):
    steps = 0
    number = first
    while True:
        if number == 1 or steps >= most:
            break
        steps += 1
        if number % 2 == 0:
            number = number // 2
            continue
        number = 3 * number + 1
    return steps


def sieve(size, marks):
    for i in range(size):
        marks[i] = 1 if i >= 2 else 0
    found = 0
    for i in range(2, size):
        if marks[i] == 0:
            continue
        found += 1
        for j in range(i * i, size, i):
            marks[j] = 0
    for i in range(size, 0):
        found = -i
    return found


@piece
def sorted_pair(a, b):
    if a <= b:
        return a, b
    return b, a


@piece
def sign(a):
    if a < 0:
        return -1
    elif a > 0:
        return 1
    return 0


def of_pieces(a, b):
    low, high = sorted_pair(a, b)
    pair = sorted_pair(low + 1, 0)
    pair = pair[1], pair[0]
    (x, y), z = pair, sign(a)
    return 100 * low + 10 * high + (x - y) * z + len(pair)


def on_the_way(values, size):
    """What is not computed does not matter: neither what is read nor what is divided by."""
    place = 0
    while place < size and values[place] != 7:
        place += 1
    is_there = place < size
    here = values[place] if is_there else -1
    either = not is_there or here == 7 or values[1 << 40] == 0
    return here if either else 0


def between(a, b, words):
    """Behind the first relation that is false nothing is read."""
    return 0 < a < words[a * (1 << 40)] < b


def not_at_once(a):
    if a > 100:
        return 1
    while True:
        a += 10
        if a > 0:
            return a


@pytest.mark.parametrize("number", [1, 2, 27, 97])
def test_loops_that_end_anywhere(number):
    assert compiled(collatz, I64, I64, I64)(number, 1000) == collatz(number, 1000)


def test_loops_over_ranges():
    expected, actual = np.zeros(200, np.int64), np.ones(200, np.int64)
    assert compiled(sieve, I64, I64, I64.as_pointer())(200, address(actual)) == 46
    assert sieve(200, expected) == 46
    assert (actual == expected).all()


@pytest.mark.parametrize(("a", "b"), [(3, 5), (5, 3), (-4, 2), (0, 0)])
def test_pieces_return_early_and_tuples(a, b):
    assert compiled(of_pieces, I64, I64, I64)(a, b) == of_pieces(a, b)


def test_only_what_is_chosen_is_computed():
    function = compiled(on_the_way, I64, I64.as_pointer(), I64)
    for numbers in ([1, 7, 2], [1, 2, 3], [7]):
        values = np.array(numbers)
        expected = 7 if 7 in numbers else -1
        assert function(address(values), len(values)) == expected


def test_chained_relations():
    function = compiled(between, BOOL, I64, I64, I64.as_pointer())
    assert not function(-8, 9, address(np.zeros(1, np.int64)))
    beyond = compiled(of_neighbours, BOOL, I64, I64)
    for a in (-1, 0, 1, 4, 5):
        assert beyond(a, 4) == of_neighbours(a, 4)


def of_neighbours(a, b):
    return 0 < a <= b != 1


@pytest.mark.parametrize("a", [-25, 0, 7, 101])
def test_a_loop_that_only_returns_ends(a):
    assert compiled(not_at_once, I64, I64)(a) == not_at_once(a)


SMALL, LARGE_INT32 = np.float32(0.1), np.int32(2**31 - 1)


def with_numpys_constants(a, x, out):
    out[0] = a + (LARGE_INT32 + 1)  # 64 bits, as anywhere else
    out[1] = x * 3 == SMALL * 3
    out[2] = -SMALL < 0.0


def test_constants_of_numpys_follow_the_rules_of_other_numbers():
    out = np.zeros(3, np.int64)
    compiled(with_numpys_constants, ir.VoidType(), I64, F32, I64.as_pointer())(0, 0.1, address(out))
    assert out.tolist() == [2**31, 1, 1]


def with_constants(width, names):
    def function(a):
        size = width
        if names["wide"]:
            size = 2 * width
        return a + size if width > 4 else a - size

    return function


@pytest.mark.parametrize("width", [2, 8])
@pytest.mark.parametrize("wide", [True, False])
def test_what_is_outside_is_constant(width, wide):
    function = with_constants(width, {"wide": wide})
    assert compiled(function, I64, I64)(100) == function(100)


# -- what is refused ------------------------------------------------------------------------------


def power(a):
    return a**2


def by_name(a):
    return share(size=a)


def share(size):
    return size


def no_piece(a):
    return share(a)


def listed(a):
    return [a]


def reversed_range(a):
    for i in range(a, 0, -1):
        a += i
    return a


def over_a_tuple(a):
    for i in (1, 2):
        a += i
    return a


def in_one_way(a):
    if a > 0:
        b = a
    return b


def behind_a_loop(a):
    for integers in range(a):  # the module has something of that name, too
        a += integers
    return integers


def another_type(a):
    b = a
    b = b + 0.5
    return b


def numbers_as_truth(a):
    return a or 1


def of_no_pointer(a):
    return a[0]


def by_a_float(a):
    return np.float32(a)[0.5]


def two_kinds(a):
    return mixed(a)


@piece
def mixed(a):
    if a > 0:
        return a
    return 0.5


def too_many(a):
    return sign(a, a)


def unpacked(a):
    b, c = sorted_pair(a, a)[:1]
    return b + c


def counted_from_outside(a):
    i = a
    for i in range(3):
        a += i
    return a


def counted_on(a):
    for i in range(9):
        if i == 2:
            i = 5
        a += i
    return a


def counted_twice(a):
    for i in range(9):
        for i in range(4):
            a += i
    return a


def falls_off(a):
    if a > 0:
        return 1


def returns_nothing(a):
    if a > 0:
        return a
    return


@piece
def nothing(a):
    a += 1


def of_nothing(a):
    return 1 + nothing(a)


def another_tuple(a):
    t = a, (2, 3)
    if a > 0:
        t = (a, 20), 30
    return t[0]


def by_zero(a):
    return a // NONE


def of_zeros(a):
    return a + 1 % NONE


NONE, WIDE = 0, 2**64 + 5


def too_wide(a):
    return a + WIDE


@piece
def itself(a):
    return 1 if a < 2 else a * itself(a - 1)


def of_itself(a):
    return itself(a)


def truth(a):
    return a * 0.5


def identity(a):
    return 1 if a is None else 0


def of_pairs(a):
    for i, j in range(a):
        a += i + j
    return a


def of_four(a):
    for i in range(0, a, 1, 7):
        a += i
    return a


def least_of_one(a):
    return min(a)


def below(a):
    return 1.5 * a // 2


def many(*a):
    return a[0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (power, r"power, line \d+, 'a \*\* 2': .*Pow"),
        (by_name, "by place, got some by name"),
        (no_piece, "'share.a.': expected a piece"),
        (listed, "expected what kernels are written in, got List"),
        (reversed_range, "expected a step above zero"),
        (over_a_tuple, "expected a loop of one name over a range"),
        (in_one_way, "'b': expected a name that is assigned before"),
        (behind_a_loop, "'integers': expected a name that is assigned before"),
        (another_type, "'b = b . 0.5': expected i64, got double"),
        (numbers_as_truth, "expected truth values"),
        (of_no_pointer, "expected a pointer"),
        (by_a_float, "expected a pointer"),
        (two_kinds, "mixed, line .*expected a result of i64 in all ways"),
        (too_many, r"sign: expected arguments for \['a'\], got 2"),
        (unpacked, "expected what kernels are written in, got Slice"),
        (counted_from_outside, "expected i to be assigned by this loop alone"),
        (counted_on, "expected i to be assigned by this loop alone"),
        (counted_twice, "expected i to be assigned by this loop alone"),
        (falls_off, "expected a result of i64 in all ways"),
        (returns_nothing, "expected a result of i64 in all ways"),
        (of_nothing, "'1 . nothing.a.': unsupported operand"),
        (another_tuple, "expected a tuple like the one before"),
        (by_zero, "expected a divisor other than 0"),
        (of_zeros, "modulo by zero"),
        (too_wide, "expected a number of 64 bits, got 18446744073709551621"),
        (of_itself, "expected a piece that does not call itself"),
        (truth, "expected a result of i64 in all ways"),
        (identity, "expected what kernels are written in, got Is"),
        (of_pairs, "expected a loop of one name"),
        (of_four, "expected a range of 1 to 3 numbers, got 4"),
        (least_of_one, "expected two numbers or more, got one"),
        (below, "expected integers for FloorDiv, got double"),
        (many, r"expected arguments for \[\], got 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_kernels_cannot_be_written_in(function, message):
    with pytest.raises(TypeError, match=f"^kernels: .*{message}"):
        _compile.compile_code(function, ir.FunctionType(I64, [I64]))


def test_a_kernel_whose_source_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "changing_kernels.py"
    path.write_text("def doubled(a):\n    return 2 * a\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("changing_kernels")
    path.write_text("def doubled(a):\n    return 3 * a\n")
    with pytest.raises(TypeError, match=r"expected its source.* as it was when it was imported"):
        _compile.compile_code(module.doubled, ir.FunctionType(I64, [I64]))


def test_a_kernel_without_its_source(tmp_path):
    path, names = tmp_path / "kernels.py", {"__name__": "elsewhere"}
    exec(compile("def doubled(a):\n    return 2 * a\n", str(path), "exec"), names)
    message = r"elsewhere\.doubled: expected its source.* in .*kernels\.py"
    with pytest.raises(TypeError, match=message):
        _compile.compile_code(names["doubled"], ir.FunctionType(I64, [I64]))
