"""Checks of layer arguments."""

from __future__ import annotations

from typing import Any

import numpy as np


def count(value: Any, name: str, who: str, minimum: int = 1) -> int:
    """Return ``value`` as an integer of at least ``minimum``.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{who}: {name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{who}: {name} must be at least {minimum}, got {value}")
    return int(value)


def probability(value: Any, name: str, who: str) -> float:
    """Return ``value``, a number from 0 to 1.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is outside.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{who}: {name} must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{who}: {name} must be between 0 and 1, got {value}")
    return value  # type: ignore[return-value]  # as given: it is printed


def one_of(value: Any, options: tuple[str, ...], name: str, who: str) -> Any:
    """Return ``value``, one of ``options``.

    Raises:
        ValueError: if it is something else.
    """
    if value not in options:
        raise ValueError(f"{who}: {name} must be one of {options}, got {value!r}")
    return value
