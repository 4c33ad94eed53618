"""Kept layers one after the other (``keep_row``) against the definition."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.prepared import Link
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
        convs = [backend.keep_conv(*each) for each in self.layers]
        return backend.keep_row(
            [Link(conv, (i,), add) for i, (conv, add) in enumerate(zip(convs, self.adds))]
        )


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


# -- norms and attention --------------------------------------------------------------------------


def attention_by_definition(q, k, v, heads, scale):
    n, height, width, _ = q.shape
    rows = q.reshape(n, height * width * heads, k.shape[3]).astype(np.float64)
    keys, values = (each.reshape(n, -1, each.shape[3]).astype(np.float64) for each in (k, v))
    scores = scale * rows @ keys.transpose(0, 2, 1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ values).reshape(n, height, width, -1)


class AttentionBlock:
    """A norm, an attention to what a convolution made smaller, and a sum, as links of a row."""

    def __init__(self, backend, channels, heads, e, v, stride, wide, dtype):
        rng = np.random.default_rng(channels + heads)
        self.channels, self.heads = channels, heads

        def weight(o, i, size=1):
            return (rng.standard_normal((o, i, size, size)) / np.sqrt(i)).astype(dtype)

        def conv(weight, stride=1, groups=1):
            half = weight.shape[2] // 2
            return weight, Conv((stride, stride), ((half, half), (half, half)), (1, 1), groups)

        self.affine = rng.uniform(0.5, 1.5, (2, channels)).astype(dtype)
        self.convs = [  # with what they read
            (conv(weight(channels, 1, 3), groups=channels), 0),
            (conv(weight(heads * e, channels)), 2),
            (conv(weight(channels, 1, 3), stride, channels), 2),
            (conv(weight(e, channels)), 4),
            (conv(weight(v, channels), stride), 2),
        ]
        self.last = [conv(weight(wide, heads * v)), conv(weight(channels, wide))]
        end = Epilogue(shift=None)
        links = [Link(backend.keep_conv(*how, end), (read,)) for how, read in self.convs]
        links.insert(1, Link(backend.keep_affine(*self.affine), (1,), 0))
        links.append(Link(backend.keep_attention(heads, 0.3), (3, 5, 6)))
        links += [
            Link(backend.keep_conv(*self.last[0], end), (7,)),
            Link(backend.keep_conv(*self.last[1], end), (8,), 2),
        ]
        self.run = backend.keep_row(links)

    def by_definition(self, x):
        def conv(how, x):
            return conv2d_by_definition(x, how[0], None, *how[1])

        maps = [x, conv(self.convs[0][0], x)]
        maps.append(maps[1] * self.affine[0] + self.affine[1] + x)
        for how, read in self.convs[1:]:
            maps.append(conv(how, maps[read]))
        y = attention_by_definition(maps[3], maps[5], maps[6], self.heads, 0.3)
        return conv(self.last[1], conv(self.last[0], y)) + maps[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sizes",
    # channels, heads, numbers in a key and in a value, the keys' stride, width before the end
    [(16, 4, 8, 8, 2, 16), (10, 3, 5, 7, 1, 300), (33, 1, 16, 40, 2, 8), (4, 8, 64, 1, 1, 700)],
)
def test_attention_and_norm(backend, sizes, dtype):
    block = AttentionBlock(backend, *sizes, dtype)
    for turn, size in enumerate([(1, 7, 6), (16, 6, 6), (3, 1, 1), (6, 15, 14), (1, 7, 6)]):
        with with_threads(1 + turn % 3):
            check(block.run, block, *size, block.channels, dtype=dtype, seed=turn)


def test_attention_of_wide_floats_alone(backend):
    """No weights in the row tell its dtype."""
    maps = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    run = backend.keep_row([Link(backend.keep_attention(1, 0.5), (0, 0, 0), 0)])
    expected = attention_by_definition(maps, maps, maps, 1, 0.5) + maps
    np.testing.assert_allclose(run(maps), expected, rtol=1e-12)


@pytest.mark.parametrize("images", [1, 3])
def test_a_norm_of_maps_of_any_layout(backend, images):
    rng = np.random.default_rng(0)
    scale, shift = rng.standard_normal((2, 5)).astype(np.float32)
    run = backend.keep_affine(scale, shift)
    row = backend.keep_row([Link(run, (0,))])
    planes = rng.standard_normal((images, 5, 4, 3)).astype(np.float32)
    for x in (planes.transpose(0, 2, 3, 1), planes.transpose(0, 3, 2, 1)[:, ::-1]):
        for function in (run, row):
            np.testing.assert_allclose(function(x), x * scale + shift, rtol=1e-5, atol=1e-6)


def test_kept_parts_alone(backend):
    """Where another link of a row is none of the backend's own, they are called one by one."""
    q, k, v = (
        np.random.default_rng(i).standard_normal(shape).astype(np.float32)
        for i, shape in enumerate([(2, 3, 4, 10), (2, 2, 3, 5), (2, 2, 3, 6)])
    )
    expected = attention_by_definition(q, k, v, 2, 0.5)
    attend = backend.keep_attention(2, 0.5)
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=1e-4, atol=1e-5)
    rows = np.random.default_rng(4).standard_normal((2, 10)).astype(np.float32)
    y = backend.keep_affine(*rows)(q)
    np.testing.assert_allclose(y, q * rows[0] + rows[1], rtol=1e-5, atol=1e-6)
