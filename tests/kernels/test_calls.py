"""Recorded calls: the same as calls at once, whatever the arrays hold when they are played."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid.kernels import _memory
from lucid.kernels import numpy as backend
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numpy import _pieces
from lucid.kernels.numpy._calls import ON_THREADS, Calls, Recording, Scratch
from lucid.kernels.prepared import Bound, Link
from tests.backends import with_threads
from tests.kernels.test_conv import build, conv2d_by_definition
from tests.kernels.test_prepared import ENDS, LARGE, NOT_EMPTY


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", [*NOT_EMPTY.values(), *LARGE.values()], ids=[*NOT_EMPTY, *LARGE])
def test_a_plan_reads_its_arrays_anew(case, end, threads, pieces, monkeypatch):
    """A recording that copied anything when it was made would give the first result again."""
    monkeypatch.setattr(_pieces, "_takes_pieces", lambda: pieces)
    x, weight, bias, how = build(case, np.float32)
    epilogue, function = ENDS[end]
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    step = backend.prepare_conv(x.shape, weight, how, epilogue._replace(shift=bias))
    x = np.zeros(x.shape, np.float32)
    out = np.zeros(how.output_shape(x.shape, weight.shape), np.float32)
    residual = np.zeros_like(out)
    run = backend.join([Bound(step, (out, x, residual))])
    with with_threads(threads):
        for seed in (1, 2):
            x[...], residual[...] = numbers(*x.shape, seed=seed), numbers(*out.shape, seed=seed)
            out[...] = np.nan
            run(x)
            sums = conv2d_by_definition(x, weight, bias, *how)
            np.testing.assert_allclose(out, function(sums) + residual, rtol=1e-3, atol=1e-3)


def convolutions(rng, count, channels=8):
    """Return kept 1×1 and depthwise convolutions of as many channels in as out."""
    taps = Conv(padding=((1, 1), (1, 1)), groups=channels)
    layers = []
    for n in range(count):
        shape = (channels, 1, 3, 3) if n % 3 == 1 else (channels, channels, 1, 1)
        weight = (rng.standard_normal(shape) / 3).astype(np.float32)
        shift = rng.standard_normal(channels).astype(np.float32)
        bounds = (0.0, np.inf) if n % 2 else (-np.inf, np.inf)
        epilogue = Epilogue(shift=shift, bounds=bounds)
        layers.append(backend.keep_conv(weight, taps if n % 3 == 1 else Conv(), epilogue))
    return layers


def one_by_one(links, x):
    maps = [x]
    for layer, reads, adds in links:
        made = layer(*[maps[i] for i in reads])
        maps.append(made if adds is None else made + maps[adds])
    return maps[-1]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_rows_in_which_layers_read_any_map(data):
    """Whatever is recorded together: maps that are read again later, added, or not read at all."""
    count = data.draw(st.integers(1, 7))
    layers = convolutions(np.random.default_rng(0), count)
    links = []
    for n, layer in enumerate(layers):
        earlier = st.integers(0, n)
        if data.draw(st.integers(0, 4)) == 0:  # one that is no convolution, of two maps
            links.append(Link(np.add, (data.draw(earlier), data.draw(earlier))))
        else:
            reads = data.draw(st.just(n) | earlier)
            links.append(Link(layer, (reads,), data.draw(st.none() | earlier)))
    row = backend.keep_row(links)
    for seed, images in enumerate((1, 1, 1, 2, 1, 1)):
        x = numbers(images, 5, 6, 8, seed=seed)
        before = x.copy()
        first = row(x)
        np.testing.assert_allclose(first, one_by_one(links, x), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(x, before)
        kept = first.copy()
        row(x + 1)
        np.testing.assert_array_equal(first, kept)  # what was returned is nobody else's


def test_rows_of_one_image_of_any_size_and_layout():
    rng = np.random.default_rng(0)
    links = [Link(layer, (n,)) for n, layer in enumerate(convolutions(rng, 4))]
    row = backend.keep_row(links)
    for height, width in ((5, 6), (9, 4), (5, 6), (1, 1), (30, 31), (0, 5)):
        planes = np.ascontiguousarray(numbers(1, 8, height, width)).transpose(0, 2, 3, 1)
        for _ in range(2):
            expected = one_by_one(links, planes)
            np.testing.assert_allclose(row(planes), expected, rtol=1e-4, atol=1e-4)


def test_the_number_of_threads_may_change():
    x, weight, bias, how = build(LARGE["pointwise"], np.float32)
    step = backend.prepare_conv(x.shape, weight, how, Epilogue(shift=bias))
    out = np.empty(how.output_shape(x.shape, weight.shape), np.float32)
    run = backend.join([Bound(step, (out, x))])
    expected = conv2d_by_definition(x, weight, bias, *how)
    for threads in (2, 1, 3, 2):
        with with_threads(threads):
            out[...] = np.nan
            run(x)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [("gelu", False), ("silu",)], ids=str)
def test_blocks_of_a_step_share_memory(activation):
    """What lies between the calls for one block is there once, however many blocks there are."""
    x = np.zeros((1, 500, 500, 8), np.float32)
    epilogue = Epilogue(activation=activation)
    step = backend.prepare_conv(x.shape, numbers(64, 8, 1, 1), Conv(), epilogue)
    out = np.empty((1, 500, 500, 64), np.float32)
    run = backend.join([Bound(step, (out, x))])
    with with_threads(1):
        _memory.trim()
        before = _memory._pool.held
        run(x)
        _memory.trim()
        assert _memory._pool.held - before < out.nbytes / 8


def test_a_part_of_a_task_is_not_divided_again():
    """Plans that run side by side, a thread each, are recorded as a whole."""
    x, weight, bias, how = build(LARGE["pointwise"], np.float32)
    step = backend.prepare_conv(x.shape, weight, how, Epilogue(shift=bias))
    expected = conv2d_by_definition(x, weight, bias, *how)
    outs = np.full((2, *how.output_shape(x.shape, weight.shape)), np.nan, np.float32)
    runs = [backend.join([Bound(step, (out, x))]) for out in outs]
    with with_threads(2):
        backend.in_parts(lambda part: runs[part.start](x), 2, 10**9)
        runs[0](x)
    for out in outs:
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_steps_of_a_plan_share_memory():
    """Six of one shape: the padded images and what lies between their calls is there once."""
    conv = Conv(padding=((1, 1), (1, 1)))
    weight = numbers(32, 32, 3, 3)
    maps = [numbers(1, 60, 60, 32) for _ in range(7)]
    steps = [
        Bound(backend.prepare_conv(a.shape, weight, conv, Epilogue()), (b, a))
        for a, b in itertools.pairwise(maps)
    ]
    with with_threads(1):
        _memory.trim()
        before = _memory._pool.held
        one = backend.join(steps[:1])
        one(maps[0])
        of_one = _memory._pool.held - before
        run = backend.join(steps)
        run(maps[0])
        assert 0 < _memory._pool.held - before <= 2 * of_one


def test_parts_that_run_at_a_time_share_no_memory():
    with with_threads(3):
        calls = Recording(3)
        arrays = [calls.empty(9, np.float32)]
        arrays += calls.divide(lambda part: calls.empty(9, np.float32), 3, 10**9)
        arrays.append(calls.empty(9, np.float32))
        for n, array in enumerate(arrays):
            assert not any(np.shares_memory(array, other) for other in arrays[:n])
        calls.end_step()
        assert any(np.shares_memory(calls.empty(9, np.float32), array) for array in arrays)


@pytest.mark.parametrize("kind", [Calls, type(ON_THREADS), Recording])
def test_parts_are_divided_once(kind):
    """What a part divides again stays in it."""
    with with_threads(2):
        calls = kind(2) if kind is Recording else kind()
        inner = calls.divide(lambda _: calls.divide(str, 2, 10**9), 2, 10**9)
    assert len(inner) == (1 if kind is Calls else 2)
    assert all(results == ["slice(0, 2, None)"] for results in inner)


def test_scratch_is_the_smallest_that_is_large_enough():
    scratch = Scratch()
    small, large = scratch.empty(10, np.dtype(np.float32)), scratch.empty(10**6, np.dtype(np.int8))
    scratch.give(large)
    scratch.give(small)
    again = scratch.empty((2, 3), np.dtype(np.float64))
    assert np.shares_memory(again, small)
    assert np.shares_memory(scratch.empty(5, np.dtype(np.int8)), large)
    other = scratch.empty(5, np.dtype(np.int8))
    assert not any(np.shares_memory(other, array) for array in (small, large))
