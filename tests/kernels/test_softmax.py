"""Softmax, its logarithm and cross entropy in float32, against the definition in float64."""

import numpy as np
import pytest

# Fewer values than a vector holds, whole vectors, remainders, and enough rows for several chunks.
SHAPES = [(1, 1), (3, 5), (7, 16), (5, 17), (4, 33), (3, 31), (2, 1000), (1500, 49), (2, 3, 40, 64)]


def random(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 4).astype(np.float32)


def softmax(x):
    x = x.astype(np.float64)
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(backend, threads, shape):
    x, grad = random(*shape), random(*shape, seed=1)
    x.flags.writeable = grad.flags.writeable = False
    p = softmax(x)
    y = backend.softmax(x, -1)
    np.testing.assert_allclose(y, p, rtol=4e-6, atol=1e-12)
    log_y = backend.log_softmax(x, x.ndim - 1)
    np.testing.assert_allclose(log_y, np.log(p), rtol=2e-6, atol=2e-6)
    expected = p * (grad - (grad * p).sum(-1, keepdims=True))
    np.testing.assert_allclose(backend.softmax_grad(grad, y, -1), expected, rtol=1e-4, atol=4e-6)
    expected = grad - p * grad.astype(np.float64).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        backend.log_softmax_grad(grad, log_y, -1), expected, rtol=1e-4, atol=1e-4
    )
    assert {y.dtype, log_y.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -2])
def test_any_axis_and_layout(backend, axis):
    x = random(2, 19, 5, 6)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = np.moveaxis(softmax(np.moveaxis(x, axis, -1)), -1, axis)
    for given in (x, channels_last, np.repeat(x, 2, axis=2)[:, :, ::2], x[::-1].copy()[::-1]):
        y = backend.softmax(given, axis)
        np.testing.assert_allclose(y, expected, rtol=4e-6, atol=1e-12)
        np.testing.assert_allclose(
            backend.log_softmax(given, axis), np.log(expected), rtol=2e-6, atol=4e-6
        )
        for other in (x, channels_last):
            slope = expected * (other - (other * expected).sum(axis, keepdims=True))
            np.testing.assert_allclose(
                backend.softmax_grad(other, y, axis), slope, rtol=1e-4, atol=4e-6
            )


@pytest.mark.parametrize("columns", [3, 16, 50])
def test_large_and_not_finite(backend, columns):
    x = random(6, columns)
    x[0] += 1e30
    x[1, 1:] = -np.inf  # the softmax is exactly 1 and 0
    x[2] = -np.inf
    x[3, 2] = np.inf
    x[4, 1] = np.nan
    x[5] *= 1e4
    with np.errstate(invalid="ignore", divide="ignore"):
        y, log_y = backend.softmax(x, -1), backend.log_softmax(x, -1)
    np.testing.assert_allclose(y[0], softmax(x[:1])[0], rtol=1e-6)
    np.testing.assert_array_equal(y[1], np.arange(columns) == 0)
    np.testing.assert_array_equal(log_y[1], np.where(np.arange(columns) == 0, 0, -np.inf))
    assert np.isnan(y[2:5]).all()
    assert np.isnan(log_y[2:5]).all()
    np.testing.assert_allclose(y[5], softmax(x[5:])[0], rtol=4e-6, atol=1e-30)


def test_small_results_keep_their_precision(backend):
    """Down to the floats below 2^-126, which have fewer digits."""
    x = np.array([[0, -20, -80, -87, -88, -95, -103, -104, -1000]], np.float32)
    np.testing.assert_allclose(backend.softmax(x, 1), softmax(x), rtol=4e-6, atol=1.5e-45)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (5, 10), (4, 16), (40, 1000), (300, 101)])
def test_cross_entropy(backend, threads, rows, classes, weighted, smoothing):
    rng = np.random.default_rng(0)
    x, target = random(rows, classes), rng.integers(0, classes, rows)
    if rows > 3:
        target[[0, 2]] = -1
    weight = rng.uniform(0.5, 2, classes).astype(np.float32) if weighted else None
    soft = np.full((rows, classes), smoothing / classes)
    soft[np.arange(rows), target] += 1 - smoothing
    soft[target < 0] = 0
    soft = soft * (1 if weight is None else weight)
    p = softmax(x)
    losses, log_p = backend.cross_entropy(x, target, weight, smoothing)
    np.testing.assert_allclose(log_p, np.log(p), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(losses, -(soft * np.log(p)).sum(1), rtol=1e-5, atol=1e-5)
    grad = random(rows, seed=1)
    got = backend.cross_entropy_grad(grad, log_p, target, weight, smoothing)
    expected = grad[:, None] * (p * soft.sum(1, keepdims=True) - soft)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)
    assert {losses.dtype, log_p.dtype, got.dtype} == {np.dtype(np.float32)}
    # Another layout, a smaller kind of labels, a gradient that is one number for all.
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    again, _ = backend.cross_entropy(strided, target.astype(np.int32), weight, smoothing)
    np.testing.assert_allclose(again, losses, rtol=1e-5, atol=1e-6)
    ones = np.broadcast_to(np.float32(1), (rows,))
    got = backend.cross_entropy_grad(ones, log_p, target, weight, smoothing)
    expected = p * soft.sum(1, keepdims=True) - soft
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=4e-6)


def test_cross_entropy_of_nothing_and_of_a_wrong_class(backend):
    losses, log_p = backend.cross_entropy(random(0, 4), np.zeros(0, np.int64), None, 0.0)
    assert losses.shape == (0,)
    assert log_p.shape == (0, 4)
    with pytest.raises(IndexError):
        backend.cross_entropy(random(3, 20), np.array([0, 20, 1]), None, 0.0)


def test_cross_entropy_keeps_nan_to_its_row(backend):
    x = random(3, 40)
    x[1, 3] = np.nan
    losses, log_p = backend.cross_entropy(x, np.array([0, 1, 2]), None, 0.0)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    np.testing.assert_array_equal(np.isnan(log_p).all(axis=1), [False, True, False])
