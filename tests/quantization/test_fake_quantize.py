"""FakeQuantize against ONNX's definition, and the choice of ranges against brute force."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import lucid
from lucid.quantization import FakeQuantize
from lucid.quantization._fake_quantize import activation_scale, integers, short_up
from lucid.quantization._observers import BINS, Observer, entropy, percentile


def definition(x, scale, zero, qmin, qmax):
    """One number, by exact fractions: Python rounds halves to even, as ONNX does."""
    q = round(Fraction(float(x)) / Fraction(float(scale))) + int(zero)
    return (min(max(q, qmin), qmax) - int(zero)) * float(scale)


@pytest.mark.parametrize(("zero", "dtype"), [(0, np.int8), (7, np.uint8), (128, np.uint8)])
def test_definition(zero, dtype):
    info = np.iinfo(dtype)
    x = np.concatenate([np.arange(-40, 40) / 8, [1e6, -1e6, 0.0]]).astype(np.float32)
    scale, zeros = np.array(0.25, np.float32), np.array(zero, dtype)
    y = FakeQuantize.apply(lucid.tensor(x), scale, zeros, None, info.min, info.max).numpy()
    expected = [definition(each, 0.25, zero, info.min, info.max) for each in x]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))
    q = integers(x, scale, zeros, None, info.min, info.max)
    assert q.dtype == dtype
    np.testing.assert_array_equal((q.astype(np.float32) - zero) * scale, y)


def test_a_scale_for_each_channel():
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    scale = np.array([0.1, 1, 0.3, 0.01], np.float32)
    zeros = np.zeros(4, np.int8)
    y = FakeQuantize.apply(lucid.tensor(x), scale, zeros, 1, -127, 127).numpy()
    for channel in range(4):
        alone = FakeQuantize.apply(
            lucid.tensor(x[:, channel]), scale[channel], zeros[0], None, -127, 127
        )
        np.testing.assert_array_equal(y[:, channel], alone.numpy())


def test_int32_keeps_all_bits():
    x, scale = np.array([1 + 2**-20], np.float64), np.array([2.0**-29], np.float32)
    q = integers(x, scale, np.zeros(1, np.int32), 0, -(2**31), 2**31 - 1)
    assert q.tolist() == [2**29 + 2**9]


def test_the_gradient_passes_where_nothing_is_clipped():
    x = lucid.tensor([-0.3, 0.0, 0.26, 2.55, 2.6, -0.001], requires_grad=True)
    scale = np.array(0.01, np.float32)
    y = FakeQuantize.apply(x, scale, np.array(0, np.uint8), None, 0, 255)
    (y * lucid.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0, 6.0]


@pytest.mark.parametrize("bits", [1, 4])
def test_short_up(bits):
    numbers = np.random.default_rng(0).lognormal(0, 3, 200)
    short = short_up(numbers, bits)
    assert (short >= numbers).all()
    assert (short / numbers <= 1 + 2.0 ** (1 - bits)).all()
    fractions = np.frexp(short)[0] * 2**bits
    np.testing.assert_array_equal(fractions, np.rint(fractions))
    np.testing.assert_array_equal(short_up(short, bits), short)


@pytest.mark.parametrize(
    "bounds",
    [(0, 6), (-1, 3), (-2, -1), (0, 0), (1, 2), (-1e-30, 1e-30), (-127.4, 127.4), (-0.6, 254)],
)
def test_activation_scale_holds_the_range_and_zero(bounds):
    scale, zero = (float(each) for each in activation_scale(*bounds))
    low, high = min(bounds[0], 0), max(bounds[1], 0)
    assert math.frexp(scale)[0] == 0.5
    assert zero % 2 == 0
    assert -zero * scale <= low + scale / 2
    assert (255 - zero) * scale >= high - scale / 2


def observed(values):
    observer = Observer()
    for half in np.array_split(values, 2):
        observer.see_range(half)
    for half in np.array_split(values, 2):
        observer.see_histogram(half)
    return observer


SAMPLES = {
    "normal": lambda rng: rng.normal(size=20000),
    "relu": lambda rng: np.maximum(rng.normal(size=20000), 0),
    "outliers": lambda rng: np.maximum(rng.standard_t(2, size=20000), -0.3),
}


@pytest.fixture(params=sorted(SAMPLES))
def values(request):
    return SAMPLES[request.param](np.random.default_rng(3)).astype(np.float32)


def test_minmax(values):
    assert observed(values).range("minmax") == (values.min(), values.max())


def test_percentile(values):
    observer = observed(values)
    low, high = percentile(observer.histogram, observer.edges, kept=99.0)
    known = values[values != 0]
    width = observer.edges[1] - observer.edges[0]
    assert high == pytest.approx(np.percentile(known, 99, method="inverted_cdf"), abs=width)
    expected = min(np.percentile(known, 1, method="inverted_cdf"), 0)
    assert low == pytest.approx(expected, abs=width)


def rounded(values, scale, zero):
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale


def test_mse(values):
    observer = observed(values)
    scale, zero = (float(each) for each in activation_scale(*observer.range("mse")))
    found = np.square(rounded(values, scale, zero) - values).mean()
    least = min(
        np.square(rounded(values, 2.0**power, zero) - values).mean()
        for power in range(-12, 3)
        for zero in range(0, 256, 2)
    )
    assert found <= 1.02 * least


def test_entropy():
    rng = np.random.default_rng(0)
    histogram = rng.poisson(1000 * np.exp(-np.arange(BINS) / 200))
    edges = np.linspace(0, 8, BINS + 1)

    def divergence(stop):
        p = histogram[:stop].astype(float)
        p[-1] += histogram[stop:].sum()
        q = np.zeros(stop)
        starts = [level * stop // 256 for level in range(257)]
        for start, end in itertools.pairwise(starts):
            used = [i for i in range(start, end) if p[i] > 0]
            for i in used:
                q[i] = histogram[start:end].sum() / len(used)
        p, q = p / p.sum(), q / q.sum()
        q = np.maximum(q, 1e-12)
        return sum(p[i] * math.log(p[i] / q[i]) for i in range(stop) if p[i] > 0)

    stops = range(256, BINS + 1, 8)
    best = min(stops, key=divergence)
    assert entropy(histogram, edges) == (0.0, edges[best])
