"""What is public in lucid: read from the modules, for the reference and for the tests."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from typing import Any

#: The modules whose names users may count on; each has a page in the reference.
MODULES = (
    "lucid",
    "lucid.autograd",
    "lucid.graph",
    "lucid.linalg",
    "lucid.special",
    "lucid.nn",
    "lucid.nn.functional",
    "lucid.nn.init",
    "lucid.nn.utils",
    "lucid.nn.utils.parametrizations",
    "lucid.nn.utils.parametrize",
    "lucid.nn.utils.rnn",
    "lucid.optim",
    "lucid.optim.lr_scheduler",
    "lucid.optim.swa_utils",
    "lucid.models",
    "lucid.models.configs",
    "lucid.data",
    "lucid.data.datasets",
    "lucid.data.transforms",
    "lucid.training",
    "lucid.distributed",
    "lucid.quantization",
    "lucid.report",
    "lucid.sklearn",
    "lucid.web",
    "lucid.visual",
    "lucid.onnx",
)


def public_names(module_name: str) -> dict[str, Any]:
    """Return the public names of a module that are lucid's own, without modules and type aliases.

    A module written as one file (``lucid.nn.init``) lists what it defines and what it re-exports
    as ``from x import y as z`` from a file whose name starts with an underscore.
    """
    module = importlib.import_module(module_name)
    found: dict[str, Any] = {}
    for name in sorted(dir(module)):
        value = getattr(module, name)
        if name.startswith("_") or isinstance(value, types.ModuleType) or not callable(value):
            continue
        home = getattr(value, "__module__", None) or ""
        if not home.startswith("lucid") or (
            not inspect.isroutine(value) and not inspect.isclass(value)
        ):
            continue
        if home == module_name or is_reexported(module, name):
            found[name] = value
    return found


def is_reexported(module: types.ModuleType, name: str) -> bool:
    """Whether the module's text imports the name for others, or loads it when it is used.

    That is said by ``import ... as name``, or by ``import *`` from a module with ``__all__``.
    """
    text = inspect.getsource(module)
    if f" as {name}\n" in text or name in getattr(module, "_LAZY", {}):
        return True
    sources = re.findall(r"^from (\S+) import \*", text, re.MULTILINE)
    return any(name in importlib.import_module(source).__all__ for source in sources)
