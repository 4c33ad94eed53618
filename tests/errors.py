"""Whose is an error?"""

from __future__ import annotations

import linecache
from pathlib import Path

import lucid

PACKAGE = Path(lucid.__file__).parent


def own(error: BaseException) -> bool:
    """Return whether a statement of lucid's raised the error, rather than NumPy or Python."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    path = trace.tb_frame.f_code.co_filename
    line = linecache.getline(path, trace.tb_lineno).strip()
    return Path(path).is_relative_to(PACKAGE) and line.startswith("raise")
