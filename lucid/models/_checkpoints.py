"""Which entries of a file are the weights, and what these are and expect: their description.

The description is written in the metadata of their file, or in a ``config.json``, or stands in the
table of the published ones (``_published.py``). Its keys are timm's: ``architecture`` (a name that
``list_models`` has), ``input_size``, ``crop_pct``, ``interpolation``, ``mean``, ``std``; and
``classes``, their names.

``crop_pct`` is the part of the resized image's side that the crop keeps. ``bn_eps`` is what the
batch norms add to a variance, where it is not 1e-5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lucid._check import is_integer, is_list, is_number, short
from lucid._files import parse_json, read_json
from lucid.autograd import Tensor
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


# -- the entries of a file ----------------------------------------------------------------------

# Where a checkpoint of a training keeps the model, and what wrappers put before names. What was
# trained comes first, its moving average after it.
_NESTED = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
_WRAPPERS = ("module.", "_orig_mod.", "model.", "state_dict.")


class NoSuchKeyError(ValueError):
    """A checkpoint does not have the key that is to be taken."""


class Entries(NamedTuple):
    """The arrays of a model by name, and in words where in the file they were."""

    state: dict[str, Tensor]
    taken: str  # empty if they are the file as it is


def find_entries(content: Any, source: str, key: str | None = None) -> Entries:
    """Return the arrays in a file: those of the model, if it is a training's checkpoint.

    Args:
        content: what the file holds.
        source: the file, for messages.
        key: the key of the checkpoint to take, ``"a.b"`` for one within another; None finds it.

    Raises:
        NoSuchKeyError: if there is no such key.
        ValueError: if what is there is no mapping of names to arrays.
    """
    keys: list[str] = []
    others: list[str] = []
    if key is not None:
        content = _at(content, key, source)
        keys = [key]
    while isinstance(content, dict):
        nested = [name for name in _NESTED if isinstance(content.get(name), dict)]
        if not nested:
            break
        others += [".".join([*keys, name]) for name in nested[1:]]
        keys.append(nested[0])
        content = content[nested[0]]
    if not isinstance(content, dict):
        raise ValueError(
            f"weights: {source}: {'.'.join(keys) or 'it'} is of type {type(content).__name__}; "
            "expected arrays by name, as model.state_dict() has them"
        )
    state = {name: value for name, value in content.items() if name != "n_averaged"}
    prefix = ""
    while found := next((w for w in _WRAPPERS if state and _all_start(state, w)), ""):
        prefix += found
        state = {name[len(found) :]: value for name, value in state.items()}
    if not prefix:
        state = content  # n_averaged is what AveragedModel has beside its module
    for name, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise ValueError(
                f"weights: {source}: {name!r} is of type {type(value).__name__}, not an array; "
                "expected a file of arrays by name, as model.state_dict() has them"
                f"{_choice(content)}"
            )
    words = [f"took {'.'.join(keys)!r}"] if keys else []
    words += [f"left off the prefix {prefix!r}"] if prefix else []
    words += [f"it has {' and '.join(map(repr, others))} too (--key)"] if others else []
    return Entries(state, "; ".join(words))


def _all_start(state: Mapping[Any, Any], prefix: str) -> bool:
    return all(isinstance(name, str) and name.startswith(prefix) for name in state)


def _at(content: Any, key: str, source: str) -> Any:
    """Return what a checkpoint has under a key, or under the keys that dots divide."""
    rest, place = key, content
    while isinstance(place, dict) and rest not in place:
        name, dot, rest = rest.partition(".")
        if not dot or name not in place:
            keys = [str(name) for name in place]
            raise NoSuchKeyError(
                f"weights: {source}: there is no key {key!r}; there are "
                f"{', '.join(map(repr, keys[:20]))}{', …' if len(keys) > 20 else ''}"
            )
        place = place[name]
    if not isinstance(place, dict):
        raise NoSuchKeyError(f"weights: {source}: there is no key {key!r}, nor any other")
    return place[rest]


def _choice(content: Mapping[Any, Any]) -> str:
    keys = [str(name) for name, value in content.items() if isinstance(value, dict)]
    names = ", ".join(map(repr, keys[:20]))
    return f"; `lucid convert --key` takes one of {names}" if keys else ""


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
    ("bn_eps", "a number in (0, 1]", lambda v: is_number(v, 0, 1) and v > 0),
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
            raise ValueError(f"{source}: {key!r}: expected {expected}, got {short(value)}")
        settings[key] = tuple(value) if isinstance(value, list) and key != "classes" else value
    return settings


def check_settings(found: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of images in ``found``, lists of numbers as tuples.

    Raises:
        ValueError: naming ``source`` and the key, if one cannot be.
    """
    return _checked(found, _CHECKS, source)


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
    return _checked(found, _DESCRIPTION_CHECKS, f"weights: {source}")


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
    return {**settings, **_checked(found, _CHECKS, f"weights: {config}")}
