"""Convolution kernels against the definition, written as loops over the taps."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid import kernels
from lucid.kernels.geometry import NO_BOUNDS, Conv, Epilogue


def positions(size, kernel, stride, padding, dilation):
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def conv2d_by_definition(x, weight, bias, stride, padding, dilation, groups):
    """Sum over taps and each group's input channels, in float64."""
    n, h, w, _ = x.shape
    o, i, kh, kw = weight.shape
    ho = positions(h, kh, stride[0], padding[0], dilation[0])
    wo = positions(w, kw, stride[1], padding[1], dilation[1])
    padded = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    taps = weight.astype(np.float64).reshape(groups, o // groups, i, kh, kw)
    y = np.zeros((n, ho, wo, groups, o // groups))
    for a, b in itertools.product(range(kh), range(kw)):
        inputs = padded[
            :,
            a * dilation[0] : a * dilation[0] + (ho - 1) * stride[0] + 1 : stride[0],
            b * dilation[1] : b * dilation[1] + (wo - 1) * stride[1] + 1 : stride[1],
        ]
        y += np.einsum("nhwgi,goi->nhwgo", inputs.reshape(n, ho, wo, groups, i), taps[..., a, b])
    y = y.reshape(n, ho, wo, o)
    return y if bias is None else y + bias


CASES = {
    # name: (n, h, w, in, out, kh, kw, stride, padding, dilation, groups)
    "pointwise": (2, 5, 7, 6, 4, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise strided": (2, 5, 7, 6, 4, 1, 1, (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise padded": (1, 4, 4, 3, 2, 1, 1, (1, 1), ((1, 1), (2, 0)), (1, 1), 1),
    "pointwise grouped": (1, 4, 4, 6, 4, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
    "dense": (2, 6, 5, 3, 4, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "dense strided": (2, 9, 8, 3, 5, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "dense dilated": (1, 11, 9, 2, 3, 3, 2, (1, 2), ((2, 2), (0, 1)), (3, 2), 1),
    "dense stride and dilation": (1, 13, 14, 2, 3, 3, 4, (2, 3), ((1, 0), (3, 2)), (4, 3), 1),
    "grouped": (2, 6, 6, 8, 4, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "grouped strided": (2, 7, 6, 4, 6, 2, 3, (2, 1), ((1, 1), (1, 1)), (1, 1), 2),
    # 4096 bytes from pixel to pixel
    "depthwise 1024": (2, 7, 7, 1024, 1024, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1), 1024),
    "depthwise 1024 strided": (1, 9, 8, 1024, 1024, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 1024),
    "depthwise 1024 dilated": (1, 9, 8, 1024, 1024, 3, 3, (1, 2), ((2, 1), (0, 2)), (2, 3), 1024),
    "depthwise": (2, 6, 5, 4, 4, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    "depthwise strided": (2, 9, 8, 4, 4, 5, 5, (2, 2), ((2, 2), (2, 2)), (1, 1), 4),
    "depthwise one axis strided": (1, 9, 8, 4, 4, 3, 5, (2, 1), ((1, 1), (2, 2)), (1, 1), 4),
    "depthwise dilated": (1, 9, 10, 3, 3, 3, 3, (1, 1), ((2, 2), (2, 2)), (2, 2), 3),
    "depthwise multiplied": (2, 6, 5, 3, 6, 3, 3, (2, 1), ((1, 1), (1, 1)), (1, 2), 3),
    "stride over kernel": (1, 10, 11, 2, 3, 2, 2, (4, 5), ((0, 0), (1, 1)), (1, 1), 1),
    "depthwise stride over kernel": (1, 10, 11, 3, 3, 1, 2, (3, 4), ((0, 0), (1, 1)), (1, 1), 3),
    "uneven padding": (1, 5, 6, 2, 3, 4, 4, (1, 1), ((1, 2), (1, 2)), (1, 1), 1),
    "padding over kernel": (1, 3, 2, 2, 3, 2, 2, (1, 1), ((4, 3), (5, 2)), (1, 1), 1),
    "one pixel": (3, 1, 1, 4, 5, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "one pixel depthwise": (3, 1, 1, 4, 4, 5, 5, (2, 2), ((2, 2), (2, 2)), (1, 1), 4),
    "one output": (2, 5, 4, 3, 2, 5, 4, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "empty batch": (0, 5, 4, 3, 2, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "single channel": (2, 5, 4, 1, 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "single channel to many": (2, 5, 4, 1, 6, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "several blocks": (1, 130, 120, 8, 4, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
}


def build(case, dtype, seed=0):
    n, h, w, i, o, kh, kw, stride, padding, dilation, groups = case
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, h, w, i)).astype(dtype)
    weight = rng.standard_normal((o, i // groups, kh, kw)).astype(dtype)
    bias = rng.standard_normal(o).astype(dtype)
    return x, weight, bias, Conv(stride, padding, dilation, groups)


def check(backend, case, dtype, rtol, atol):
    """Compare value and gradients; the gradients through the adjoint identity.

    Convolution is linear in the input and in the weights, so the true gradients are the ones for
    which <conv(x, w), g> = <x, input_grad(g)> = <w, weight_grad(g)> for every x and w.
    """
    x, weight, bias, how = build(case, dtype)
    expected = conv2d_by_definition(x, weight, bias, *how)
    for array in (x, weight, bias):
        array.flags.writeable = False
    y = backend.conv2d(x, weight, how, Epilogue(shift=bias))
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    np.testing.assert_allclose(y, expected, rtol=rtol, atol=atol)
    grad = gradient_of_output(y.shape, dtype)
    grad.flags.writeable = False
    gx = backend.conv2d_input_grad(grad, weight, x.shape, how)
    gw = backend.conv2d_weight_grad(x, grad, weight.shape, how)
    assert gx.shape == x.shape
    assert gw.shape == weight.shape
    assert gx.dtype == gw.dtype == dtype
    # One unit vector at a time gives each element of the gradient by definition.
    for array, result, position in ((x, gx, 0), (weight, gw, 1)):
        count = min(array.size, 40)
        chosen = np.random.default_rng(2).choice(array.size, count, replace=False) if count else []
        for flat in chosen:
            value = gradient_by_definition(case, dtype, position, flat)
            scale = np.abs(result).max()
            assert abs(result.flat[flat] - value) <= rtol * max(scale, 1)


def gradient_of_output(shape, dtype):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@functools.cache  # the same for each backend
def gradient_by_definition(case, dtype, position, flat):
    """Return an element of the input's gradient, or of the weight's: that of a unit vector."""
    *arguments, _, how = build(case, dtype)
    unit = np.zeros(arguments[position].size)
    unit[flat] = 1
    arguments[position] = unit.reshape(arguments[position].shape)
    y = conv2d_by_definition(*arguments, None, *how)
    return (y * gradient_of_output(y.shape, dtype)).sum()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float64(backend, case):
    check(backend, case, np.float64, 1e-11, 1e-11)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float32(backend, case):
    check(backend, case, np.float32, 1e-4, 1e-4)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_geometry(data):
    draw = data.draw
    small = st.integers(1, 3)
    groups = draw(small)
    per_group = draw(st.integers(1, 2))
    out = groups * draw(st.integers(1, 2))
    kh, kw = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride, dilation = (draw(small), draw(small)), (draw(small), draw(small))
    padding = tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in "hw")
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - sum(p)), d * (k - 1) + 6))
        for k, d, p in zip((kh, kw), dilation, padding)
    ]
    case = (draw(st.integers(0, 2)), *size, groups * per_group, out, kh, kw)
    check(kernels.active(), (*case, stride, padding, dilation, groups), np.float64, 1e-11, 1e-11)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("bounds", [NO_BOUNDS, (0.0, np.inf), (0.0, 6.0)])
def test_epilogue(backend, case, bounds):
    x, weight, scale, how = build(case, np.float64)
    shift = np.random.default_rng(3).standard_normal(scale.shape)
    y = backend.conv2d(x, weight, how, Epilogue(scale, shift, bounds))
    expected = conv2d_by_definition(x, weight, None, *how) * scale + shift
    if bounds != NO_BOUNDS:
        expected = np.clip(expected, *bounds)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
