"""Machine code that is kept: what it is made of, and how a process takes it up, without LLVM."""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

# Where this module can take code up. Elsewhere LLVM does it: other systems have other object files,
# and rules of their own for memory that is executed.
ALONE = (
    sys.platform == "linux"
    and os.uname().machine in ("x86_64", "aarch64")
    and struct.calcsize("P") == 8
)


class Code(NamedTuple):
    """A function's machine code, which may lie at the start of any page.

    Attributes:
        content: the code and its constants; if ``entry`` is negative, an object file.
        entry: where in it the function starts.
        slots: where in it addresses of 8 bytes are to be written, and whose: the name of a function
            of C's library, or "" for the place itself, with what stands in the slot added.
    """

    content: bytes
    entry: int
    slots: list[tuple[int, str]]

    def dump(self) -> bytes:
        """Return this as bytes, for :meth:`parse`."""
        return json.dumps([self.entry, self.slots]).encode() + b"\n" + self.content

    @staticmethod
    def parse(data: bytes) -> Code:
        """Return what was dumped."""
        head, _, content = data.partition(b"\n")
        entry, slots = json.loads(head)
        return Code(content, entry, [(place, name) for place, name in slots])


@functools.cache
def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def address_in_c(name: str) -> int:
    """Return where a function of C's library starts.

    Raises:
        AttributeError: if there is none of that name.
    """
    place = ctypes.cast(getattr(_library(), name), ctypes.c_void_p).value
    assert place is not None
    return place


def resolve(code: Code, start: int, address_of: Callable[[str], int] = address_in_c) -> bytes:
    """Return the bytes of code that is to lie at ``start``, and calls C's functions there."""
    content = bytearray(code.content)
    for place, name in code.slots:
        (given,) = struct.unpack_from("<Q", content, place)
        struct.pack_into("<Q", content, place, address_of(name) if name else start + given)
    return bytes(content)


_kept: list[mmap.mmap] = []  # code is never given back: somebody may be in it


def load(code: Code) -> int:
    """Put code into memory, and return the address of its function.

    The pages are never writable and executable at once. Linux itself sees to it that what was
    written is what will be executed, when it makes pages executable.

    Raises:
        OSError: if the system does not allow it.
        AttributeError: if the code calls a function that this process does not have.
    """
    memory = mmap.mmap(-1, len(code.content), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = resolve(code, start)
    protect, size = _library().mprotect, ctypes.c_size_t(len(code.content))
    if protect(ctypes.c_void_p(start), size, mmap.PROT_READ | mmap.PROT_EXEC):
        error = ctypes.get_errno()
        raise OSError(error, f"machine code cannot be executed: {os.strerror(error)}")
    _kept.append(memory)
    return start + code.entry
