"""What registering a hook returns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

_numbers = itertools.count()


class Hook:
    """A registered function: how it is to be called."""

    __slots__ = ("function", "with_kwargs")

    def __init__(self, function: Callable[..., Any], with_kwargs: bool) -> None:
        self.function = function
        self.with_kwargs = with_kwargs


class RemovableHandle:
    """Takes a hook off again: call :meth:`remove`, or use it in a ``with`` statement."""

    def __init__(self, hooks: dict[int, Hook]) -> None:
        self._hooks = hooks
        self.id = next(_numbers)

    def remove(self) -> None:
        """Take the hook off; a second call has no effect."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register(
    hooks: dict[int, Hook], function: Callable[..., Any], prepend: bool, with_kwargs: bool
) -> RemovableHandle:
    """Add ``function`` to ``hooks``, last or first, and return what removes it."""
    handle = RemovableHandle(hooks)
    later = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[handle.id] = Hook(function, with_kwargs)
    hooks.update(later)
    return handle
