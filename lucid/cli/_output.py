"""Files that commands write: checked before the work, and by all commands in the same way."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from lucid._files import is_replaced
from lucid.cli._errors import UsageError


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option without which no existing file is replaced."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def check_new(path: Path, option: str, overwrite: bool, suffixes: Sequence[str] = ()) -> Path:
    """Return ``path`` if it may be written: :func:`check_writable`, and no file is there unasked.

    Raises:
        UsageError: if a file is there and ``overwrite`` is false, or it cannot be written.
    """
    check_writable(path, option, suffixes)
    if path.exists() and is_replaced(path) and not overwrite:
        raise UsageError(f"{option}: {path} is there already; give --overwrite to replace it")
    return path


def check_writable(path: Path, option: str, suffixes: Sequence[str] = ()) -> Path:
    """Return ``path`` if a file can be written there; a missing folder is made.

    Raises:
        UsageError: if it is a folder, its suffix is another, or its folder cannot be made or
            written to.
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
    if not os.access(written, os.W_OK):
        raise UsageError(f"{option}: {written} cannot be written to")
    return path
