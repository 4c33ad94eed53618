"""What commands print, and the files they write: checked before the work, by all in one way."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from lucid._check import printable
from lucid._files import atomic_path, is_replaced
from lucid.cli._errors import UsageError


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option without which no existing file is replaced."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_output(parser: argparse.ArgumentParser, help: str, required: bool = False) -> None:
    """Add the options that say where the result goes."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=required, help=help)
    add_overwrite(parser)


def add_format(parser: argparse.ArgumentParser, option: str) -> None:
    """Add ``--json [FILE]`` or the like; without a file it is "-", standard output."""
    parser.add_argument(
        option,
        nargs="?",
        const="-",
        metavar="FILE",
        help=f"print {option[2:].upper()} instead of the table; with FILE, write it there",
    )


@contextlib.contextmanager
def open_text(target: str | Path) -> Iterator[TextIO]:
    """Open a file to write a text into, or standard output if ``target`` is "-"."""
    if str(target) == "-":
        yield sys.stdout
        return
    # A name may hold what is no UTF-8.
    with (
        atomic_path(target) as path,
        path.open("w", encoding="utf-8", errors="replace", newline="\n") as text,
    ):
        yield text


def write(text: str, target: str | Path) -> None:
    """Write a text into a file, or print it if ``target`` is "-"."""
    with open_text(target) as file:
        file.write(text)


def check_one_prints(args: argparse.Namespace) -> None:
    """Raise UsageError if --json and --csv would both print."""
    if args.json == args.csv == "-":
        raise UsageError("--json - and --csv - would both print; give one of them a file")


def check_new(path: Path, option: str, overwrite: bool, suffixes: Sequence[str] = ()) -> Path:
    """Return ``path`` if it may be written; UsageError if not, or if a file is there unasked."""
    check_writable(path, option, suffixes)
    if path.exists() and is_replaced(path) and not overwrite:
        raise UsageError(f"{option}: {path} is there already; give --overwrite to replace it")
    return path


def check_writable(path: Path, option: str, suffixes: Sequence[str] = ()) -> Path:
    """Return ``path`` if a file can be written there; a missing folder is made.

    UsageError if it is a folder, its suffix is another, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder; name a file in it")
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{option}: expected a name ending in {' or '.join(suffixes)}, got {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}: cannot write to {path}: {error.strerror}") from error
    # A file is replaced, which its folder has to allow; a device is written into.
    written = path.resolve().parent if is_replaced(path) else path
    if not os.access(written, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UsageError(f"{option}: {written} cannot be written to")
    return path


# -- stderr -----------------------------------------------------------------------------------


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


class Progress:
    """A bar on stderr, if that is a terminal and tqdm is installed."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, total: int | None, description: str | None = None, done: int = 0) -> None:
        """Show a bar of which so much is done."""
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(
                    total=total,
                    desc=description,
                    initial=done,
                    unit=self._unit,
                    leave=False,
                    file=sys.stderr,
                )

    def step(self, count: int = 1, text: str = "") -> None:
        """Note that so many more are done, and show a text behind the bar."""
        if self._bar is not None:
            if text:
                self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(count)

    def hide(self) -> None:
        """Clear the line, for something else to be printed."""
        if self._bar is not None:
            self._bar.clear()

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
