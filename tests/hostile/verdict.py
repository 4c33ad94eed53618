"""What may come of a hostile input: an answer, or an error that lucid raised on purpose."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lucid

PACKAGE = Path(lucid.__file__).parent


class BrokenError(Exception):
    """lucid did what it must not."""


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


def attempt(call: Callable[[], Any], *names: str) -> tuple[Any, Exception | None]:
    """Return what a call gives and None, or None and the error that lucid raised.

    Args:
        call: what is tried.
        names: what the error must name, such as the file.

    Raises:
        BrokenError: if the error is not lucid's own, says nothing, or leaves out a name.
    """
    try:
        return call(), None
    except Exception as error:
        if not own(error):
            raise BrokenError(f"a raw {type(error).__name__}: {error}") from error
        for name in names:
            if name not in str(error):
                raise BrokenError(f"{name!r} is not named by: {error}") from error
        if not str(error).strip():
            raise BrokenError(f"a {type(error).__name__} that says nothing") from error
        return None, error


def check(holds: bool, reason: str) -> None:
    """Raise BrokenError with ``reason`` if something does not hold."""
    if not holds:
        raise BrokenError(reason)
