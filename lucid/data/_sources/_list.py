"""Text and CSV files that list pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from lucid.data._folders import has_pictures_name
from lucid.data._sources._item import Get, Item

LISTS = (".txt", ".csv")  # their suffixes

_COLUMNS = ("file", "path")  # the first that is there holds the paths
_LONGEST = 2**16  # characters of a line: no file has a longer path


class PictureList:
    """The pictures that a file lists: one path a line, or a CSV file.

    Of a CSV file it is the column ``file`` or ``path``; without such a one it is the first column,
    whose first line counts if it ends like a picture's name. Paths count from the folder of the
    list. Pictures are named as they are listed, and come as often. Empty lines are passed over.

    Args:
        file: the list, UTF-8; what is none in a path stands for itself.
    """

    is_archive = False

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[Get]:
        return (partial(self._item, name) for name in self._names())

    def _item(self, name: str) -> Item:
        return Item(name, self._file.parent / name)

    def length(self) -> int:
        """Return how many it lists."""
        return sum(1 for _ in self._names())

    def marks(self) -> Iterable[str]:
        """Return the names as they are listed."""
        return self._names()

    def _names(self) -> Iterator[str]:
        is_csv = self._file.suffix.lower() == ".csv"
        lines = self._lines("" if is_csv else None)
        if is_csv:
            return filter(None, self._column(csv.reader(lines)))
        return filter(None, (line.rstrip("\n") for line in lines))

    def _lines(self, newline: str | None) -> Iterator[str]:
        with self._file.open(
            newline=newline, encoding="utf-8-sig", errors="surrogateescape"
        ) as text:
            number = 0
            while line := text.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST or "\0" in line:
                    raise ValueError(
                        f"{self._file}, line {number}: expected the path of a picture in UTF-8"
                    )
                yield line

    def _column(self, rows: Iterator[list[str]]) -> Iterator[str]:
        try:
            first = next(rows, [])
            named = [first.index(name) for name in _COLUMNS if name in first]
            column = named[0] if named else 0
            if not named and first and has_pictures_name(first[0]):
                yield first[0]
            for row in rows:
                if column < len(row):
                    yield row[column]
        except csv.Error as error:
            raise ValueError(f"{self._file} is no list of pictures: {error}") from error
