"""The variance against NumPy's in float64, in every way in which an array is cut."""

import numpy as np
import pytest

CASES = [  # shape, axes, order of the axes in memory
    ((5,), (0,), (0,)),
    ((64, 1000), (0,), (0, 1)),  # short rows, taken together
    ((61, 7), (0,), (0, 1)),
    ((64, 1000), (1,), (0, 1)),
    ((64, 1000), (0,), (1, 0)),
    ((16, 32, 28, 28), (0,), (0, 1, 2, 3)),
    ((16, 64, 28, 28), (0,), (0, 1, 2, 3)),  # in parts, cut across
    ((16, 64, 28, 28), (1,), (0, 1, 2, 3)),
    ((16, 64, 28, 28), (1, 3), (0, 2, 3, 1)),
    ((150, 4000), (0,), (0, 1)),  # cut into slices
    ((3, 200000), (0, 1), (0, 1)),
    ((3, 200000), (1,), (0, 1)),
    ((16, 64, 28, 28), (0, 2, 3), (0, 2, 3, 1)),
    ((16, 32, 28, 28), (1,), (0, 2, 3, 1)),
]


@pytest.mark.parametrize(("shape", "axes", "order"), CASES)
@pytest.mark.parametrize("centre", [0.0, 1e4])
def test_variance(backend, shape, axes, order, centre):
    rng = np.random.default_rng(0)
    x = rng.standard_normal([shape[axis] for axis in order]).astype(np.float32)
    x = (x + np.float32(centre)).transpose(np.argsort(order))
    before = x.copy()
    y = backend.variance(x, axes, 3.0)
    wide = x.astype(np.float64)
    expected = np.square(wide - wide.mean(axes, keepdims=True)).sum(axes, keepdims=True) / 3.0
    np.testing.assert_allclose(y, expected, rtol=3e-6)
    np.testing.assert_array_equal(x, before)


def test_variance_of_nothing_and_of_a_number(backend):
    assert backend.variance(np.float32(2).reshape(()), (), 1.0).shape == ()
    with np.errstate(invalid="ignore"):
        nothing = backend.variance(np.zeros((0, 3), np.float32), (0,), 1.0)
    assert nothing.shape == (1, 3)


def test_variance_of_float16_is_not_rounded_on_the_way(backend):
    rng = np.random.default_rng(0)
    x = (300 * rng.standard_normal((40, 50))).astype(np.float16)
    y = backend.variance(x, (0,), 40.0)
    np.testing.assert_allclose(y, x.astype(np.float64).var(0, keepdims=True), rtol=1e-5)
