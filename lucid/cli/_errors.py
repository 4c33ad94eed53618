"""How a command ends that cannot do its work."""

from __future__ import annotations


class CommandError(Exception):
    """The work failed: one line on stderr, exit status 1."""

    status = 1


class UsageError(CommandError):
    """The command was called wrongly, and nothing was done: exit status 2."""

    status = 2


class InterruptedRunError(CommandError):
    """Ctrl-C; the message says what was kept. Exit status 130, as shells have it."""

    status = 130


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    # str(KeyError("x")) is "'x'".
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
