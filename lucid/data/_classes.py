"""Names of classes."""

from __future__ import annotations

import json
from importlib import resources


def imagenet_classes() -> list[str]:
    """Return the names of ImageNet's 1,000 classes, in the order of all published weights.

    Example:
        >>> names = data.imagenet_classes()
        >>> len(names), names[0]
        (1000, 'tench')
    """
    file = resources.files("lucid.data").joinpath("imagenet_classes.json")
    names: list[str] = json.loads(file.read_text(encoding="utf-8"))["names"]
    return names
