"""Batch-norm kernels against their formulas in float64."""

import numpy as np
import pytest

SHAPES = [(1, 3), (2, 1), (63, 5), (64, 5), (200, 7), (5000, 40), (3, 200_000)]


def rows(shape, dtype, seed=0, offset=0.0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype) + dtype(offset)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_stats(backend, shape, dtype, rtol):
    x = rows(shape, dtype)
    mean, variance = backend.batch_norm_stats(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(variance, exact.var(0), rtol=rtol, atol=rtol)


def test_stats_with_a_large_mean(backend):
    """A deviation of 1 beside a mean of 1000: squares of the raw values would cancel in float32."""
    x = rows((20_000, 6), np.float32, offset=1000.0)
    mean, variance = backend.batch_norm_stats(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("size", [1e19, 1e30, 1e37, 5e37])
@np.errstate(all="ignore")  # as operations call kernels
def test_numbers_whose_sums_overflow_float32(backend, size, offset):
    """Their statistics are right, and so are the values and the gradients of the parameters."""
    x = (rows((300, 20), np.float32, offset=offset) * np.float32(size)).astype(np.float32)
    mean, variance = backend.batch_norm_stats(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6, atol=1e-6 * size)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-5)
    inverse_std = 1 / np.sqrt(variance)
    normal = (exact - exact.mean(0)) / exact.std(0)
    grad = (3 * normal).astype(np.float32)  # all products of one sign
    gx, dweight, dbias = backend.batch_norm_grad(
        grad, x, mean.astype(np.float32), inverse_std.astype(np.float32), None
    )
    assert np.isfinite(gx).all()
    np.testing.assert_allclose(dweight, (grad * normal).sum(0), rtol=1e-4)
    np.testing.assert_allclose(dbias, grad.sum(0, dtype=np.float64), atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@np.errstate(all="ignore")
def test_one_number_that_is_not_finite_spoils_its_column_only(backend, bad):
    x = np.array(rows((300, 20), np.float32))
    x[40, 3] = bad
    mean, variance = backend.batch_norm_stats(x)
    exact = np.delete(x, 3, 1).astype(np.float64)
    assert not np.isfinite(mean[3])
    assert np.isnan(variance[3])
    np.testing.assert_allclose(np.delete(mean, 3), exact.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.delete(variance, 3), exact.var(0), rtol=1e-5)


def test_stats_of_a_constant(backend):
    _, variance = backend.batch_norm_stats(np.full((1000, 3), 7.3, np.float32))
    assert (variance >= 0).all()
    assert (variance < 1e-10).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_shift(backend, shape, dtype):
    x, scale, shift = rows(shape, dtype), rows(shape[1:], dtype, 1), rows(shape[1:], dtype, 2)
    y = backend.scale_shift(x, scale, shift)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, x.astype(np.float64) * scale + shift, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] > 1])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-4), (np.float64, 1e-10)])
def test_grad(backend, shape, weighted, dtype, rtol):
    x, grad = rows(shape, dtype), rows(shape, dtype, 1)
    weight = rows(shape[1:], dtype, 2) if weighted else None
    exact, g = x.astype(np.float64), grad.astype(np.float64)
    mean, inverse_std = exact.mean(0), 1 / np.sqrt(exact.var(0) + 1e-5)
    normal = (exact - mean) * inverse_std
    w = 1.0 if weight is None else weight.astype(np.float64)
    expected = w * inverse_std * (g - g.mean(0) - normal * (g * normal).mean(0))
    gx, gw, gb = backend.batch_norm_grad(
        grad, x, mean.astype(dtype), inverse_std.astype(dtype), weight
    )
    assert gx.dtype == gw.dtype == gb.dtype == dtype
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(gx, expected, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(gw, (g * normal).sum(0), rtol=rtol, atol=rtol * len(x) ** 0.5)
    np.testing.assert_allclose(gb, g.sum(0), rtol=rtol, atol=rtol * len(x) ** 0.5)
