"""Runs of ``lucid train``, small enough for a second."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lucid.cli import main
from tests.hostile.progress import wait
from tests.hostile.verdict import BrokenError, check

SMALL = ["--data", "digits", "--limit", "40", "--batch-size", "20", "--size", "32"]
NAME = "run.npz"


def command(argv: list[str]) -> int:
    """Run ``lucid`` in this process; it must end with a status, and a failure with a line."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(argv)
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException as error:
        raise BrokenError(
            f"lucid {' '.join(argv)}: a raw {type(error).__name__}: {error}"
        ) from error
    _check_end(argv, status, err.getvalue())
    return status


def start(argv: list[str], folder: Path, backend: str) -> subprocess.Popen[str]:
    """Start ``lucid``, as it is installed, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys, lucid_command; sys.exit(lucid_command.main())", *argv],
        cwd=folder,
        env={**os.environ, "LUCID_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], limit: float = 120) -> tuple[int, str]:
    """Wait for a process, and return its status and what it printed.

    Args:
        process: from :func:`start`.
        limit: seconds of the processor that it may use.
    """
    said: list[str] = []

    def done(seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            said[:] = process.communicate(timeout=seconds)
        return process.returncode is not None

    if not wait(process.pid, limit, done):
        process.kill()
        process.communicate()
        raise BrokenError(f"{process.args} hangs")
    out, err = said
    _check_end(list(process.args[3:]), process.returncode, err)  # type: ignore[index]
    return process.returncode, out + err


def _check_end(argv: list[str], status: int, err: str) -> None:
    said = f"lucid {' '.join(argv)} ended with status {status}: {err[-500:]}"
    check(status in (0, 1, 2, 130), said)
    check("Traceback" not in err, said)
    check(status == 0 or bool(err.strip()), f"{said} (without a word)")


@functools.cache
def _finished(name: str) -> Path:
    folder = Path(tempfile.mkdtemp())
    check(command(["train", *SMALL, "--epochs", "2", "--output", str(folder / name)]) == 0, "train")
    return folder


def finished_run(folder: Path, name: str = NAME) -> Path:
    """Lay a copy of a finished run into a folder, and return the path that the run is called by."""
    shutil.copytree(_finished(name), folder, dirs_exist_ok=True)
    return folder / name
