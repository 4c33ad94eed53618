"""Weights into models: from a file or a hub, in lucid's names or timm's.

A model's name tells its form. ``mobilenetv4_conv_small`` (timm's name) is what the authors
released; ``mobilenet_v4_conv_small`` is the form of lucid's documentation page. Weights tell their
form too, and a model that lucid's name is given for takes theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lucid import _files
from lucid._check import nearest
from lucid._extras import extra
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.models import _timm, configs
from lucid.models._checkpoints import DEFAULT, find_entries, read_description, read_settings
from lucid.models._config import ModelSpec, read_config
from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.models._published import PUBLISHED, described, tags
from lucid.nn import BatchNorm1d, BatchNorm2d, Module
from lucid.nn.modules._module import is_counter
from lucid.nn.utils import skip_init

# Those of the page; timm has more (``configs.RELEASED``).
VARIANTS = ("conv_small", "conv_medium", "conv_large", "hybrid_medium", "hybrid_large")

# What stands before the variant in the names of the two forms.
_PAGE, _RELEASED = "mobilenet_v4_", "mobilenetv4_"
PAGE_NAMES = [f"{_PAGE}{variant}" for variant in VARIANTS]

_HUB_ID = re.compile(r"(?:hf[-_]hub:)?([\w.-]+/[\w.-]+)")
_SHA256 = re.compile("[0-9a-f]{64}")
_CLASSIFIER = ("classifier.weight", "classifier.bias")
_STEM = "conv0.convbn_0.conv.weight"

IN_FOLDER = "weights.npz"  # what the weights are called in the folder of a training's run


class Checkpoint(NamedTuple):
    """Weights as they were found, under the names of the file."""

    source: str  # as the user knows it: a path or a repo id
    state: dict[str, Tensor]
    config: Path | None  # the config.json that came with them
    from_hub: bool
    metadata: Mapping[str, str] = MappingProxyType({})
    description: Mapping[str, Any] = MappingProxyType({})  # what the file itself says of them
    taken: str = ""  # in words, which part of the file they are


def variant_of(name: str) -> str:
    """Return what both forms of a model are called: ``"conv_small"``."""
    return name.removeprefix(_PAGE).removeprefix(_RELEASED)


def configuration(name: str) -> configs.Config:
    """Return the configuration of a model by its full name, which tells the form."""
    if name in configs.RELEASED:
        return configs.released(name)
    cfg: configs.Config = getattr(configs, variant_of(name))()
    return cfg


def _name_in_form_of(state: Mapping[str, Any], name: str) -> str:
    """Return the name that a model has in the form that weights are of."""
    variant = variant_of(name)
    released = _timm.is_timm_form(state) or variant not in VARIANTS
    return f"{_RELEASED if released else _PAGE}{variant}"


def build(
    name: str,
    num_classes: int | None,
    weights: str | os.PathLike[str] | bool | None,
    *,
    pretrained: bool = False,
    in_chans: int | None = None,
    **kwargs: Any,
) -> MobileNet_V4:
    """Return a model by its full name, with ``weights`` where they are given; see the factories."""
    _check_arguments(name, kwargs)
    if in_chans is not None and kwargs.setdefault("in_channels", in_chans) != in_chans:
        raise ValueError(f"{name}: in_chans is in_channels by timm's name; give one of them")
    if pretrained and weights not in (None, False, True):
        raise ValueError(
            f"{name}: pretrained=True takes the recommended weights, weights= names others; give "
            "one of them"
        )
    source = _named(name, pretrained or weights)
    if source is not None:
        return build_from(open_checkpoint(source), name, num_classes, **kwargs)
    model = MobileNet_V4(
        configuration(name), 1000 if num_classes is None else num_classes, **kwargs
    )
    model.name = name
    model.default_cfg = _default_cfg(name, None)
    return model


def _check_arguments(name: str, given: Mapping[str, Any]) -> None:
    """Raise a TypeError if a model does not take an argument, with the closest that it takes."""
    known = [
        argument
        for function in (build, MobileNet_V4)
        for argument, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    known = [key for key in dict.fromkeys(known) if key not in ("name", "cfg")]
    for key in given:
        if key not in known:
            close = nearest(key, known, likeness=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{name}: expected arguments {', '.join(known)}, got {key!r}{hint}")


def open_named(name: str, weights: Any) -> Checkpoint:
    """Return the weights that a model of this name is given, by a file, a tag, True and so on."""
    return open_checkpoint(_named(name, weights))


def _named(name: str, weights: Any) -> Any:
    """Return the repository of weights that are given by True or a tag; others as they are.

    Raises:
        ValueError: if no such weights are published for the model.
    """
    if weights is None or weights is False:
        return None
    known = tags(f"{_RELEASED}{variant_of(name)}")
    if weights is True or weights == "DEFAULT":  # the latter is torchvision's
        if not known:
            raise ValueError(f"weights: none are published for {name}; give a file")
        weights = known[0]
    if not isinstance(weights, str) or Path(weights).exists():
        return weights
    if weights in known:
        return f"timm/{_RELEASED}{variant_of(name)}.{weights}"
    if any(weights == entry.tag for entry in PUBLISHED.values()):
        raise ValueError(
            f"weights: {weights!r} are not of {name}; of it are {', '.join(known) or 'none'}"
        )
    return weights


def build_from(
    checkpoint: Checkpoint, name: str, num_classes: int | None, **kwargs: Any
) -> MobileNet_V4:
    """Return a model with the weights of a checkpoint; see the factories.

    Args:
        checkpoint: the weights, whose memory the model takes where it can.
        name: of the model; lucid's name takes weights of either form, timm's only of its own.
        num_classes: None takes the checkpoint's, or 1000 if it has no classifier.
        **kwargs: for :class:`MobileNet_V4`.
    """
    if num_classes is None:
        num_classes = _classes(checkpoint) or 1000
    own_name = _name_in_form_of(checkpoint.state, name)
    cfg = configuration(own_name)
    if num_classes in (0, _classes(checkpoint)):  # nothing of the model starts fresh
        model = skip_init(MobileNet_V4, cfg, num_classes, **kwargs)
    else:
        model = MobileNet_V4(cfg, num_classes, **kwargs)
    model.name = own_name
    state = fit(model, read_config(cfg), checkpoint, name)
    if name.startswith(_RELEASED) and own_name != name:
        raise ValueError(
            f"weights: {checkpoint.source} does not fit {name}, the form that the authors "
            f"released: its entries are of the documentation page's form, {own_name}"
        )
    told = architecture(checkpoint)
    if told is not None and variant_of(told) != variant_of(name):
        raise ValueError(
            f"weights: {checkpoint.source} does not fit {name}: it has the same entries, but they "
            f"are those of {told}, which computes something else"
        )
    own = model.state_dict()
    state = {ours: value.to(own[ours].dtype) for ours, value in state.items()}
    model.load_state_dict(state, strict=False, assign=True)
    known = known_settings(checkpoint, name)
    set_batch_norms(model, eps=known.get("bn_eps"))
    model.pretrained_cfg = {**DEFAULT, **known, "num_classes": _classes(checkpoint)}
    model.default_cfg = _default_cfg(own_name, checkpoint) | model.pretrained_cfg
    if _CLASSIFIER[0] in model.state_dict() and _CLASSIFIER[0] not in state:
        given = model.pretrained_cfg["num_classes"]
        warnings.warn(
            f"{name}: {checkpoint.source} has "
            f"{f'a classifier of {given} classes' if given else 'no classifier'}, the model one "
            f"of {num_classes}, which starts from fresh weights; all else is loaded",
            stacklevel=4,
        )
    return model


def set_batch_norms(
    model: Module, *, eps: float | None = None, momentum: float | None = None
) -> None:
    """Give all batch norms of a model these numbers; None leaves each its own."""
    numbers = {"eps": eps, "momentum": momentum}
    for module in model.modules():
        if isinstance(module, (BatchNorm1d, BatchNorm2d)):
            vars(module).update({key: value for key, value in numbers.items() if value is not None})


def _default_cfg(name: str, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Return timm's description of a model: of its weights, or of those that are recommended."""
    general = described(f"{_RELEASED}{variant_of(name)}")
    assert general is not None  # every variant has an entry
    entry = general if checkpoint is None else PUBLISHED.get(_stem(checkpoint))
    cfg = (entry or general).default_cfg()
    if entry is None:  # weights from elsewhere
        cfg.update(dict.fromkeys(cfg.keys() - {"crop_mode", "first_conv", "classifier"}))
    return {**cfg, "architecture": name}


def _stem(checkpoint: Checkpoint) -> str:
    """Return the name of a checkpoint's repository, or of its file without the suffix."""
    name = Path(checkpoint.source).name
    return name if checkpoint.from_hub else Path(name).stem


def architecture(checkpoint: Checkpoint) -> str | None:
    """Return whose weights they are, if they or their repository say it; by the name at last."""
    told: str | None = checkpoint.description.get("architecture")
    if told is None and checkpoint.from_hub and checkpoint.config and checkpoint.config.is_file():
        with contextlib.suppress(ValueError):  # told where its settings are read
            config = _files.read_json(checkpoint.config)
            named = config.get("architecture") if isinstance(config, dict) else None
            told = named if named in configs.RELEASED else None
    entry = PUBLISHED.get(_stem(checkpoint))
    return told if told is not None or entry is None else entry.architecture


def _classes(checkpoint: Checkpoint) -> int:
    bias = checkpoint.state.get(_CLASSIFIER[1])
    return 0 if bias is None else bias.numel()


def known_settings(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Return what weights say of their images and classes; the rest is to be assumed.

    The description in the file comes first, then ``config.json``, then the table.
    """
    architecture = None if checkpoint.from_hub else f"{_RELEASED}{variant_of(name)}"
    settings = read_settings(_stem(checkpoint), checkpoint.config, architecture)
    settings.update(checkpoint.description)
    settings.pop("architecture", None)
    if len(settings.get("classes", [])) != _classes(checkpoint):
        settings.pop("classes", None)
    return settings


# -- finding ----------------------------------------------------------------------------------


def open_checkpoint(weights: str | os.PathLike[str], key: str | None = None) -> Checkpoint:
    """Read weights from a file or a run's folder, or from a Hugging Face repository into its cache.

    In a checkpoint of a training, what is under ``key`` is taken, or else found.

    Raises:
        FileNotFoundError: if there is no such file, and no such repository within reach.
        ValueError: if the file is damaged, or holds something else than arrays by name.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            f"weights: expected a path or a Hugging Face repo id, got {type(weights).__name__}"
        )
    path = Path(weights)
    if (path / IN_FOLDER).is_file():
        path /= IN_FOLDER
    config = path.parent / "config.json"
    source = str(path)
    if source in PUBLISHED and not path.exists():
        source = PUBLISHED[source].hf_hub_id
    hub_id = None if path.exists() else _HUB_ID.fullmatch(source)
    from_hub = hub_id is not None and path.suffix not in _files.READABLE
    if hub_id is not None and from_hub:
        source = hub_id.group(1)
        path, config = _fetch(source)
    elif path.is_dir():
        raise ValueError(f"weights: {source!r} is a folder; name the file in it")
    elif not path.is_file():
        raise FileNotFoundError(
            f"weights: there is no file {source!r}; expected a .safetensors, .npz or .pth file, a "
            "name or tag that `lucid models --pretrained` lists, or a Hugging Face repo id such as "
            '"timm/mobilenetv4_conv_small.e2400_r224_in1k"'
            f"{_near(source)}"
        )
    contents = _files.read(path)
    state, taken = find_entries(contents.state, source, key)
    description = read_description(contents.metadata, source)
    return Checkpoint(source, state, config, from_hub, contents.metadata, description, taken)


def _near(source: str) -> str:
    """Return a question for names like ``source``: of files beside it, or of published weights."""
    path = Path(source)
    stem = source.removesuffix(path.suffix) if path.suffix in _files.READABLE else source
    known = {entry.hf_hub_id: entry.hf_hub_id for entry in PUBLISHED.values()}
    known.update({name: name for entry in PUBLISHED.values() for name in (entry.name, entry.tag)})
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if entry.suffix in _files.READABLE:
                known[str(entry)] = known[str(entry.with_suffix(""))] = str(entry)
    found = [
        name for text in dict.fromkeys((source, stem)) for name in nearest(text, known, 3, 0.75)
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
            config = Path(huggingface_hub.hf_hub_download(repo_id, name))
        except EntryNotFoundError:
            config = path.parent / name
    except Exception as error:  # of the network's many libraries too
        reason = " ".join(str(error).split()) or type(error).__name__
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, and the cache does not have it"
        raise FileNotFoundError(
            f"weights: there is no file {str(repo_id)!r}, and {name} of the Hugging Face "
            f"repository of that name is out of reach: {reason}{_near(repo_id)}"
        ) from error
    _check_sum(path)
    return path, config


def _check_sum(path: Path) -> None:
    """Raise unless a file of the hub's cache has the sha256 that the hub reported for it.

    The cache names the content of a large file by that sum, and the path is a link to it. Where
    the system has no links, nothing tells the sum. The size was compared at the download.

    Raises:
        ValueError: naming the file.
    """
    reported = Path(os.readlink(path)).name if path.is_symlink() else ""
    if not _SHA256.fullmatch(reported):
        return
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.hexdigest() != reported:
        raise ValueError(
            f"weights: {path} is damaged: its sha256 is {found.hexdigest()}, the hub's "
            f"{reported}; delete {path.resolve()}, and it is fetched again"
        )


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
        others = [other for other in identify(state) if variant_of(other) != variant_of(name)]
        hint = f" (its entries are those of {others[0]})" if others else ""
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

    A hybrid in the page's form has no layer scale on its bottlenecks; timm's gets factors of 1.

    Raises:
        ValueError: as :func:`fit` does.
    """
    state = checkpoint.state
    cfg = configuration(_name_in_form_of(state, name))
    spec = read_config(cfg)
    modules = _timm.module_names(spec)
    # The model is the one that the file is of: its own number of classes and image channels.
    sizes = [state[entry].shape for entry in _CLASSIFIER if entry in state]
    classes = sizes[0][0] if sizes and sizes[0] else 0
    stem = state.get(_STEM if to_timm else _timm.rename(_STEM, modules))
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 0
    model = skip_init(MobileNet_V4, cfg, classes, in_channels=channels or None)
    arrays = fit(model, spec, checkpoint, name)
    if not to_timm:
        return arrays
    arrays = {_timm.rename(entry, modules): array for entry, array in arrays.items()}
    theirs = _timm.module_names(read_config(configuration(f"{_RELEASED}{variant_of(name)}")))
    for module in theirs.values():
        block, _, part = module.rpartition(".")
        if part == "layer_scale" and f"{module}.gamma" not in arrays:
            like = arrays[f"{block}.pw_proj.bn.weight"]
            arrays[f"{module}.gamma"] = wrap(np.ones_like(like.numpy()))
    return arrays


def identify(state: dict[str, Tensor], source: str = "") -> list[str]:
    """Return the models whose parts, classifier aside, are just those of ``state``.

    Names are compared, and the width before the last convolution, which tells the multiplier. The
    models with ``aa`` and ``blur`` in their names have the same arrays as the plain one, which
    comes first, unless the file's name ``source`` begins with another.
    """
    found = {entry.rpartition(".")[0] for entry in state} - {"classifier"}
    timm_names, released = _timm.is_timm(state), _timm.is_timm_form(state)
    alike = []
    for name in configs.RELEASED if released else PAGE_NAMES:
        spec = read_config(configuration(name))
        modules = _timm.module_names(spec)
        parts = set(modules.values() if timm_names else modules) - {"classifier"}
        entry = f"{_timm.last_convbn(spec)}.conv.weight"
        weight = state.get(_timm.rename(entry, modules) if timm_names else entry)
        last = (spec.head or spec.stages[-1]).blocks[-1]
        width = weight.shape[1] if weight is not None and weight.ndim == 4 else last.in_channels
        if parts == found and width == last.in_channels:
            alike.append(name)
    given = Path(source).name.partition(".")[0]
    return sorted(alike, key=lambda name: name != given)
