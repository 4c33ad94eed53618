"""How long new processes take to their first logits or first training step, and their memory.

A process for each timing, in turns. The parent's clock runs from before the process is made until
what it says arrives, so Python's own start and all imports count. The peak of resident memory is
that of the whole life of the process: nothing else is done in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._case import Case
from benchmarks._machine import environment
from benchmarks._worker import pin

Row = dict[str, Any]
AS_USUAL = {"LUCID_WARM_UP": "0"}  # what a user's process does


def start(
    name: str, folder: Path, threads: int, limit: float, cold: bool = False, waits: bool = False
) -> Row:
    """Return one process's stages in ms after its start, its peak in bytes, and its difference.

    Args:
        name: a contender's.
        folder: the case's.
        threads: of the process, which is kept on as many processors.
        limit: seconds after which it is ended.
        cold: whether it finds an empty cache of kernels.
        waits: whether it waits until all kernels are compiled, for those that come after it.
    """
    row: Row = {"stages_ms": {}}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
    ):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._start_worker", name, str(folder), str(threads)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(threads)
            | ({} if waits else AS_USUAL)
            | ({"NUMBA_CACHE_DIR": cache} if cold else {}),
            preexec_fn=partial(pin, threads),
        )
        watch = threading.Timer(limit, process.kill)
        watch.start()
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                now = (time.perf_counter() - began) * 1e3
                told = json.loads(line)
                if "stage" in told:
                    row["stages_ms"][told["stage"]] = now
                else:
                    row |= told
        status = process.wait()
        watch.cancel()
        if status:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["no message"]
            row["failed"] = f"ended with status {status}: {lines[-1][:200]}"
    return row


def measure(
    case: Case, names: list[str], folder: Path, threads: int, repeats: int, limit: float
) -> dict[str, Row]:
    """Return each contender's row: ``median_ms`` and the like are of the first result.

    The first round of a warm start fills the system's and lucid's caches and does not count.
    """
    cold = case.mode != "start"
    found: dict[str, list[Row]] = {name: [] for name in names}
    for turn in range(repeats + (not cold)):
        shift = turn % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            if not any(out(row) for row in found[name]):
                waits = turn == 0 and not cold
                found[name].append(start(name, folder, threads, limit, cold, waits))
    return {name: summary(rows if cold else rows[1:] or rows) for name, rows in found.items()}


def out(row: Row) -> bool:
    """Return whether a contender takes no further part."""
    return "failed" in row or "skipped" in row


def summary(rows: list[Row]) -> Row:
    """Return the medians of a contender's rounds."""
    if out(rows[-1]):
        return {key: value for key, value in rows[-1].items() if key in ("failed", "skipped")}
    first = [row["stages_ms"]["first"] for row in rows]
    stages = {
        stage: round(statistics.median(row["stages_ms"][stage] for row in rows), 1)
        for stage in rows[0]["stages_ms"]
    }
    return {
        "median_ms": statistics.median(first),
        "fastest_ms": min(first),
        "slowest_ms": max(first),
        "rounds_ms": [round(ms, 1) for ms in first],
        "stages_ms": stages,
        "peak_bytes": statistics.median(row["peak_bytes"] for row in rows),
        "difference": max(row["difference"] for row in rows),
    }
