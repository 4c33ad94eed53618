"""Whether operations are recorded: one flag a thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Flag(threading.local):
    enabled = True

    def __init__(self) -> None:
        self.outer: list[list[bool]] = []  # what each context that was entered gives back


grad_mode = _Flag()


def is_grad_enabled() -> bool:
    """Return whether operations are recorded for backward in this thread."""
    return grad_mode.enabled


class set_grad_enabled:
    """Switch recording on or off, as a context manager or a decorator.

    Args:
        mode: True records operations, False does not.

    The setting belongs to the current thread and is restored on leaving, also after an
    exception. Unlike PyTorch's, a bare call without ``with`` has no effect.
    """

    _outer: list[list[bool]] = []  # noqa: RUF012  several, as one object can be entered twice

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._outer = []

    def __enter__(self) -> None:
        before = [grad_mode.enabled]
        self._outer.append(before)
        grad_mode.outer.append(before)
        grad_mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        self._leave(self._outer[-1])
        self._outer.pop()

    def __del__(self) -> None:  # Ctrl-C may have come in the first moment of ``__exit__``
        if self._outer:
            self._leave(self._outer[0])

    @staticmethod
    def _leave(before: list[bool]) -> None:
        """Give back what was there before, unless a context further out has done so."""
        for depth, entered in enumerate(grad_mode.outer):
            if entered is before:
                grad_mode.enabled = before[0]
                del grad_mode.outer[depth:]
                return

    def __call__(self, fn: F) -> F:
        mode = self.mode

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(mode):
                return fn(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(set_grad_enabled):
    """Do not record operations: ``with no_grad():`` or ``@no_grad()``.

    Results made inside do not require grad, and nothing is kept for a backward pass.

    Example:
        >>> x = lucid.tensor([1.0], requires_grad=True)
        >>> with lucid.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
        >>> (x * 2).requires_grad
        True
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Record operations, also inside :class:`no_grad`: ``with enable_grad():`` or a decorator."""

    def __init__(self) -> None:
        super().__init__(True)
