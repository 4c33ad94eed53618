"""Recycled memory: what is handed out, what comes back, and how much is kept."""

import gc
import itertools
import multiprocessing
import threading

import numpy as np
import pytest

from lucid.autograd._graph import _sole_owner
from lucid.autograd._tensor import wrap
from lucid.kernels import _memory
from tests.interrupts import interrupted_at

LARGE = _memory.SMALLEST


@pytest.fixture(autouse=True)
def nothing_free():
    gc.collect()
    _memory.trim()


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [LARGE, (4, LARGE // 3), [3, 5, LARGE // 7]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
def test_what_it_is(shape, dtype):
    array = _memory.empty(shape, dtype)
    assert array.shape == np.empty(shape).shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address(array) % 64 == 0


def test_small_and_empty_arrays_are_numpys():
    assert _memory.empty(10).base is None
    assert _memory.empty((0, LARGE)).shape == (0, LARGE)
    assert _memory.empty(()).shape == ()


def test_memory_is_used_again():
    first = _memory.empty(LARGE)
    place = address(first)
    del first
    assert address(_memory.empty(LARGE)) == place


def test_not_while_a_view_lives():
    first = _memory.empty((LARGE, 2))
    first[...] = 1
    view = first.T[1:].reshape(-1)[::2]
    del first
    other = _memory.empty((LARGE, 2))
    other[...] = 2
    assert (view == 1).all()
    assert not np.may_share_memory(view, other)


def test_a_smaller_array_takes_it():
    first = _memory.empty(LARGE * 5 // 4)
    place = address(first)
    del first
    assert address(_memory.empty(LARGE)) == place


def test_arrays_in_use_do_not_overlap():
    arrays = [_memory.empty(LARGE + 999 * i) for i in range(8)]
    del arrays[::2]
    arrays += [_memory.empty(LARGE + 777 * i) for i in range(8)]
    for number, array in enumerate(arrays):
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()


def test_what_is_kept_has_a_bound():
    rng = np.random.default_rng(0)
    before = _memory._pool.used
    for _ in range(300):
        _memory.empty(int(rng.integers(LARGE, 64 * LARGE)))
    most = before + 2 * 72 * LARGE * 4  # at most two of them at a time, rounded up
    assert _memory._pool.held <= most * 1.5
    _memory.trim()
    assert _memory._pool.held <= before


def test_like_an_array_in_its_order():
    x = np.empty((8, 30, 20, 64), np.float32).transpose(0, 3, 1, 2)
    y = _memory.empty_like(x)
    assert y.shape == x.shape
    assert y.strides == x.strides
    assert _memory.empty_like(x[:, ::2]).shape == (8, 32, 30, 20)


def test_an_interrupt_at_any_point_leaves_it_counted_right():
    gc.collect()
    pool = _memory._pool
    for step in itertools.count():
        kept = [_memory.empty(LARGE), _memory.empty(3 * LARGE)]
        kept[0][...], kept[1][...] = 1, 2
        other = _memory.empty(2 * LARGE)
        del other  # is collected in what follows
        came = interrupted_at(step, lambda: (_memory.empty(2 * LARGE), _memory.trim()), _memory)
        assert not pool.turns
        fresh = [_memory.empty(LARGE + 999 * i) for i in range(3)]
        for array in fresh:
            array[...] = 3
        assert (kept[0] == 1).all()
        assert (kept[1] == 2).all()
        assert pool.used == sum(map(len, pool.loans.values()))
        assert pool.held == pool.used + sum(size * len(same) for size, same in pool.free.items())
        if not came:
            break
    assert step > 50


def test_a_finaliser_that_computes_while_memory_is_handed_out(monkeypatch):
    arrays = []

    def allocate(size, allocate=_memory._allocate):
        if not arrays:
            arrays.append(None)
            arrays.append(_memory.empty(LARGE))
        return allocate(size)

    monkeypatch.setattr(_memory, "_allocate", allocate)
    arrays.append(_memory.empty(LARGE))
    assert not np.may_share_memory(*arrays[1:])
    assert not _memory._pool.turns


def test_from_many_threads():
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        kept = []
        for _ in range(200):
            array = _memory.empty(int(rng.integers(LARGE, 2 * LARGE)))
            array[::1000] = seed
            kept.append(array)
            if len(kept) > 3:
                wrong.extend([seed] * (not (kept.pop(0)[::1000] == seed).all()))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _in_child(array, connection):
    kept = array.sum()
    array[...] = 7  # the child's own copy
    connection.send((float(kept), float(_memory.empty(LARGE * 2).nbytes)))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork"
)
def test_after_fork():
    array = _memory.empty(LARGE)
    array[...] = 1
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(array, theirs))
    child.start()
    assert ours.recv() == (LARGE, LARGE * 2 * 4)
    child.join()
    assert child.exitcode == 0
    assert (array == 1).all()


def test_its_owner_is_known():
    # Outside the assertion: pytest keeps what is computed inside one.
    whole = _sole_owner(wrap(_memory.empty(LARGE)))
    turned = _sole_owner(wrap(_memory.empty((2, LARGE)).T))
    part = _sole_owner(wrap(_memory.empty((2, LARGE))[:1]))
    assert (whole, turned, part) == (True, True, False)
    array = _memory.empty((2, LARGE))
    assert not _sole_owner(wrap(array))
    assert not _sole_owner(wrap(array.T))
