"""Activation kernels: large arrays in any memory layout, against the formula in float64."""

import math

import numpy as np
import pytest

from lucid.kernels import numpy as reference

FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}

# The slopes, written out.
SLOPES = {
    "silu": lambda x: 1 / (1 + np.exp(-x)) * (1 + x * (1 - 1 / (1 + np.exp(-x)))),
    "hardswish": lambda x: np.where(x >= 3, 1, np.where(x <= -3, 0, x / 3 + 0.5)),
    "gelu": lambda x: (
        (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
        + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    ),
    "gelu_tanh": lambda x: _gelu_tanh_slope(x),
}


def _gelu_tanh_slope(x):
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return (1 + t) / 2 + x / 2 * (1 - t * t) * inner


LAYOUTS = {
    "plain": lambda x: x,
    "channels_last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "strided": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "reversed": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}


def call(backend, name, *arrays):
    fn = name.removesuffix("_tanh")
    suffix = "_grad" if len(arrays) == 2 else ""
    extra = (name.endswith("tanh"),) if fn == "gelu" else ()
    return getattr(backend, fn + suffix)(*arrays, *extra)


def images(shape, dtype=np.float32):
    return (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 5, 61, 67), (0, 3, 2, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FORMULAS)
@np.errstate(over="ignore")  # as it is in an operation
def test_values(backend, name, layout, shape, dtype):
    x = LAYOUTS[layout](images(shape, dtype))
    before = x.copy()
    y = call(backend, name, x)
    assert y.dtype == dtype
    assert not np.shares_memory(y, x)
    np.testing.assert_array_equal(x, before)
    if x.size:
        expected = FORMULAS[name](x.astype(np.float64))
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)


@np.errstate(over="ignore")
def test_gelu_where_it_ends(backend):
    x = np.linspace(-12, 12, 100_001).astype(np.float32)
    expected = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()]
    np.testing.assert_allclose(backend.gelu(x, False), expected, rtol=3e-7, atol=1e-6)
    far = np.array([-3e38, -1e20, -50, 0, 50, 1e20, 3e38, np.inf], np.float32)
    np.testing.assert_array_equal(backend.gelu(far, False), np.maximum(far, 0))
    assert np.isnan(backend.gelu(np.array([np.nan], np.float32), False)).all()


@pytest.mark.parametrize(
    "layouts", [("plain", "channels_last"), ("strided", "plain"), ("broadcast",) * 2]
)
@pytest.mark.parametrize("name", SLOPES)
def test_gradients_in_mixed_layouts(backend, name, layouts):
    grad = LAYOUTS[layouts[0]](images((2, 5, 61, 67), np.float64)[::-1])
    x = LAYOUTS[layouts[1]](images((2, 5, 61, 67), np.float64))
    step = 1e-6
    slope = (FORMULAS[name](x + step) - FORMULAS[name](x - step)) / (2 * step)
    got = call(backend, name, grad, x)
    # Not where hardswish bends.
    smooth = np.abs(np.abs(x) - 3) > 1e-5
    np.testing.assert_allclose(got[smooth], (grad * slope)[smooth], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 257, 1000, 100_003])
@pytest.mark.parametrize("name", FORMULAS)
@np.errstate(over="ignore")
def test_float32_of_any_size(backend, threads, name, size):
    x = np.linspace(-12, 12, size, dtype=np.float32)
    grad = np.cos(x)
    x.flags.writeable = grad.flags.writeable = False
    wide = x.astype(np.float64)
    y = call(backend, name, x)
    np.testing.assert_allclose(y, FORMULAS[name](wide), rtol=1e-5, atol=2e-6)
    assert y.dtype == np.float32
    if name in SLOPES:
        slope = call(backend, name, grad, x)
        np.testing.assert_allclose(slope, grad * SLOPES[name](wide), rtol=1e-5, atol=3e-6)
        assert slope.dtype == np.float32


# Where e^x has still its full precision, and how exact functions of it are there.
TAILS = {np.float16: (-9.5, 1e-3), np.float32: (-87.0, 1e-6), np.float64: (-700.0, 1e-14)}


@pytest.mark.parametrize("dtype", TAILS)
def test_small_values_are_exact(backend, dtype):
    low, tolerance = TAILS[dtype]
    x = np.linspace(low, -4, 1001).astype(dtype)
    wide = x.astype(np.longdouble)
    s = 1 / (1 + np.exp(-wide))
    np.testing.assert_allclose(backend.sigmoid(x), s, rtol=tolerance)
    np.testing.assert_allclose(backend.silu(x), wide * s, rtol=2 * tolerance)
    slope = s * (1 + wide * (1 - s))
    np.testing.assert_allclose(backend.silu_grad(np.ones_like(x), x), slope, rtol=4 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smallest_values(backend, dtype):
    """Down to the dtype's smallest normal number, 0 far beyond it, and 1 at the other end."""
    smallest = np.finfo(dtype).tiny
    x = np.full(600, np.log(float(smallest)) + 0.1, dtype)
    x[1:5] = -1000, -np.inf, 1000, np.inf
    with np.errstate(over="ignore"):  # as it is in an operation
        y = backend.sigmoid(x)
    np.testing.assert_allclose(y[0], np.exp(np.longdouble(x[0])), rtol=TAILS[dtype][1])
    np.testing.assert_array_equal(y[1:5], [0, 0, 1, 1])


@pytest.mark.parametrize("name", SLOPES)
def test_float16_is_rounded_once(backend, name):
    x = np.linspace(-6, 6, 601).astype(np.float16)
    y, slope = call(backend, name, x), call(backend, name, np.ones_like(x), x)
    wide = x.astype(np.float32)
    assert y.dtype == slope.dtype == np.float16
    # Every backend leaves float16 to NumPy's.
    expected = call(reference, name, wide), call(reference, name, np.ones_like(wide), wide)
    for got, right in zip((y, slope), expected):
        np.testing.assert_array_equal(got, right.astype(np.float16))


@pytest.mark.parametrize("name", SLOPES)
@np.errstate(all="ignore")
def test_not_finite(backend, name):
    """Infinity stays, and so does NaN, each in its own place."""
    x = np.linspace(-5, 5, 600, dtype=np.float32)
    x[[10, 300]], x[20], x[30] = np.nan, np.inf, 1e30
    y = call(backend, name, x)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y)), [10, 300])
    np.testing.assert_allclose(y[[20, 30]], x[[20, 30]], rtol=1e-6)
    x[[10, 300]] = 0
    grad = np.ones_like(x)
    grad[400] = np.nan
    slope = call(backend, name, grad, x)
    assert np.isnan(slope[400])
    assert np.isfinite(np.delete(slope, [20, 30, 400])).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_number(backend, name):
    x = np.array(0.5, np.float32)
    y = call(backend, name, x)
    assert y.shape == ()
    np.testing.assert_allclose(y, FORMULAS[name](0.5), rtol=1e-6)
    if name in SLOPES:
        assert call(backend, name, np.ones_like(x), x).shape == ()


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (0.0, 6.0), (-1.5, 0.5)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_clip(backend, layout, low, high):
    x = LAYOUTS[layout](images((2, 3, 4, 5)))
    y = backend.clip(x, low, high)
    np.testing.assert_array_equal(y, np.minimum(np.maximum(x, np.float32(low)), np.float32(high)))
    grad = images((2, 3, 4, 5))[::-1]
    inside = (x > low) & (x < high)
    np.testing.assert_array_equal(backend.clip_grad(grad, y, low, high), np.where(inside, grad, 0))


@pytest.mark.parametrize("size", [3, 999])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_clip_at_nan_and_infinity(backend, dtype, size):
    x = np.resize(np.array([np.nan, -np.inf, np.inf], dtype), size)
    y = backend.clip(x, 0.0, 6.0)
    np.testing.assert_array_equal(y[:3], [np.nan, 0, 6])
    grad = np.resize(np.array([2, np.nan, np.inf], dtype), size)
    np.testing.assert_array_equal(backend.clip_grad(grad, y, 0.0, 6.0)[:3], [2, 0, 0])
    y = backend.clip(x, 0.0, np.inf)
    np.testing.assert_array_equal(backend.clip_grad(grad, y, 0.0, np.inf)[:3], [2, 0, np.inf])
    grad = np.resize(np.array([2, np.nan, 3], dtype), size)
    np.testing.assert_array_equal(backend.hardswish_grad(grad, x)[:3], [2, 0, 3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bounds_that_the_dtype_rounds(backend, dtype):
    x = np.resize(np.array([-1, 0.01, 1], dtype), 999)
    y = backend.clip(x, -0.1, 0.1)
    np.testing.assert_array_equal(backend.clip_grad(np.ones_like(x), y, -0.1, 0.1)[:3], [0, 1, 0])


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_softmax(backend, axis):
    x = images((2, 3, 4, 5), np.float64) * 100
    y = backend.softmax(x, axis)
    np.testing.assert_allclose(y.sum(axis), 1)
    np.testing.assert_allclose(
        np.log(np.maximum(y, 1e-300)),
        np.maximum(backend.log_softmax(x, axis), math.log(1e-300)),
        rtol=1e-9,
        atol=1e-9,
    )
    assert backend.softmax(np.ones((2, 0)), 1).shape == (2, 0)
    assert backend.log_softmax(np.ones((0, 2)), 1).shape == (0, 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(backend, weighted, smoothing):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((6, 4)), np.array([0, 3, -1, 2, 3, -1])
    weight = rng.uniform(0.5, 2, 4) if weighted else None
    soft = np.full((6, 4), smoothing / 4)
    soft[np.arange(6), target] += 1 - smoothing
    soft[target < 0] = 0
    soft = soft * (1 if weight is None else weight)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    losses, log_p = backend.cross_entropy(x, target, weight, smoothing)
    np.testing.assert_allclose(log_p, np.log(p), rtol=1e-10)
    np.testing.assert_allclose(losses, -(soft * np.log(p)).sum(1), rtol=1e-10)
    grad = rng.standard_normal(6)
    got = backend.cross_entropy_grad(grad, log_p, target, weight, smoothing)
    expected = grad[:, None] * (p * soft.sum(1, keepdims=True) - soft)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_erf_of_many(backend, threads):
    x = np.linspace(-6, 6, 50_001, dtype=np.float32)
    x[5] = np.nan
    y = backend.erf(x)
    assert np.isnan(y[5])
    expected = np.vectorize(math.erf)(np.delete(x, 5).astype(np.float64))
    np.testing.assert_allclose(np.delete(y, 5), expected, rtol=4e-7, atol=1e-7)
    np.testing.assert_allclose(backend.erf(x[::3]), y[::3], rtol=8e-7)


def test_erf(backend):
    x = np.concatenate([np.linspace(-6, 6, 5001), [0.0, -0.0, 1e-30, 40.0, -40.0]])
    expected = np.vectorize(math.erf)(x)
    np.testing.assert_allclose(backend.erf(x), expected, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(backend.erf(x.astype(np.float32)), expected, rtol=1e-6, atol=1e-7)
