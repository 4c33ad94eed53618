"""Prepared steps that are no convolution, alone and joined."""

import numpy as np
import pytest

from lucid import kernels
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numpy._steps import Step
from lucid.kernels.prepared import Bound


@pytest.fixture(params=[1, 3])
def threads(request, backend):
    before = backend.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


SHAPES = [(1, 1, 1, 1), (2, 7, 5, 3), (1, 7, 7, 1280), (3, 30, 31, 70)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_average(backend, threads, shape, dtype):
    x, out = random(*shape, dtype=dtype), np.empty((shape[0], shape[3]), dtype)
    backend.prepare_average(shape, np.dtype(dtype))(out, x)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    expected = x.mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, np.inf), (-0.5, 0.5)])
def test_affine(backend, threads, shape, dtype, low, high):
    x, out = random(*shape, dtype=dtype), np.empty(shape, dtype)
    scale, shift = random(shape[3], dtype=dtype, seed=1), random(shape[3], dtype=dtype, seed=2)
    backend.prepare_affine(shape, scale, shift, low, high)(out, x)
    expected = np.clip(x.astype(np.float64) * scale + shift, low, high)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_any_layout(backend, threads, shape):
    run = backend.prepare_images(shape, np.dtype(np.float32))
    if run is None:
        pytest.skip("this backend reads the input where it lies")
    n, h, w, c = shape
    x = random(*shape)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    turned = np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    sparse = np.repeat(np.repeat(x, 2, axis=2), 2, axis=3)[:, :, ::2, ::2]
    for given in (x, planes, turned, sparse):
        out = np.full((n + 2, h, w, c), 7, np.float32)
        run(out[1:-1], given)
        np.testing.assert_array_equal(out[1:-1], x)
        assert (out[[0, -1]] == 7).all()


def test_joined_steps_run_in_their_order(backend, threads):
    """Each reads what the one before wrote; one that the backend does not know is among them."""
    shape = (2, 9, 8, 20)
    x, a, b, c = (random(*shape, seed=seed) for seed in range(4))
    scale, shift = random(20, seed=5), random(20, seed=6)
    affine = backend.prepare_affine(shape, scale, shift, -np.inf, np.inf)
    weight, bias = random(20, 1, 3, 3, seed=7), random(20, seed=8)
    how = Conv(padding=((1, 1), (1, 1)), groups=20)
    conv = backend.prepare_conv(shape, weight, how, Epilogue(None, bias, (0.0, 6.0)))

    double = Step(lambda calls, out, source: calls.do(np.multiply, source, 2, out=out))

    mean = np.empty((2, 20), np.float32)
    average = backend.prepare_average(shape, np.dtype(np.float32))
    steps = [(affine, a, x), (conv, b, a, x), (double, c, b), (average, mean, c)]
    run = backend.join([Bound(step, tuple(arrays)) for step, *arrays in steps])
    for count in (threads, 2):
        kernels.set_num_threads(count)
        run(x)
        first = x * scale + shift
        second = backend.conv2d(first, weight, how, Epilogue(shift=bias)).clip(0, 6) + x
        np.testing.assert_allclose(b, second, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(mean, 2 * second.mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_joined_steps_that_read_the_input(backend, threads):
    """Parts of another array in each call, whatever its place and layout."""
    load = backend.prepare_images((2, 5, 6, 3), np.dtype(np.float32))
    if load is None:
        pytest.skip("this backend reads the input where it is")
    first, last = np.empty((2, 2, 5, 6, 3), np.float32)
    run = backend.join([Bound(load, (first, slice(2, 4))), Bound(load, (last, slice(0, 2)))])
    planes = random(4, 3, 5, 6).transpose(0, 2, 3, 1)
    for images in (planes, planes[::-1], random(4, 5, 6, 3, seed=1), planes):
        run(images)
        np.testing.assert_array_equal(first, images[2:])
        np.testing.assert_array_equal(last, images[:2])


def test_nothing_joined(backend):
    backend.join([])(random(1, 2, 2, 3))


def test_more_images_than_a_launch_counts_chunks(backend, threads):
    x = random(70_000, 1, 2, 5)
    out = np.empty((70_000, 5), np.float32)
    backend.prepare_average(x.shape, np.dtype(np.float32))(out, x)
    np.testing.assert_allclose(out, x.mean((1, 2)), rtol=1e-6, atol=1e-6)
    weight = random(5, 1, 1, 1, seed=1)
    y = backend.conv2d(x, weight, Conv(groups=5))
    np.testing.assert_allclose(y, x * weight.reshape(5), rtol=1e-6)
    how = Conv(padding=((1, 1), (1, 1)))
    kernel = np.zeros((5, 5, 3, 3), np.float32)
    kernel[range(5), range(5), 1, 1] = 2
    np.testing.assert_allclose(backend.conv2d(x, kernel, how), 2 * x, rtol=1e-6)
