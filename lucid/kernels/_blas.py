"""NumPy's BLAS: how many threads it has, and what keeps a fork out of its products.

OpenBLAS ends its threads before a process forks. If one of its products is under way in another
thread, that product never ends, and the child inherits locks that nobody will open. So what calls
it goes through :func:`call`, and a fork waits until no such call is under way.
"""

from __future__ import annotations

import ctypes
import glob
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

# A fork waits so many seconds for products at most: some threads may never come to an end.
_PATIENCE = 10

_calling: dict[int, None] = {}  # the threads that are in BLAS
_forking: list[int] = []  # the threads that are about to fork


def call(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Return ``function(*args, **kwargs)``, which calls BLAS, maybe in threads that it waits for.

    It begins when no thread forks. In a call that is under way it begins at once.
    """
    me = threading.get_ident()
    if me in _calling:
        return function(*args, **kwargs)
    # Twice: an exception that comes in the middle of the first end does not reach the second.
    try:
        try:
            _calling[me] = None
            while _forking:
                del _calling[me]
                while _forking:
                    time.sleep(1e-4)
                _calling[me] = None
            return function(*args, **kwargs)
        finally:
            _calling.pop(me, None)
    finally:
        _calling.pop(me, None)


def _wait() -> None:
    me = threading.get_ident()
    _forking.append(me)
    end = time.monotonic() + _PATIENCE
    while _calling.keys() - {me} and time.monotonic() < end:
        time.sleep(1e-4)


def _go_on() -> None:
    _forking.remove(threading.get_ident())


def _begin_anew() -> None:
    _forking.clear()
    _calling.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_begin_anew)


def _core_name(library: ctypes.CDLL, function: str) -> str:
    if not hasattr(library, function):
        return ""
    name = getattr(library, function)
    name.restype = ctypes.c_char_p
    return (name() or b"").decode()


class Blas:
    """The thread count of the OpenBLAS that NumPy's wheels carry; of another, always one.

    Attributes:
        core: the kind of processor that its kernels are for, such as ``"Haswell"``; else empty.
    """

    def __init__(self) -> None:
        self.is_known = False
        self.core = ""
        self.threads: Callable[[], int] = lambda: 1
        self._limit: Callable[[int | None], Any] = lambda threads: None
        folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
        for path in glob.glob(os.path.join(folder, "*openblas*")):
            try:
                library = ctypes.CDLL(path)
            except OSError:
                continue
            for prefix in ("scipy_", ""):
                for suffix in ("64_", ""):
                    name = f"{prefix}openblas_%s_num_threads{suffix}"
                    if hasattr(library, name % "set") and hasattr(library, name % "get"):
                        self.threads = getattr(library, name % "get")
                        self._limit = getattr(library, name % "set")
                        self.is_known = True
                        self.core = _core_name(library, f"{prefix}openblas_get_corename{suffix}")
                        return

    def limit(self, threads: int | None) -> None:
        """Set how many threads it uses."""
        call(self._limit, threads)
