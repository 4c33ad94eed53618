"""The format ``.safetensors``: https://github.com/huggingface/safetensors#format.

The length of the header in 8 bytes, the header as JSON, and the elements in C order, without gaps.
By hand, since that is all of it: the package reads a file twice over into memory (434 ms for 51 MB,
95 here), has no bfloat16 for NumPy, and makes files that only their owner can read.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid._files._common import METADATA, STRUCTURE, Array, check_texts, fill, native
from lucid._files._json import parse_json

# The dtypes as NumPy reads them; bfloat16 is widened to float32 afterwards.
_DTYPES = {"BOOL": "|b1", "U8": "|u1", "I8": "|i1", "BF16": "<u2"}
_DTYPES |= {f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "uif" for size in (2, 4, 8)}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}

LONGEST_HEADER = 100_000_000  # the format's limit


def write_safetensors(
    path: Path, arrays: dict[str, Array], structure: str | None, metadata: dict[str, str]
) -> None:
    """Write arrays by name, and what is known of them in the header's metadata."""
    if structure is not None:
        metadata = {**metadata, STRUCTURE: structure}
    header: dict[str, Any] = {METADATA: metadata} if metadata else {}
    # Elements lie at multiples of their size if the larger ones come first.
    ordered = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    end = 0
    for name in ordered:
        array = arrays[name]
        start, end = end, end + array.nbytes
        kind = _NAMES[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(
            f"save: {len(text):,} bytes of names, structure and metadata; the format allows "
            f"{LONGEST_HEADER:,} (.npz more)"
        )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
            file.write(array.reshape(-1).view(np.uint8).data)


class SafetensorsFile:
    """A file whose header agrees with its size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"it has {size} bytes, and its header should have {length}")
        header = parse_json(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        self._metadata = check_texts(header.pop(METADATA, {}))
        self._structure = self._metadata.pop(STRUCTURE, None)
        self._start = 8 + length
        self._parts: dict[str, tuple[str, list[int], int]] = {}
        parts = []
        for name, part in header.items():
            kind, shape, start, end = _read_part(name, part)
            self._parts[name] = (kind, shape, start)
            parts.append((start, end, name))
        position = 0
        for start, end, name in sorted(parts):
            if start != position:
                raise ValueError(f"{name!r} starts at {start}, expected {position}")
            position = end
        if self._start + position != size:
            raise ValueError(f"its arrays have {position} bytes, and it {size - self._start}")

    def arrays(self) -> dict[str, Array]:
        return {name: self._read_array(name) for name in self._parts}

    def structure(self) -> str | None:
        return self._structure

    def metadata(self) -> dict[str, str]:
        return self._metadata

    def _read_array(self, name: str) -> Array:
        kind, shape, start = self._parts[name]
        array = np.empty(shape, _DTYPES[kind])
        self._file.seek(self._start + start)
        fill(array, self._file, name)
        array = native(array, name)
        if kind == "BF16":  # the upper half of a float32
            array = np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
        return array


def _read_part(name: str, part: Any) -> tuple[str, list[int], int, int]:
    """Return dtype, shape, start and end from an entry of the header, which agree."""
    if not isinstance(part, dict) or part.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r}: expected dtype, shape and data_offsets, got {part!r:.80}")
    kind, shape, offsets = part["dtype"], part["shape"], part["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{name!r} has the dtype {kind}, which NumPy does not have")
    if not _are_sizes(shape):
        raise ValueError(f"{name!r}: expected sizes as shape, got {shape!r:.80}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r}: expected a start and an end, got {offsets!r:.80}")
    start, end = offsets
    if end - start != math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
        raise ValueError(f"{name!r} should have shape {shape} but holds {end - start} bytes")
    return kind, shape, start, end


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
