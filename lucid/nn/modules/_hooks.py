"""Hooks: functions that a module calls before and after its forward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from lucid.nn.modules._changes import note_change

_numbers = itertools.count()


class Hook:
    """A registered function, and how it is called: see :meth:`Module.register_forward_hook`."""

    __slots__ = ("always_call", "function", "with_kwargs")

    def __init__(
        self, function: Callable[..., Any], with_kwargs: bool, always_call: bool = False
    ) -> None:
        self.function = function
        self.with_kwargs = with_kwargs
        self.always_call = always_call

    def before(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the module's forward, as this hook leaves them."""
        replaced = self.function(module, args, *self._extra(kwargs))
        if replaced is None:
            return args, kwargs
        if not self.with_kwargs:
            return (replaced if isinstance(replaced, tuple) else (replaced,)), kwargs
        if not isinstance(replaced, tuple) or len(replaced) != 2:
            raise TypeError(
                "forward pre-hook with kwargs: expected None or a tuple (args, kwargs), "
                f"got {type(replaced).__name__}"
            )
        return replaced

    def after(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return the output of the module's forward, as this hook leaves it."""
        replaced = self.function(module, args, *self._extra(kwargs), output)
        return output if replaced is None else replaced

    def _extra(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        return (kwargs,) if self.with_kwargs else ()


class RemovableHandle:
    """Takes a hook off again: call :meth:`remove`, or use it in a ``with`` statement."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        # Hooks of a module that was unpickled have numbers of another process.
        self.id = next(number for number in _numbers if number not in hooks)

    def remove(self) -> None:
        """Take the hook off; a second call has no effect."""
        self._hooks.pop(self.id, None)
        note_change()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register(hooks: dict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
    """Add ``hook`` to ``hooks``, last or first, and return what removes it."""
    handle = RemovableHandle(hooks)
    later = dict(hooks) if prepend else {}
    note_change()  # before as well: Ctrl-C may come between
    if prepend:
        hooks.clear()
    hooks[handle.id] = hook
    hooks.update(later)
    note_change()
    return handle
