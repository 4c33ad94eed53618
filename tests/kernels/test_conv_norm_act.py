"""Convolution, batch norm and clip as one operation of training, against its definition."""

import numpy as np
import pytest

from lucid.kernels.geometry import NO_BOUNDS, Conv
from tests.kernels.test_conv import CASES, build, conv2d_by_definition

EPS = 1e-3
TRAINABLE = {name: case for name, case in CASES.items() if case[0]}  # not the empty batch
BOUNDS = [NO_BOUNDS, (0.0, np.inf), (0.0, 6.0), (-0.5, 0.5), (-np.inf, 0.25)]

LARGE = {
    # several blocks, rows that do not divide evenly, several groups of images
    "pointwise": (5, 37, 31, 24, 40, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise wide": (3, 23, 23, 72, 168, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "dense": (3, 65, 64, 8, 24, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "depthwise": (4, 40, 41, 56, 56, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1), 56),
    "depthwise strided": (6, 40, 41, 56, 56, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 56),
}


@pytest.fixture
def kernels(backend):
    return backend


def arguments(case, dtype=np.float64, seed=0):
    x, weight, gamma, how = build(case, dtype, seed)
    beta = np.random.default_rng(seed + 5).standard_normal(gamma.shape).astype(dtype)
    return x, weight, gamma, beta, how


def by_definition(x, weight, gamma, beta, bounds, how):
    z = conv2d_by_definition(x, weight, None, *how)
    mean, variance = z.mean((0, 1, 2)), z.var((0, 1, 2))
    y = (z - mean) / np.sqrt(variance + EPS)
    y = y * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    return np.clip(y, *bounds), z


def check_value(kernels, case, bounds, dtype, tolerance, gamma_and_beta=True):
    x, weight, gamma, beta, how = arguments(case, dtype)
    if not gamma_and_beta:
        gamma = beta = None
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, gamma, beta, EPS, bounds, how)
    expected, z_expected = by_definition(x, weight, gamma, beta, bounds, how)
    assert y.dtype == z.dtype == dtype
    assert mean.dtype == variance.dtype == np.float64
    assert y.flags.c_contiguous
    assert z.flags.c_contiguous
    np.testing.assert_allclose(z, z_expected, rtol=tolerance, atol=tolerance * 10)
    np.testing.assert_allclose(mean, z_expected.mean((0, 1, 2)), atol=tolerance * 10)
    np.testing.assert_allclose(variance, z_expected.var((0, 1, 2)), rtol=tolerance * 10, atol=1e-9)
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("case", TRAINABLE.values(), ids=TRAINABLE)
def test_value(kernels, case, bounds):
    check_value(kernels, case, bounds, np.float64, 1e-11)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_value_of_large_maps(kernels, case):
    check_value(kernels, case, (0.0, 6.0), np.float32, 2e-5)


@pytest.mark.parametrize("bounds", [NO_BOUNDS, (0.0, 6.0)])
def test_value_without_weight_and_bias(kernels, bounds):
    check_value(kernels, CASES["dense"], bounds, np.float64, 1e-11, gamma_and_beta=False)


def separately(kernels, grad, x, weight, gamma, beta, bounds, how, z):
    """The gradients by the kernels for one step each, the mask from the definition."""
    columns = z.shape[3]
    mean, variance = z.mean((0, 1, 2)), z.var((0, 1, 2))
    inverse_std = 1 / np.sqrt(variance + EPS)
    y = (z - mean) * inverse_std * (1 if gamma is None else gamma)
    y = y + (0 if beta is None else beta)
    low, high = bounds
    inside = (y > low) & (y < high)
    gz, dgamma, dbeta = kernels.batch_norm_grad(
        (grad * inside).reshape(-1, columns), z.reshape(-1, columns), mean, inverse_std, gamma
    )
    gz = gz.reshape(z.shape)
    return (
        kernels.conv2d_input_grad(gz, weight, x.shape, how),
        kernels.conv2d_weight_grad(x, gz, weight.shape, how),
        dgamma,
        dbeta,
    )


def check_gradients(kernels, case, bounds, dtype, tolerance, gamma_and_beta=True):
    x, weight, gamma, beta, how = arguments(case)
    if not gamma_and_beta:
        gamma = beta = None
    _, z = by_definition(x, weight, gamma, beta, bounds, how)
    grad = np.random.default_rng(1).standard_normal(z.shape)
    expected = separately(kernels, grad, x, weight, gamma, beta, bounds, how, z)

    def cast(array):
        array = None if array is None else array.astype(dtype)
        if array is not None:
            array.flags.writeable = False
        return array

    x, weight, gamma, beta, grad = map(cast, (x, weight, gamma, beta, grad))
    settings = (gamma, beta, EPS, bounds, how)
    _, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    for needs in ((True, True), (False, True), (True, False), (False, False)):
        results = kernels.conv_norm_act_train_grad(
            grad, x, weight, z, mean, variance, *settings, *needs
        )
        for result, right, needed in zip(results, expected, (*needs, True, True)):
            assert (result is not None) == needed
            if needed:
                assert result.dtype == dtype
                assert result.shape == right.shape
                scale = max(np.abs(right).max(), 1)
                np.testing.assert_allclose(result, right, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("case", TRAINABLE.values(), ids=TRAINABLE)
def test_gradients(kernels, case, bounds):
    check_gradients(kernels, case, bounds, np.float64, 1e-9)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("bounds", [NO_BOUNDS, (0.0, np.inf), (0.0, 6.0)])
def test_gradients_of_large_maps(kernels, case, bounds):
    check_gradients(kernels, case, bounds, np.float64, 1e-9)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_gradients_in_float32(kernels, case):
    # Without bounds: which elements are next to a bound is a matter of rounding.
    check_gradients(kernels, case, NO_BOUNDS, np.float32, 2e-4)


@pytest.mark.parametrize("bounds", [NO_BOUNDS, (0.0, 6.0)])
def test_gradients_without_weight_and_bias(kernels, bounds):
    check_gradients(kernels, CASES["dense"], bounds, np.float64, 1e-9, gamma_and_beta=False)


def test_variance_of_a_large_mean(kernels):
    """A mean of a thousand deviations does not spoil the variance."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 32, 32, 8)).astype(np.float32) + np.float32(1000)
    weight = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    how = Conv()
    _, z, mean, variance, *_ = kernels.conv_norm_act_train(
        x, weight, None, None, EPS, NO_BOUNDS, how
    )
    np.testing.assert_allclose(mean, z.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, z.astype(np.float64).var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_what_is_spent_changes_no_gradient(kernels, case):
    x, weight, gamma, beta, how = arguments(case, np.float32)
    settings = (gamma, beta, EPS, (0.0, 6.0), how)
    _, *kept, _ = kernels.conv_norm_act_train(x, weight, *settings)
    grad = np.random.default_rng(1).standard_normal(kept[0].shape).astype(np.float32)
    given = *settings, True, True, None
    whole = kernels.conv_norm_act_train_grad(grad, x, weight, *kept, *given)
    spent = kernels.conv_norm_act_train_grad(grad, x, weight, *kept, *given, True)
    for a, b in zip(whole, spent):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", BOUNDS[1:])
@np.errstate(all="ignore")  # as operations call kernels
def test_gradient_with_and_without_what_is_known_to_pass(kernels, bounds, dtype):
    """The bits are the same, also where the value is NaN; what does not pass may be anything."""
    x, weight, gamma, beta, how = arguments(LARGE["pointwise"], dtype)
    gamma[0], beta[0] = 0, bounds[0]  # all of this column is at a bound, or -inf
    gamma[1] = np.nan
    settings = (gamma, beta, EPS, bounds, how)
    y, *kept, inside = kernels.conv_norm_act_train(x, weight, *settings)
    expected = ~((y <= bounds[0]) | (y >= bounds[1]))
    if inside is not None:
        np.testing.assert_array_equal(inside, expected)
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    given = *settings, True, True
    found = kernels.conv_norm_act_train_grad(grad, x, weight, *kept, *given)
    grad[~expected] = np.random.default_rng(2).choice([np.nan, np.inf], (~expected).sum())
    grad.flags.writeable = False  # somebody else may hold it
    known = kernels.conv_norm_act_train_grad(grad, x, weight, *kept, *given, inside=inside)
    for a, b in zip(found, known):
        np.testing.assert_array_equal(a, b)


@np.errstate(all="ignore")  # as operations call kernels
def test_maps_whose_sums_overflow_float32(kernels):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 16, 16, 8)) * 1e37).astype(np.float32)
    weight = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    how = Conv()
    settings = (None, None, EPS, (0.0, 6.0), how)
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    exact = x.astype(np.float64)
    normal = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(y, np.clip(normal, 0, 6), rtol=1e-5, atol=1e-6)
    results = kernels.conv_norm_act_train_grad(
        3 * y, x, weight, z, mean, variance, *settings, True, False
    )
    gx, _, dgamma, dbeta = results
    assert np.isfinite(gx).all()
    inside = (normal > 0) & (normal < 6)
    np.testing.assert_allclose(dgamma, (3 * y * normal * inside).sum((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(dbeta, (3 * y * inside).sum((0, 1, 2)), rtol=1e-4)


def test_gradient_stops_where_the_value_was_clipped(kernels):
    """The mask of the gradient is the forward's to the last bit, also at the bounds."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 16, 16, 4)).astype(np.float32)  # many equal values
    weight = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    how = Conv()
    free = (None, None, EPS, NO_BOUNDS, how)
    y, *_ = kernels.conv_norm_act_train(x, weight, *free)
    low, high = (float(v) for v in np.unique(y[..., 0])[[2, 4]])  # values that occur
    settings = (None, None, EPS, (low, high), how)
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    grad = np.ones_like(y)
    *_, dbeta = kernels.conv_norm_act_train_grad(
        grad, x, weight, z, mean, variance, *settings, False, False
    )
    np.testing.assert_array_equal(dbeta, ((y > low) & (y < high)).sum((0, 1, 2)))


def test_gradients_where_the_norm_multiplies_by_zero(kernels):
    """The factor of batch norm is taken out of the map: nothing is divided by it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 4)).astype(np.float32)
    weight = rng.standard_normal((6, 4, 1, 1)).astype(np.float32)
    gamma, beta = np.zeros(6, np.float32), np.ones(6, np.float32)
    gamma[:3] = 1
    settings = (gamma, beta, EPS, NO_BOUNDS, Conv())
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    gx, gweight, dgamma, _ = kernels.conv_norm_act_train_grad(
        grad, x, weight, z, mean, variance, *settings, True, True
    )
    np.testing.assert_array_equal(gweight[3:], 0)
    assert np.abs(gweight[:3]).min() > 0
    assert np.isfinite(gx).all()
    normal = (z - mean) / np.sqrt(variance + EPS)
    np.testing.assert_allclose(dgamma, (grad * normal).sum((0, 1, 2)), rtol=1e-4, atol=1e-4)
