"""What the measurements ran on, as it is written beside them."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from lucid.cli._bench import processor
from lucid.kernels._processors import processors

#: Every library's own variable for its number of threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


#: The environment that keeps to AVX2 what can be kept to it, on a machine that has AVX-512: lucid's
#: kernels, NumPy and its OpenBLAS, and PyTorch with oneDNN and what it compiles.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi2,+popcnt",
    # By the names of all versions; those that one does not know it passes over.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512_SKX AVX512_CLX "
    "AVX512_CNL",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
CODES = {"": {}, "avx2": AVX2}
#: Who chooses its instructions by the processor alone, and is left out where others are limited.
UNLIMITED = ("onnxruntime", "openvino")


def code() -> str:
    """Return what the environment limits instructions to: a key of ``CODES``."""
    return "avx2" if AVX2.items() <= os.environ.items() else ""


def available_processors() -> int:
    """Return how many processors this process may use."""
    return len(processors())


def _vector_extensions() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return []
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            return [f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile") if f in flags]
    return []


def describe(threads: int) -> dict[str, Any]:
    """Return the machine, the software below the contenders, and the time."""
    import numpy as np

    return {
        "processor": processor(),
        "vector_extensions": _vector_extensions(),
        "code": code(),
        "processors_available": available_processors(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: thread counts alike, nothing left to compile."""
    return {
        **os.environ,
        **{name: str(threads) for name in THREAD_VARIABLES},
        "LUCID_WARM_UP": "1",  # what is timed are lucid's kernels, and not what computes until then
        "PYTHONWARNINGS": "ignore",
    }
