"""Archives of tar, as WebDataset has them."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from lucid.data._folders import has_pictures_name
from lucid.data._sources._item import Get, Item, archive_marks, damaged

TARS = (".tar", ".tar.gz", ".tgz")  # their suffixes

# What is read in one go. The largest picture that is decoded, of 8 bits a channel, takes as much
# without any compression.
MAX_BYTES = 2**28


class TarPictures:
    """The pictures of a tar archive in its order, named by archive and member.

    Members are pictures by their suffixes; others (WebDataset's ``.json`` and ``.cls``) and hidden
    ones are passed over. Nothing is unpacked to files, so members may have any names. An archive
    that is damaged gives the pictures before that, and one error.

    Args:
        file: the archive, plain or by gzip.
    """

    is_archive = True

    def __init__(self, file: Path) -> None:
        self._file = file

    def length(self) -> None:
        """Return None: only going over it tells."""

    def marks(self) -> Iterable[str]:
        """Return its name and size."""
        return archive_marks(self._file)

    def __iter__(self) -> Iterator[Get]:
        count = 0
        try:
            with self._file.open("rb") as file:
                is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
                with gzip.open(file) if is_gzip else contextlib.nullcontext(file) as content:
                    size = None if is_gzip else os.fstat(file.fileno()).st_size
                    archive = _Archive(cast(IO[bytes], content), size)
                    for member in archive.members():
                        if has_pictures_name(os.path.basename(member.name)):
                            get = partial(self._item, archive, member)
                            # What is compressed is read to be passed over, and only so it is known
                            # to be whole.
                            yield partial(Item, *get()) if is_gzip else get
                            count += 1
        except Exception as error:  # what damage leads to depends on where it is
            yield damaged(self._file, error, count)

    def _item(self, archive: _Archive, member: tarfile.TarInfo) -> Item:
        name = f"{self._file}/{member.name}"
        if not member.isreg():
            return Item(name, ValueError(f"{name} is a link or the like, which is not followed"))
        if member.size > MAX_BYTES:
            return Item(name, ValueError(f"{name} is too large for a picture: {member.size} bytes"))
        return Item(name, archive.content(member))


class _Archive:
    """A tar archive that is gone over once. It is the file that ``tarfile`` reads from.

    Args:
        content: the archive without compression.
        size: its bytes, if known.
    """

    def __init__(self, content: IO[bytes], size: int | None) -> None:
        self._file = content
        self._size = size
        self._block = b""  # the last one read
        self.tell = content.tell
        self.seek = content.seek
        self._tar = tarfile.TarFile(fileobj=cast(Any, self), encoding="utf-8")

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield all but folders; ValueError where the archive is damaged or cut off."""
        end = -1
        while (member := self._tar.next()) is not None:
            cast(Any, self._tar).members.clear()  # it would keep all
            if member.size < 0 or self._tar.offset <= end:
                raise ValueError(f"{member.name} has a negative size")
            end = self._tar.offset
            if self._size is not None and end > self._size:
                raise ValueError(f"it ends within {member.name}")
            if not member.isdir():
                yield member
        if len(self._block) < tarfile.BLOCKSIZE or self._block.strip(b"\0"):
            raise ValueError("it does not end with a block of zeros")

    def read(self, size: int) -> bytes:
        """Return so many bytes; ValueError if a header claims to be that large itself."""
        if size > MAX_BYTES:
            raise ValueError(f"a header of {size} bytes")
        self._block = self._file.read(size)
        return self._block

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of a regular member."""
        file = self._tar.extractfile(member)
        assert file is not None
        with file:
            return file.read()
