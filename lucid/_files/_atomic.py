"""How a file is written: under another name first, so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lucid._files._common import PathLike, check_target
from lucid._files._hold import hold


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path in the same folder, and move it to ``path`` when the block ends well.

    When the block raises, the temporary file is removed and ``path`` is as it was. A symbolic
    link stays one: what it points at is replaced. A file that exists keeps its permissions. The
    suffix is kept, for writers that go by it.

    What is no ordinary file (a device, a pipe, ``/dev/stdout``) is not replaced: when the block
    ends well, the content is written into it.

    Args:
        path: the file to write.

    Raises:
        ValueError: if ``path`` is a folder.
        FileNotFoundError: if its folder does not exist.
        OSError: naming ``path``, if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    replaced = is_replaced(path)
    if replaced:
        check_target(target, "atomic_path")
    folder = target.parent if replaced else Path(tempfile.gettempdir())
    temporary = folder / f".lucid-{os.urandom(8).hex()}{target.suffix}"
    try:
        # Windows does not move a file that is held open.
        with hold(temporary) if os.name == "posix" else contextlib.nullcontext():
            yield temporary
            if replaced:
                _sync(temporary)
                if target.exists():
                    shutil.copymode(target, temporary)
                os.replace(temporary, target)
            else:
                _write_into(path, temporary)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if replaced:
        _sync_folder(target.parent)


def is_replaced(path: PathLike) -> bool:
    """Return whether :func:`atomic_path` replaces the file, as it does not replace a device."""
    target = Path(os.path.realpath(path))
    return _descriptor(path) is None and (
        target.is_file() or not target.exists() or target.is_dir()
    )


def _descriptor(path: PathLike) -> int | None:
    """Return the descriptor of this process that a name such as ``/dev/stdout`` stands for.

    It may be an ordinary file. Even so it is not replaced or written from its start, because other
    output goes there too.
    """
    name = os.path.abspath(path)
    while os.path.lexists(name):
        folder = os.path.realpath(os.path.dirname(name))
        base = os.path.basename(name)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and base.isdigit():
            return int(base)
        if not os.path.islink(name) or not os.path.exists(name):  # the latter: links in a circle
            break
        name = os.path.join(folder, os.readlink(name))
    return None


def _write_into(path: PathLike, source: Path) -> None:
    print(end="", flush=True)  # what was printed before comes before
    descriptor = _descriptor(path)
    with (
        source.open("rb") as content,
        open(path, "wb") if descriptor is None else open(descriptor, "wb", closefd=False) as file,
    ):
        shutil.copyfileobj(content, file)


# Not every file system can sync: that is no failure to write.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())  # or a crash could leave the new name with no content
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


def _sync_folder(folder: Path) -> None:
    """Write a new name to disk. The file is in place already, so a failure here is no error."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
