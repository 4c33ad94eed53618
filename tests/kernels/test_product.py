"""Products of matrices against einsum in float64."""

import numpy as np
import pytest

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 1)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((200, 150), (150, 170)),
    ((1, 700), (700, 900)),
    ((2, 3, 4), (2, 4, 5)),
    ((6, 90, 80), (6, 80, 70)),
    ((6, 90, 80), (1, 80, 70)),
    ((1, 90, 80), (6, 80, 70)),
    ((90, 80), (6, 80, 70)),
    ((3, 1, 90, 80), (4, 80, 70)),
    ((1, 2, 300, 80), (1, 2, 80, 300)),
]


@pytest.fixture
def kernels(backend):
    if not hasattr(backend, "matmul"):
        pytest.skip("this backend has no products of its own")
    return backend


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul(kernels, a, b, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    expected = np.einsum("...mk,...kn->...mn", x.astype(np.float64), y.astype(np.float64))
    product = kernels.matmul(x, y)
    assert product.dtype == dtype
    np.testing.assert_allclose(product, expected, rtol=tolerance, atol=tolerance)
    turned = kernels.matmul(np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2), y)
    np.testing.assert_allclose(turned, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("rows", "inner", "outer"), [(3, 4, 5), (200, 150, 170), (0, 4, 5)])
def test_linear(kernels, rows, inner, outer, with_bias):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((rows, inner)), rng.standard_normal((outer, inner))
    bias = rng.standard_normal(outer) if with_bias else None
    expected = np.einsum("mk,ok->mo", x, weight) + (0 if bias is None else bias)
    np.testing.assert_allclose(kernels.linear(x, weight, bias), expected, rtol=1e-10, atol=1e-10)
