"""What a file says of the images and classes of its network."""

from __future__ import annotations

from typing import Any

from lucid._files import parse_json
from lucid.onnx._read import Model

# Keys of the metadata, and what a model of lucid's calls them.
_KEYS = {"model": "architecture", "mean": "mean", "std": "std", "classes": "classes"}


def description(model: Model) -> dict[str, Any] | None:
    """Return the description in the file's metadata, as ``pretrained_cfg``; None if there is none.

    Raises:
        ValueError: if an entry is no JSON.
    """
    found: dict[str, Any] = {}
    for key, name in _KEYS.items():
        text = model.metadata.get(f"lucid.{key}")
        if text is not None:
            value = parse_json(text.encode())
            found[name] = tuple(value) if name in ("mean", "std") else value
    return found or None
