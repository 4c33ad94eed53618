"""Chains of one image's layers against the layers one by one, in plans and in rows."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lucid.kernels import numpy as backend
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numpy import _chains
from lucid.kernels.prepared import Bound, Link
from tests.backends import with_threads

RELU = {"bounds": (0.0, np.inf)}
GELU = {"activation": ("gelu", False)}


@pytest.fixture
def chains(monkeypatch):
    """Let any chain be worth it, and tell for each whose calls were issued its steps."""
    ran, call = [], _chains._Chain.issue
    monkeypatch.setattr(_chains, "_WORTH_A_CHAIN", 0)

    def noted(self, *arrays):
        ran.append(len(self._between) + 2)
        call(self, *arrays)

    monkeypatch.setattr(_chains._Chain, "issue", noted)
    return ran


def layer(rng, inputs, outputs, dtype, kernel=1, stride=1, **ends):
    """Return weights, geometry and epilogue; of a kernel, of a depthwise convolution."""
    groups, margin = (outputs if kernel > 1 else 1), kernel // 2
    conv = Conv((stride, stride), ((margin, margin), (margin, margin)), groups=groups)
    weight = rng.standard_normal((outputs, inputs // groups, kernel, kernel)) / inputs**0.5
    scale, shift = rng.uniform(0.5, 1.5, (2, outputs))
    return weight.astype(dtype), conv, Epilogue(scale.astype(dtype), shift.astype(dtype), **ends)


def block(kind, dtype=np.float32):
    """Return the layers of a block of 24 channels, and whether its input is added."""
    rng = np.random.default_rng(0)
    inner = 100 if kind == "odd" else 96
    first = layer(rng, 24, inner, dtype, **(GELU if kind == "gelu" else RELU))
    last = layer(rng, inner, 24, dtype)
    stride = 2 if kind == "strided" else 1
    middle = [] if kind == "short" else [layer(rng, inner, inner, dtype, 5, stride, **RELU)]
    return [first, *middle, last], kind != "strided"


def one_by_one(layers, adds, x):
    y = x
    for weight, conv, epilogue in layers:
        y = backend.conv2d(y, weight, conv, epilogue)
    return y + x if adds else y


def bound(layers, adds, x, passes_on=True):
    """Return the steps of a plan, and the maps that they write."""
    steps, maps = [], [x]
    for weight, conv, epilogue in layers:
        shape = maps[-1].shape
        folded, shift = epilogue.folded(weight)
        ends = epilogue._replace(scale=None)
        step = backend.prepare_conv(shape, backend.pack_conv(folded, conv, shift), conv, ends)
        out = np.full(conv.output_shape(shape, weight.shape), np.nan, x.dtype)
        residual = (x,) if adds and weight is layers[-1][0] else ()
        steps.append(Bound(step, (out, maps[-1], *residual), passes_on))
        maps.append(out)
    return steps, maps


def image(dtype=np.float32, images=1):
    return np.random.default_rng(1).standard_normal((images, 9, 11, 24)).astype(dtype)


KINDS = ["plain", "gelu", "odd", "strided", "short"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan(chains, kind, threads, dtype):
    layers, adds = block(kind, dtype)
    x = image(dtype)
    steps, maps = bound(layers, adds, x)
    run = backend.join(steps)
    with with_threads(threads):
        for _ in range(2):
            maps[-1][...] = np.nan
            run(x)
            tolerance = 1e-5 if dtype == np.float32 else 1e-12
            expected = one_by_one(layers, adds, x)
            np.testing.assert_allclose(maps[-1], expected, rtol=tolerance, atol=tolerance)
    assert chains == [len(layers)]


def test_two_blocks_are_two_chains(chains):
    layers, adds = block("plain")
    x = image()
    first, maps = bound(layers, adds, x)
    second, more = bound(layers, adds, maps[-1])
    backend.join([*first, *second])(x)
    expected = one_by_one(layers, adds, one_by_one(layers, adds, x))
    np.testing.assert_allclose(more[-1], expected, rtol=1e-5, atol=1e-5)
    assert chains == [3, 3]


def test_maps_that_others_read_are_written(chains):
    layers, adds = block("plain")
    x = image()
    steps, maps = bound(layers, adds, x, passes_on=False)
    backend.join(steps)(x)
    y = x
    for (weight, conv, epilogue), written in zip(layers[:2], maps[1:3]):
        y = backend.conv2d(y, weight, conv, epilogue)
        np.testing.assert_allclose(written, y, rtol=1e-5, atol=1e-5)
    assert chains == []


def test_another_map_between_is_no_chain(chains):
    """The depthwise step reads a map of the same shape, but not the one that was just made."""
    layers, _ = block("plain")
    x = image()
    (first, second, third), maps = bound(layers, False, x)
    other = np.random.default_rng(2).standard_normal(maps[1].shape).astype(np.float32)
    second = second._replace(arrays=(maps[2], other))
    backend.join([first, second, third])(x)
    expected = one_by_one(layers[1:], False, other)
    np.testing.assert_allclose(maps[-1], expected, rtol=1e-5, atol=1e-5)
    assert chains == []


def test_a_narrow_middle_is_no_chain(chains):
    """The end of a block, and the begin of the next: the block itself is one."""
    rng = np.random.default_rng(0)
    widths = [96, 24, 96, 24]
    layers = [layer(rng, a, b, np.float32) for a, b in itertools.pairwise(widths)]
    x = rng.standard_normal((1, 9, 11, 96)).astype(np.float32)
    steps, maps = bound(layers, False, x)
    backend.join(steps)(x)
    expected = one_by_one(layers, False, x)
    np.testing.assert_allclose(maps[-1], expected, rtol=1e-5, atol=1e-5)
    assert chains == [2]


def test_two_images_and_little_work_are_no_chain(chains, monkeypatch):
    layers, adds = block("plain")
    for images, worth in ((2, 0), (1, 10**9)):
        monkeypatch.setattr(_chains, "_WORTH_A_CHAIN", worth)
        x = image(images=images)
        steps, maps = bound(layers, adds, x)
        backend.join(steps)(x)
        expected = one_by_one(layers, adds, x)
        np.testing.assert_allclose(maps[-1], expected, rtol=1e-5, atol=1e-5)
    assert chains == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_kept_layers(chains, kind):
    layers, adds = block(kind)
    links = [Link(backend.keep_conv(*given), (i,)) for i, given in enumerate(layers)]
    if adds:
        links[-1] = links[-1]._replace(adds=0)
    row = backend.keep_row(links)
    for images in (1, 1, 1, 2, 1, 1):  # the second of a size is recorded
        x = image(images=images)
        expected = one_by_one(layers, adds, x)
        np.testing.assert_allclose(row(x), expected, rtol=1e-5, atol=1e-5)
    assert chains == [len(layers)] * 2


def test_a_row_that_adds_in_the_middle_is_no_chain(chains):
    rng = np.random.default_rng(0)
    layers = [layer(rng, 24, 24, np.float32) for _ in range(3)]
    first, second, third = (backend.keep_conv(*given) for given in layers)
    x = image()
    row = backend.keep_row([Link(first, (0,)), Link(second, (1,), 1), Link(third, (2,))])
    y = backend.conv2d(x, *layers[0])
    y = backend.conv2d(y, *layers[1]) + y
    np.testing.assert_allclose(row(x), backend.conv2d(y, *layers[2]), rtol=1e-5, atol=1e-5)
    assert chains == []


def test_a_plan_that_adds_what_it_passes_on_is_no_chain(chains):
    rng = np.random.default_rng(0)
    layers = [layer(rng, 24, 24, np.float32) for _ in range(2)]
    x = image()
    (first, second), maps = bound(layers, False, x)
    second = second._replace(arrays=(*second.arrays, maps[1]))
    backend.join([first, second])(x)
    y = backend.conv2d(x, *layers[0])
    np.testing.assert_allclose(maps[2], backend.conv2d(y, *layers[1]) + y, rtol=1e-5, atol=1e-5)
    assert chains == []


def test_threads_share_a_row(chains):
    layers, _ = block("plain")
    row = backend.keep_row(
        [Link(backend.keep_conv(*given), (i,)) for i, given in enumerate(layers)]
    )
    images = [image() + i for i in range(8)]
    expected = [one_by_one(layers, False, x) for x in images]
    with with_threads(2), ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for got, right in zip(pool.map(row, images), expected):
                np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-4)
