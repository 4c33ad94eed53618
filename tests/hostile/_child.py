"""A process that makes trials: ``python -m tests.hostile._child PART SEED BACKEND``.

It reads the numbers of trials, one a line, and answers each with one line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import resource
import sys
import tempfile
import traceback
from pathlib import Path

from benchmarks import _memory

MOST_MEMORY = (
    4 << 30
)  # beyond what the process has at its start; an end with an error, not the system's
MOST_GROWTH = 400 << 20  # bytes that one trial may take


def one(part: str, seed: int, index: int, backend: str) -> None:
    """Make one trial in a folder of its own."""
    module = importlib.import_module(f"tests.hostile.{part}")
    rng = random.Random(f"{part} {seed} {index}")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        module.trial(rng, Path(folder), backend)


def main() -> None:
    """Answer until the pipe ends."""
    part, seed, backend = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["LUCID_BACKEND"] = backend
    importlib.import_module(f"tests.hostile.{part}")
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + MOST_MEMORY, space + MOST_MEMORY))
    for line in sys.stdin:
        problem = ""
        _memory.reset_peak()
        before = _memory.resident()
        try:
            one(part, seed, int(line), backend)
        except BaseException as error:
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
        grown = _memory.peak() - before
        if not problem and grown > MOST_GROWTH:
            problem = f"took {grown >> 20} MiB"
        answers.write(json.dumps({"problem": problem}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
