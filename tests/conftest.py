"""Settings of all tests."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes one thread: they have a core each.

    The processes that xdist starts inherit the variables, which NumPy and lucid read once. Compiled
    models wait for the kernels that they are to be tested with.
    """
    os.environ.setdefault("LUCID_WARM_UP", "1")
    if getattr(config.option, "numprocesses", None):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")
