"""The list of contents of a zip archive, by hand.

``zipfile`` makes an object of 600 bytes of what can be 46 bytes in a hostile file, and checks sums
that PyTorch may have left out.
"""

from __future__ import annotations

import struct
from typing import IO, NamedTuple

from lucid._check import short
from lucid._files._pickle import Budget

_ENTRY = 300  # bytes that a record takes in memory, beside its name


class Record(NamedTuple):
    """Where the content of a record lies in the file."""

    start: int
    length: int
    plain: bool  # neither packed nor encrypted


def read_directory(file: IO[bytes], size: int, budget: Budget) -> dict[str, Record]:
    """Return the records of an archive by their names without the folder."""
    file.seek(max(0, size - 22 - 65535))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise ValueError("the list of contents of the archive is missing: is the file cut off?")
    entries, length, start = struct.unpack_from("<H2L", tail, at + 10)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        (where,) = struct.unpack_from("<Q", tail, at - 12)
        file.seek(min(where, size))
        last = file.read(56)
        if last[:4] != b"PK\6\6" or len(last) < 56:
            raise ValueError("the end of the archive is damaged")
        entries, length, start = struct.unpack_from("<3Q", last, 32)
    if start + length > size:
        raise ValueError("the list of contents of the archive does not lie within the file")
    budget.spend(length)
    file.seek(start)
    directory = file.read(length)
    found: dict[str, Record] = {}
    position = 0
    while position < length:
        name, record, position = _read_entry(directory, position)
        budget.spend(_ENTRY + len(name))
        if name in found:
            raise ValueError(f"{short(name)} is there twice")
        file.seek(min(record.start, size))
        header = file.read(30)
        if header[:4] != b"PK\3\4" or len(header) < 30:
            raise ValueError(f"{short(name)} does not lie where it should")
        where = record.start + 30 + sum(struct.unpack_from("<2H", header, 26))
        found[name] = record._replace(start=where)
    if len(found) != entries:
        raise ValueError(f"the archive lists {len(found)} records, expected {entries}")
    end = 0
    for record in sorted(found.values()):
        if record.start < end or record.start + record.length > start:
            raise ValueError("its records do not lie within the file, or one in another")
        end = record.start + record.length
    folder = min((name for name in found if name.endswith("data.pkl")), key=len, default="")
    folder = folder.removesuffix("data.pkl")
    return {name.removeprefix(folder): found[name] for name in found if name.startswith(folder)}


def _read_entry(directory: bytes, position: int) -> tuple[str, Record, int]:
    """Return a record's name, where it and its header lie, and where the next entry is."""
    end = position + 46
    if directory[position : position + 4] != b"PK\1\2" or end > len(directory):
        raise ValueError("the list of contents of the archive is damaged")
    flags, method = struct.unpack_from("<2H", directory, position + 8)
    packed, count, names, extras, comments = struct.unpack_from("<2L3H", directory, position + 20)
    (where,) = struct.unpack_from("<L", directory, position + 42)
    name = directory[end : end + names].decode("utf-8", "replace")
    extra = directory[end + names : end + names + extras]
    end += names + extras + comments
    if end > len(directory):
        raise ValueError("the list of contents of the archive is damaged")
    if 0xFFFFFFFF in (packed, count, where):
        count, packed, where = _wide(extra, count, packed, where)
    return name, Record(where, packed, not flags & 1 and not method and packed == count), end


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """Return numbers, those that are too large for 32 bits as the extra field has them."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - 4) // 8}Q", extra, 4))
            return [next(wide, -1) if n == 0xFFFFFFFF else n for n in numbers]
        extra = extra[4 + length :]
    return list(numbers)
