"""How far a process has come: by the processor's time that it had, as a busy machine gives little.

A limit of wall time takes a machine on which others work for a hang.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_STILL = 120  # seconds without any progress: the process waits for something that does not come


def processor_seconds(pid: int) -> float:
    """Return what a process and its children, living or ended, have used."""
    try:
        # After the name, which may hold anything: own and ended children's time, as ticks.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return 0.0
    own = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for text in tasks for child in text.split())


def wait(pid: int, limit: float, done: Callable[[float], object], every: float = 1.0) -> bool:
    """Wait until something is done, and return whether it was.

    Args:
        pid: the process that does it.
        limit: seconds of the processor that it may use from now on.
        done: waits for so many seconds at most, and returns whether it is done.
        every: how long to let it wait.
    """
    begin = most = processor_seconds(pid)
    since = time.monotonic()
    while not done(every):
        used = processor_seconds(pid)
        if used > most:
            most, since = used, time.monotonic()
        if used - begin > limit or time.monotonic() - since > _STILL:
            return bool(done(0))
    return True
