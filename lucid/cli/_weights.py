"""Weights that a command is given: found, and loaded into the model that they are of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from lucid import onnx
from lucid._files import READABLE, endings
from lucid.cli._arguments import model_name
from lucid.cli._errors import CommandError, UsageError, reading_run
from lucid.cli._output import tell
from lucid.models import MobileNet_V4, UnknownModelError
from lucid.models._checkpoints import NoSuchKeyError
from lucid.models._load_model import find_name, model_of
from lucid.models._pretrained import Checkpoint, open_checkpoint
from lucid.training import RunFiles


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


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Turn errors into wrong uses that say that there are no such weights; others into failures."""
    try:
        yield
    except (FileNotFoundError, NoSuchKeyError, UnknownModelError) as error:
        raise UsageError(str(error)) from error
    except ValueError as error:
        raise CommandError(str(error)) from error


def find_weights(command: str, weights: str, key: str | None = None) -> Checkpoint:
    """Read weights, those under a key of a checkpoint if one is given, and tell which were taken.

    With them comes what the ``.json`` of `lucid train` beside them adds to what they say.

    Raises:
        UsageError: if the weights are not there, or the name is that of something else.
        CommandError: if they or their ``.json`` are damaged.
    """
    check_weights(Path(weights))
    with _loading():
        checkpoint = open_checkpoint(weights, key)
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
    given = None if given is None else model_name(given)
    with _loading():
        return find_name(checkpoint, given, partial(tell, command), "--model")


def open_network(command: str, weights: str, name: str | None) -> Opened:
    """Return what :func:`open_model` does, or the network of an ONNX file.

    Raises:
        UsageError: as there, and if a model is named for an ONNX file.
        CommandError: as there.
    """
    if Path(weights).suffix.lower() != ".onnx":
        return open_model(command, weights, name)
    if name is not None:
        raise UsageError("--model says what weights are of; an ONNX file is a whole model")
    with _loading():
        network = onnx.load(weights)
    return Opened(cast(MobileNet_V4, network), (network.pretrained_cfg or {}).get("classes"))


def open_model(command: str, weights: str, name: str | None) -> Opened:
    """Build the model that the weights are for, load them, and say what had to be assumed.

    Raises:
        UsageError: if the weights are not there, or it cannot be told what model they are for.
        CommandError: if they do not fit.
    """
    checkpoint = find_weights(command, weights)
    name = name_of(command, checkpoint, name)
    with _loading():
        model = model_of(checkpoint, name, partial(tell, command))
    return Opened(model, (model.pretrained_cfg or {}).get("classes"))
