"""Dtypes and ranges against PyTorch: how dtypes combine, and what a dtype does not hold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")

KINDS = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
SHAPES: list[tuple[int, ...]] = [(2,), ()]
NUMBERS = [True, 3, 2.5]


def operand(lib: Any, kind: Any, shape: tuple[int, ...]) -> Any:
    """Return a tensor of a kind and shape, or the number that was given instead of a kind."""
    if not isinstance(kind, str):
        return kind
    return lib.tensor(np.full(shape, 2), dtype=getattr(lib, kind))


def assert_same(mine: Any, reference: Any, label: str = "") -> None:
    if isinstance(mine, tuple):
        for one, two in zip(mine, reference):
            assert_same(one, two, label)
        return
    assert str(mine.dtype) == str(reference.dtype).removeprefix("torch."), label
    assert mine.shape == tuple(reference.shape), label
    np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-3, err_msg=label)


BINARY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda lib, a, b: a + b,
    "mul": lambda lib, a, b: a * b,
    "div": lambda lib, a, b: a / b,
    "floor_divide": lambda lib, a, b: a // b,
    "pow": lambda lib, a, b: a**b,
    "lt": lambda lib, a, b: a < b,
    "clamp": lambda lib, a, b: lib.clamp(a, b),
    "clamp max": lambda lib, a, b: lib.clamp(a, max=b),
    "where": lambda lib, a, b: lib.where(lib.tensor([True, False]), a, b),
    "where, other way": lambda lib, a, b: lib.where(lib.tensor([True, False]), b, a),
    "maximum": lambda lib, a, b: lib.maximum(a, b),
    "stack": lambda lib, a, b: lib.stack([a, b]),
    "cat": lambda lib, a, b: lib.cat([a, b]),
    "in place": lambda lib, a, b: a.clone().add_(b),
}


@pytest.mark.parametrize("name", BINARY)
def test_dtypes_combine_as_in_torch(name: str) -> None:
    operands = [(k, s) for k in KINDS for s in SHAPES] + [(n, ()) for n in NUMBERS]
    function = BINARY[name]
    compared = 0
    for (a, a_shape), (b, b_shape) in itertools.product(operands, repeat=2):
        if not isinstance(a, str):
            continue  # the other way round is the same, or a method
        arguments = [[operand(lib, a, a_shape), operand(lib, b, b_shape)] for lib in (lucid, torch)]
        try:
            reference = function(torch, *arguments[1])
        except (RuntimeError, TypeError):
            continue  # refused there
        mine = function(lucid, *arguments[0])
        assert_same(mine, reference, f"{name}({a}{a_shape}, {b}{b_shape})")
        compared += 1
    assert compared > 50


def test_gradients_have_the_dtype_of_their_tensor() -> None:
    x = lucid.tensor([1.0, 2.0], requires_grad=True)
    scale = lucid.tensor(3.0, lucid.float64, requires_grad=True)
    y = x * scale + lucid.tensor([1, 2])
    assert y.dtype == lucid.float32
    y.sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert (x.grad.dtype, x.grad.tolist()) == (lucid.float32, [3.0, 3.0])
    assert (scale.grad.dtype, scale.grad.item()) == (lucid.float64, 3.0)


def bytes_of(lib: Any) -> Any:
    return lib.tensor([1, 2], dtype=lib.uint8)


def mask_of(lib: Any) -> Any:
    return lib.tensor([True, False])


def stored(x: Any, value: Any) -> Any:
    x = x.clone()
    x[0] = value
    return x


PUT: dict[str, Callable[[Any, Any, Any], Any]] = {
    "full": lambda lib, x, v: lib.full((2,), v, dtype=x.dtype),
    "full_like": lambda lib, x, v: lib.full_like(x, v),
    "tensor": lambda lib, x, v: lib.tensor([v, v], dtype=x.dtype),
    "tensor of zero axes": lambda lib, x, v: lib.tensor(v, dtype=x.dtype),
    "fill_": lambda lib, x, v: x.clone().fill_(v),
    "masked_fill": lambda lib, x, v: x.masked_fill(mask_of(lib), v),
    "setitem": lambda lib, x, v: stored(x, v),
    "scatter": lambda lib, x, v: x.scatter(0, lib.tensor([0]), v),
}
VALUES = [0, 1, 255, 256, 300, -1, -128, -129, -255, -256, 1.5, -1.5, 2**31, 2**63 - 1, True]
VALUES += [float("nan"), float("inf"), 1e30]


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int32", "int64", "float32"])
@pytest.mark.parametrize("name", PUT)
def test_numbers_out_of_range_are_refused_where_torch_refuses_them(name: str, kind: str) -> None:
    for value in VALUES:
        mine, reference = (lib.tensor([1, 2]).to(getattr(lib, kind)) for lib in (lucid, torch))
        try:
            expected = PUT[name](torch, reference, value)
        except RuntimeError:
            who = name.split()[0]
            with pytest.raises(ValueError, match=rf"{who}: \S+ is out of the range of {kind}"):
                PUT[name](lucid, mine, value)
        else:
            assert_same(PUT[name](lucid, mine, value), expected, f"{name} {value}")


EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "cat passes over vectors of nothing": lambda lib: lib.cat(
        [lib.empty(0, dtype=lib.float64), lib.ones(2, 2), lib.empty(0)], 1
    ),
    "cat of nothing": lambda lib: lib.cat([lib.empty(0), lib.empty(0)]),
    "clamp of bytes, a negative bound": lambda lib: bytes_of(lib).clamp(-1),
    "bytes and a negative number": lambda lib: bytes_of(lib) + -1,
    "bytes times a negative number": lambda lib: bytes_of(lib) * -1,
    "fill with a tensor": lambda lib: bytes_of(lib).fill_(lib.tensor(7)),
    "masked fill with a tensor": lambda lib: bytes_of(lib).masked_fill(
        mask_of(lib), lib.tensor(7.5)
    ),
    "array beyond the range": lambda lib: lib.tensor(np.array([300, -1]), dtype=lib.uint8),
    "negative powers": lambda lib: (
        lib.tensor([0, 1, -1, 2, -1]) ** lib.tensor([-1, -2, -3, -1, -2])
    ),
    "power of bytes": lambda lib: bytes_of(lib) ** 8,
    "sign of booleans": lambda lib: lib.sign(mask_of(lib)),
    "floats into integers": lambda lib: stored(lib.tensor([1, 2]), lib.tensor(1.5)),
    "sum into int32": lambda lib: lib.sum(bytes_of(lib) + 200, dtype=lib.int32),
    "sum into bytes": lambda lib: lib.sum(lib.tensor([200, 100]), dtype=lib.uint8),
    "prod into bool": lambda lib: lib.prod(bytes_of(lib), 0, dtype=lib.bool),
    "cumsum into int8": lambda lib: lib.cumsum(lib.tensor([100, 100]), 0, dtype=lib.int8),
    "mean in float64": lambda lib: lib.mean(lib.tensor([1, 2]), dtype=lib.float64),
    "relu of integers": lambda lib: lib.relu(lib.tensor([-3, 0, 5], dtype=lib.int32)),
    "relu of bytes": lambda lib: lib.relu(bytes_of(lib)),
    "relu6 of integers": lambda lib: lib.nn.functional.relu6(lib.tensor([-3, 5, 9])),
    "hardtanh of integers": lambda lib: lib.nn.functional.hardtanh(
        lib.tensor([-3, 0, 5]), -1.5, 2.5
    ),
    "all of bytes": lambda lib: bytes_of(lib).all(),
    "any of bytes": lambda lib: lib.any(bytes_of(lib).reshape(1, 2), 1, keepdim=True),
    "any of integers": lambda lib: lib.any(lib.tensor([0, 2])),
    "gather of nothing": lambda lib: lib.gather(lib.ones(5), 0, lib.empty((2, 0), dtype=lib.int64)),
    "linear of integers": lambda lib: lib.nn.functional.linear(
        lib.tensor([3, 4]), lib.tensor([[1, 2]]), lib.tensor([5])
    ),
    "linear of bytes": lambda lib: lib.nn.functional.linear(
        bytes_of(lib), lib.tensor([[200, 2]], dtype=lib.uint8)
    ),
    "full in float64": lambda lib: lib.full((2,), 0.1, dtype=lib.float64) * 1e9 % 1,
    "lowest integer": lambda lib: lib.tensor([-(2**63)]) // -1,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_results_are_torchs(name: str) -> None:
    assert_same(EXPRESSIONS[name](lucid), EXPRESSIONS[name](torch))


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "clamp": (lambda lib: bytes_of(lib).clamp(0, 300), ValueError, "clamp: 300 is out of the"),
    "where": (
        lambda lib: lib.where(mask_of(lib), bytes_of(lib), 300),
        ValueError,
        "where: 300 is out of the range of uint8",
    ),
    "half": (
        lambda lib: lib.ones(2, dtype=lib.float16).masked_fill(mask_of(lib), 1e10),
        ValueError,
        "masked_fill: 10000000000.0 is out of the range of float16",
    ),
    "vector": (
        lambda lib: lib.ones(2).masked_fill(mask_of(lib), lib.ones(2)),
        ValueError,
        r"masked_fill: expected one number, got shape \(2,\)",
    ),
    "booleans": (lambda lib: mask_of(lib) - 1, TypeError, "sub: booleans cannot"),
    "relu of booleans": (
        lambda lib: lib.relu(mask_of(lib)),
        TypeError,
        "relu: bool cannot be limited",
    ),
    "hardtanh of bytes": (
        lambda lib: lib.nn.functional.hardtanh(bytes_of(lib)),
        TypeError,
        "hardtanh: uint8 cannot be limited to the range from -1.0 to 1.0",
    ),
    "mean into integers": (
        lambda lib: lib.mean(lib.ones(2), dtype=lib.int64),
        TypeError,
        "mean: dtype must be a floating-point dtype, got int64",
    ),
    "bytes at random": (
        lambda lib: lib.randint(0, 300, (3,), dtype=lib.uint8),
        ValueError,
        "randint: integers from 0 up to 300 are out of the range of uint8",
    ),
    "endless": (lambda lib: lib.arange(0, float("inf")), ValueError, "arange: expected finite"),
    "negative power": (lambda lib: bytes_of(lib) ** -1, ValueError, "pow: integers to negative"),
    "2**63": (lambda lib: lib.tensor([2**63]), ValueError, "out of the range of int64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_refuses_is_refused(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        call(torch)
    with pytest.raises(error, match=message):
        call(lucid)
