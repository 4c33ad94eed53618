"""Nested mappings and metadata as arrays and texts by name, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lucid._files._common import METADATA, STRUCTURE, Array, is_numeric
from lucid._files._json import parse_json
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap


def flatten(state: Any) -> tuple[dict[str, Array], str | None]:
    """Return the arrays by name, and as JSON how they are nested; None if they are not."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"save: expected a mapping of names to arrays, got {type(state).__name__}; "
            'name a single array: {"x": array}'
        )
    for key in state:
        if not isinstance(key, str):
            raise TypeError(f"save: names must be strings, got {key!r}")
        if key in (STRUCTURE, METADATA):
            raise ValueError(f"save: the name {key!r} is reserved")
    arrays: dict[str, Array] = {}
    structure = _encode(state, "", arrays)
    if all(part == {"array": key} for key, part in structure["dict"]):
        return arrays, None
    return arrays, json.dumps(structure, allow_nan=False)


def check_metadata(metadata: Any) -> dict[str, str]:
    """Return metadata to be saved, if they are texts that a file can hold."""
    if not isinstance(metadata, Mapping):
        raise TypeError(
            f"save: metadata: expected a mapping of names to texts, got {type(metadata).__name__}"
        )
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata: expected texts by name, got {name!r}: {text!r}")
        if not _is_unicode(name) or not _is_unicode(text):
            raise ValueError(f"save: metadata: {name!r} is no text that a file can hold")
        if name == STRUCTURE:
            raise ValueError(f"save: metadata: the name {name!r} is reserved")
    return dict(metadata)


def _encode(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return ``value`` as JSON, with what is no JSON as an object of a single, telling key."""
    if isinstance(value, (Tensor, Array, np.generic)):
        array = np.asarray(value.data if isinstance(value, Tensor) else value)
        if not is_numeric(array.dtype):
            raise TypeError(
                f"save: {name!r} has dtype {array.dtype}; expected real numbers of at most "
                "64 bits, integers or booleans"
            )
        if "\0" in name or not _is_unicode(name):
            raise ValueError(f"save: {name!r} cannot be a name in a file")
        while name in arrays:  # {"a.b": x, "a": {"b": y}}
            name += "_"
        arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
        return {"array": name}
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise TypeError(f"save: keys in {name!r} must be strings or integers, got {key!r}")
        prefix = name + "." if name else ""
        return {
            "dict": [[key, _encode(item, f"{prefix}{key}", arrays)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    raise TypeError(
        f"save: {name!r} is of type {type(value).__name__}; expected tensors or arrays, and in "
        "checkpoints mappings, lists, tuples, numbers, strings or None"
    )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def unflatten(arrays: dict[str, Array], structure: str) -> dict[str, Any]:
    """Return the mapping of which :func:`flatten` made arrays and a structure."""
    state = _decode(parse_json(structure), arrays)
    if not isinstance(state, dict):
        raise ValueError("its structure is no mapping")
    return state


def _decode(value: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return wrap(arrays[content])
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content}
    if kind == "list":
        return [_decode(item, arrays) for item in content]
    if kind == "tuple":
        return tuple(_decode(item, arrays) for item in content)
    if kind == "float":
        return float(content)
    raise ValueError(f"its structure has an unknown part {kind!r}")
