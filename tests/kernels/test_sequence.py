"""Kept convolutions one after the other (``keep_sequence``) against the definition."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lucid.kernels.geometry import Conv, Epilogue
from tests.backends import with_threads
from tests.kernels.test_conv import conv2d_by_definition

BOUNDS = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]


class Network:
    """Convolutions in a row, some of which add an earlier map, with weights that keep maps small.

    Args:
        channels: of the images.
        layers: for each its outputs, its kernel's size, its stride, whether it is depthwise, and
            which map it adds: 0 is the input.
    """

    def __init__(self, channels, layers, dtype=np.float32):
        rng = np.random.default_rng(len(layers))
        self.layers, self.adds = [], []
        for out, size, stride, depthwise, add in layers:
            out = channels if depthwise else out
            taps = (out, 1 if depthwise else channels, size, size)
            weight = rng.standard_normal(taps) / np.sqrt(np.prod(taps[1:]))
            edges = (size // 2, (size - 1) // 2)
            conv = Conv((stride, stride), (edges, edges), (1, 1), out if depthwise else 1)
            bounds = BOUNDS[int(rng.integers(len(BOUNDS)))]
            epilogue = Epilogue(*rng.uniform(0.5, 1.5, (2, out)).astype(dtype), bounds)
            self.layers.append((weight.astype(dtype), conv, epilogue))
            self.adds.append(add)
            channels = out

    def by_definition(self, x):
        maps = [x]
        for (weight, conv, epilogue), add in zip(self.layers, self.adds):
            y = conv2d_by_definition(maps[-1], weight, None, *conv)
            y = np.clip(y * epilogue.scale + epilogue.shift, *epilogue.bounds)
            maps.append(y if add is None else y + maps[add])
        return maps[-1]

    def kept(self, backend):
        return backend.keep_sequence([backend.keep_conv(*each) for each in self.layers], self.adds)


def check(run, network, *shape, dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    expected = network.by_definition(x)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    for lying in (x, planes):
        given_before = lying.copy()
        y = run(lying)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(lying, given_before)


# (outputs, kernel, stride, depthwise, map that is added)
NETWORKS = {
    "one": (3, [(8, 3, 2, False, None)]),
    "bottlenecks": (
        3,
        [
            (8, 3, 2, False, None),
            (24, 1, 1, False, None), (0, 3, 1, True, None), (8, 1, 1, False, 1),
            (24, 1, 1, False, None), (0, 5, 2, True, None), (40, 1, 1, False, None),
            (0, 5, 1, True, None), (90, 1, 1, False, None), (40, 1, 1, False, 7),
        ],
    ),
    # Adds the output of large maps where the maps are small.
    "added late": (4, [(60, 1, 1, False, None), (4, 3, 1, False, None), (70, 3, 1, False, None),
                       (70, 1, 1, False, None), (4, 1, 1, False, 2)]),
    "adds the input": (6, [(30, 1, 1, False, None), (200, 1, 1, False, None), (6, 1, 1, False, 0)]),
    "of depthwise ones": (20, [(0, 3, 1, True, 0), (0, 5, 1, True, 0), (0, 3, 2, True, None)]),
    "adds two": (8, [(8, 3, 1, False, 0), (8, 1, 1, False, 0), (8, 3, 1, False, 1)]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_as_defined(backend, name, dtype):
    network = Network(*NETWORKS[name], dtype)
    run = network.kept(backend)
    channels = NETWORKS[name][0]
    sizes = [(1, 9, 8), (2, 20, 22), (7, 9, 8), (16, 12, 12), (1, 9, 8)]
    for turn, (threads, size) in enumerate(zip([1, 2, 3, 2, 3], sizes)):
        with with_threads(threads):
            check(run, network, *size, channels, dtype=dtype, seed=turn)


def test_no_images(backend):
    network = Network(*NETWORKS["bottlenecks"])
    assert network.kept(backend)(np.zeros((0, 9, 8, 3), np.float32)).shape == (0, 3, 2, 40)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_network(backend, data):
    draw = data.draw
    channels = start = draw(st.integers(1, 20))
    size = draw(st.integers(1, 14))
    shapes, layers = [(size, channels)], []
    for _ in range(draw(st.integers(1, 8))):
        depthwise = channels > 1 and draw(st.booleans())
        out = channels if depthwise else draw(st.sampled_from([channels, 1, 8, 33, 150]))
        stride = draw(st.sampled_from([1, 1, 2]))
        size, channels = -(-size // stride), out
        same = [i for i, shape in enumerate(shapes) if shape == (size, channels)]
        add = draw(st.sampled_from([None, *same]))
        layers.append((out, draw(st.sampled_from([1, 3, 5])), stride, depthwise, add))
        shapes.append((size, channels))
    network = Network(start, layers)
    run = network.kept(backend)
    for images in draw(st.lists(st.integers(1, 9), min_size=1, max_size=2)):
        with with_threads(draw(st.integers(1, 3))):
            check(run, network, images, shapes[0][0], shapes[0][0], start)


def test_the_result_is_memory_of_its_own(backend):
    network = Network(*NETWORKS["bottlenecks"])
    run = network.kept(backend)
    one, other = np.random.default_rng(0).standard_normal((2, 3, 40, 40, 3)).astype(np.float32)
    first = run(one)
    before = first.copy()
    second = run(other)
    np.testing.assert_array_equal(first, before)
    for array in (second, one, other):
        assert not np.shares_memory(first, array)
