"""Packages that lucid can do without: imported where used, named where missing."""

from __future__ import annotations

import importlib
import os.path
from typing import Any

# The name on the package index, where another project is called lucid.
DISTRIBUTION = "lucid-numpy"

# By os.path, as every `import lucid` comes here: pathlib alone takes a tenth of its time.
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def extra(module: str, name: str, need: str) -> Any:
    """Import ``module``, which the extra ``name`` brings.

    Args:
        module: what to import, such as ``"matplotlib.figure"``.
        name: the extra in ``pyproject.toml``, such as ``"plot"``.
        need: the start of the error's sentence: ``"drawing needs matplotlib"``.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{need}, which is not installed: {install(name)}") from error


def install(name: str) -> str:
    """Return the command that installs the extra ``name``, for this copy of lucid.

    A clone is installed from its folder; any other copy came from the package index.
    """
    if os.path.isfile(os.path.join(_ROOT, "pyproject.toml")):
        return f'pip install -e "{_ROOT}[{name}]"'
    return f'pip install "{DISTRIBUTION}[{name}]"'
