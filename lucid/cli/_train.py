"""``lucid train``: learn from images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from lucid._check import one_line
from lucid._files import SUFFIXES
from lucid.cli._arguments import (
    AddCommand,
    fraction,
    model_name,
    non_negative_float,
    non_negative_int,
    open_fraction,
    positive_float,
    positive_int,
)
from lucid.cli._data import add_unreadable, check_classes, checked, load, unreadable_share
from lucid.cli._errors import CommandError, InterruptedRunError, UsageError, reading_run
from lucid.cli._eval import result_line
from lucid.cli._output import Progress, add_output, check_writable, tell
from lucid.cli._weights import check_weights
from lucid.data import Images
from lucid.training import DivergedError, Epoch, Run, Settings


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "train",
        train_model,
        "Train a model to classify images. The best weights, chosen on a validation part of the "
        "training images, are kept; the accuracy printed at the end is that of the test images, "
        "which play no part before.",
        "  lucid train --data digits\n"
        "  lucid train --data photos/ --model mobilenet_v4_conv_medium --size 224 --epochs 30\n"
        "  lucid train --resume runs/mobilenetv4_conv_small-digits.npz",
    )
    # Without defaults here, --resume can tell which options were given.
    option = _options(parser)
    option(
        "--data",
        help="`digits`, or a folder with a folder of images for each class, or one with such "
        "folders in train/ and test/ or val/",
    )
    option("--model", help="a name that `lucid models` lists")
    option("--epochs", type=positive_int, help="passes over the training images")
    option("--batch-size", type=positive_int, help="images in a step")
    option(
        "--lr",
        type=positive_float,
        help="highest learning rate; it warms up, then follows a cosine to 0",
    )
    option("--optimizer", choices=("adamw", "sgd"))
    option(
        "--weight-decay",
        type=non_negative_float,
        help="of weights; biases and batch norm have none",
    )
    option("--label-smoothing", type=fraction)
    option("--warmup", type=fraction, help="share of the steps that warm up")
    option("--size", type=positive_int, help="height and width of the images for the model")
    option(
        "--validation",
        type=open_fraction,
        help="share of the training images held out to choose the best weights by, if the data "
        "have no such part",
    )
    option(
        "--limit",
        type=positive_int,
        help="use at most so many images of each part, for a quick try",
    )
    option("--seed", type=non_negative_int, help="the same seed gives the same run")
    add_unreadable(parser, f"default: {Settings().max_unreadable:g}")
    parser.add_argument(
        "--no-augment",
        dest="augment",
        action="store_false",
        default=None,
        help="do not shift the training images about",
    )
    add_output(
        parser,
        "where the weights go, .npz or .safetensors, with a .json beside them that says what "
        "they are (default: runs/MODEL-DATA.npz, numbered if it exists)",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with the interrupted run of these weights",
    )


def _options(parser: argparse.ArgumentParser) -> Callable[..., None]:
    defaults = asdict(Settings())

    def option(flag: str, help: str = "", **kwargs: Any) -> None:
        default = defaults[flag.removeprefix("--").replace("-", "_")]
        note = f"default: {default}" if default is not None else "default: no limit"
        parser.add_argument(flag, help=f"{help} ({note})" if help else note, **kwargs)

    return option


def train_model(args: argparse.Namespace) -> int:
    """Run ``lucid train``."""
    given = {
        field.name: getattr(args, field.name)
        for field in fields(Settings)
        if getattr(args, field.name) is not None
    }
    if args.resume is None:
        with _new_run(args, given) as run:
            return _run(run, load(run.load_images))
    with _resume(args, given) as run:
        images = load(run.load_images)
        check_classes(images, run.description.classes, len(run.description.classes))
        return _run(run, images)


def _new_run(args: argparse.Namespace, given: dict[str, Any]) -> Run:
    if "model" in given:
        given["model"] = model_name(given["model"])
    try:
        settings = Settings(**given)
    except ValueError as error:
        raise UsageError(f"option {error}") from error
    name = f"{settings.model}-{Path(settings.data).resolve().name}.npz"
    weights = Path("runs") / name if args.output is None else args.output
    check_writable(weights, "--output", SUFFIXES)
    try:
        with reading_run():
            return Run.create(
                weights, settings, overwrite=args.overwrite, numbered=args.output is None
            )
    except FileExistsError as error:
        raise UsageError(
            f"--output: {error}; give --overwrite to replace it, --resume to go on with it, or "
            "another --output"
        ) from error


def _resume(args: argparse.Namespace, given: dict[str, Any]) -> Run:
    max_unreadable = given.pop("max_unreadable", None)
    if given or args.output is not None or args.overwrite:
        names = [f"--{name.replace('_', '-')}" for name in given]
        names += ["--output"] * (args.output is not None) + ["--overwrite"] * args.overwrite
        raise UsageError(f"--resume goes on with the run's own settings; leave out {names[0]}")
    check_weights(args.resume)
    with reading_run():
        return Run.resume(args.resume, max_unreadable=max_unreadable)


def _run(run: Run, images: Images) -> int:
    """Train from the beginning, or from where the run's state has come to."""
    settings = run.settings
    with unreadable_share(settings.max_unreadable):
        with Progress("image") as checking:
            run.prepare(images, tell=partial(tell, "train"), after_each=checked(checking))
        print(_headline(run), flush=True)
        try:
            with Progress("batch") as progress:
                _fit(run, progress)
            score = run.finish()
        except KeyboardInterrupt:
            raise InterruptedRunError(f"interrupted. {_what_is_kept(run)}") from None
        except DivergedError as error:
            raise CommandError(
                f"epoch {run.done + 1}: {error} than {settings.lr:g}. {_what_is_kept(run)}"
            ) from error
        except OSError as error:
            raise CommandError(f"{one_line(error)}. {_what_is_kept(run)}") from error
    print(f"best weights: epoch {run.description.best_epoch}, {run.files.weights}")
    print(result_line(score))
    return 0


def _fit(run: Run, progress: Progress) -> None:
    epochs = run.settings.epochs

    def start(number: int) -> None:
        if number <= epochs:
            progress.start(run.steps, f"epoch {number}/{epochs}")

    start(run.done + 1)
    for epoch in run.fit(after_step=lambda score: progress.step(text=str(score))):
        progress.end()
        print(_line(epoch, epochs, run.description.best_epoch == epoch.number), flush=True)
        start(epoch.number + 1)


# -- what is printed --------------------------------------------------------------------------


def _headline(run: Run) -> str:
    settings, images = run.settings, run.images
    counts = [len(part) for part in (images.train, images.validation or (), images.test)]
    return (
        f"{settings.model} on {settings.data}: {counts[0]} training, {counts[1]} "
        f"validation and {counts[2]} test images of {len(images.classes)} classes, "
        f"{images.in_channels}×{settings.size}×{settings.size}"
    )


def _line(epoch: Epoch, epochs: int, better: bool) -> str:
    return (
        f"epoch {epoch.number:{len(str(epochs))}}/{epochs}  train: {epoch.train}  "
        f"validation: {epoch.validation}  {epoch.seconds:.1f} s{'  best' if better else ''}"
    )


def _what_is_kept(run: Run) -> str:
    weights = run.files.weights
    if run.description.test is not None:
        return f"The run is finished; its weights are in {weights}"
    saved = run.files.saved(run.description)
    if saved is None or not saved.history:
        return "No epoch was finished, so nothing was saved"
    return (
        f"The best weights so far (epoch {saved.best_epoch}) are in {weights}; "
        f"`lucid train --resume {weights}` goes on after epoch {len(saved.history)}"
    )
