"""Memory that several processes share, without a name that could be left behind."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any


class SharedMemory:
    """Zeroed bytes that another process can map too, given the descriptor.

    The system takes them back when no process has them mapped any more, however those ended. On
    Linux they count from the first write to each page; elsewhere they are a file without a name.
    Windows does not share them.

    Args:
        size: how many bytes.
        descriptor: of the memory that another process made, which is closed; new if left out.

    Attributes:
        size: how many bytes.
        descriptor: what another process needs to map it; -1 on Windows.
        memory: the bytes.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self.size = size
        self.descriptor = -1
        self._lock = threading.Lock()
        if os.name == "nt":
            self.memory = mmap.mmap(-1, size)
            return
        made = descriptor is None
        if descriptor is None:
            descriptor = _anonymous_file()
        try:
            if made:
                os.ftruncate(descriptor, size)
            self.memory = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return type(self), (self.size,)  # a copy is empty; between processes it is passed on

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no other thread, and no other process, come here meanwhile."""
        with self._lock:
            if os.name == "nt":
                yield
                return
            import fcntl

            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if self.descriptor >= 0:  # what is mapped stays as long as it is used
            os.close(self.descriptor)


def _anonymous_file() -> int:
    with contextlib.suppress(AttributeError, OSError):  # Linux alone has it, some sandboxes do not
        return os.memfd_create("lucid")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
