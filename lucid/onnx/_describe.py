"""What a file of lucid's says of the images and classes of its network."""

from __future__ import annotations

import json
from typing import Any

from lucid._files import parse_json
from lucid.models._checkpoints import DEFAULT, read_description
from lucid.onnx._read import Model

# Keys of the metadata behind "lucid.", and what the description of weights calls them.
_KEYS = {
    "model": "architecture",
    "size": "input_size",
    "crop_pct": "crop_pct",
    "interpolation": "interpolation",
    "mean": "mean",
    "std": "std",
    "classes": "classes",
}


def description(model: Model) -> dict[str, Any] | None:
    """Return what the metadata say, as a model's ``pretrained_cfg``; None if they say nothing.

    Raises:
        ValueError: if an entry is no JSON, or cannot be.
    """
    found = {
        name: parse_json(model.metadata[f"lucid.{key}"])
        for key, name in _KEYS.items()
        if f"lucid.{key}" in model.metadata
    }
    if not found:
        return None
    size = found.get("input_size")
    if isinstance(size, list) and len(size) == 2:
        shape = model.inputs[0].shape if model.inputs else None
        channels = shape[1] if shape is not None and len(shape) == 4 else None
        found["input_size"] = [channels or 3, *size]
    return {**DEFAULT, **read_description({"lucid": json.dumps(found)}, "its metadata")}
