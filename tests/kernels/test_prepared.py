"""Prepared convolutions against the definition: every way, several blocks, calls in a row."""

import contextlib
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lucid.kernels import _memory
from lucid.kernels import numpy as reference
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numpy import _threads
from tests.backends import with_threads
from tests.kernels.test_conv import CASES, build, conv2d_by_definition

NOT_EMPTY = {name: case for name, case in CASES.items() if case[0]}
LARGE = {
    # name: (n, h, w, in, out, kh, kw, stride, padding, dilation, groups)
    "image": (2, 150, 163, 3, 33, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "image, uneven blocks": (1, 227, 230, 3, 24, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "two channels": (2, 90, 95, 2, 20, 5, 5, (1, 2), ((2, 1), (0, 2)), (1, 2), 1),
    "dense": (2, 61, 60, 20, 24, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "pointwise": (3, 61, 47, 24, 60, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise, long rows": (2, 40, 36, 300, 48, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "to one channel": (2, 80, 80, 8, 1, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "depthwise": (3, 31, 27, 60, 60, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1), 60),
}
ENDS = {
    # name: (how it is prepared, what it computes from the sums)
    "plain": (Epilogue(), lambda y: y),
    "relu6": (Epilogue(bounds=(0.0, 6.0)), lambda y: np.clip(y, 0, 6)),
    "relu": (Epilogue(bounds=(0.0, np.inf)), lambda y: np.maximum(y, 0)),
    "at most": (Epilogue(bounds=(-np.inf, 0.5)), lambda y: np.minimum(y, 0.5)),
    "hardswish": (
        Epilogue(activation=("hardswish",)),
        lambda y: y * np.clip(y + 3, 0, 6) / 6,
    ),
}


@functools.cache  # the same for each backend and each end
def given_and_sums(case, turn):
    x, weight, _, how = build(case, np.float32)
    x = np.random.default_rng([5, turn]).standard_normal(x.shape).astype(np.float32)
    sums = conv2d_by_definition(x, weight, None, *how)
    x.flags.writeable = sums.flags.writeable = False
    return x, sums


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", [*NOT_EMPTY.values(), *LARGE.values()], ids=[*NOT_EMPTY, *LARGE])
def test_as_defined(backend, case, end, with_residual):
    x, weight, bias, how = build(case, np.float32)
    scale = np.linspace(-1, 1, len(bias), dtype=np.float32) if end == "relu6" else None
    epilogue, function = ENDS[end]
    epilogue = epilogue._replace(scale=scale, shift=bias)
    run = backend.prepare_conv(x.shape, weight, how, epilogue)
    shape = how.output_shape(x.shape, weight.shape)
    rng = np.random.default_rng(5)
    for turn in range(2):  # buffers are kept from call to call
        x, sums = given_and_sums(case, turn)
        expected = function(sums * (1 if scale is None else scale) + bias)
        assert shape == expected.shape
        added = [rng.standard_normal(shape).astype(np.float32)] * with_residual
        out = np.full(shape, np.nan, np.float32)
        run(out, x, *added)
        expected = sum(added, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_kept_one_takes_sizes_layouts_and_threads_in_turn(backend, case):
    x, weight, bias, how = build(case, np.float32)
    run = backend.keep_conv(weight, how, Epilogue(None, bias, (-1.0, 6.0)))
    rng = np.random.default_rng(6)
    for threads, more in [(1, 0), (1, 2), (1, 0), (3, 0), (3, 2), (2, 2), (1, 2)]:
        images = rng.standard_normal((case[0] + more, *x.shape[1:])).astype(np.float32)
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
        expected = np.clip(conv2d_by_definition(images, weight, bias, *how), -1, 6)
        with with_threads(threads):
            for each in (images, planes):
                np.testing.assert_allclose(run(each), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
def test_inputs_of_any_layout(backend, case, with_residual):
    x, weight, bias, how = build(case, np.float32)
    run = backend.prepare_conv(x.shape, weight, how, Epilogue(shift=bias))
    expected, out = np.empty((2, *how.output_shape(x.shape, weight.shape)), np.float32)
    inputs = [x, np.ones_like(out)] if with_residual else [x]
    run(expected, *inputs)
    for lying in (
        lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 5)))[..., : x.shape[3]],
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, 2), (0, 0)))[:, :, : x.shape[2]],
        lambda x: np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1],
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    ):
        run(out, *map(lying, inputs))
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("shape", "weight", "groups"),
    [
        ((1, 1, 1, 1280), (1000, 1280, 1, 1), 1),
        ((1, 1, 1, 900), (300, 900, 3, 3), 1),
        *[((1, 14, 14, k), (96, k, 1, 1), 1) for k in (96, 450, 500, 577, 770, 1280)],
        *[((1, 7, 7, k), (100, k, 1, 1), 1) for k in (300, 450, 577, 960)],
        ((1, 56, 56, 3), (32, 3, 3, 3), 1),
        ((1, 28, 28, 50), (70, 50, 3, 3), 1),
        ((1, 28, 28, 96), (96, 1, 5, 5), 96),
        ((1, 28, 28, 60), (60, 20, 3, 3), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@np.errstate(over="ignore")  # as plans call steps
def test_one_image_gives_the_same_bits_whoever_computes(shape, weight, groups, dtype):
    """Another call has the workers, or none does: the parts are the same, whoever does them."""
    backend = reference
    rng = np.random.default_rng(0)
    x, w, bias = (rng.standard_normal(size).astype(dtype) for size in (shape, weight, (weight[0],)))
    margin = weight[2] // 2
    padding = ((margin, margin), (margin, margin))
    how = Conv(padding=padding, groups=groups)
    run = backend.prepare_conv(shape, w, how, Epilogue(None, bias, activation=("gelu", False)))
    results = [np.full(how.output_shape(shape, weight), np.nan, dtype) for _ in range(4)]
    with with_threads(2):
        for out in results[:2]:
            run(out, x)
        with held_by_another_thread():
            for out in results[2:]:
                run(out, x)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@contextlib.contextmanager
def held_by_another_thread():
    """Let another thread have lucid's workers meanwhile."""
    begun, end = threading.Event(), threading.Event()

    def hold(part):
        begun.set()
        end.wait(20)

    other = threading.Thread(target=_threads.in_parts, args=(hold, 2, 10**9))
    other.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        end.set()
        other.join()


def padded_convolutions(sizes):
    """Return depthwise convolutions to images of padded size 24×24: (run, x, what comes out)."""
    rng = np.random.default_rng(0)
    made = []
    for size in sizes:
        margin = (24 - size) // 2
        x = rng.standard_normal((1, size, size, 128)).astype(np.float32)
        weight = rng.standard_normal((128, 1, 3, 3)).astype(np.float32)
        conv = Conv(padding=((margin, margin), (margin, margin)), groups=128)
        run = reference.prepare_conv(x.shape, weight, conv, Epilogue())
        expected = conv2d_by_definition(x, weight, None, (1, 1), conv.padding, (1, 1), 128)
        made.append((run, x, expected.astype(np.float32)))
    return made


def test_convolutions_of_one_shape_share_the_memory_of_padded_images():
    _memory.trim()
    before = _memory._pool.held
    made = padded_convolutions([22] * 6)
    for _ in range(2):
        for run, x, expected in made:
            out = np.full(expected.shape, np.nan, np.float32)
            run(out, x)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    _memory.trim()
    assert _memory._pool.held - before < 2 * 24 * 24 * 128 * 4


def test_padded_images_of_several_paddings_and_threads_are_apart():
    made = padded_convolutions([22, 20, 22, 20])

    def check(convolution):
        run, x, expected = convolution
        out = np.full(expected.shape, np.nan, np.float32)
        for _ in range(30):
            run(out, x)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(check, made))
