"""Numba and LLVM for a process that compiles; stand-ins for one that finds its kernels compiled.

To import them takes a quarter of a second and 125 MB. What the modules of kernels say in their
terms, no one but a compiler reads.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from lucid import _interpreter
from lucid.kernels.numba.machine import _cache, _code

# Set in the processes that another one starts to compile for it.
VARIABLE = "LUCID_COMPILES"

# Whether this process has the compiler, or what is missing must be compiled by another one. That
# would know nothing of a machine of which nothing is kept.
COMPILES = bool(
    os.environ.get(VARIABLE)
    or not (_code.ALONE and _interpreter.AVAILABLE)
    or _cache.load("processor") is None
)


class _Absent:
    """Stands for whatever is not there: what is made of it is such a thing again, also a class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python asks for is not there either
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


if importlib.util.find_spec("numba") is None:  # a full cache could do without, until it cannot
    raise ModuleNotFoundError("No module named 'numba'", name="numba")
if COMPILES:
    from llvmlite import binding, ir
    from numba import types
    from numba.core import cgutils
    from numba.core.datamodel import models
    from numba.extending import register_model

    from lucid.kernels.numba.machine._compile import piece, provide
else:
    binding = ir = types = cgutils = models = _Absent()
    register_model = provide = _Absent()

    def piece(function: Any) -> Any:
        """Leave a function as it is."""
        return function


__all__ = [
    "COMPILES",
    "VARIABLE",
    "binding",
    "cgutils",
    "ir",
    "models",
    "piece",
    "provide",
    "register_model",
    "types",
]
