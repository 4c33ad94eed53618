"""Make the trials, and say which failed."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hostile import _child
from tests.hostile.progress import wait

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("numpy", "numba")
# part -> (trials in all, seconds of the processor that one may take)
PARTS = {
    "files": (4400, 120),
    "images": (1800, 60),
    "onnx": (2000, 60),
    "states": (1000, 30),
    "arguments": (2000, 30),
    "kills": (200, 240),
    "races": (60, 240),
}
# These start processes that compute: one at a time, so that a slow machine is not taken for a hang.
ALONE = ("kills", "races")


class Child:
    """A process that makes trials of one part; a new one replaces it when it dies or hangs."""

    def __init__(self, part: str, seed: int, backend: str) -> None:
        self._arguments = [part, str(seed), backend]
        self._limit = PARTS[part][1]
        self._start()

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile._child", *self._arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def problem(self, index: int) -> str:
        """Make a trial, and return what was wrong, or nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{index}\n".encode())
        self._process.stdin.flush()
        answers = [self._process.stdout]
        if not wait(self._process.pid, self._limit, lambda s: select.select(answers, [], [], s)[0]):
            self.stop()
            self._start()
            return f"hangs: no end within {self._limit} s of the processor, or no progress"
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            problem = f"the process ended with status {status}: {self._errors.read()[-300:]}"
            self.stop()
            self._start()
            return problem
        return str(json.loads(line)["problem"])

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def attack(part: str, numbers: Sequence[int], seed: int, jobs: int) -> dict[int, str]:
    """Make trials of a part, and return the problems by number; the backends take turns."""
    problems: dict[int, str] = {}
    left = iter(numbers)
    lock = threading.Lock()

    def work() -> None:
        children: dict[str, Child] = {}
        try:
            while True:
                with lock:
                    index = next(left, None)
                if index is None:
                    return
                backend = BACKENDS[index % 2]
                if backend not in children:
                    children[backend] = Child(part, seed, backend)
                if problem := children[backend].problem(index):
                    problems[index] = problem
                    print(f"{part} {index}: {' '.join(problem.split())[:400]}", flush=True)
        finally:
            for child in children.values():
                child.stop()

    count = 1 if part in ALONE else jobs
    with ThreadPoolExecutor(count) as pool:
        for worker in [pool.submit(work) for _ in range(count)]:
            worker.result()  # raises what stopped it: trials that were not made have not passed
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """Make the trials; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", default=[],
                        help=f"of {', '.join(PARTS)} (default: all)")  # fmt: skip
    parser.add_argument("--count", type=int, help="trials of each part (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="trial N, in this process")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    if args.only is not None:
        for part in args.parts:
            _child.one(part, args.seed, args.only, BACKENDS[args.only % 2])
        return 0
    failed = 0
    for part in args.parts or PARTS:
        count = args.count or PARTS[part][0]
        begin = time.monotonic()
        problems = attack(part, range(count), args.seed, args.jobs)
        failed += len(problems)
        print(f"{part}: {count} tried, {len(problems)} failed, {time.monotonic() - begin:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
