"""What `lucid predict` and `lucid embed` share: finding images, reading them, opening weights."""

from __future__ import annotations

import argparse
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid import models, nn
from lucid.autograd import Tensor
from lucid.cli._arguments import model_name, positive_int
from lucid.cli._errors import UsageError
from lucid.cli._reading import Failures, Progress, each, printable, tell
from lucid.cli._run import Description, RunFiles
from lucid.cli._train import _model as model_of_run
from lucid.data._pictures import SUFFIXES, Found, describe_left_out, find_pictures, load_picture
from lucid.models._pretrained import open_checkpoint

_STEMS = ("conv0.convbn_0.conv.weight", "conv_stem.weight")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which images and which weights."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image (JPEG, PNG, WebP), a folder with images at any depth, or a pattern in "
        "quotes such as 'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--weights",
        required=True,
        help="a .safetensors or .npz file, one that `lucid train` wrote, or a Hugging Face repo id",
    )
    parser.add_argument(
        "--model",
        help="a name that `lucid models` lists (default: what the .json of `lucid train` or the "
        "name of the weights says)",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=16, help="images in a step (default: 16)"
    )


# -- images -----------------------------------------------------------------------------------


def find_images(arguments: Sequence[str], failures: Failures) -> list[Path]:
    """Return the files that the arguments name: each once, those of a folder sorted.

    Raises:
        UsageError: if there is none at all.
    """
    found: dict[Path, None] = {}
    left_out: Counter[str] = Counter()
    missing = []
    for argument in arguments:
        names = [argument]
        if not os.path.lexists(argument) and glob.has_magic(argument):
            names = sorted(glob.glob(argument, recursive=True))
        parts = [_files(Path(name)) for name in names]
        paths = [path for part in parts for path in part.pictures]
        if not paths:
            missing.append(_nothing_at(argument))
        found.update(dict.fromkeys(paths))
        for part in parts:
            left_out += part.left_out
    if not found:
        raise UsageError("; ".join(missing))
    if left_out:
        tell(failures.command, f"passed over: {describe_left_out(left_out)}")
    for message in missing:
        failures.add(message)
    return list(found)


def _files(path: Path) -> Found:
    if path.is_dir():
        return find_pictures(path)
    return Found([path] if path.is_file() else [], Counter())


def _nothing_at(argument: str) -> str:
    if Path(argument).is_dir():
        return f"no image found in {argument}: no file in it ends in {', '.join(SUFFIXES)}"
    if glob.has_magic(argument):
        return f"no image found: nothing matches {argument}"
    return f"no image found: there is no file {argument}"


def read_batches(
    paths: Sequence[Path],
    transform: Callable[[Any], Tensor],
    batch_size: int,
    failures: Failures,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield paths and the batch ``(N, C, H, W)`` of their images, without those unreadable.

    A progress bar goes to stderr if that is a terminal and tqdm is installed.
    """
    with Progress(len(paths)) as progress:
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            good: list[Path] = []
            images: list[np.ndarray] = []
            for path, image in each(lambda path: load_picture(path, transform), part):
                if isinstance(image, Exception):
                    progress.hide()
                    failures.add(str(image))
                else:
                    good.append(path)
                    images.append(image.data)
            if good:
                yield good, Tensor(np.stack(images))
            progress.step(len(part))


def shown(path: Path) -> str:
    """Return a path as text on one line that any file and terminal takes."""
    return printable(os.fsencode(path).decode("utf-8", "replace"))


# -- files to write ---------------------------------------------------------------------------


def check_output(path: Path, option: str, suffixes: Sequence[str] = ()) -> Path:
    """Return ``path`` if a file can be written there: said before the work, not after it.

    Raises:
        UsageError: if it is a folder, its folder is not there or not writable, or its suffix is
            another.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{option}: expected a name ending in {' or '.join(suffixes)}, got {path}")
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{option}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{option}: the folder {path.parent} cannot be written to")
    return path


# -- weights ----------------------------------------------------------------------------------


class Opened(NamedTuple):
    """A model with its weights, in evaluation mode, and the names of its classes if known."""

    model: nn.Module
    classes: list[str] | None


def open_model(weights: str, name: str | None) -> Opened:
    """Build the model that the weights are for, and load them.

    Raises:
        UsageError: if the weights are not there, or it cannot be told what model they are for.
        CommandError: if they do not fit.
    """
    name = None if name is None else model_name(name)
    run = RunFiles(Path(weights))
    if run.weights.is_file() and run.description.is_file():
        opened = _open_run(run, run.read_description(), name)
    else:
        opened = _open_weights(weights, name or _name_of(weights))
    opened.model.eval()
    return opened


def _open_run(run: RunFiles, description: Description, name: str | None) -> Opened:
    settings = description.settings
    if name not in (None, settings.model):
        raise UsageError(
            f"--model: the weights in {run.weights} are those of {settings.model}, not of {name}"
        )
    model: Any = model_of_run(description)
    run.load_weights(model, description)
    # The images of the training were resized and cropped to one size.
    model.pretrained_cfg = {
        "input_size": (description.in_channels, settings.size, settings.size),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": tuple(description.mean),
        "std": tuple(description.std),
        "num_classes": len(description.classes),
    }
    return Opened(model, description.classes)


def _open_weights(weights: str, name: str) -> Opened:
    try:
        state = open_checkpoint(weights).state
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    # The model is made for the checkpoint's classes and channels, so that nothing starts fresh.
    shapes = {key: value.shape for key, value in state.items() if isinstance(value, Tensor)}
    classifier = shapes.get("classifier.weight", ())
    settings: dict[str, Any] = {"num_classes": classifier[0] if len(classifier) == 2 else 0}
    for stem in _STEMS:
        if len(shapes.get(stem, ())) == 4:
            settings["in_channels"] = shapes[stem][1]
    return Opened(models.create_model(name, weights=weights, **settings), None)


def _name_of(weights: str) -> str:
    """Return the model that weights such as timm/mobilenetv4_conv_small.e2400_r224_in1k are of."""
    stem = weights.replace(os.sep, "/").rpartition("/")[2].partition(".")[0]
    try:
        return model_name(stem)
    except UsageError:
        raise UsageError(
            f"give --model: the name of {weights} does not say what model it is for, and there is "
            "no .json of `lucid train` beside it"
        ) from None
