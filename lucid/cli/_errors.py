"""How a command ends that cannot do its work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lucid._check import one_line
from lucid.training import FinishedError, HeldElsewhereError


class CommandError(Exception):
    """The work failed: one line on stderr, exit status 1."""

    status = 1


class UsageError(CommandError):
    """The command was called wrongly, and nothing was done: exit status 2."""

    status = 2


class InterruptedRunError(CommandError):
    """Ctrl-C; the message says what was kept. Exit status 130, as shells have it."""

    status = 130


@contextlib.contextmanager
def reading_run() -> Iterator[None]:
    """Turn errors that say that there is no such run, or none to go on with, into wrong uses."""
    try:
        yield
    except HeldElsewhereError as error:
        raise UsageError(f"{error}, or give another --output") from error
    except (FileNotFoundError, FinishedError) as error:
        raise UsageError(one_line(error)) from error
