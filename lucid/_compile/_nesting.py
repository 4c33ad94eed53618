"""Values nested in lists, tuples, named tuples and dicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any


def leaves(value: Any) -> Iterator[Any]:
    """Yield what is in a value, whatever it is nested in."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def mapped(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Return ``function`` of each leaf in the same nesting; ``others`` are nested likewise."""
    if isinstance(value, dict):
        result = copy.copy(value)  # of the same class, and in the same order
        for key in value:
            result[key] = mapped(function, value[key], *[other[key] for other in others])
        return result
    if isinstance(value, (list, tuple)):
        items = [mapped(function, *each) for each in zip(value, *others)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value, *others)
