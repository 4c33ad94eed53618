"""What may come of a hostile input: an answer, or an error that lucid raised on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.errors import own


class BrokenError(Exception):
    """lucid did what it must not."""


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
