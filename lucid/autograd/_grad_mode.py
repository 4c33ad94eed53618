"""Whether operations are recorded, and warn: flags of a thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Flag(threading.local):
    enabled = True
    silent = False  # whether NumPy's warnings are off already, as they are on the way back

    def __init__(self) -> None:
        self.outer: list[list[bool]] = []  # what each context that was entered gives back
        self.spare: list[_Guard] = []

    def leave(self, before: list[bool]) -> None:
        """Give back what was there before, unless a context further out has done so."""
        for depth, entered in enumerate(self.outer):
            if entered is before:
                self.enabled = before[0]
                del self.outer[depth:]
                return


class _Guard:
    """Leaves a context that died: Ctrl-C may have come in the first moment of its ``__exit__``.

    A guard of a context that was left is kept for the next one, and does not die: Python drops a
    Ctrl-C that comes in ``__del__``.
    """

    before: list[bool] | None = None

    def __del__(self) -> None:
        if self.before is not None:
            grad_mode.leave(self.before)


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

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._guards: list[_Guard] = []  # several, as one object can be entered twice

    def __enter__(self) -> None:
        guard = grad_mode.spare.pop() if grad_mode.spare else _Guard()
        guard.before = before = [grad_mode.enabled]
        self._guards.append(guard)
        grad_mode.outer.append(before)
        grad_mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        guard = self._guards[-1]
        if guard.before is not None:
            grad_mode.leave(guard.before)
            guard.before = None
        grad_mode.spare.append(guard)
        self._guards.pop()

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


class inference_mode(set_grad_enabled):
    """Do not record operations: :class:`no_grad` under another name, with a switch.

    Args:
        mode: False records operations.

    Unlike PyTorch's, tensors made inside can be used everywhere afterwards.
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)
