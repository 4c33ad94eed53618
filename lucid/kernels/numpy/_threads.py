"""Two kinds of threads, one at a time: NumPy's BLAS, or lucid's own over parts of a batch.

NumPy threads its matrix products only. Everything else of a network (patches, depthwise
convolutions, batch norm, activations) runs on one core unless the batch is divided, and then the
products must not start threads of their own: measured on two cores, a forward pass of
mobilenetv4_conv_small at batch 16 took 800 to 2400 ms with both pools on a busy machine, and
300 ms with the batch divided and BLAS held at one thread. It is held also for what is too little
to divide: OpenBLAS's threads look for more work for 26 ms after each product, which cost a
training step 400 ms of processor time.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

# A product that takes longer than so many seconds, and so many multiply-adds a second, had to wait
# for a core; some of the next ones do not use BLAS's threads: at first few, as one may only have
# come first after a pause, and twice as many each time until one is quick again.
_HICCUP, _SLOW = 5e-4, 4e9
_FIRST_PATIENCE, _MOST_PATIENCE = 25, 800


class _Blas:
    """The thread count of the OpenBLAS that NumPy's wheels carry; nothing if there is another."""

    def __init__(self) -> None:
        self._get: Any = None
        self._set: Any = None
        folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
        for path in glob.glob(os.path.join(folder, "*openblas*")):
            try:
                library = ctypes.CDLL(path)
            except OSError:
                continue
            for prefix in ("scipy_", ""):
                for suffix in ("64_", ""):
                    name = f"{prefix}openblas_%s_num_threads{suffix}"
                    if hasattr(library, name % "set") and hasattr(library, name % "get"):
                        self._get = getattr(library, name % "get")
                        self._set = getattr(library, name % "set")
                        return

    @property
    def is_known(self) -> bool:
        return self._set is not None

    def threads(self) -> int:
        return int(self._get()) if self.is_known else 1

    def limit(self, threads: int) -> None:
        self._set(threads)


class _Worker:
    """A thread that calls one function at a time.

    Two locks instead of an executor's queue, future and conditions: those are run by Python, and
    the time they hold its lock is missing on both sides.
    """

    def __init__(self, name: str) -> None:
        self._task: Callable[[], Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._begin, self._done = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._done.acquire()
        threading.Thread(target=self._loop, name=name, daemon=True).start()

    def _loop(self) -> None:
        while True:
            self._begin.acquire()
            task = self._task
            if task is None:
                return
            try:
                self._result = task()
            except BaseException as error:  # raised where the result is asked for
                self._error = error
            self._task = task = None
            self._done.release()

    def start(self, task: Callable[[], Any]) -> None:
        """Have ``task`` called; then :meth:`wait` must be called before the next one."""
        self._task = task
        self._begin.release()

    def wait(self) -> tuple[Any, BaseException | None]:
        """Return the result, or the error, of the task."""
        self._done.acquire()
        result, self._result = self._result, None
        error, self._error = self._error, None
        return result, error

    def end(self) -> None:
        """Let the thread end."""
        self._begin.release()


class _Pool:
    """Threads that each take a part of the work; made when first needed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the threads, which do not exist in a forked child."""
        self._blas: _Blas | None = None
        self._threads: int | None = None
        self._workers: list[_Worker] = []
        self._lock = threading.RLock()  # one division at a time
        self._busy = threading.local()
        self.patience = 0  # how many products are not to use BLAS's threads
        self.next_patience = _FIRST_PATIENCE

    def is_alone(self) -> bool:
        """Whether this thread may not use others: there are none, or it is one of several."""
        return self.get_threads() < 2 or getattr(self._busy, "now", False)

    def get_threads(self) -> int:
        if self._blas is None:
            self._blas = _Blas()
        if self._threads is None:
            # What OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and the machine say.
            self._threads = self._blas.threads()
        return self._threads

    def set_threads(self, threads: int) -> None:
        with self._lock:
            self.get_threads()
            assert self._blas is not None
            for worker in self._workers:
                worker.end()
            self._workers = []
            self._threads = threads
            if self._blas.is_known:
                self._blas.limit(threads)

    def divide(self, count: int) -> list[slice]:
        threads = max(1, min(self.get_threads(), count))
        bounds = [count * i // threads for i in range(threads + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def run(self, function: Callable[[slice], Result], count: int) -> list[Result]:
        """Return ``function`` of slices that cover ``range(count)``, computed side by side."""
        parts = self.divide(count)
        if len(parts) < 2 or getattr(self._busy, "now", False) or not self._lock.acquire(False):
            return [function(slice(0, count))]
        assert self._blas is not None
        try:
            before = self._blas.threads()
            self._blas.limit(1)
            try:
                while len(self._workers) < len(parts) - 1:
                    self._workers.append(_Worker(f"lucid_{len(self._workers)}"))
                others = self._workers[: len(parts) - 1]
                for worker, part in zip(others, parts[1:]):
                    worker.start(functools.partial(self._part, function, part))
                try:
                    first = self._part(function, parts[0])
                finally:
                    outcomes = [worker.wait() for worker in others]
                for _, error in outcomes:
                    if error is not None:
                        raise error
                return [first] + [result for result, _ in outcomes]
            finally:
                self._blas.limit(before)
        finally:
            self._lock.release()

    def alone(self, function: Callable[[slice], Result], count: int) -> Result:
        """Return ``function`` of the whole, on this thread, BLAS at one thread too."""
        if self.is_alone():
            return function(slice(0, count))
        assert self._blas is not None
        before = self._blas.threads()
        self._blas.limit(1)
        try:
            return function(slice(0, count))
        finally:
            self._blas.limit(before)

    def _part(self, function: Callable[[slice], Result], part: slice) -> Result:
        self._busy.now = True  # divisions inside this one run as they are
        try:
            with np.errstate(all="ignore"):
                return function(part)
        finally:
            self._busy.now = False


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)

# Multiply-adds that take as long as a step of an element-wise function on one element.
ELEMENT = 64

# Fewer elements than this are done before a second thread has woken up (about 50 µs).
WORTHWHILE = 1 << 17


def in_parts(function: Callable[[slice], Result], count: int, elements: int) -> list[Result]:
    """Call ``function`` on slices of ``range(count)``, side by side where ``elements`` are many.

    Returns:
        The results, in the order of the slices. The work must not write to the same memory.
    """
    if elements < WORTHWHILE:
        return [function(slice(0, count)) if count < 2 else _pool.alone(function, count)]
    return _pool.run(function, count)


def product_in_parts(
    function: Callable[[slice], Result], count: int, multiply_adds: int
) -> list[Result]:
    """Like :func:`in_parts`, for one image and a function that is mostly a matrix product.

    A hand-over between threads of Python costs 50 to 100 µs, one between BLAS's almost nothing: a
    pass of mobilenetv4_conv_small at batch 1 took 7.4 ms with those, 8.5 with lucid's and 9.5 with
    one thread. But they wait for each other in a loop, and when another process has the second
    core, each product takes 8 ms: 460 ms a pass. So after a product that took far too long the next
    ones are divided over lucid's threads.
    """
    if _pool.is_alone():
        return in_parts(function, count, multiply_adds // ELEMENT)
    if _pool.patience > 0:
        _pool.patience -= 1
        return in_parts(function, count, multiply_adds // ELEMENT)
    start = time.perf_counter()
    result = [function(slice(0, count))]
    if time.perf_counter() - start > _HICCUP + multiply_adds / _SLOW:
        _pool.patience = _pool.next_patience
        _pool.next_patience = min(2 * _pool.patience, _MOST_PATIENCE)
    else:
        _pool.next_patience = _FIRST_PATIENCE
    return result


def divide(count: int) -> list[slice]:
    """Return the slices of ``range(count)`` that :func:`in_parts` works on side by side."""
    return _pool.divide(count)


def sum_parts(parts: list[np.ndarray]) -> np.ndarray:
    """Return the sum of what each part computed, added up into the first."""
    first, *others = parts
    for other in others:
        first += other
    return first


def get_num_threads() -> int:
    """Return how many threads the kernels use."""
    return _pool.get_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads the kernels use; NumPy's BLAS is set to the same number."""
    _pool.set_threads(threads)
