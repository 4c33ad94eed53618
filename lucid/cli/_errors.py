"""How a command ends that cannot do its work."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

from lucid._check import one_line
from lucid.training import FinishedError, HeldElsewhereError


class CommandError(Exception):
    """The work failed: one line on stderr, exit status 1."""

    status = 1


class UsageError(CommandError):
    """The command was called wrongly, and nothing was done: exit status 2."""

    status = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM: a command ends by it as by Ctrl-C."""

    number = signal.SIGTERM


def how_it_ended(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """Return what ended a command, in a word, and its exit status, as shells have it."""
    is_sigterm = isinstance(interrupt, Terminated)
    return ("terminated", 143) if is_sigterm else ("interrupted", 130)


@contextlib.contextmanager
def raising_terminated() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` meanwhile, unless the caller has a use for it."""

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class InterruptedRunError(CommandError):
    """Ctrl-C or SIGTERM ended a run.

    Args:
        interrupt: which of them.
        kept: what was kept, in words.
    """

    def __init__(self, interrupt: KeyboardInterrupt, kept: str) -> None:
        how, self.status = how_it_ended(interrupt)
        super().__init__(f"{how}. {kept}")


@contextlib.contextmanager
def reading_run() -> Iterator[None]:
    """Turn errors that say that there is no such run, or none to go on with, into wrong uses."""
    try:
        yield
    except HeldElsewhereError as error:
        raise UsageError(f"{error}, or give another --output") from error
    except (FileNotFoundError, FinishedError) as error:
        raise UsageError(one_line(error)) from error
