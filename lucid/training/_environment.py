"""Where a model is trained: what one has to know to get the same numbers again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from lucid import _ranks, kernels
from lucid._version import __version__

_PACKAGES = ("numpy", "llvmlite", "pillow", "scikit-learn")


def environment() -> dict[str, Any]:
    """Return versions, processor, threads and the command of this process."""
    return {
        "lucid": __version__,
        "python": platform.python_version(),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "backend": kernels.get_backend(),
        "threads": kernels.get_num_threads(),
        **({"ranks": _ranks.size()} if _ranks.size() > 1 else {}),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "command": sys.argv,
    }


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
