"""A result too large for one file or one run: a folder of parts, each written whole or not at all.

``_parts.json`` says what they follow from; ``_errors.csv`` lists what could not be had, part by
part. Readers of folders of tables pass over names that begin so. Of several processes each has a
share of the work, and files of its own that are named by the share.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import short
from lucid._extras import extra
from lucid._files._atomic import atomic_path
from lucid._files._common import PathLike
from lucid._files._hold import hold, sweep
from lucid._files._json import read_json

Array = np.ndarray

FORMATS = ("parquet", "csv")

# By its name, a list of texts, an array of numbers (N,), or one of rows (N, D).
Columns = Mapping[str, Sequence[str] | Array]

_ERROR = ("part", "file", "reason")


class OtherPartsError(ValueError):
    """A folder holds parts of something else, or what is no part."""


class Parts:
    """The parts of a result in a folder; those of one share, if several processes share the work.

    Args:
        folder: where they are; it is made if it is missing.
        settings: all that the result follows from, as JSON can say it.
        format: of the files, ``"parquet"`` (extra ``parquet``) or ``"csv"``.
        share: which share this is, counted from 0, and how many there are.

    Attributes:
        error_file: the list of what could not be had.
        errors: how many are on it, once the share is held.
        finished: the numbers of the parts that are there, once the share is held.

    Raises:
        OtherPartsError: if the folder holds parts of other settings, or other files.
        ImportError: if the format needs a package that is not installed.
    """

    def __init__(
        self,
        folder: PathLike,
        settings: Mapping[str, Any],
        format: str = "parquet",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if format == "parquet":
            _pyarrow("pyarrow.parquet")
        name = "-{:05}-of-{:05}".format(*share) if share[1] > 1 else ""
        self.folder = Path(folder)
        self.error_file = self.folder / f"_errors{name}.csv"
        self.errors = 0
        self.finished: set[int] = set()
        self._format = format
        self._prefix = f"part{name}-"
        self._check_settings({**settings, "format": format, "shards": share[1]})

    def _check_settings(self, settings: dict[str, Any]) -> None:
        file = self.folder / "_parts.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        others = [name for name in sorted(os.listdir(self.folder)) if not name.startswith(".")]
        if not file.is_file():  # not even by another process in between
            if others:
                raise OtherPartsError(
                    f"{self.folder} holds {short(others[0])} and no _parts.json; name a folder "
                    "that is empty or new"
                )
            with atomic_path(file) as path:
                path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        there = read_json(file)
        if not isinstance(there, dict):
            raise OtherPartsError(f"{file}: expected an object, got {short(there)}")
        now = json.loads(json.dumps(settings))
        differences = [
            f"{name} is {short(there.get(name))} there, {short(now.get(name))} now"
            for name in now | there
            if there.get(name) != now.get(name)
        ]
        if differences:
            raise OtherPartsError(
                f"{self.folder} holds parts of something else: {'; '.join(differences)}; name "
                "another folder, or remove this one"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the share while parts are added to it.

        Raises:
            HeldElsewhereError: if another process does.
        """
        with hold(self.folder / f".lucid-{self._prefix}.lock"):
            sweep(self.folder)
            pattern = re.compile(rf"{self._prefix}(\d{{5,}})\.{self._format}")
            found = map(pattern.fullmatch, os.listdir(self.folder))
            self.finished = {int(match[1]) for match in found if match}
            rows = list(self._errors_of_finished())
            self.errors = len(rows)
            with atomic_path(self.error_file) as path:
                _append(path, [_ERROR, *rows])
            yield

    def write(self, part: int, columns: Columns, errors: Iterable[tuple[str, str]] = ()) -> None:
        """Add a part.

        Args:
            part: its number, counted from 0.
            columns: what is in it.
            errors: the name of what could not be had, and why, each.
        """
        # They come first, so none is lost. Those of a part that never came go at the next start.
        rows = [(str(part), *error) for error in errors]
        _append(self.error_file, rows)
        self.errors += len(rows)
        write = _write_parquet if self._format == "parquet" else _write_csv
        with atomic_path(self.folder / f"{self._prefix}{part:05}.{self._format}") as path:
            write(path, columns)
        self.finished.add(part)

    def _errors_of_finished(self) -> Iterator[list[str]]:
        if self.error_file.is_file():
            with self.error_file.open(newline="", encoding="utf-8", errors="replace") as text:
                for row in csv.reader(text):  # half a row at the end, if the process was killed
                    is_whole = len(row) == len(_ERROR) and row[0].isdecimal()
                    if is_whole and int(row[0]) in self.finished:
                        yield row


def _append(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows to a CSV file; what is no text of UTF-8 in a name stays distinct."""
    with file.open("a", newline="", encoding="utf-8", errors="backslashreplace") as text:
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.flush()
        os.fsync(text.fileno())


# -- formats --------------------------------------------------------------------------------------


def _write_csv(file: Path, columns: Columns) -> None:
    """Write a table; rows of numbers become a column for each, with its place behind the name."""
    names: list[str] = []
    parts: list[Iterable[Any]] = []
    for name, column in columns.items():
        if isinstance(column, Array) and column.ndim == 2:
            names += [f"{name}_{place}" for place in range(column.shape[1])]
            parts += [_texts(numbers) for numbers in column.T]
        else:
            names.append(name)
            parts.append(_texts(column) if isinstance(column, Array) else column)
    _append(file, [names, *zip(*parts)])


def _texts(numbers: Array) -> Iterator[str]:
    """Yield texts that give the same numbers again."""
    return map(("%.9g" if numbers.dtype == np.float32 else "%r").__mod__, numbers.tolist())


def _write_parquet(file: Path, columns: Columns) -> None:
    arrow = _pyarrow("pyarrow")
    arrays = {}
    for name, column in columns.items():
        if not isinstance(column, Array):
            texts = [text.encode("utf-8", "backslashreplace").decode() for text in column]
            arrays[name] = arrow.array(texts, arrow.string())
        elif column.ndim == 2:
            flat = arrow.array(np.ascontiguousarray(column).reshape(-1))
            arrays[name] = arrow.FixedSizeListArray.from_arrays(flat, column.shape[1])
        else:
            arrays[name] = arrow.array(column)
    _pyarrow("pyarrow.parquet").write_table(arrow.table(arrays), file)


def _pyarrow(module: str) -> Any:
    return extra(module, "parquet", "Parquet files need pyarrow")
