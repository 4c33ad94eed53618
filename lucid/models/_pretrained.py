"""Weights into models: from a file or a hub, in lucid's names or timm's."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid import _files
from lucid.autograd import Tensor
from lucid.models import _timm, configs
from lucid.models._checkpoints import DEFAULT, PUBLISHED
from lucid.models._config import ModelSpec, read_config
from lucid.models._mobilenet_v4 import MobileNet_V4

_HUB_ID = re.compile(r"(?:hf[-_]hub:)?([\w.-]+/[\w.-]+)")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
_STEM = "conv0.convbn_0.conv.weight"

# The activation of timm's models; all others have ReLU.
_TIMM_ACT = {"hybrid_large": "gelu"}


class Checkpoint(NamedTuple):
    """Weights as they were found: where, the arrays by name, and what the images should be."""

    source: str
    state: dict[str, Tensor]
    pretrained_cfg: dict[str, Any]


def configuration(variant: str, timm: bool) -> configs.Config:
    """Return a variant's configuration (``"conv_small"``), in the paper's form or in timm's."""
    cfg: configs.Config = getattr(configs, variant)()
    return configs.timm(cfg, _TIMM_ACT.get(variant, "relu")) if timm else cfg


def build(
    variant: str, num_classes: int, weights: str | os.PathLike[str] | None, **kwargs: Any
) -> MobileNet_V4:
    """Return a variant, with ``weights`` where they are given; see the factories."""
    name = f"mobilenet_v4_{variant}"
    if weights is None:
        model = MobileNet_V4(configuration(variant, timm=False), num_classes, **kwargs)
        model.name = name
        return model
    checkpoint = open_checkpoint(weights)
    timm_names = _timm.is_timm(checkpoint.state)
    # Under lucid's names, a head behind the pooling tells that the model is timm's.
    timm_form = timm_names or any(name.startswith("head.") for name in checkpoint.state)
    cfg = configuration(variant, timm_form)
    model = MobileNet_V4(cfg, num_classes, **kwargs)
    model.name = name
    load_checkpoint(model, read_config(cfg), checkpoint, name)
    model.pretrained_cfg = checkpoint.pretrained_cfg
    return model


# -- finding ----------------------------------------------------------------------------------


def open_checkpoint(weights: str | os.PathLike[str]) -> Checkpoint:
    """Read weights from a file, or from a Hugging Face repository into its cache.

    Raises:
        FileNotFoundError: if there is no such file, and no such repository within reach.
        ValueError: if the file is damaged.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            f"weights: expected a path or a Hugging Face repo id, got {type(weights).__name__}"
        )
    path = Path(weights)
    settings: Path | None = path.parent / "config.json"
    source = name = str(weights)
    if not path.is_file():
        match = _HUB_ID.fullmatch(str(weights))
        if path.exists() or match is None or path.suffix in _files.SUFFIXES:
            raise FileNotFoundError(
                f"weights: there is no file {str(weights)!r}; expected a .safetensors or .npz file "
                'or a Hugging Face repo id such as "timm/mobilenetv4_conv_small.e2400_r224_in1k"'
            )
        source = match.group(1)
        name = source.partition("/")[2]
        path, settings = _fetch(source)
    return Checkpoint(source, _files.load(path), _read_settings(settings, name))


def _fetch(repo_id: str) -> tuple[Path, Path | None]:
    """Return the weights and, where there is one, the ``config.json`` of a repository."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise ImportError(
            f"weights={repo_id!r} is fetched by huggingface_hub, which is not installed: "
            'pip install "lucid[hub]"'
        ) from error
    try:
        path = Path(huggingface_hub.hf_hub_download(repo_id, "model.safetensors"))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileNotFoundError(
            f"weights: cannot get model.safetensors of the Hugging Face repository {repo_id!r}: "
            f"{reason[0]} (a path to a local file works without a network)"
        ) from error
    try:
        return path, Path(huggingface_hub.hf_hub_download(repo_id, "config.json"))
    except (EntryNotFoundError, OSError, ValueError):
        return path, None


def _read_settings(path: Path | None, name: str) -> dict[str, Any]:
    """Return what the images should be: from ``config.json``, the table, or by default."""
    settings = dict(PUBLISHED.get(name.rpartition("/")[2].removesuffix(".safetensors"), DEFAULT))
    if path is None or not path.is_file():
        return settings
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"weights: {path} is not a JSON file: {error}") from error
    found = found.get("pretrained_cfg", found) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"weights: {path}: expected an object with the key 'pretrained_cfg'")
    known = {key: found[key] for key in DEFAULT if key in found}
    for key, value in known.items():
        if not _is_setting(key, value):
            raise ValueError(f"weights: {path}: {key!r} has the value {value!r}, which cannot be")
        settings[key] = tuple(value) if isinstance(value, list) else value
    return settings


def _is_setting(key: str, value: Any) -> bool:
    if key in ("input_size", "mean", "std"):
        kind = int if key == "input_size" else (int, float)
        least = 0 if key == "mean" else 1e-9
        return (
            isinstance(value, (list, tuple))
            and len(value) in (1, 3)
            and all(isinstance(v, kind) and not isinstance(v, bool) and v >= least for v in value)
        )
    if key == "interpolation":
        return value in ("bilinear", "bicubic")
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


# -- loading ----------------------------------------------------------------------------------


def load_checkpoint(
    model: MobileNet_V4, spec: ModelSpec, checkpoint: Checkpoint, name: str
) -> None:
    """Fill ``model`` with the checkpoint's arrays, after all of them were checked.

    The classifier is left as drawn if the checkpoint's has another number of classes, with a
    warning; the first convolution is adapted to other image channels. Stages that a features-only
    model does not have are passed over.

    Raises:
        ValueError: naming the source and the first entry that does not fit, with both shapes.
    """
    state = dict(checkpoint.state)
    if _timm.is_timm(state):
        modules = _timm.module_names(spec)
        renamed: dict[str, Tensor] = {}
        for key, value in state.items():
            ours = _timm.from_timm(key, modules)
            if ours is None:
                raise _misfit(checkpoint, name, f"entry {key!r} belongs to no part of it")
            renamed[ours] = value
        state = renamed
    wanted = model.state_dict()
    if _STEM in state:
        state[_STEM] = _adapt_channels(state[_STEM], model.in_channels)
    fresh = _has_other_classes(state, wanted)
    for key, value in wanted.items():
        if fresh and key in _CLASSIFIER:
            continue
        if key not in state:
            raise _misfit(checkpoint, name, f"entry {key!r} of shape {value.shape} is missing")
        if state[key].shape != value.shape:
            raise _misfit(
                checkpoint,
                name,
                f"entry {key!r}: expected shape {value.shape}, got {state[key].shape}",
            )
    if model.out_indices is None:
        left = [key for key in state if key not in wanted and key not in _CLASSIFIER]
        if left:
            raise _misfit(checkpoint, name, f"entry {left[0]!r} belongs to no part of it")
    if fresh:
        given = state[_CLASSIFIER[0]].shape[0] if _CLASSIFIER[0] in state else 0
        warnings.warn(
            f"{name}: the classifier of {checkpoint.source} has {given} classes, the model "
            f"{model.num_classes}: it starts from fresh weights, and the rest is loaded",
            stacklevel=4,
        )
    keys = [key for key in wanted if not (fresh and key in _CLASSIFIER)]
    model.load_state_dict({key: state[key] for key in keys}, strict=False)


def _misfit(checkpoint: Checkpoint, name: str, what: str) -> ValueError:
    return ValueError(f"weights: {checkpoint.source} does not fit {name}: {what}")


def _has_other_classes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    weight = _CLASSIFIER[0]
    if weight not in wanted:
        return False
    return weight not in state or state[weight].shape[0] != wanted[weight].shape[0]


def _adapt_channels(stem: Tensor, in_channels: int) -> Tensor:
    """Return the stem's weights for images of another number of channels.

    One channel gets the sum over the three, which is what a grey image in colour would give;
    more get the three repeated, scaled so that the sum stays.
    """
    given = stem.shape[1]
    if given == in_channels or given != 3:
        return stem
    data = stem.numpy()
    if in_channels == 1:
        return Tensor._wrap(data.sum(axis=1, keepdims=True))
    repeated = np.concatenate([data] * -(-in_channels // 3), axis=1)[:, :in_channels]
    return Tensor._wrap((repeated * (3 / in_channels)).astype(data.dtype))
