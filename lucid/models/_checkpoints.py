"""What weights are and expect of an image: their description.

It is written in the metadata of their file, or in a ``config.json``, or stands in the table of the
published ones (``_published.py``). Its keys are timm's: ``architecture`` (a name that
``list_models`` has), ``input_size``, ``crop_pct``, ``interpolation``, ``mean``, ``std``; and
``classes``, their names.

``crop_pct`` is the part of the resized image's side that the crop keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lucid._check import is_integer, is_list, is_number, short
from lucid._files import parse_json, read_json
from lucid.models._published import IMAGENET_MEAN, IMAGENET_STD, PUBLISHED

# Preprocessing of a model without weights, and of weights about which nothing is known.
DEFAULT: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}

# The key of a file's metadata under which its description is, as JSON.
_METADATA = "lucid"


# -- config.json ------------------------------------------------------------------------------


_LARGEST_SIDE = 4096  # of an image

# What a setting may be: each key, what is expected, and whether a value is that.
_CHECKS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (
        "input_size",
        "three positive integers",
        lambda v: is_list(v, lambda x: is_integer(x, 1), (3,)),
    ),
    ("input_size", f"at most {_LARGEST_SIDE} pixels a side", lambda v: max(v) <= _LARGEST_SIDE),
    ("crop_pct", "a number over 0 and at most 1", lambda v: is_number(v, 0, 1) and v > 0),
    ("crop_pct", "at least 0.01", lambda v: v >= 0.01),
    ("interpolation", "'bicubic' or 'bilinear'", lambda v: v in ("bicubic", "bilinear")),
    (
        "mean",
        "one number or three, from -1e6 to 1e6",
        lambda v: is_list(v, lambda x: is_number(x, -1e6, 1e6), (1, 3)),
    ),
    (
        "std",
        "one number or three, from 1e-6 to 1e6",
        lambda v: is_list(v, lambda x: is_number(x, 1e-6, 1e6), (1, 3)),
    ),
)


_DESCRIPTION_CHECKS = (
    *_CHECKS,
    ("architecture", "a text", lambda v: isinstance(v, str)),
    (
        "classes",
        "a list of texts",
        lambda v: is_list(v, lambda name: isinstance(name, str)),
    ),
)


def _checked(
    found: Mapping[str, Any],
    checks: Sequence[tuple[str, str, Callable[[Any], bool]]],
    source: str,
) -> dict[str, Any]:
    """Return the settings of ``found`` that ``checks`` knows, lists of numbers as tuples.

    Raises:
        ValueError: if one cannot be.
    """
    settings = {}
    for key, expected, is_right in checks:
        value = found.get(key)
        if value is None:
            continue
        if not is_right(value):
            raise ValueError(f"weights: {source}: {key!r}: expected {expected}, got {short(value)}")
        settings[key] = tuple(value) if isinstance(value, list) and key != "classes" else value
    return settings


def as_metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata that tell :func:`read_description` what weights are."""
    return {_METADATA: json.dumps(dict(description), allow_nan=False)}


def read_description(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """Return what the metadata of a file say of its weights; empty if nothing.

    Raises:
        ValueError: naming ``source``, if it is no JSON object, or something in it cannot be.
    """
    if _METADATA not in metadata:
        return {}
    try:
        found = parse_json(metadata[_METADATA])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"weights: {source}: its description is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"weights: {source}: its description is no JSON object but {type(found).__name__}"
        )
    return _checked(found, _DESCRIPTION_CHECKS, source)


def read_settings(name: str, config: Path | None, architecture: str | None) -> dict[str, Any]:
    """Return what is known of weights without a description: from ``config.json`` and the table.

    Args:
        name: of the repository or file, to be found in the table: without folders.
        config: the ``config.json``, in timm's layout: the settings stand under
            ``"pretrained_cfg"`` or at the top.
        architecture: None takes the file as it is. Otherwise it counts only if it is in timm's
            layout and of no other architecture: a folder of downloads may hold any model's.

    Raises:
        ValueError: if the file that counts is no JSON, or a setting in it cannot be.
    """
    settings = PUBLISHED[name].settings() if name in PUBLISHED else {}
    if config is None or not config.is_file():
        return settings
    try:
        found = read_json(config)
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, got {type(found).__name__}")
    except ValueError as error:
        if architecture is not None:
            return settings
        raise ValueError(f"weights: {config} is not a JSON file of settings: {error}") from error
    unnamed = architecture if "pretrained_cfg" in found else None
    if architecture is not None and found.get("architecture", unnamed) != architecture:
        return settings
    found = found.get("pretrained_cfg", found)
    if not isinstance(found, dict):
        raise ValueError(
            f"weights: {config}: 'pretrained_cfg': expected an object, got {short(found)}"
        )
    return {**settings, **_checked(found, _CHECKS, str(config))}
