"""A rank that fails, is killed, stops or is slow: the others end, or wait."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest

from tests.distributed.launch import ENDED, run_ranks, start_ranks

BEGIN = """
import ctypes, os, signal, sys, time
from lucid import distributed
distributed.init()
rank = distributed.rank()
if rank == 0:
    print("begun", flush=True)
if rank == 1:
    {}
distributed.barrier()
print("through", flush=True)
"""
PATIENCE = 10.0  # seconds in which all have to end, beside those that a start takes


def run(ranks: int, of_rank_1: str) -> subprocess.CompletedProcess[str]:
    return run_ranks(ranks, "-c", BEGIN.format(of_rank_1), timeout=60)


def seconds_after_begin(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Return how long a process goes on after its first line, and what it says on stderr."""
    begin = time.monotonic()
    _, err = process.communicate(timeout=60)
    return time.monotonic() - begin, err


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_an_exception_on_one_rank_ends_all_with_its_message(ranks: int) -> None:
    done = run(ranks, "raise ValueError('a bad thing')")
    assert done.returncode in ENDED
    where = rf"rank 1 of {ranks} \(.+\): Traceback \(most recent call last\):"
    assert re.search(where, done.stderr), done.stderr
    assert done.stderr.count("ValueError: a bad thing") == 1
    assert "through" not in done.stdout


def test_an_exception_on_all_ranks_is_told_once() -> None:
    done = run_ranks(3, "-c", "from lucid import distributed as d; d.init(); 1 / 0")
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1
    assert "rank" not in done.stderr


@pytest.mark.slow
def test_a_stopped_rank_ends_the_others_with_its_name() -> None:
    process = start_ranks(2, "-c", BEGIN.format("os.kill(os.getpid(), signal.SIGSTOP)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    seconds, err = seconds_after_begin(process)
    assert process.returncode in ENDED
    assert re.search(r"rank 1 of 2 \(.+, process \d+\) was stopped", err), err
    assert seconds < PATIENCE


def test_a_killed_rank_ends_the_others() -> None:
    process = start_ranks(2, "-c", BEGIN.format("os.kill(os.getpid(), signal.SIGKILL)"))
    seconds, _ = seconds_after_begin(process)
    assert process.returncode not in (0, None)
    assert seconds < PATIENCE + 5


@pytest.mark.parametrize("waits", [0, 1])
def test_an_interrupt_ends_all(waits: int) -> None:
    """While one rank waits in MPI for the other, which is in Python."""
    code = BEGIN.replace("rank == 1", f"rank == {1 - waits}").format("time.sleep(30)")
    process = start_ranks(2, "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    seconds, err = seconds_after_begin(process)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in err
    assert seconds < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    "slowly", ["time.sleep(12)", "ctypes.PyDLL(None).sleep(9)"], ids=["sleeps", "holds the lock"]
)
def test_a_slow_rank_only_slows(slowly: str) -> None:
    done = run(2, slowly)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("through") == 2


def test_a_rank_that_is_done_is_not_missed() -> None:
    """And it does not keep a processor busy until the others are done."""
    code = (
        "import resource, sys, time\n"
        "from lucid import distributed as d\n"
        "d.init()\n"
        "def told():\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    return used.ru_utime + used.ru_stime\n"
        "begin = told()\n"
        "time.sleep(3) if d.rank() else None\n"
        "import atexit\n"
        "atexit.unregister(d._watch._watch.leave)\n"
        "d._watch._watch.leave()\n"
        "print(told() - begin < 1.5)\n"
    )
    done = run_ranks(2, "-c", code)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr
