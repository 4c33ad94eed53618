"""The processors that this process may use, and whether images keep threads on them busy."""

from __future__ import annotations

import os


def processors() -> set[int]:
    """Return their numbers: those that the system allows it; all where that is not known."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def keeps_busy(images: int, threads: int) -> bool:
    """Whether none is idle for over an eighth of the time, if each thread takes whole images."""
    return -(-images // threads) * threads * 7 <= images * 8
