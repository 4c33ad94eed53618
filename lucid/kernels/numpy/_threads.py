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
import glob
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")


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


class _Pool:
    """Threads that each take a part of the work; made when first needed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the threads, which do not exist in a forked child."""
        self._blas: _Blas | None = None
        self._threads: int | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.RLock()  # one division at a time
        self._busy = threading.local()

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
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None
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
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(self.get_threads() - 1, "lucid")
                others = [self._executor.submit(self._part, function, p) for p in parts[1:]]
                first = self._part(function, parts[0])
                return [first] + [other.result() for other in others]
            finally:
                self._blas.limit(before)
        finally:
            self._lock.release()

    def alone(self, function: Callable[[slice], Result], count: int) -> Result:
        """Return ``function`` of the whole, on this thread, BLAS at one thread too."""
        if self.get_threads() < 2 or getattr(self._busy, "now", False):
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
