"""Running sums and variances along every axis of arrays of any size: against float64."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.nn import functional

# Blocks, slices and pairs of rows begin at some size, and rows may be odd in number.
SHAPES = [(7,), (3, 4), (5, 700), (700, 5), (65, 1000), (9, 40, 30, 20), (3, 60_000)]


def layouts(x):
    yield x
    yield np.asfortranarray(x)
    yield np.flip(np.flip(x).copy())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_running_sums_and_their_gradients(shape):
    rng = np.random.default_rng(0)
    for x in layouts(rng.standard_normal(shape).astype(np.float32)):
        for axis in range(x.ndim):
            t = lucid.tensor(x, requires_grad=True)
            y = t.cumsum(axis)
            wide = np.cumsum(x.astype(np.float64), axis)
            np.testing.assert_array_equal(y.detach().numpy(), wide.astype(np.float32))
            factors = rng.standard_normal(shape).astype(np.float32)
            (y * lucid.tensor(factors)).sum().backward()
            back = np.flip(np.cumsum(np.flip(factors.astype(np.float64), axis), axis), axis)
            np.testing.assert_allclose(t.grad.numpy(), back.astype(np.float32), rtol=1e-6)


def test_running_sums_keep_rows_apart():
    x = np.ones((65, 1000), np.float32)
    x[3, 10], x[40, 20] = np.nan, np.inf
    y = lucid.tensor(x).cumsum(1).numpy()
    np.testing.assert_array_equal(y, np.cumsum(x, 1))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1000.0, 1e6])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_variances(shape, offset):
    """Also of values that hardly differ, where the mean's rounding counts."""
    values = np.random.default_rng(0).standard_normal(shape) + offset
    axes = [*range(len(shape)), tuple(range(len(shape)))]
    for x in layouts(values.astype(np.float32)):
        for dim in [*axes, (0, 2, 3)] if x.ndim == 4 else axes:
            y = lucid.tensor(x).var(dim, correction=0).numpy()
            np.testing.assert_allclose(y, x.astype(np.float64).var(dim), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_values_do_not_spread(shape):
    x = np.full(shape, 0.45, np.float32)
    for dim in range(len(shape)):
        np.testing.assert_array_equal(lucid.tensor(x).std(dim, correction=0).numpy(), 0)


def test_divergence_has_all_its_derivatives():
    rng = np.random.default_rng(0)
    x = lucid.tensor(rng.standard_normal((3, 4)), dtype="float64", requires_grad=True)
    t = lucid.tensor(rng.uniform(0.1, 1, (3, 4)), dtype="float64", requires_grad=True)
    loss = lambda x, t: functional.kl_div(x, t, reduction="sum")  # noqa: E731
    assert lucid.autograd.gradcheck(loss, (x, t))
    assert lucid.autograd.gradgradcheck(loss, (x, t))
    none = lucid.tensor([0.0, 0.5])
    np.testing.assert_allclose(
        functional.kl_div(lucid.zeros(2), none, reduction="none").numpy(),
        [0, 0.5 * np.log(0.5)],
        rtol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_signs(dtype):
    x = lucid.tensor([-np.inf, -3.0, -0.0, 0.0, 2.0, np.inf, np.nan], dtype=dtype)
    y = lucid.sign(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.numpy(), [-1, -1, 0, 0, 1, 1, 0])
