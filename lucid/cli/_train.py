"""``lucid train`` and ``lucid eval``: learn from images, and measure what was learned."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import lucid
from lucid import models, nn, optim, training
from lucid._check import check_entries
from lucid._files import SUFFIXES
from lucid.cli._arguments import (
    add_command,
    fraction,
    model_name,
    non_negative_float,
    non_negative_int,
    open_fraction,
    positive_float,
    positive_int,
)
from lucid.cli._data import Batches, Images, load_images, readable
from lucid.cli._errors import CommandError, InterruptedRunError, UsageError, one_line
from lucid.cli._images import open_model
from lucid.cli._output import add_overwrite, check_writable
from lucid.cli._reading import Unreadable, tell
from lucid.cli._run import SETTINGS, Description, RunFiles, Settings, check_weights, free_run
from lucid.data import DataLoader, Dataset
from lucid.data.datasets import first_of


def add_parsers(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add both commands."""
    parser = add_command(
        commands,
        "train",
        common,
        train_model,
        "Train a model to classify images. The best weights, chosen on a validation part of the "
        "training images, are kept; the accuracy printed at the end is that of the test images, "
        "which play no part before.",
        "  lucid train --data digits\n"
        "  lucid train --data photos/ --model mobilenet_v4_conv_medium --size 224 --epochs 30\n"
        "  lucid train --resume runs/mobilenet_v4_conv_small-digits.npz",
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
    _unreadable_options(parser, f"default: {Settings().max_unreadable:g}")
    parser.add_argument(
        "--no-augment",
        dest="augment",
        action="store_false",
        default=None,
        help="do not shift the training images about",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the weights go, .npz or .safetensors, with a .json beside them that says what "
        "they are (default: runs/MODEL-DATA.npz, numbered if it exists)",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with the interrupted run of these weights",
    )

    parser = add_command(
        commands,
        "eval",
        common,
        evaluate_model,
        "Measure trained weights on their test images. Which these are is read from the .json "
        "beside them; the accuracy is the one that `lucid train` printed. With --data any weights "
        "can be measured that `lucid predict` takes.",
        "  lucid eval runs/mobilenet_v4_conv_small-digits.npz",
    )
    parser.add_argument("weights", type=Path, help="a file that `lucid train` wrote")
    parser.add_argument(
        "--data", help="other images to measure on (default: those of the training)"
    )
    parser.add_argument("--batch-size", type=positive_int, help="default: that of the training")
    _unreadable_options(parser, "default: that of the training")


def _unreadable_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--max-unreadable",
        type=fraction,
        metavar="SHARE",
        help="share of the pictures that may be unreadable (at least one may): they are named "
        f"before the work begins, and it goes on without them ({default})",
    )
    parser.add_argument(
        "--strict",
        dest="max_unreadable",
        action="store_const",
        const=0.0,
        help="end with exit status 1 if any picture is unreadable",
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
    if args.resume is not None:
        return _resume(args, given)
    settings = Settings(**given)
    settings = replace(settings, model=model_name(settings.model))
    try:
        check_entries(asdict(settings), SETTINGS)
    except ValueError as error:
        raise UsageError(f"option {error}") from error
    if settings.data != "digits":
        settings = replace(settings, data=str(Path(settings.data).resolve()))
    with _new_files(args, settings) as files:
        images = load_images(settings)
        description = Description(
            settings, images.classes, images.in_channels, images.mean, images.std
        )
        return _run(files, description, images)


@contextlib.contextmanager
def _new_files(args: argparse.Namespace, settings: Settings) -> Iterator[RunFiles]:
    """Hold the files of a new run."""
    if args.output is None:
        source = Path(settings.data).name
        with free_run(Path("runs") / f"{settings.model}-{source}.npz") as files:
            yield files
        return
    files = RunFiles(check_writable(args.output, "--output", SUFFIXES))
    with files.held():
        if files.exist() and not args.overwrite:
            raise UsageError(
                f"--output: {args.output} is there already; give --overwrite to replace it, "
                "--resume to go on with it, or another --output"
            )
        yield files


def _resume(args: argparse.Namespace, given: dict[str, Any]) -> int:
    max_unreadable = given.pop("max_unreadable", None)
    if given or args.output is not None or args.overwrite:
        names = [f"--{name.replace('_', '-')}" for name in given]
        names += ["--output"] * (args.output is not None) + ["--overwrite"] * args.overwrite
        raise UsageError(f"--resume goes on with the run's own settings; leave out {names[0]}")
    check_weights(args.resume)
    files = RunFiles(args.resume)
    if not files.exist():
        raise UsageError(f"there is no file {args.resume}")
    with files.held():
        description = files.read_unfinished()
        if max_unreadable is not None:
            description.settings = replace(description.settings, max_unreadable=max_unreadable)
        images = load_images(description.settings)
        _check_classes(description.classes, len(description.classes), images)
        return _run(files, description, images)


def _run(files: RunFiles, description: Description, images: Images) -> int:
    """Train from the beginning, or from where the run's state has come to."""
    settings = description.settings
    lucid.manual_seed(settings.seed)
    model = _model(description)
    _tell_notes("train", images)
    unreadable = Unreadable("train", settings.max_unreadable)
    train, validation, test = readable([*images.split(settings), images.test], unreadable)
    batch_size = min(settings.batch_size, len(train))
    batches = Batches(
        # Batch norm dislikes a small last batch, and has nothing to do with one image.
        DataLoader(train, batch_size, shuffle=True, drop_last=True),
        images.augmentation if settings.augment else None,
        least=min(2, batch_size),
    )
    steps = settings.epochs * len(batches)
    optimizer = _optimizer(model, settings)
    scheduler = optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: training.warmup_cosine(step, steps, round(settings.warmup * steps)),
    )
    resumed = files.saved(description) is not None
    if resumed:
        files.load_state(model, optimizer, scheduler, description)
    print(
        f"{settings.model} on {settings.data}: {len(train)} training, {len(validation)} "
        f"validation and {len(test)} test images of {len(images.classes)} classes, "
        f"{images.in_channels}×{settings.size}×{settings.size}",
        flush=True,
    )
    progress = _Progress(settings.epochs, len(batches))

    def after_step(score: training.Score) -> None:
        scheduler.step()
        progress.step(score)

    epochs = training.fit(
        model,
        batches,
        Batches(DataLoader(validation, settings.batch_size)),
        optimizer,
        epochs=settings.epochs,
        start=len(description.history),
        criterion=nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing),
        after_step=after_step,
    )
    try:
        if not resumed:
            files.begin(model, optimizer, scheduler, description)
        progress.start(len(description.history) + 1)
        for epoch in epochs:
            better = description.add(_record(epoch))
            files.write(model, optimizer, scheduler, description)
            progress.end()
            print(_line(epoch, settings.epochs, better), flush=True)
            progress.start(epoch.number + 1)
        return _finish(files, description, model, test)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted. {_what_is_kept(files, description)}") from None
    except training.DivergedError as error:
        raise CommandError(
            f"epoch {len(description.history) + 1}: {error} than {settings.lr:g}. "
            f"{_what_is_kept(files, description)}"
        ) from error
    except OSError as error:
        raise CommandError(f"{one_line(error)}. {_what_is_kept(files, description)}") from error
    finally:
        progress.end()
        if not resumed:
            files.forget(description)


def _finish(files: RunFiles, description: Description, model: nn.Module, test: Dataset) -> int:
    """Measure the best weights, as they are on disk, on the test images."""
    files.load_weights(model, description)
    score = training.evaluate(model, Batches(DataLoader(test, description.settings.batch_size)))
    description.test = {**asdict(score), "loss": _finite(score.loss), "accuracy": score.accuracy}
    files.write_description(description)
    files.state.unlink()
    print(f"best weights: epoch {description.best_epoch}, {files.weights}")
    print(_result(score))
    return 0


def evaluate_model(args: argparse.Namespace) -> int:
    """Run ``lucid eval``."""
    check_weights(args.weights)
    files = RunFiles(args.weights)
    if args.data is None or files.description.is_file():
        settings = files.read_description().settings
    else:
        settings = Settings()
    if args.data is not None:
        if args.data == "digits" != settings.data:
            raise UsageError(f"{args.weights} was not trained on digits but on {settings.data}")
        settings = replace(settings, data=args.data)
    model, classes = open_model("eval", str(args.weights), None)
    size = model.pretrained_cfg["input_size"][-1] if model.pretrained_cfg else settings.size
    images = load_images(replace(settings, size=size), model)
    _check_classes(classes, model.num_classes, images)
    _tell_notes("eval", images)
    share = settings.max_unreadable if args.max_unreadable is None else args.max_unreadable
    (test,) = readable([images.test], Unreadable("eval", share))
    batches = Batches(DataLoader(test, args.batch_size or settings.batch_size))
    print(_result(training.evaluate(model, batches)))
    return 0


def _tell_notes(command: str, images: Images) -> None:
    for note in images.notes:
        tell(command, note)


def _model(description: Description) -> nn.Module:
    return models.create_model(
        model_name(description.settings.model),
        num_classes=len(description.classes),
        in_channels=description.in_channels,
    )


def _optimizer(model: nn.Module, settings: Settings) -> optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    return optim.AdamW(groups, lr=settings.lr)


def _check_classes(classes: list[str] | None, count: int, images: Images) -> None:
    if classes is None and count != len(images.classes):
        known = f"{count} classes, which they do not name"
    elif classes is not None and classes != images.classes:
        known = f"the classes {first_of(classes)}"
    else:
        return
    raise UsageError(f"the weights know {known}, the images have {first_of(images.classes)}")


def _record(epoch: training.Epoch) -> dict[str, Any]:
    return {
        "epoch": epoch.number,
        "train_loss": _finite(epoch.train.loss),
        "train_accuracy": epoch.train.accuracy,
        "validation_loss": _finite(epoch.validation.loss),
        "validation_accuracy": epoch.validation.accuracy,
        "seconds": round(epoch.seconds, 3),
    }


def _finite(loss: float) -> float | None:
    """Return a loss as JSON has it, where NaN and infinity are no numbers."""
    return loss if math.isfinite(loss) else None


def _line(epoch: training.Epoch, epochs: int, better: bool) -> str:
    return (
        f"epoch {epoch.number:{len(str(epochs))}}/{epochs}  train: {epoch.train}  "
        f"validation: {epoch.validation}  {epoch.seconds:.1f} s{'  best' if better else ''}"
    )


def _result(score: training.Score) -> str:
    return (
        f"test accuracy {100 * score.accuracy:.2f} % ({score.correct} of {score.count}), "
        f"loss {score.loss:.4f}"
    )


def _what_is_kept(files: RunFiles, description: Description) -> str:
    if description.test is not None:
        return f"The run is finished; its weights are in {files.weights}"
    saved = files.saved(description)
    if saved is None or not saved.history:
        return "No epoch was finished, so nothing was saved"
    return (
        f"The best weights so far (epoch {saved.best_epoch}) are in {files.weights}; "
        f"`lucid train --resume {files.weights}` goes on after epoch {len(saved.history)}"
    )


class _Progress:
    """A bar for each epoch on stderr, if that is a terminal and tqdm is installed."""

    def __init__(self, epochs: int, steps: int) -> None:
        self._epochs = epochs
        self._steps = steps
        self._bar: Any = None

    def start(self, epoch: int) -> None:
        if not sys.stderr.isatty() or epoch > self._epochs:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=self._steps,
            desc=f"epoch {epoch}/{self._epochs}",
            unit="batch",
            leave=False,
            file=sys.stderr,
        )

    def step(self, score: training.Score) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(str(score), refresh=False)
            self._bar.update()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
