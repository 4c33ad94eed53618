"""What the formats share: checks of paths, and elements as they lie in a file."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import short

Array = np.ndarray
PathLike = str | os.PathLike[str]

# Where the JSON is kept: an entry of an .npz file, a key of a .safetensors file's metadata.
STRUCTURE = "__structure__"
METADATA = "__metadata__"

_CHUNK = 1 << 20


def as_path(path: Any, call: str) -> Path:
    """Return what a call such as ``save(state, path)`` was given; TypeError if it is no path."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{call}: expected a path, got {short(path)}")
    return Path(path)


def check_source(path: Path, who: str) -> None:
    """Raise ValueError or FileNotFoundError unless there is an ordinary file to read."""
    if path.is_dir():
        raise ValueError(f"{who}: {path} is a folder, not a file")
    if not path.exists():
        raise FileNotFoundError(f"{who}: there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{who}: {path} is no ordinary file")


def check_target(path: Path, who: str) -> None:
    """Raise ValueError or FileNotFoundError unless a file can be made there."""
    if path.is_dir():
        raise ValueError(f"{who}: {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{who}: the folder {path.parent} does not exist; make it first")


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Return whether elements of the dtype are saved and loaded."""
    return dtype.kind in "fiub" and dtype.itemsize <= 8


def check_texts(value: Any) -> dict[str, str]:
    """Return the metadata in a file if they are texts by name; raise ValueError otherwise."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("its metadata are no texts by name")
    return value


def fill(array: Array, file: Any, name: str, crc: int | None = None) -> int | None:
    """Read the elements of a C-contiguous array in place; return the CRC-32 from ``crc`` on."""
    content = array.reshape(-1).view(np.uint8).data
    position = 0
    while position < len(content):
        part = content[position : position + _CHUNK]
        count = file.readinto(part)
        if not count:
            raise ValueError(f"{name!r} ends after {position} of {len(content)} bytes")
        position += count
        if crc is not None:
            crc = zlib.crc32(part[:count], crc)
    return crc


def native(array: Array, name: str) -> Array:
    """Return an array as read in this machine's byte order, once its elements are sound."""
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise ValueError(f"{name!r} holds booleans that are neither 0 nor 1")
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return array
