"""The docstrings of lucid, for the tests that run what is written in them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import lucid

#: Modules that need a package which lucid can do without.
NEEDS = {"lucid.visual.sphinx": "sphinx", "lucid.kernels.numba": "numba"}


def docstrings_with(mark: str) -> dict[str, tuple[ModuleType, str]]:
    """Return the docstrings that hold ``mark``, each with its module, by what they describe."""
    found: dict[str, tuple[ModuleType, str]] = {}
    seen: set[str] = set()  # a function whose errors name it is there with and without its wrapper
    for module in _modules():
        for path, value in _members(module):
            text = getattr(value, "__doc__", None)
            if isinstance(text, str) and mark in text and text not in seen:
                seen.add(text)
                found[path] = module, inspect.cleandoc(text)
    return found


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(lucid.__path__, "lucid.", onerror=lambda name: None):
        needed = [NEEDS[start] for start in NEEDS if found.name.startswith(start)]
        if found.name != "lucid.__main__" and all(map(importlib.util.find_spec, needed)):
            yield importlib.import_module(found.name)


def _members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield a module and the functions, classes and methods that it defines."""
    yield module.__name__, module
    for name, value in list(vars(module).items()):
        if not (inspect.isroutine(value) or inspect.isclass(value)):
            continue
        if value.__module__ != module.__name__:
            continue
        path = f"{module.__name__}.{name}"
        yield path, value
        for key, member in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isroutine(member) or isinstance(member, property):
                yield f"{path}.{key}", member
