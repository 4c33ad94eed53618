"""Parts of a batch side by side: the same results, and NumPy's own threads as they were."""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import lucid
from lucid import kernels
from lucid.kernels import _blas
from lucid.kernels import numpy as reference
from lucid.kernels.geometry import Conv
from lucid.kernels.numpy import _threads
from lucid.kernels.numpy._threads import WORTHWHILE, _Pool, in_parts, sum_parts
from tests.interrupts import interrupted_at


@pytest.fixture
def two_threads():
    kernels.set_backend("numpy")
    before = kernels.get_num_threads()
    kernels.set_num_threads(2)
    yield
    kernels.set_num_threads(before)


def test_parts_cover_the_range(two_threads):
    for count in (1, 2, 3, 17):
        numbers = np.arange(count)
        parts = in_parts(numbers.__getitem__, count, WORTHWHILE)
        assert len(parts) == min(2, count)
        np.testing.assert_array_equal(np.concatenate(parts), numbers)


def test_one_image_is_divided_too(two_threads, monkeypatch):
    """By what its convolution or attention calls: a launch for images would be of one part."""
    launches, launch = [], _Pool._launch

    def noted(pool, given):
        launches.append(len(given.parts))
        return launch(pool, given)

    monkeypatch.setattr(_Pool, "_launch", noted)
    x, weight = np.ones((1, 64, 64, 64), np.float32), np.ones((64, 64, 3, 3), np.float32)
    pixel, small = weight[:, :, :1, :1], np.ones((1, 32, 32, 64), np.float32)
    how = Conv(padding=((1, 1), (1, 1)))
    calls = [
        lambda: reference.conv2d(x, weight, how),
        lambda: reference.conv2d_input_grad(x, weight, x.shape, how),
        lambda: reference.conv2d_input_grad(x, pixel, x.shape),
        lambda: reference.conv2d_input_grad(x, pixel, (1, 128, 128, 64), Conv((2, 2))),
        lambda: reference.keep_attention(4, 1.0)(x, small[..., :16], small),
    ]
    for times, call in enumerate(calls, 1):
        call()
        assert launches == [2] * times


def test_small_work_is_not_divided(two_threads):
    assert in_parts(lambda part: part, 10, WORTHWHILE - 1) == [slice(0, 10)]


def test_parts_run_in_different_threads(two_threads):
    barrier = threading.Barrier(2, timeout=20)  # passes only if both parts are under way
    in_parts(lambda part: barrier.wait(), 2, WORTHWHILE)


def test_blas_is_held_at_one_thread_and_released(two_threads):
    blas = _threads._pool._blas
    if not blas.is_known:
        pytest.skip("this NumPy has another BLAS")
    assert in_parts(lambda part: blas.threads(), 2, WORTHWHILE) == [1, 1]
    assert blas.threads() == 2


def test_divisions_inside_a_part_run_as_they_are(two_threads):
    inner = in_parts(lambda part: in_parts(lambda p: p, 4, WORTHWHILE), 2, WORTHWHILE)
    assert inner == [[slice(0, 4)], [slice(0, 4)]]


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_come_through_and_leave_everything_usable(two_threads, failing):
    def work(part):
        if part.start == failing:
            raise ValueError(f"part {part.start}")
        return part.start

    with pytest.raises(ValueError, match=f"part {failing}"):
        in_parts(work, 2, WORTHWHILE)
    assert in_parts(lambda part: part.start, 2, WORTHWHILE) == [0, 1]
    assert _threads._pool._blas.threads() == 2 or not _threads._pool._blas.is_known


@pytest.mark.parametrize("elements", [WORTHWHILE, 0])
def test_an_interrupt_at_any_point_leaves_nothing_behind(two_threads, elements):
    expected = [0, 1] if elements else [0]

    def starts():
        return in_parts(lambda part: part.start, 2, elements)

    assert starts() == expected
    for step in itertools.count():
        if not interrupted_at(step, starts, _threads):
            break
        assert not _threads._pool._turns
        assert _threads._pool._blas.threads() == 2 or not _threads._pool._blas.is_known
        assert starts() == expected
    assert step > 50
    assert len(threading.enumerate()) < 10


def test_an_exception_waits_for_the_parts_under_way(two_threads):
    begun, ended = threading.Event(), []

    def work(part):
        if part.start:
            begun.set()
            time.sleep(0.05)
            ended.append(part)
        elif begun.wait(20):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parts(work, 2, WORTHWHILE)
    assert len(ended) == 1


def test_a_worker_that_is_interrupted_serves_on(two_threads):
    def raise_in_worker(part):
        if part.start:
            raise SystemExit
        time.sleep(0.05)

    for _ in range(3):
        with pytest.raises(SystemExit):
            in_parts(raise_in_worker, 2, WORTHWHILE)
    worker = _threads._pool._workers[0]._thread
    for _ in range(20):  # it comes when the worker wakes, whatever it is given then
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident), ctypes.py_object(KeyboardInterrupt)
        )
        with contextlib.suppress(KeyboardInterrupt):
            assert in_parts(lambda part: part.start, 2, WORTHWHILE) == [0, 1]
    assert worker.is_alive()
    barrier = threading.Barrier(2, timeout=20)
    in_parts(lambda part: barrier.wait(), 2, WORTHWHILE)


def test_numbers_of_threads_set_while_others_compute(two_threads):
    stop = threading.Event()

    def compute():
        while not stop.is_set():
            in_parts(lambda part: part, 4, WORTHWHILE)
            in_parts(lambda part: part, 4, 0)

    callers = [threading.Thread(target=compute) for _ in range(3)]
    for caller in callers:
        caller.start()
    for turn in range(100):
        kernels.set_num_threads(1 + turn % 3)
    kernels.set_num_threads(2)
    stop.set()
    for caller in callers:
        caller.join()
    assert kernels.get_num_threads() == 2
    assert _threads._pool._blas.threads() == 2 or not _threads._pool._blas.is_known


def test_callers_in_several_threads(two_threads):
    wrong = []

    def call():
        for _ in range(50):
            total = sum_parts(in_parts(lambda p: np.ones(3) * (p.stop - p.start), 10, WORTHWHILE))
            if not (total == 10).all():
                wrong.append(total)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def _in_child(queue):
    x = np.ones((8, 64, 64, 16), np.float32)
    y = kernels.active().conv2d(x, np.ones((4, 16, 3, 3), np.float32))
    queue.put(float(y.sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(two_threads):
    in_parts(lambda part: part, 2, WORTHWHILE)  # the parent's threads exist
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == 8 * 62 * 62 * 4 * 144
    child.join(timeout=60)
    assert child.exitcode == 0


def test_the_same_results_with_any_number_of_threads():
    kernels.set_backend("numpy")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 40, 40, 16)).astype(np.float32)
    weight = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    results = []
    before = kernels.get_num_threads()
    for threads in (1, 2, 3):
        kernels.set_num_threads(threads)
        k = kernels.active()
        how = Conv(padding=((1, 1), (1, 1)))
        y = k.conv2d(x, weight, how)
        results.append(
            (
                y,
                k.conv2d_input_grad(y, weight, x.shape, how),
                k.conv2d_weight_grad(x, y, weight.shape, how),
                k.clip(y, -1, 1),
                k.clip_grad(x, k.clip(y, -1, 1), -1, 1),
                *k.batch_norm_stats(x.reshape(-1, 16)),
            )
        )
    kernels.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())


def test_set_num_threads():
    before = lucid.get_num_threads()
    lucid.set_num_threads(3)
    assert lucid.get_num_threads() == 3
    lucid.set_num_threads(before)
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="set_num_threads: expected a positive integer"):
            lucid.set_num_threads(wrong)


def test_without_a_blas_that_can_be_set(monkeypatch):
    pool = _Pool()
    monkeypatch.setattr(_blas.glob, "glob", lambda pattern: [])
    assert pool.get_threads() == 1
    assert pool.run(lambda part: part, 4) == [slice(0, 4)]


def test_parts_are_the_same_whoever_else_computes(two_threads):
    """A call that gets no help, as another has it, does the same parts by itself."""
    alone = in_parts(lambda part: part, 4, WORTHWHILE)
    begun, end, found = threading.Event(), threading.Event(), []

    def hold(part):
        begun.set()
        end.wait(20)
        # Within a part nothing is divided again.
        found.append(in_parts(lambda inner: inner, 4, WORTHWHILE))

    other = threading.Thread(target=in_parts, args=(hold, 2, WORTHWHILE))
    other.start()
    begun.wait(20)
    beside = in_parts(lambda part: part, 4, WORTHWHILE)
    end.set()
    other.join()
    assert beside == alone == [slice(0, 2), slice(2, 4)]
    assert found == [[slice(0, 4)]] * 2


# -- processes of their own -----------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that signals")
@pytest.mark.parametrize("backend_name", ["numpy", "numba"])
def test_interrupts_at_random_moments(backend_name):
    if backend_name == "numba":
        pytest.importorskip("llvmlite")
    command = [sys.executable, "-m", "tests.interrupted", backend_name, "0", "45"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend_name", ["numpy", "numba"])
def test_forks_while_other_threads_compute(backend_name):
    if backend_name == "numba":
        pytest.importorskip("llvmlite")
    command = [sys.executable, "-m", "tests.forked", backend_name, "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
