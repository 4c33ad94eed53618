"""What settings of optimisers and schedules may be, and the numbers in their states."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lucid._check import is_whole, short

# Raises unless a value is right, given who asks, the value's name and the value.
Check = Callable[[str, str, Any], None]


def _number(limits: str, is_right: Callable[[Any], bool]) -> Check:
    """Return the check of a number, of which ``is_right`` asks more; booleans are none."""

    def check(who: str, name: str, value: Any) -> None:
        kinds = (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise TypeError(f"{who}: {name} must be a number, got {type(value).__name__}")
        if not is_right(value):
            raise ValueError(f"{who}: {name} must {limits}, got {short(value)}")

    return check


_LARGEST = sys.float_info.max  # an integer may be too large for a float
_INFINITE = (math.inf, -math.inf)

finite = _number("be finite", lambda value: abs(value) <= _LARGEST)
not_negative = _number("be at least 0 and finite", lambda value: 0 <= value <= _LARGEST)
positive = _number("be above 0 and finite", lambda value: 0 < value <= _LARGEST)
below_one = _number("be at least 0 and below 1 and finite", lambda value: 0 <= value < 1)
part = _number("be between 0 and 1", lambda value: 0 <= value <= 1)
positive_part = _number("be above 0 and at most 1", lambda value: 0 < value <= 1)
not_nan = _number(
    "not be NaN, nor too large for a float",
    lambda value: abs(value) <= _LARGEST or value in _INFINITE,
)


def integer(least: int = 1) -> Check:
    """Return the check of an integer that a file can hold, not below ``least``."""

    def check(who: str, name: str, value: Any) -> None:
        if not is_whole(value):
            raise TypeError(f"{who}: {name} must be an integer, got {value!r}")
        if value < least:
            raise ValueError(f"{who}: {name} must be at least {least}, got {short(value)}")
        if value >= 2**63:
            raise ValueError(f"{who}: {name} must be below 2**63, got {short(value)}")

    return check


def flag(who: str, name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name} must be True or False, got {value!r}")


def function(who: str, name: str, value: Any) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{who}: {name} must be a function, got {value!r}")


def milestones(who: str, name: str, value: Any) -> None:
    """Raise unless ``value`` is a list of steps."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{who}: {name} must be a list of integers, got {value!r}")
    for milestone in value:
        integer(0)(who, "a milestone", milestone)


def one_of(*options: str) -> Check:
    """Return the check of one of some words."""

    def check(who: str, name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in options:
            expected = " or ".join(map(repr, options))
            raise ValueError(f"{who}: {name} must be {expected}, got {value!r}")

    return check


def pair(who: str, name: str, value: Any, check: Check = below_one) -> None:
    """Raise unless ``value`` is a pair of numbers that are right, such as betas."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{who}: {name} must be a pair of numbers, got {value!r}")
    for index, one in enumerate(value):
        check(who, f"{name}[{index}]", one)


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an optimiser: its constructor's ``locals()`` without the others."""
    others = ("self", "params", "__class__")
    return {name: value for name, value in arguments.items() if name not in others}
