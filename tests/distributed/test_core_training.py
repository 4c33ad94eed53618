"""Ranks with parts of each batch train as one rank does with all of it: losses and weights."""

from __future__ import annotations

import pytest

from tests.distributed.launch import check_ranks


@pytest.mark.parametrize(
    ("ranks", "dtype", "backend"),
    [
        pytest.param(2, "float64", "numpy"),
        pytest.param(4, "float64", "numpy", marks=pytest.mark.slow),
        pytest.param(2, "float32", "numpy", marks=pytest.mark.slow),
        pytest.param(4, "float32", "numba", marks=pytest.mark.slow),
    ],
)
def test_ranks_train_as_one(ranks: int, dtype: str, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("llvmlite")
    printed = check_ranks(ranks, "tests/distributed/equal.py", dtype, backend)
    assert printed.count(" < ") == 5, printed
