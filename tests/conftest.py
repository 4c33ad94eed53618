"""Settings of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """Keep the garbage collector off the thousands of tests collected, which live to the end.

    Otherwise every collection of a test walks over them all, which takes a quarter of a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
