"""The processors that this process may use."""

from __future__ import annotations

import os


def processors() -> set[int]:
    """Return their numbers: those that the system allows it; all where that is not known."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
