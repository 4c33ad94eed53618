"""Files that list pictures: CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lucid._check import short
from lucid.data._folders import part_of

LISTS = (".csv", ".json")  # their suffixes


class Entry(NamedTuple):
    """A picture, its class, the part of the data it belongs to, and where the file says so."""

    path: str
    label: str
    split: str
    place: str


def read_list(file: Path) -> list[Entry]:
    """Return what a list says of each picture; ``split`` is train, val, test or empty.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such list; the message names the entry.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        rows = list(_json_rows(file) if file.suffix.lower() == ".json" else _csv_rows(file))
    except (csv.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no list of pictures: {error}") from error
    return [_entry(row, place, file) for place, row in rows]


def _csv_rows(file: Path) -> Iterator[tuple[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.DictReader(text)
        names = reader.fieldnames or []
        if not {"path", "label"} <= set(names):
            raise ValueError(
                f"{file}: expected columns path and label in the first line, got "
                f"{', '.join(names) or 'none'}"
            )
        for row in reader:
            yield f"line {reader.line_num}", row


def _json_rows(file: Path) -> Iterator[tuple[str, Any]]:
    rows = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise ValueError(f"{file}: expected a list of objects with path and label")
    for number, row in enumerate(rows):
        yield f"entry {number}", row


def _entry(row: Any, place: str, file: Path) -> Entry:
    given = row if isinstance(row, dict) else {}
    path, label, split = (given.get(name) for name in ("path", "label", "split"))
    # A class may be a number in JSON; True is none.
    if type(label) is int:
        label = str(label)
    if not (isinstance(path, str) and path and isinstance(label, str) and label):
        raise ValueError(f"{file}, {place}: expected a path and a label, got {short(row)}")
    if split and part_of(split) is None:
        raise ValueError(f"{file}, {place}: expected a split train, val or test, got {split!r}")
    return Entry(path, label, (split and part_of(split)) or "", place)
