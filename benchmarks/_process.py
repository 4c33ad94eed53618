"""The parent's end of a worker's pipe."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import environment


class WorkerError(Exception):
    """The worker ended, or did not answer in time."""


class WorkerProcess:
    """``python -m benchmarks._worker ARGUMENTS``, asked one thing at a time.

    It imports what lies in ``folder`` (default: the current one).
    """

    def __init__(
        self, arguments: list[str], threads: int, limit: float, folder: Path | None = None
    ) -> None:
        # Closed in stop().
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115
            "w+", encoding="utf-8", errors="replace"
        )
        self._limit = limit  # seconds for one answer
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._worker", *arguments, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(threads),
            cwd=folder,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            WorkerError: if the process ends or takes longer than the limit.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write((json.dumps({"do": do, **arguments}) + "\n").encode())
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._why()) from error
        if not select.select([self._process.stdout], [], [], self._limit)[0]:
            raise WorkerError(f"no answer to {do!r} within {self._limit:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._why())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _why(self) -> str:
        status = self._process.wait(10)
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"ended with status {status}: {lines[-1][:200] if lines else 'no message'}"

    def stop(self) -> None:
        """End the process, however it is."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def run_module(module: str, arguments: list[str], threads: int, limit: float) -> str | None:
    """Run a module to its end; return None, or in one line why it failed."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=environment(threads),
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return f"{module} took longer than {time.monotonic() - start:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"status {done.returncode}")[:300]
