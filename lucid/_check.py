"""What values that come from a file or a caller may be."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

# The largest float32: larger numbers are infinite once an array takes them.
LARGEST = float.fromhex("0x1.fffffep127")

# What is expected, in words, and whether a value is that.
Check = tuple[str, Callable[[Any], bool]]


def is_integer(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Return whether ``value`` is an integer within bounds; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Return whether ``value`` is a finite number within bounds; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlong = 4, 80, 80, 60
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 12


def short(value: Any) -> str:
    """Return a value as text for a message, which it may not flood."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a huge {type(value).__name__}"


def check_entries(document: Any, checks: Mapping[str, Check], where: str = "") -> None:
    """Raise unless ``document`` is a mapping in which each entry is as it should be.

    Args:
        document: what was read.
        checks: by key; a key that is missing is wrong, others are not looked at.
        where: the name of ``document`` in its file, for messages.

    Raises:
        ValueError: naming the key, what was expected and what was given.
    """
    if not isinstance(document, Mapping):
        raise ValueError(f"{where or 'its content'}: expected an object, got {short(document)}")
    for key, (expected, is_right) in checks.items():
        name = f"{where}.{key}" if where else key
        if key not in document:
            raise ValueError(f"{name!r} is missing")
        if not is_right(document[key]):
            raise ValueError(f"{name!r}: expected {expected}, got {short(document[key])}")
