"""Resident memory of this process: now, and at its peak since a reset.

On Linux the kernel's high-water mark can be reset (``/proc/self/clear_refs``, value 5), so the peak
is that of the measured step alone. Elsewhere it is the peak of the whole life of the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def resident() -> int:
    """Return the resident bytes now; elsewhere than on Linux those of the peak so far."""
    return _field("VmRSS") if _STATUS.exists() else peak()


def reset_peak() -> bool:
    """Let the peak begin anew; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the peak of the resident bytes since the last reset."""
    if _STATUS.exists():
        return _field("VmHWM")
    import resource

    # Kilobytes, but bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
