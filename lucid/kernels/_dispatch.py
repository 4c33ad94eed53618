"""Which backend computes. What a backend is, ``backend.py`` says."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lucid._check import is_integer
from lucid._extras import install

if TYPE_CHECKING:
    from lucid.kernels.backend import Backend


def _numpy() -> Backend:
    import lucid.kernels.numpy as backend

    return backend


# The first llvmlite that writes instructions as the kernels do; the extra "fast" asks for it too.
_LLVMLITE = (0, 44)


def _too_old() -> str:
    """Return what to say of the llvmlite that is installed, or nothing if it is new enough."""
    import llvmlite

    if tuple(map(int, re.findall(r"\d+", llvmlite.__version__)[:2])) >= _LLVMLITE:
        return ""
    wanted, given = ".".join(map(str, _LLVMLITE)), llvmlite.__version__
    return f"backend 'numba' needs llvmlite {wanted} or newer, not {given}: {install('fast')}"


def _numba() -> Backend:
    if complaint := _too_old():
        raise ImportError(complaint)
    import lucid.kernels.numba as backend

    return backend


# name -> (what imports it, what to install to get it)
_BACKENDS: dict[str, tuple[Callable[[], Backend], str | None]] = {
    "numpy": (_numpy, None),
    "numba": (_numba, "fast"),
}

_active: Backend | None = None
_name = ""
_here: ContextVar[Backend | None] = ContextVar("lucid.backend", default=None)  # instead of it


def available_backends() -> list[str]:
    """Return the names that :func:`set_backend` takes, whether installed or not."""
    return list(_BACKENDS)


def set_backend(name: str) -> None:
    """Choose what computes the kernels, for the whole process.

    Args:
        name: ``"numpy"``, which is always there, or ``"numba"``, which is chosen by itself where
            llvmlite is installed: the binding of LLVM of the Numba project, which comes with Numba.
            The environment variable ``LUCID_BACKEND`` sets the same at start.

    Raises:
        ValueError: if there is no backend of that name.
        ImportError: if its packages are not installed or too old; the message names the extra.
    """
    global _active, _name
    if name not in _BACKENDS:
        known = ", ".join(repr(backend) for backend in _BACKENDS)
        raise ValueError(f"set_backend: expected one of {known}, got {name!r}")
    load, extra = _BACKENDS[name]
    try:
        _active = load()
    except ModuleNotFoundError as error:
        if extra is None or error.name is None or error.name.startswith("lucid"):
            raise
        raise ImportError(
            f"backend {name!r} needs {error.name}, which is not installed: {install(extra)}"
        ) from error
    _name = name


def _default() -> str:
    """Return the fastest backend that can compute here, without importing it.

    Kernels are compiled from their source, which a frozen program may not have.
    """
    has_source = os.path.exists(os.path.join(os.path.dirname(__file__), "numba", "__init__.py"))
    if not has_source or not importlib.util.find_spec("llvmlite"):
        return "numpy"
    if complaint := _too_old():
        warnings.warn(f"{complaint}. NumPy computes until then.", stacklevel=3)
        return "numpy"
    return "numba"


def get_backend() -> str:
    """Return the name of the backend in use."""
    active()
    return _name


def active() -> Backend:
    """Return the module whose functions are the kernels in use."""
    if (here := _here.get()) is not None:
        return here
    if _active is None:
        set_backend(os.environ.get("LUCID_BACKEND") or _default())
    assert _active is not None
    return _active


def warm_up(wait: bool = True) -> None:
    """Compile all kernels of the backend in use that are not compiled yet, once on a machine.

    That takes some seconds of all processors, in other processes than this one. Without it eager
    inference and training wait for each kernel when it is first used, and what
    :func:`lucid.compile` returns computes by NumPy until all are there; its results then change by
    rounding. If they must not, call this first, or set the environment variable ``LUCID_WARM_UP``
    to ``1``, so that ``compile`` does.

    Args:
        wait: until they are compiled.

    Example:
        >>> lucid.warm_up()
        >>> fast = lucid.compile(nn.Linear(3, 2), (1, 3))
    """
    active().warm_up(wait)


def is_ready() -> bool:
    """Return whether the kernels in use are compiled; with ``LUCID_WARM_UP`` when they are."""
    if os.environ.get("LUCID_WARM_UP", "0") not in ("", "0"):
        warm_up()
    return active().is_ready()


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Let the NumPy backend compute, in this thread, for one that is not ready."""
    token = _here.set(_numpy())
    try:
        yield
    finally:
        _here.reset(token)


def get_num_threads() -> int:
    """Return how many threads the kernels in use work with."""
    return active().get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads the kernels work with, for the whole process.

    Call it while no other thread computes: memory that kernels share out among their threads is
    measured out when they start.

    Args:
        threads: at least 1. At the start it is what ``OMP_NUM_THREADS`` says, or the number of
            processors. With the NumPy backend NumPy's own matrix products use as many.

    Raises:
        ValueError: if ``threads`` is no positive integer.
    """
    if not is_integer(threads, 1):
        raise ValueError(f"set_num_threads: expected a positive integer, got {threads!r}")
    active().set_num_threads(threads)
