"""Long rows of the NumPy backend: how many rows of a map are taken as one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lucid.kernels.numpy._rows import Rows, rows_together

HALF = 4096  # of the buffer that NumPy copies shorter rows into


@given(st.integers(0, 20_000), st.integers(1, 40_000))
def test_rows_together_divide_and_are_bounded(period, columns):
    together = rows_together(period, columns)
    assert together >= 1
    assert period % together == 0
    assert together == 1 or together * columns <= 8 * HALF


@given(st.integers(1, 5_000), st.integers(1, 5_000))
def test_no_fewer_rows_would_be_long_enough(period, columns):
    divisors = [n for n in range(1, period + 1) if period % n == 0]
    enough = [n for n in divisors if HALF < n * columns <= 8 * HALF]
    together = rows_together(period, columns)
    if enough:
        assert together == enough[0]
    else:
        assert together == max([n for n in divisors if n * columns <= 2 * HALF], default=1)


def test_long_rows_are_views_with_repeated_factors():
    rows = Rows(6 * 1000, 5, 1000)
    assert rows.width == 1000 * 5
    x = np.arange(6 * 1000 * 5, dtype=np.float32).reshape(-1, 5)
    factors = np.arange(1.0, 6.0, dtype=np.float32)
    wide = rows.wide(x)
    assert wide.shape == (6, 5000)
    assert np.shares_memory(wide, x)
    product = (wide * rows.repeat(factors)).reshape(-1, 5)
    np.testing.assert_array_equal(product, x * factors)
