"""Scripts of the tests, started on several ranks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The launcher's status where a rank ends all: the rank's, or that of one that it kills for it,
# whichever it hears of last.
ENDED = (1, signal.SIGKILL)


def mpiexec() -> str:
    """Return the launcher beside Python or on the path; skip the test if there is none."""
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    beside = str(Path(sys.executable).parent)
    found = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if found is None:
        pytest.skip("mpiexec is neither beside Python nor on the path")
    return found


def run_ranks(
    ranks: int, *arguments: str, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on so many ranks, one thread each."""
    process = start_ranks(ranks, *arguments, **environment)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_ranks(
    ranks: int, *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.Popen[str]:
    """Start Python with these arguments on so many ranks, one thread each."""
    launcher = mpiexec()
    # A launcher of another environment than Python's has its library there.
    libraries = [str(Path(launcher).parents[1] / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return subprocess.Popen(
        [launcher, "-n", str(ranks), sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "",  # a line is one write, whole among those of other ranks
            "PYTHONPATH": str(ROOT),
            **environment,
        },
    )


def check_ranks(ranks: int, *arguments: str, timeout: float = 120, **environment: str) -> str:
    """Run Python on so many ranks; return what it printed, or fail with its errors."""
    done = run_ranks(ranks, *arguments, timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
