"""Integers and booleans: sums, products and sequences of them are PyTorch's, to the last unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")

INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]


def same(mine: Any, theirs: Any) -> None:
    assert f"torch.{mine.dtype}" == str(theirs.dtype)
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def both(*arrays: np.ndarray) -> tuple[list[Any], list[Any]]:
    return [lucid.from_numpy(a) for a in arrays], [torch.from_numpy(a.copy()) for a in arrays]


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
@pytest.mark.parametrize(
    "equation", ["ij->j", "ij->", "ii->", "ii->i", "ij->ji", "ij,kl->ik", "ij,ij->ij"]
)
def test_einsum_sums_as_int64(equation: str, dtype: str) -> None:
    a = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 120, (4, 4)).astype(dtype)
    mine, theirs = both(*[a] * (1 + equation.count(",")))
    same(lucid.einsum(equation, *mine), torch.einsum(equation, *theirs))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("equation", ["ij,jk->ik", "ij,ij->j", "ij,ij->", "ij,jk,il->kl"])
def test_einsum_wraps_products(equation: str, dtype: str) -> None:
    a = np.random.default_rng(0).integers(0, 120, (4, 4)).astype(dtype)
    mine, theirs = both(*[a] * (1 + equation.count(",")))
    same(lucid.einsum(equation, *mine), torch.einsum(equation, *theirs))


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_scatter_add(dtype: str) -> None:
    a = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 120, (3, 5)).astype(dtype)
    where = np.array([[0, 1, 1, 0, 0]] * 3)
    (x, index), (other, there) = both(a, where)
    same(lucid.scatter_add(x, 0, index, x), torch.scatter_add(other, 0, there, other))


def test_scatter_add_beyond_floats() -> None:
    values = np.array([2**53 + 1, 2, -1, 2**62 + 3], np.int64)
    index = np.array([0, 0, 1, 2])
    (zeros, index_, values_), (*other,) = both(np.zeros(3, np.int64), index, values)
    result = lucid.scatter_add(zeros, 0, index_, values_)
    same(result, torch.scatter_add(other[0], 0, other[1], other[2]))
    assert result.tolist() == [2**53 + 3, -1, 2**62 + 3]


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum"])
@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_reductions(name: str, dtype: str) -> None:
    a = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 120, (3, 40)).astype(dtype)
    (x,), (other,) = both(a)
    same(getattr(lucid, name)(x, 1), getattr(torch, name)(other, 1))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "limits",
    [
        (0, 10, 4),
        (-5, 5, 8),
        (10, 0, 7),
        (0.5, 9.5, 6),
        (2.9, 7.9, 1),
        (5, 5, 3),
        (0, 99, 12),
        (3, 8, 0),
        (-10, -1, 4),
        (0.1, 0.9, 4),
        (1, 100, 2),
    ],
    ids=str,
)
def test_linspace(limits: tuple[Any, ...], dtype: str) -> None:
    same(
        lucid.linspace(*limits, dtype=dtype),
        torch.linspace(*limits, dtype=getattr(torch, dtype)),
    )


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    "limits",
    [
        (5,),
        (2.5,),
        (0.5, 5.5),
        (0, 10, 3),
        (10, 0, -3),
        (-2.5, 3),
        (5, 1, -1.5),
        (0, 300, 50),
        (2**53 + 1, 2**53 + 5),
        (0, 2**62, 2**60),
        (1e10, 1e10 + 5),
        (3, 3),
    ],
    ids=str,
)
def test_arange(limits: tuple[Any, ...], dtype: str) -> None:
    same(lucid.arange(*limits, dtype=dtype), torch.arange(*limits, dtype=getattr(torch, dtype)))


def test_arange_of_steps_without_fractions() -> None:
    limits = -2.5, 2.5, 0.7
    same(lucid.arange(*limits, dtype="int8"), torch.arange(*limits, dtype=torch.int8))
    with pytest.raises(ValueError, match="arange: a step of 0 does not lead from -2 to 2"):
        lucid.arange(*limits, dtype="int64")


@pytest.mark.parametrize("limits", [(0, float("inf")), (float("nan"), 2), (0, 1, float("inf"))])
def test_arange_of_numbers_that_are_not_finite(limits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="arange: expected finite numbers, got"):
        lucid.arange(*limits)


def test_linspace_out_of_range() -> None:
    with pytest.raises(ValueError, match="linspace: 300 is out of the range of uint8"):
        lucid.linspace(0, 300, 5, dtype="uint8")
