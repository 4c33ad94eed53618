"""Files of Parquet that hold pictures, as Hugging Face's data sets do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lucid._extras import extra
from lucid.data._sources._item import Get, Item, archive_marks, damaged

PARQUETS = (".parquet",)

# Columns that hold a picture, and its name: the first that is there counts.
_PICTURES = ("image", "bytes", "jpg")
_NAMES = ("file", "path", "name", "__key__")

_ROWS = 64  # are in memory at once


class ParquetPictures:
    """The pictures in a column of a Parquet file: ``image``, ``bytes`` or ``jpg``.

    The column holds the bytes of a picture's file each, or Hugging Face's struct of ``bytes`` and
    ``path``. The name is the file's with that path, or what a column ``file``, ``path``, ``name``
    or ``__key__`` says, or the number of the row.

    Args:
        file: the Parquet file.
    """

    is_archive = True

    def __init__(self, file: Path) -> None:
        self._file = file

    def length(self) -> int:
        """Return the number of rows."""
        try:
            with self._open() as table:
                return int(table.metadata.num_rows)
        except (ValueError, OSError):  # the picture that stands for a damaged file
            return 1

    def marks(self) -> Iterable[str]:
        """Return its name and size."""
        return archive_marks(self._file)

    def _open(self) -> Any:
        parquet = extra("pyarrow.parquet", "parquet", "Parquet files need pyarrow")
        # Columns are read page by page, not as a whole.
        return parquet.ParquetFile(self._file, buffer_size=2**20, pre_buffer=False)

    def __iter__(self) -> Iterator[Get]:
        count = 0
        try:
            with self._open() as table:
                picture, name = _columns(table.schema_arrow.names)
                for group in range(table.num_row_groups):
                    rows = _Rows(table, group, picture, name)
                    for row in range(table.metadata.row_group(group).num_rows):
                        yield partial(self._item, rows, row, count)
                        count += 1
        except (ValueError, OSError) as error:
            yield damaged(self._file, error, count)

    def _item(self, rows: _Rows, row: int, count: int) -> Item:
        try:
            content, name = rows.read(row)
        except (ValueError, OSError) as error:
            name = f"{self._file}/{count}"
            return Item(name, ValueError(f"{name} cannot be read: {error}"))
        name = f"{self._file}/{count if name is None else name}"
        if not isinstance(content, bytes):
            return Item(name, ValueError(f"{name} holds no bytes of a picture"))
        return Item(name, content)


class _Rows:
    """The pictures of a group of rows, read from the first that is asked for on."""

    def __init__(self, table: Any, group: int, picture: str, name: str | None) -> None:
        self._table = table
        self._group = group
        self._picture = picture
        self._name = name
        self._batches: Iterator[Any] | None = None
        self._read: list[tuple[Any, Any]] = []
        self._end = 0

    def read(self, row: int) -> tuple[Any, Any]:
        """Return picture and name, None if it has none; later rows only may follow."""
        if self._batches is None:
            columns = [self._picture, *([] if self._name is None else [self._name])]
            self._batches = self._table.iter_batches(_ROWS, [self._group], columns)
        while row >= self._end:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError("there are fewer rows than the file says")
            pictures = batch.column(self._picture).to_pylist()
            names = [None] * len(pictures)
            if self._name is not None:
                names = batch.column(self._name).to_pylist()
            self._read = [_of_struct(*pair) for pair in zip(pictures, names)]
            self._end += len(pictures)
        return self._read[row - self._end]


def _of_struct(picture: Any, name: Any) -> tuple[Any, Any]:
    if isinstance(picture, dict):
        return picture.get("bytes"), name if name is not None else picture.get("path")
    return picture, name


def _columns(names: list[str]) -> tuple[str, str | None]:
    """Return the columns of pictures and of their names, the latter None if there is none."""
    pictures, named = ([name for name in known if name in names] for known in (_PICTURES, _NAMES))
    if not pictures:
        raise ValueError(f"expected a column {', '.join(_PICTURES)}, got {', '.join(names)}")
    return pictures[0], named[0] if named else None
