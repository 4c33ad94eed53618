"""Files that a running process holds.

A lock of the operating system ends with its process, however that ends. So a file of ours that
nobody holds is a dead process's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_OURS = re.compile(r"\.lucid-(?:[0-9a-f]{16}(?:\..*)?|.+\.lock)", re.DOTALL)


class HeldElsewhereError(RuntimeError):
    """Another process holds the file."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a file for a while, made for it; HeldElsewhereError if another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(descriptor)
        except OSError:  # a file system without locks
            locked = True
        if locked and _is_at(descriptor, path):
            break
        os.close(descriptor)
        if not locked:
            raise HeldElsewhereError(f"another process holds {path}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it was moved, or (on Windows) is open
            path.unlink()
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what dead processes have left in a folder, where locks can tell."""
    if os.name != "posix":  # temporary files are not held there
        return
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    if _lock(descriptor) and _is_at(descriptor, path):
                        path.unlink()
                finally:
                    os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file, and return whether no other process has; OSError where there are no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
