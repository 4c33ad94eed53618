"""A picture of a source, and what a source is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """A picture of a source.

    Args:
        name: what it is called in results and errors.
        content: the file, or the bytes of one; the error if the source is damaged there.
    """

    name: str
    content: Path | bytes | Exception


# Returns a picture; it has to be called before the next one is asked for. What is not called is
# passed over without reading it.
Get = Callable[[], Item]


class Container(Protocol):
    """Pictures in a fixed order: files, a list, an archive."""

    is_archive: bool

    def __iter__(self) -> Iterator[Get]:
        """Go over the pictures."""
        ...

    def length(self) -> int | None:
        """Return the number of pictures; None if only going over them tells."""
        ...

    def marks(self) -> Iterable[str]:
        """Return texts that tell it from one with other pictures."""
        ...


class Files(Protocol):
    """Paths of pictures, which can be gone over more than once."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Go over them, always in the same order."""
        ...


class Paths:
    """Pictures that are files of their own, named by their paths."""

    is_archive = False

    def __init__(self, files: Files) -> None:
        self._files = files

    def __iter__(self) -> Iterator[Get]:
        return (partial(_file, path) for path in self._files)

    def length(self) -> int:
        """Return how many there are."""
        return len(self._files)

    def marks(self) -> Iterable[str]:
        """Return the paths."""
        return self._files


def _file(path: str) -> Item:
    return Item(path, Path(path))


def archive_marks(file: Path) -> list[str]:
    """Return the name and the size of an archive."""
    return [str(file), str(os.path.getsize(file))]


def damaged(file: Path, error: Exception, count: int) -> Get:
    """Return the picture that stands for the rest of an archive, after so many that are whole."""
    reason = " ".join(str(error).split()) or type(error).__name__
    message = f"{file} is damaged after {count} pictures: {reason}"
    return partial(Item, str(file), ValueError(message))
