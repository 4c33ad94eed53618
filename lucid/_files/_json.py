"""JSON that somebody else may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lucid._files._common import PathLike, check_source

_LARGEST_FILE = 32_000_000


def read_json(path: PathLike) -> Any:
    """Read a JSON file that somebody else may have written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for the caller to name the file, if it is no JSON in UTF-8, larger than 32 MB,
            nested too deep, or says something twice.
    """
    path = Path(path)
    check_source(path, "read_json")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"it has {size:,} bytes, expected at most {_LARGEST_FILE:,}")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; ValueError if it is none in UTF-8, is too deep, or has a key twice."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return result
