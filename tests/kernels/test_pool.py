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


# Channels that fill no vector, one, several, and a group of them; rows enough for several chunks.
MANY = [
    ((2, 30, 29, 3), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((1, 25, 20, 16), (2, 3), (1, 2), ((1, 0), (0, 1)), (1, 1)),
    ((3, 7, 7, 133), (7, 7), (7, 7), ((0, 0), (0, 0)), (1, 1)),
    ((2, 12, 11, 257), (3, 2), (2, 1), ((1, 1), (0, 1)), (2, 3)),
]


def by_windows(case, x, grad):
    """Return maxima and sums of the windows, and the gradients of both, by definition."""
    shape = case[0]
    n, c = shape[0], shape[3]
    size = output_size(case)
    maxima, sums = np.full((n, *size, c), -np.inf), np.zeros((n, *size, c))
    max_grad, sum_grad = np.zeros(shape), np.zeros(shape)
    for (p, q), inside in windows(*case):
        values = np.array([x[:, r, s] for r, s in inside], np.float64)
        maxima[:, p, q], sums[:, p, q] = values.max(axis=0), values.sum(axis=0)
        first = values.argmax(axis=0)
        for number, (r, s) in enumerate(inside):
            sum_grad[:, r, s] += grad[:, p, q]
            max_grad[:, r, s] += grad[:, p, q] * (first == number)
    return maxima, sums, max_grad, sum_grad


@pytest.mark.parametrize("case", MANY)
@pytest.mark.parametrize("lying", ["plain", "strided"])
def test_many_channels(backend, threads, case, lying):
    shape, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(np.float32)
    size = output_size(case)
    grad = rng.standard_normal((shape[0], *size, shape[3])).astype(np.float32)
    maxima, sums, max_grad, sum_grad = by_windows(case, x, grad)
    if lying == "strided":
        x, grad = (np.repeat(array, 2, axis=3)[..., ::2] for array in (x, grad))
    x.flags.writeable = grad.flags.writeable = False
    y, taps = backend.max_pool2d(x, kernel, stride, padding, dilation, size)
    np.testing.assert_array_equal(y, maxima)
    how = kernel, stride, padding, dilation
    np.testing.assert_array_equal(backend.max_pool2d_take(x, taps, *how), maxima)
    np.testing.assert_allclose(
        backend.max_pool2d_grad(grad, taps, shape, *how), max_grad, rtol=1e-5, atol=1e-5
    )
    if dilation == (1, 1):
        y = backend.sum_pool2d(x, kernel, stride, padding, size)
        np.testing.assert_allclose(y, sums, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            backend.sum_pool2d_grad(grad, shape, kernel, stride, padding),
            sum_grad,
            rtol=1e-5,
            atol=1e-5,
        )


def test_maxima_that_are_not_finite(backend):
    """NaN is larger than all, the first of several wins; minus infinity is no padding's match."""
    x = np.zeros((1, 4, 4, 40), np.float32)
    x[0, :2, :2] = -np.inf
    x[0, 1, 3] = x[0, 0, 2] = np.nan
    x[0, 3, 0] = np.inf
    y, taps = backend.max_pool2d(x, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (2, 2))
    np.testing.assert_array_equal(y[0, :, :, 0], [[-np.inf, np.nan], [np.inf, 0]])
    np.testing.assert_array_equal(taps[0, :, :, 39], [[0, 0], [2, 0]])
    sums = backend.sum_pool2d(x, (4, 4), (4, 4), ((0, 0), (0, 0)), (1, 1))
    assert np.isnan(sums).all()
