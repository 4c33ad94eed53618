"""Sums over any axes, in any layout: as exact as if they were added in pairs."""

import itertools
import math

import numpy as np
import pytest

from lucid.kernels.prepared import Bound

# The rounding of a sum in pairs grows with the logarithm of how many there are.
ULPS = 2


def check(x, axes, total):
    exact = x.astype(np.float64).sum(axis=axes, keepdims=True)
    count = math.prod(x.shape[axis] for axis in axes)
    bound = np.abs(x.astype(np.float64)).sum(axis=axes, keepdims=True)
    eps = np.finfo(np.promote_types(x.dtype, np.float32)).eps
    bound *= ULPS * eps * (1 + math.log2(max(count, 1)))
    assert total.shape == exact.shape
    assert (np.abs(total - exact) <= bound).all()


def layouts(x):
    """The same numbers as they may lie in memory."""
    yield x
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield np.flip(np.flip(x).copy())
    if x.ndim == 4:
        yield np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


SHAPES = [
    (20_000,),
    (3, 5000),
    (5000, 3),
    (2, 700, 4),
    (150, 6, 130),
    (6, 5, 13, 17),
    (0, 3),
    (1, 1),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_axes_and_layout(backend, shape, dtype):
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(dtype)
    for count in range(len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            for lying in layouts(x):
                total = backend.sums(lying, axes, True)
                check(x, axes, total)
                np.testing.assert_array_equal(
                    backend.sums(lying, axes), np.asarray(total).squeeze(axes)
                )


@pytest.mark.parametrize(
    "shape", [(1 << 20, 3), (1 << 20,), (3, 1 << 20), (2, 1 << 19, 3)], ids=str
)
def test_a_million_equal_numbers(backend, shape):
    x = np.full(shape, 0.45, np.float32)
    axes = (int(np.argmax(shape)),)
    check(x, axes, backend.sums(x, axes, True))


def test_repeated_and_not_finite_numbers(backend):
    x = np.broadcast_to(np.float32(0.45), (1000, 3))
    check(x, (0,), backend.sums(x, (0,), True))
    check(x, (0, 1), backend.sums(x, (0, 1), True))
    x = np.ones((1000, 4), np.float32)
    x[700, 1:] = np.inf, -np.inf, np.nan
    np.testing.assert_array_equal(backend.sums(x, (0,)), [1000, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("kernel", [(16, 16), (40, 30), (64, 1), (1, 64), (64, 64)], ids=str)
@pytest.mark.parametrize("channels", [3, 70])
def test_windows(backend, threads, kernel, channels):
    x = np.full((1, 64, 64, channels), 0.45, np.float32)
    stride = (12, 16)
    size = tuple((64 + 2 - k) // s + 1 for k, s in zip(kernel, stride))
    y = backend.sum_pool2d(x, kernel, stride, ((1, 1), (1, 1)), size)
    inside = [
        [min(64, s * i - 1 + k) - max(0, s * i - 1) for i in range(n)]
        for n, k, s in zip(size, kernel, stride)
    ]
    exact = np.outer(*inside)[None, :, :, None] * np.float64(np.float32(0.45))
    np.testing.assert_allclose(y, np.broadcast_to(exact, y.shape), rtol=3e-6)


def test_an_image_of_one_long_row(backend):
    x = np.full((1, 1, 1 << 18, 3), 0.45, np.float32)
    y = backend.sum_pool2d(x, (1, 1 << 18), (1, 1), ((0, 0), (0, 0)), (1, 1))
    np.testing.assert_allclose(y, np.float64(np.float32(0.45)) * (1 << 18), rtol=2e-6)


@pytest.mark.parametrize("shape", [(1, 224, 224, 3), (2, 30, 30, 70), (1, 9, 9, 200)], ids=str)
def test_the_average_of_a_compiled_model(backend, threads, shape):
    x = np.full(shape, 0.45, np.float32)
    out = np.empty((shape[0], shape[3]), np.float32)
    backend.join([Bound(backend.prepare_average(shape, x.dtype), (out, x))])(x)
    np.testing.assert_allclose(out, np.float32(0.45), rtol=2e-6)
