"""Products in pieces: the same values, whatever the sizes, and each once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid.kernels.numpy import _pieces
from lucid.kernels.numpy._pieces import Columns, multiply_transposed


@pytest.fixture(params=[True, False], ids=["in pieces", "whole"])
def pieces(request, monkeypatch):
    """Both ways, whatever the processor: the pieces are right everywhere, and quick on some."""
    monkeypatch.setattr(_pieces, "_takes_pieces", lambda: request.param)
    return request.param


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def close(actual, a, b):
    """Within what float32 rounds in a sum of so many products."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
    assert (np.abs(actual - exact) <= 1e-6 * bound + 1e-30).all()


# Rows, depth, columns: a layer of 7×7 and of one pixel, the stem, a rest in all three, one of each,
# and what no piece holds.
SIZES = [
    (49, 2048, 512),
    (1, 1280, 1000),
    (3136, 28, 24),
    (197, 97, 77),
    (1, 1, 1),
    (7, 6000, 40),
    (2, 40_000, 33),
]


@pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)
@pytest.mark.parametrize("layout", ["C", "F"])
def test_rows_by_columns(pieces, rows, depth, columns, layout):
    a, b = numbers(rows, depth), np.asarray(numbers(depth, columns), order=layout)
    out = np.full((rows, columns), np.nan, np.float32)
    Columns(b).multiply(np.asarray(a, order=layout), out)
    close(out, a, b)


@pytest.mark.usefixtures("pieces")
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 70),
    depth=st.integers(1, 300),
    columns=st.integers(1, 300),
    data=st.data(),
)
def test_some_units_and_some_of_the_depth(rows, depth, columns, data):
    a, b = numbers(rows, depth), numbers(depth, columns)
    cut = Columns(b)
    first = data.draw(st.integers(0, cut.count - 1))
    units = slice(first, data.draw(st.integers(first + 1, cut.count)))
    start = data.draw(st.integers(0, depth - 1))
    part = slice(start, data.draw(st.integers(start + 1, depth)))
    out = np.full((rows, columns), np.nan, np.float32)
    chosen = cut.columns(units)
    cut.multiply(a[:, part], out[:, chosen], units, part)
    close(out[:, chosen], a[:, part], b[part, chosen])
    out[:, chosen] = np.nan
    assert np.isnan(out).all()  # it wrote to no other column


@pytest.mark.parametrize(
    ("depth", "m", "n"), [(3136, 32, 96), (5461, 77, 40), (980, 1, 9), (3, 2, 1)]
)
def test_transposed(pieces, depth, m, n):
    a, b = numbers(depth, m), numbers(depth, n)
    out = np.full((m, n), np.nan, np.float32)
    multiply_transposed(a, b, out)
    close(out, a.T, b)
    wide = numbers(depth, m + 5)  # as a group's gradient lies
    multiply_transposed(wide[:, 2 : 2 + m], b, out)
    close(out, wide[:, 2 : 2 + m].T, b)


def test_no_rows(pieces):
    Columns(numbers(5, 40)).multiply(numbers(0, 5), numbers(0, 40))


def test_float64_is_not_cut(pieces):
    a, b = numbers(40, 50, dtype=np.float64), numbers(50, 60, dtype=np.float64)
    out = np.empty((40, 60))
    Columns(b).multiply(a, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-12)
