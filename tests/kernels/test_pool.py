"""Pooling kernels against loops over the windows."""

import numpy as np
import pytest

CASES = [
    # (n, h, w, c), kernel, stride, padding, dilation
    ((2, 6, 5, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((1, 7, 8, 2), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((2, 9, 7, 2), (3, 2), (1, 3), ((1, 0), (1, 1)), (2, 1)),
    ((1, 1, 1, 4), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 5, 5, 1), (2, 2), (3, 3), ((0, 1), (0, 1)), (1, 1)),
    ((0, 4, 4, 2), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
]


def windows(shape, kernel, stride, padding, dilation):
    """Yield (output position, input indices of the window that are not padding)."""
    _, h, w, _ = shape
    size = [
        (length + sum(pad) - d * (k - 1) - 1) // s + 1
        for length, pad, k, s, d in zip((h, w), padding, kernel, stride, dilation)
    ]
    for p in range(size[0]):
        for q in range(size[1]):
            inside = []
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    r = p * stride[0] + i * dilation[0] - padding[0][0]
                    c = q * stride[1] + j * dilation[1] - padding[1][0]
                    if 0 <= r < h and 0 <= c < w:
                        inside.append((r, c))
            yield (p, q), inside


def output_size(case):
    positions = [p for p, _ in windows(*case)]
    return positions[-1][0] + 1, positions[-1][1] + 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pool(backend, case, dtype):
    shape, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(0)
    # Few different values, so that there are ties: the first of the window must win.
    x = rng.integers(-3, 3, shape).astype(dtype)
    size = output_size(case)
    y, taps = backend.max_pool2d(x, kernel, stride, padding, dilation, size)
    grad = rng.standard_normal(y.shape).astype(dtype)
    gx = backend.max_pool2d_grad(grad, taps, shape, kernel, stride, padding, dilation)
    taken = backend.max_pool2d_take(x, taps, kernel, stride, padding, dilation)
    expected, expected_gx = np.zeros(y.shape, dtype), np.zeros(shape, dtype)
    for (p, q), inside in windows(*case):
        for n in range(shape[0]):
            for c in range(shape[3]):
                best = max(inside, key=lambda at: x[n, at[0], at[1], c])  # the first of equals
                expected[n, p, q, c] = x[n, best[0], best[1], c]
                expected_gx[n, best[0], best[1], c] += grad[n, p, q, c]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(taken, expected)
    np.testing.assert_allclose(gx, expected_gx, rtol=1e-6, atol=1e-6)
    assert y.dtype == gx.dtype == dtype


def test_max_pool_keeps_nan(backend):
    x = np.zeros((1, 2, 2, 1), np.float32)
    x[0, 1, 0, 0] = np.nan
    y, _ = backend.max_pool2d(x, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (1, 1))
    assert np.isnan(y).all()


@pytest.mark.parametrize("case", [c for c in CASES if c[4] == (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sum_pool(backend, case, dtype):
    shape, kernel, stride, padding, _ = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    y = backend.sum_pool2d(x, kernel, stride, padding, output_size(case))
    grad = rng.standard_normal(y.shape).astype(dtype)
    gx = backend.sum_pool2d_grad(grad, shape, kernel, stride, padding)
    expected, expected_gx = np.zeros(y.shape), np.zeros(shape)
    for (p, q), inside in windows(*case):
        for r, c in inside:
            expected[:, p, q] += x[:, r, c]
            expected_gx[:, r, c] += grad[:, p, q]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gx, expected_gx, rtol=1e-5, atol=1e-5)
    assert y.dtype == gx.dtype == dtype
