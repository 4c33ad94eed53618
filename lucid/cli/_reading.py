"""Reading many pictures, some of which cannot be read."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lucid.cli._errors import CommandError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pillow decodes and resizes without holding Python's lock.
_READERS = min(4, os.cpu_count() or 1)

_NAMED = 20  # of a list of pictures, as many are named


def each(
    load: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item and what ``load`` makes of it: the error, if it cannot be read."""

    def attempt(item: Item) -> Result | Exception:
        try:
            return load(item)
        except (ValueError, OSError, MemoryError) as error:
            return error

    items = list(items)
    readers = ThreadPoolExecutor(_READERS)
    try:
        yield from zip(items, readers.map(attempt, items))
    finally:
        readers.shutdown(cancel_futures=True)  # an interrupt does not wait for all the rest


def printable(text: str) -> str:
    """Return a text without signs that no file or terminal takes: a name may hold any."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def tell(command: str, message: str) -> None:
    """Print a line on stderr."""
    print(f"lucid {command}: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


class Failures:
    """Names on stderr what cannot be read, at once, and remembers that there was something."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.count = 0

    def add(self, message: str) -> None:
        """Tell of one more."""
        self.count += 1
        tell(self.command, message)

    @property
    def status(self) -> int:
        """The exit status of the command."""
        return 1 if self.count else 0


class Unreadable:
    """The pictures that a training or a measurement does without, up to a share of all.

    Args:
        command: for messages.
        share: of the pictures that may be unreadable: at least one picture, except if it is 0.
    """

    def __init__(self, command: str, share: float) -> None:
        self._command = command
        self._share = share
        self._total = 0
        self._messages: dict[str, None] = {}

    def report(self, messages: list[str], total: int) -> None:
        """Name what was found unreadable among so many pictures, before the work.

        Raises:
            CommandError: if it is more than the share.
        """
        self._total = total
        self._messages = dict.fromkeys(messages)
        if messages:
            tell(self._command, f"{len(messages)} of {total} pictures cannot be read:")
        for message in messages[:_NAMED]:
            tell(self._command, message)
        if len(messages) > _NAMED:
            tell(self._command, f"and {len(messages) - _NAMED} more")
        self._check()

    def add(self, message: str) -> None:
        """Name one that could still be read when the work began; raises as :meth:`report` does."""
        if message not in self._messages:
            self._messages[message] = None
            tell(self._command, message)
            self._check()

    def _check(self) -> None:
        count = len(self._messages)
        if count > max(self._share * self._total, self._share > 0):
            allowed = f"--max-unreadable {self._share:g}" if self._share else "--strict"
            raise CommandError(
                f"{count} of {self._total} pictures cannot be read, more than {allowed} allows; "
                "mend or remove them, or allow a larger share with --max-unreadable"
            )


class Progress:
    """A bar on stderr, if that is a terminal and tqdm is installed."""

    def __init__(self, total: int, description: str | None = None) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(
                    total=total, desc=description, unit="image", leave=False, file=sys.stderr
                )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, count: int = 1) -> None:
        """Note that so many more are done."""
        if self._bar is not None:
            self._bar.update(count)

    def hide(self) -> None:
        """Clear the line, for something else to be printed."""
        if self._bar is not None:
            self._bar.clear()
