"""Weights that a command is given: found, told which model's they are, and loaded into it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lucid._files import READABLE, endings
from lucid.cli._arguments import model_name
from lucid.cli._errors import CommandError, UsageError, reading_run
from lucid.cli._output import tell
from lucid.models import MobileNet_V4
from lucid.models._checkpoints import DEFAULT, NoSuchKeyError
from lucid.models._pretrained import (
    Checkpoint,
    architecture,
    build_from,
    identify,
    known_settings,
    open_checkpoint,
    variant_of,
)
from lucid.training import RunFiles

_STEMS = ("conv0.convbn_0.conv.weight", "conv_stem.weight")


def check_weights(path: Path) -> None:
    """Raise UsageError if what is at ``path`` cannot be weights, nor a run's folder."""
    if path.is_dir() and not RunFiles(path).exist():
        raise UsageError(f"{path} is a folder; name the weights in it")
    if path.is_file() and path.suffix.lower() not in READABLE:
        raise UsageError(f"expected weights {endings(path)}")


class Opened(NamedTuple):
    """A model with its weights, in evaluation mode, and the names of its classes if known."""

    model: MobileNet_V4
    classes: list[str] | None


def find_weights(command: str, weights: str, key: str | None = None) -> Checkpoint:
    """Read weights, those under a key of a checkpoint if one is given, and tell which were taken.

    With them comes what the ``.json`` of `lucid train` beside them adds to what they say.

    Raises:
        UsageError: if the weights are not there, or the name is that of something else.
        CommandError: if they or their ``.json`` are damaged.
    """
    check_weights(Path(weights))
    try:
        checkpoint = open_checkpoint(weights, key)
    except (FileNotFoundError, NoSuchKeyError) as error:
        raise UsageError(str(error)) from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    if checkpoint.taken:
        tell(command, f"{weights}: {checkpoint.taken}")
    run = RunFiles(weights)
    if not run.description.is_file():
        return checkpoint
    with reading_run():
        own, beside = checkpoint.description, run.read_description().of_weights()
    for name in own.keys() & beside.keys():
        if own[name] != beside[name]:
            tell(
                command,
                f"warning: {run.description} contradicts {weights}: {name} is {beside[name]!r:.80} "
                f"in the one, {own[name]!r:.80} in the other, which counts",
            )
    return checkpoint._replace(description={**beside, **own})


def name_of(command: str, checkpoint: Checkpoint, given: str | None) -> str:
    """Return the model that weights are for: as they say, by their arrays, or by their name.

    UsageError if it cannot be told, or ``given`` is another.
    """
    told = architecture(checkpoint)
    if given is not None:
        given = model_name(given)
        if told is not None and variant_of(told) != variant_of(given):
            raise UsageError(
                f"--model: the weights in {checkpoint.source} are those of {told}, not of {given}"
            )
        return given
    if told is not None:
        return model_name(told)
    found = identify(checkpoint.state, checkpoint.source)
    if len(found) > 1 and not checkpoint.source.rpartition("/")[2].startswith(f"{found[0]}."):
        tell(
            command,
            f"{checkpoint.source} does not say whether it is of {' or '.join(found)}, whose "
            f"arrays are alike: assuming {found[0]}; --model names another",
        )
    if found:
        return found[0]
    stem = checkpoint.source.replace(os.sep, "/").rpartition("/")[2].partition(".")[0]
    try:
        return model_name(stem)
    except UsageError:
        raise UsageError(
            f"{checkpoint.source} does not have the entries of any model; give --model to see "
            "what it lacks"
        ) from None


def open_model(command: str, weights: str, name: str | None) -> Opened:
    """Build the model that the weights are for, load them, and say what had to be assumed.

    Raises:
        UsageError: if the weights are not there, or it cannot be told what model they are for.
        CommandError: if they do not fit.
    """
    checkpoint = find_weights(command, weights)
    name = name_of(command, checkpoint, name)
    # The model is made for the checkpoint's classes and channels, so that nothing starts fresh.
    shapes = {key: value.shape for key, value in checkpoint.state.items()}
    classifier = shapes.get("classifier.weight", ())
    count = classifier[0] if len(classifier) == 2 else 0
    channels = [shapes[stem][1] for stem in _STEMS if len(shapes.get(stem, ())) == 4]
    try:
        model = build_from(checkpoint, name, count, in_channels=channels[0] if channels else 3)
        known = known_settings(checkpoint, name)
    except ValueError as error:
        raise CommandError(str(error)) from error
    classes = known.get("classes")
    named = checkpoint.description.get("classes")
    if classes is None and named is not None:
        tell(
            command,
            f"warning: {weights} names {len(named)} classes but has {count}; they are numbered",
        )
    missing = [key for key in DEFAULT if key not in known]
    if missing:
        tell(command, f"{weights} does not say what images it expects: {_assumed(missing)}")
    model.eval()
    return Opened(model, classes)


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
