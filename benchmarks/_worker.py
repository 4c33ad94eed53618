"""A process with one contender and one case: ``python -m benchmarks._worker NAME FOLDER THREADS``.

With ``peak SIZE THREADS`` it has a matrix product of that size instead, and answers ``time`` alone.

It answers requests, one JSON object a line, and between them waits on the pipe without work:

- ``load``: import, set up, run once or twice and compare with what lucid computed; answers the
  difference, the versions, and the resident memory after the imports;
- ``time``: run for about ``seconds``; answers the milliseconds of every run but the first;
- ``memory``: answers the peak resident memory since the first ``time``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _memory
from benchmarks._case import CHECKED_STEPS, Case, read_case
from benchmarks._contenders import CONTENDERS, NotAvailableError, Run


def pin(threads: int) -> None:
    """Keep the process on as many processors as it may have threads, where that can be said."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:threads])


class Worker:
    """Holds the contender's callable; each method answers the request of its name."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self._contender = CONTENDERS[name]
        self._folder, self._threads = folder, threads
        self._run: Run = lambda: None
        self._timed = False

    def load(self) -> dict[str, Any]:
        """Set up, run, compare."""
        case = read_case(self._folder)
        try:
            for package in self._contender.packages:
                importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise NotAvailableError(f"{error.name} is not installed") from error
        imported = _memory.resident()
        start = time.perf_counter()
        self._run = self._contender.set_up(case, self._folder, self._threads)
        difference = _difference(case, self._folder, self._run)
        return {
            "difference": difference,
            "set_up_s": time.perf_counter() - start,
            "imported_bytes": imported,
            "versions": {package: version(package) for package in self._contender.packages},
        }

    def time(self, seconds: float) -> dict[str, Any]:
        """Run for about ``seconds``; the first run wakes threads and caches and does not count."""
        if not self._timed:
            _release()
            _memory.reset_peak()
            self._timed = True
        self._run()
        times: list[float] = []
        while not times or (sum(times) < seconds and len(times) < 50):
            start = time.perf_counter()
            self._run()
            times.append(time.perf_counter() - start)
        return {"ms": [t * 1e3 for t in times]}

    def memory(self) -> dict[str, Any]:
        """Return the peak resident memory since the first timing."""
        return {"peak_bytes": _memory.peak()}


class Peak:
    """Not a contender: the speed of one large float32 matrix product, in the same alternation."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.random((size, size), dtype=np.float32) for _ in range(2))
        self._out = np.empty_like(self._a)

    def time(self, seconds: float) -> dict[str, Any]:
        """Return GFLOP/s of products for about ``seconds``."""
        rates: list[float] = []
        stop = time.perf_counter() + seconds
        while not rates or time.perf_counter() < stop:
            start = time.perf_counter()
            np.matmul(self._a, self._b, out=self._out)
            rates.append(2e-9 * len(self._a) ** 3 / (time.perf_counter() - start))
        return {"gflops": rates}


def _difference(case: Case, folder: Path, run: Run) -> float:
    """Return the largest difference to lucid's result, relative to its largest value."""
    if case.trains:
        expected = np.array(json.loads((folder / "expected.json").read_text()))
        given = np.array([run() for _ in range(CHECKED_STEPS)])
    else:
        expected = np.load(folder / "expected.npy")
        given = run()
        given = np.array(run())  # the second run may be by other code than the first
    if given.shape != expected.shape:
        raise ValueError(f"expected a result of shape {expected.shape}, got {given.shape}")
    return float(np.abs(given - expected).max() / max(1.0, np.abs(expected).max()))


def version(package: str) -> str:
    """Return what a package says its version is."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def _release() -> None:
    """Give what setting up left behind back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Answer requests until the pipe ends."""
    name, subject, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pin(threads)
    worker: Any
    worker = Peak(int(subject)) if name == "peak" else Worker(name, Path(subject), threads)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except NotAvailableError as error:
            answer = {"skipped": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
