"""Weights into models: from a file or a hub, in lucid's names or timm's."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lucid import _files
from lucid._extras import extra
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.models import _timm, configs
from lucid.models._checkpoints import DEFAULT, PUBLISHED, read_description, read_settings
from lucid.models._config import ModelSpec, read_config
from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.nn.modules._module import is_counter

VARIANTS = ("conv_small", "conv_medium", "conv_large", "hybrid_medium", "hybrid_large")

_HUB_ID = re.compile(r"(?:hf[-_]hub:)?([\w.-]+/[\w.-]+)")
# Where a checkpoint of a training keeps the model, and what wrappers put before names.
_NESTED = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.", "model.", "state_dict.")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
_STEM = "conv0.convbn_0.conv.weight"

# The activation of timm's models; all others have ReLU.
_TIMM_ACT = {"hybrid_large": "gelu"}


class Checkpoint(NamedTuple):
    """Weights as they were found, under the names of the file."""

    source: str  # as the user knows it: a path or a repo id
    state: dict[str, Tensor]
    config: Path | None  # the config.json that came with them
    from_hub: bool
    metadata: Mapping[str, str] = MappingProxyType({})
    description: Mapping[str, Any] = MappingProxyType({})  # what the file itself says of them


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
    return build_from(open_checkpoint(weights), variant, num_classes, **kwargs)


def build_from(
    checkpoint: Checkpoint, variant: str, num_classes: int, **kwargs: Any
) -> MobileNet_V4:
    """Return a variant with the weights of a checkpoint; see the factories."""
    name = f"mobilenet_v4_{variant}"
    cfg = configuration(variant, _timm.is_timm_form(checkpoint.state))
    model = MobileNet_V4(cfg, num_classes, **kwargs)
    model.name = name
    state = fit(model, read_config(cfg), checkpoint, name)
    model.load_state_dict(state, strict=False)
    model.pretrained_cfg = _settings(checkpoint, variant)
    if _CLASSIFIER[0] in model.state_dict() and _CLASSIFIER[0] not in state:
        given = model.pretrained_cfg["num_classes"]
        warnings.warn(
            f"{name}: {checkpoint.source} has "
            f"{f'a classifier of {given} classes' if given else 'no classifier'}, the model one "
            f"of {num_classes}, which starts from fresh weights; all else is loaded",
            stacklevel=4,
        )
    return model


def _settings(checkpoint: Checkpoint, variant: str) -> dict[str, Any]:
    return {**DEFAULT, **known_settings(checkpoint, variant), "num_classes": _classes(checkpoint)}


def _classes(checkpoint: Checkpoint) -> int:
    bias = checkpoint.state.get(_CLASSIFIER[1])
    return 0 if bias is None else bias.numel()


def known_settings(checkpoint: Checkpoint, variant: str) -> dict[str, Any]:
    """Return what weights say of their images and classes; the rest is to be assumed.

    The description in the file comes first, then ``config.json``, then the table.
    """
    name = Path(checkpoint.source).name
    if checkpoint.from_hub:
        settings = read_settings(name, checkpoint.config, None)
    else:
        name = Path(name).stem
        settings = read_settings(name, checkpoint.config, f"mobilenetv4_{variant}")
    settings.update(checkpoint.description)
    settings.pop("architecture", None)
    if len(settings.get("classes", [])) != _classes(checkpoint):
        settings.pop("classes", None)
    return settings


# -- finding ----------------------------------------------------------------------------------


def open_checkpoint(weights: str | os.PathLike[str]) -> Checkpoint:
    """Read weights from a file, or from a Hugging Face repository into its cache.

    Raises:
        FileNotFoundError: if there is no such file, and no such repository within reach.
        ValueError: if the file is damaged, or holds something else than arrays by name.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            f"weights: expected a path or a Hugging Face repo id, got {type(weights).__name__}"
        )
    path, config = Path(weights), Path(weights).parent / "config.json"
    source = str(weights)
    hub_id = None if path.exists() else _HUB_ID.fullmatch(source)
    from_hub = hub_id is not None and path.suffix not in _files.SUFFIXES
    if hub_id is not None and from_hub:
        source = hub_id.group(1)
        path, config = _fetch(source)
    elif path.is_dir():
        raise ValueError(f"weights: {source!r} is a folder; name the file in it")
    elif not path.is_file():
        raise FileNotFoundError(
            f"weights: there is no file {source!r}; expected a .safetensors or .npz file "
            'or a Hugging Face repo id such as "timm/mobilenetv4_conv_small.e2400_r224_in1k"'
            f"{_near(source)}"
        )
    contents = _files.read(path)
    state = _unwrap(contents.state)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"weights: {source}: {name!r} is of type {type(value).__name__}, not an array; "
                "expected a file of arrays by name, as model.state_dict() has them"
            )
    description = read_description(contents.metadata, source)
    return Checkpoint(source, state, config, from_hub, contents.metadata, description)


def _unwrap(state: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of a training's checkpoint, and of a model in a wrapper."""
    for key in _NESTED:
        if isinstance(state.get(key), dict):
            return _unwrap(state[key])
    for prefix in _WRAPPERS:
        if state and all(str(name).startswith(prefix) for name in state):
            return _unwrap({name[len(prefix) :]: value for name, value in state.items()})
    return state


def _near(source: str) -> str:
    """Return a question for names like ``source``: of files beside it, or of published weights."""
    path = Path(source)
    stem = source.removesuffix(path.suffix) if path.suffix in _files.SUFFIXES else source
    known = {f"timm/{name}": f"timm/{name}" for name in PUBLISHED}
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if entry.suffix in _files.SUFFIXES:
                known[str(entry)] = known[str(entry.with_suffix(""))] = str(entry)
    found = [
        name
        for text in dict.fromkeys((source, stem))
        for name in difflib.get_close_matches(text, known, n=3, cutoff=0.75)
    ]
    close = dict.fromkeys(known[name] for name in found)
    return f"; did you mean {' or '.join(list(close)[:3])}?" if close else ""


def _fetch(repo_id: str) -> tuple[Path, Path]:
    """Return the paths of a repository's weights and its ``config.json``, which may not exist."""
    huggingface_hub = extra(
        "huggingface_hub",
        "hub",
        f"weights: there is no file {repo_id!r}{_near(repo_id)}; the Hugging Face repository of "
        "that name is fetched by huggingface_hub",
    )
    from huggingface_hub.errors import EntryNotFoundError

    name = "model.safetensors"
    try:
        path = Path(huggingface_hub.hf_hub_download(repo_id, name))
        name = "config.json"
        try:
            return path, Path(huggingface_hub.hf_hub_download(repo_id, name))
        except EntryNotFoundError:
            return path, path.parent / name
    except Exception as error:  # of the network's many libraries too
        reason = " ".join(str(error).split()) or type(error).__name__
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, and the cache does not have it"
        raise FileNotFoundError(
            f"weights: there is no file {str(repo_id)!r}, and {name} of the Hugging Face "
            f"repository of that name is out of reach: {reason}{_near(repo_id)}"
        ) from error


# -- fitting ----------------------------------------------------------------------------------


def fit(
    model: MobileNet_V4, spec: ModelSpec, checkpoint: Checkpoint, name: str
) -> dict[str, Tensor]:
    """Return a checkpoint's arrays under the names of ``model``, after all of them were checked.

    The classifier is left out if the checkpoint's has another number of classes or is missing.
    The first convolution is adapted to other image channels. What a model without classifier, or
    of the first stages only, does not have is passed over.

    Args:
        model: a model of ``spec``, whole or in part; it is not changed.
        spec: the configuration.
        checkpoint: the arrays, under lucid's names or timm's.
        name: of the model, for messages.

    Raises:
        ValueError: naming the source and the first entry that does not fit, as the file names
            it, with both shapes.
    """
    modules = _timm.module_names(spec)
    if not _timm.is_timm(checkpoint.state):
        modules = {ours: ours for ours in modules}
    own = model.state_dict()
    names = {_timm.rename(ours, modules): ours for ours in own}
    state = dict(checkpoint.state)
    stem = _timm.rename(_STEM, modules)
    if stem in state:
        state[stem] = _adapt_channels(state[stem], model.in_channels)
    if _has_other_classes(state, own):
        for entry in _CLASSIFIER:
            del names[entry]
            state.pop(entry, None)

    def misfit(problem: str) -> ValueError:
        variant = identify(state)
        hint = "" if variant in (None, name) else f" (its entries are those of {variant})"
        return ValueError(f"weights: {checkpoint.source} does not fit {name}: {problem}{hint}")

    for entry, ours in names.items():
        if entry in state and state[entry].shape != own[ours].shape:
            raise misfit(
                f"entry {entry!r}: expected shape {own[ours].shape}, got {state[entry].shape}"
            )
    for entry, ours in names.items():
        if entry not in state and not is_counter(entry):
            raise misfit(f"entry {entry!r} of shape {own[ours].shape} is missing")
    built = {entry.rpartition(".")[0] for entry in names}
    passed_over = set(modules.values()) - built
    for entry in state:
        if entry not in names and entry.rpartition(".")[0] not in passed_over:
            raise misfit(f"entry {entry!r} of shape {state[entry].shape} belongs to no part of it")
    # Only its place tells lucid's form from timm's: without it, the activations are not known.
    last = f"{_timm.last_convbn(spec)}.conv.weight"
    if not _timm.is_timm(state) and last not in state:
        raise misfit(f"entry {last!r} is missing")
    return {ours: state[entry] for entry, ours in names.items() if entry in state}


def _has_other_classes(state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    weight, bias = _CLASSIFIER
    if weight not in own or (weight not in state and bias not in state):
        return weight in own
    if weight not in state or bias not in state:
        return False  # half of it is missing: an error, not another number of classes
    classes = state[weight].shape[:1]
    return (
        classes != own[bias].shape
        and state[weight].shape == (*classes, own[weight].shape[1])
        and state[bias].shape == classes
    )


def _adapt_channels(stem: Tensor, in_channels: int) -> Tensor:
    """Return the stem's weights for images of another number of channels, as timm does.

    One channel gets the sum over the three, which is what a grey image in colour would give;
    otherwise the three are repeated as often as needed, scaled so that the sum stays.
    """
    if stem.ndim != 4 or stem.shape[1] != 3 or in_channels == 3:
        return stem
    data = stem.numpy().astype(np.float32)
    if in_channels == 1:
        return wrap(data.sum(axis=1, keepdims=True))
    repeated = np.take(data, np.arange(in_channels) % 3, axis=1)
    return wrap(repeated * np.float32(3 / in_channels))


# -- renaming ---------------------------------------------------------------------------------


def convert(checkpoint: Checkpoint, name: str, to_timm: bool) -> dict[str, Tensor]:
    """Return a checkpoint's arrays under the other names, after all of them were checked.

    A hybrid in the paper's form has no layer scale on its bottlenecks; timm's gets factors of 1.

    Raises:
        ValueError: as :func:`fit` does.
    """
    variant = name.removeprefix("mobilenet_v4_")
    state = checkpoint.state
    cfg = configuration(variant, _timm.is_timm_form(state))
    spec = read_config(cfg)
    modules = _timm.module_names(spec)
    # The model is the one that the file is of: its own number of classes and image channels.
    sizes = [state[entry].shape for entry in _CLASSIFIER if entry in state]
    classes = sizes[0][0] if sizes and sizes[0] else 0
    stem = state.get(_STEM if to_timm else _timm.rename(_STEM, modules))
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 0
    model = MobileNet_V4(cfg, classes, in_channels=channels or None)
    arrays = fit(model, spec, checkpoint, name)
    if not to_timm:
        return arrays
    arrays = {_timm.rename(entry, modules): array for entry, array in arrays.items()}
    theirs = _timm.module_names(read_config(configuration(variant, timm=True)))
    for module in theirs.values():
        block, _, part = module.rpartition(".")
        if part == "layer_scale" and f"{module}.gamma" not in arrays:
            like = arrays[f"{block}.pw_proj.bn.weight"]
            arrays[f"{module}.gamma"] = wrap(np.ones_like(like.numpy()))
    return arrays


def identify(state: dict[str, Tensor]) -> str | None:
    """Return the model whose parts, classifier aside, are just those of ``state``, if any is.

    Only names are compared: widths may still differ.
    """
    found = {entry.rpartition(".")[0] for entry in state} - {"classifier"}
    timm_names = _timm.is_timm(state)
    for variant in VARIANTS:
        spec = read_config(configuration(variant, _timm.is_timm_form(state)))
        modules = _timm.module_names(spec)
        parts = set(modules.values() if timm_names else modules) - {"classifier"}
        if parts == found:
            return f"mobilenet_v4_{variant}"
    return None
