"""A model from its weights alone: which model they are of, its classes and image channels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from lucid.models import configs
from lucid.models._checkpoints import DEFAULT
from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.models._pretrained import (
    PAGE_NAMES,
    Checkpoint,
    architecture,
    build_from,
    identify,
    known_settings,
    open_checkpoint,
    variant_of,
)
from lucid.models._registry import UnknownModelError, check_name

_STEMS = ("conv0.convbn_0.conv.weight", "conv_stem.weight")

Tell = Callable[[str], Any]


def load_model(
    weights: str | os.PathLike[str],
    name: str | None = None,
    *,
    key: str | None = None,
    tell: Tell = warnings.warn,
) -> MobileNet_V4:
    """Build the model that weights are of, with their classes and image channels, and load them.

    :func:`create_model` loads them into a model that the caller names; here they say themselves
    what they are of. It is what ``lucid predict`` does.

    Args:
        weights: a file of lucid's, timm's or PyTorch's, a name with its tag, or a Hugging Face
            repo id.
        name: of the model. By default it is what the weights say, their arrays are those of, or the
            name of their file begins with.
        key: the part of a training's checkpoint to take, ``"a.b"`` for one within another; by
            default it is found.
        tell: called with what had to be assumed, a line each; warnings if left out.

    Returns:
        The model in evaluation mode. Its ``pretrained_cfg`` tells what the images should be, and
        under ``"classes"`` the names of the classes, if the weights do.

    Raises:
        FileNotFoundError: if there are no such weights.
        UnknownModelError: a ValueError: if they do not tell what model they are of, or tell
            another than ``name``.
        ValueError: if they are damaged, or do not fit.

    Example:
        >>> lucid.save(models.mobilenetv4_conv_small_035(10).state_dict(), "birds.npz")
        >>> model = models.load_model("birds.npz", tell=print)
        birds.npz does not say what images it expects: assuming 224×224 pixels, ...
        >>> model.name, model.num_classes, model.training
        ('mobilenetv4_conv_small_035', 10, False)
    """
    checkpoint = open_checkpoint(weights, key)
    if checkpoint.taken:
        tell(f"{weights}: {checkpoint.taken}")
    return model_of(checkpoint, find_name(checkpoint, name, tell), tell)


def find_name(checkpoint: Checkpoint, given: str | None, tell: Tell, option: str = "name=") -> str:
    """Return the model that weights are of: as they say, by their arrays, or by their name.

    Args:
        checkpoint: the weights.
        given: the model that the caller takes them for; None if it is to be told.
        tell: called if there are several that they can be of.
        option: how the caller gives it, for messages.

    Raises:
        UnknownModelError: if it cannot be told, or ``given`` is another.
    """
    source, told = checkpoint.source, architecture(checkpoint)
    names = [*configs.RELEASED, *PAGE_NAMES]
    if given is not None:
        check_name(given, names)
        if told is not None and variant_of(told) != variant_of(given):
            raise UnknownModelError(
                f"{option}: the weights in {source} are those of {told}, not of {given}"
            )
        return given
    if told is not None:
        return check_name(told, names)
    found = identify(checkpoint.state, source)
    if len(found) > 1 and not source.rpartition("/")[2].startswith(f"{found[0]}."):
        tell(
            f"{source} does not say whether it is of {' or '.join(found)}, whose arrays are "
            f"alike: assuming {found[0]}; {option} names another"
        )
    if found:
        return found[0]
    stem = source.replace(os.sep, "/").rpartition("/")[2].partition(".")[0]
    if stem in names:
        return stem
    raise UnknownModelError(
        f"{source} does not have the entries of any model; give {option} to see what it lacks"
    )


def model_of(checkpoint: Checkpoint, name: str, tell: Tell) -> MobileNet_V4:
    """Return the model of a name with the weights of a checkpoint, in evaluation mode.

    It is made for their classes and image channels, so that nothing starts fresh.

    Raises:
        ValueError: if they do not fit.
    """
    shapes = {key: value.shape for key, value in checkpoint.state.items()}
    classifier = shapes.get("classifier.weight", ())
    count = classifier[0] if len(classifier) == 2 else 0
    channels = [shapes[stem][1] for stem in _STEMS if len(shapes.get(stem, ())) == 4]
    model = build_from(checkpoint, name, count, in_channels=channels[0] if channels else 3)
    known = known_settings(checkpoint, name)
    named = checkpoint.description.get("classes")
    if "classes" not in known and named is not None:
        tell(
            f"warning: {checkpoint.source} names {len(named)} classes but has {count}; "
            "they are numbered"
        )
    missing = [key for key in DEFAULT if key not in known]
    if missing:
        tell(f"{checkpoint.source} does not say what images it expects: {_assumed(missing)}")
    return model.eval()


def _assumed(missing: Sequence[str]) -> str:
    """Return in words what is taken for settings that weights do not tell."""
    height, width = DEFAULT["input_size"][1:]
    words = {
        "input_size": f"{height}×{width} pixels",
        "crop_pct": f"{DEFAULT['crop_pct']:.1%} of the shorter side",
        "interpolation": f"{DEFAULT['interpolation']} interpolation",
        "mean": "ImageNet's mean",
        "std": "ImageNet's standard deviation",
    }
    return f"assuming {', '.join(words[key] for key in missing)}"
