"""The format ``.npz``: a zip archive of ``.npy`` files.

By hand, since np.savez takes names as keyword arguments, and fails at one called "file".
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lucid._files._common import METADATA, STRUCTURE, Array, check_texts, fill, is_numeric, native
from lucid._files._json import parse_json

_LONGEST_HEADER = 10_000  # NumPy's own limit
# The layers of a network are alike, and so are their headers.
_parsed = functools.lru_cache(1 << 8)(lambda parse, header: parse(io.BytesIO(header)))
_DEFLATE_RATIO = 1032  # bytes that one packed byte can stand for, at most (zlib's documentation)


def write_npz(
    path: Path, arrays: dict[str, Array], structure: str | None, metadata: dict[str, str]
) -> None:
    """Write arrays by name, and what is known of them as JSON in two entries more."""
    texts = {STRUCTURE: structure, METADATA: json.dumps(metadata) if metadata else None}
    for name, text in texts.items():
        if text is not None:
            arrays = {**arrays, name: np.frombuffer(text.encode(), np.uint8)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


class _NpyHeader(NamedTuple):
    entry: zipfile.ZipInfo
    start: int  # of the elements, in bytes
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


class NpzFile:
    """An archive whose headers, all of them, agree with its size; nothing else is unpacked yet."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._archive = file, zipfile.ZipFile(file)
        self._headers: dict[str, _NpyHeader] = {}
        _check_entries(self._archive.infolist(), os.fstat(file.fileno()).st_size)
        for entry in self._archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                raise ValueError(f"it holds {name!r}, which is no array")
            if name in self._headers:
                raise ValueError(f"the name {name!r} appears twice")
            self._headers[name] = self._read_header(entry, name)

    def arrays(self) -> dict[str, Array]:
        names = [name for name in self._headers if name not in (STRUCTURE, METADATA)]
        return {name: self._read_array(name) for name in names}

    def structure(self) -> str | None:
        return self._text(STRUCTURE)

    def metadata(self) -> dict[str, str]:
        text = self._text(METADATA)
        return {} if text is None else check_texts(parse_json(text))

    def _text(self, name: str) -> str | None:
        return self._read_array(name).tobytes().decode() if name in self._headers else None

    def _open(self, entry: zipfile.ZipInfo) -> Any:
        """Return a file where an entry begins: this one unless it is packed, in half the time."""
        if entry.compress_type != zipfile.ZIP_STORED:
            return self._archive.open(entry)
        self._file.seek(entry.header_offset + 26)
        self._file.seek(sum(struct.unpack("<2H", self._file.read(4))), os.SEEK_CUR)
        return self._file

    def _read_header(self, entry: zipfile.ZipInfo, name: str) -> _NpyHeader:
        file = self._open(entry)
        start = file.read(12)
        version = np.lib.format.read_magic(io.BytesIO(start))
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name!r} has the unknown .npy version {version}")
        width = 2 if version == (1, 0) else 4
        length = int.from_bytes(start[8 : 8 + width], "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"{name!r} has a header of {length} bytes")
        end = 8 + width + length
        parse = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, fortran, dtype = _parsed(parse, start[8:] + file.read(end - len(start)))
        if not is_numeric(dtype):
            raise ValueError(
                f"{name!r} holds elements of dtype {dtype}, expected real numbers of at most 64 "
                "bits, integers or booleans"
            )
        size = entry.file_size - end
        if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name!r} should have shape {shape} but holds {size} bytes")
        return _NpyHeader(entry, end, shape, fortran, dtype)

    def _read_array(self, name: str) -> Array:
        header = self._headers[name]
        array = np.empty(header.shape, header.dtype, order="F" if header.fortran else "C")
        file = self._open(header.entry)
        crc = zlib.crc32(file.read(header.start))
        if fill(array.T if header.fortran else array, file, name, crc) != header.entry.CRC:
            raise ValueError(f"Bad CRC-32 for {name!r}")
        return native(array, name)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise if the archive's list of contents promises more than a file of ``size`` can hold."""
    end = size
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        packed, unpacked = entry.compress_size, entry.file_size
        if entry.header_offset + packed > end:
            raise ValueError(f"{entry.filename!r} does not lie within the file, or in another part")
        end = entry.header_offset
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{entry.filename!r} is packed in a way that NumPy does not use")
        most = packed if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE_RATIO * packed
        if unpacked > most:
            raise ValueError(f"{entry.filename!r} cannot have {unpacked} bytes in {packed}")
