"""``lucid train``: learn from images."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from dataclasses import Field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from lucid import distributed
from lucid._check import one_line
from lucid._files import READABLE, SUFFIXES
from lucid.cli._arguments import AddCommand, model_name
from lucid.cli._data import add_unreadable, checked, load, unreadable_share
from lucid.cli._errors import CommandError, InterruptedRunError, UsageError, reading_run
from lucid.cli._eval import result_line
from lucid.cli._output import Progress, add_output, check_new, check_writable, tell, write
from lucid.cli._weights import check_weights
from lucid.data import Images
from lucid.data._folders import find_parts
from lucid.distributed._watch import on_interrupt, who_is_where
from lucid.report import write_run_report
from lucid.training import (
    Callback,
    DivergedError,
    Epoch,
    Recipe,
    Run,
    Score,
    TensorBoard,
    list_recipes,
)
from lucid.training._recipe import GROUPS, Kind


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
        "  lucid train --resume runs/mobilenetv4_conv_small-digits\n"
        "  mpiexec -n 4 lucid train --data photos/",
    )
    parser.set_defaults(divides=lambda args: True)
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        help="take the settings from the recipe.toml of a run, or from a recipe that comes with "
        f"lucid: {', '.join(list_recipes())}; options override it",
    )
    # Without defaults here, it can be told which options were given.
    group: argparse._ActionsContainer = parser
    for entry in fields(Recipe):
        if entry.name in GROUPS:
            group = parser.add_argument_group(GROUPS[entry.name])
        if entry.name != "max_unreadable":
            _add_entry(group, entry)
    parser.add_argument(
        "--find-lr",
        nargs="?",
        const="-",
        metavar="FILE",
        help="do not train, but try rising learning rates for 100 steps, print the curve of the "
        "loss and a rate to take; with FILE, write the curve there as CSV too",
    )
    add_unreadable(parser, f"default: {Recipe().max_unreadable:g}")
    add_output(
        parser,
        "the run's folder; or a name ending in .npz or .safetensors for the weights, beside which "
        "the other files stand (default: runs/MODEL-DATA, numbered if it exists)",
    )
    parser.add_argument(
        "--no-report",
        dest="report",
        action="store_false",
        help="do not write a report.html: curves, mistakes as pictures, calibration and more",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="go on with the interrupted run in this folder, or of these weights",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="with --resume, go on though pictures are gone, new or of another size since the run "
        "began: each stays in the part in which it was, new ones are learned from, and an epoch "
        "that was under way begins again",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write curves for TensorBoard too, into the folder tensorboard of the run (needs the "
        "extra tensorboard)",
    )

    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write what each rank did when, backward and the exchange of gradients, as a trace "
        "(.json) for Chrome's chrome://tracing or ui.perfetto.dev",
    )


def _add_entry(parser: argparse._ActionsContainer, entry: Field[Any]) -> None:
    kind: Kind = entry.metadata["kind"]
    more: dict[str, Any] = {"type": partial(_parsed, kind), "choices": kind.options}
    if entry.name == "augment":
        parser.add_argument(
            "--no-augment",
            dest="augment",
            action="store_const",
            const="none",
            help="as --augment none",
        )
        more |= {"nargs": "?", "const": entry.default, "metavar": "PRESET"}
    if kind.parse is bool:
        more = {"action": argparse.BooleanOptionalAction}
    note = "" if entry.default is None else f" (default: {entry.default})"
    parser.add_argument(
        f"--{entry.name.replace('_', '-')}",
        default=None,
        help=f"{entry.metadata['help']}{note}",
        **more,
    )


def _parsed(kind: Kind, text: str) -> Any:
    try:
        value = kind.parse(text)
        if kind.parse is str or kind.is_right(value):  # the recipe says what is wrong with a text
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected {kind.expected}, got {text!r}")


def train_model(args: argparse.Namespace) -> int:
    """Run ``lucid train``."""
    given = {
        field.name: getattr(args, field.name)
        for field in fields(Recipe)
        if getattr(args, field.name) is not None
    }
    if args.find_lr not in (None, "-"):
        check_new(Path(args.find_lr), "--find-lr", args.overwrite)
    if args.accept_changes and args.resume is None:
        raise UsageError("--accept-changes is for runs that go on: give --resume")
    if args.timeline is not None:
        check_new(args.timeline, "--timeline", args.overwrite, (".json",))
    callbacks = [TensorBoard()] if args.tensorboard and distributed.rank() == 0 else []
    with _new_run(args, given) if args.resume is None else _resume(args, given) as run:
        return _run(run, load(run.load_images), callbacks, args)


def _new_run(args: argparse.Namespace, given: dict[str, Any]) -> Run:
    if "model" in given:
        given["model"] = model_name(given["model"])
    try:
        recipe = Recipe() if args.recipe is None else Recipe.read(args.recipe)
    except (ValueError, OSError) as error:
        raise UsageError(f"--recipe: {one_line(error)}") from error
    try:
        recipe = replace(recipe, **given)
    except ValueError as error:
        raise UsageError(f"option {error}") from error
    data = Path(recipe.data).resolve()
    name = f"{recipe.model}-{data.stem if data.is_file() else data.name}"
    path = Path("runs") / name if args.output is None else args.output
    if path.suffix in READABLE:
        check_writable(path, "--output", SUFFIXES)
    elif recipe.data != "digits" and data.is_dir():
        _check_is_no_class(path, data)
    try:
        with reading_run():
            return Run.create(path, recipe, overwrite=args.overwrite, numbered=args.output is None)
    except ValueError as error:
        raise _of_option(error, "--output: ") from error
    except OSError as error:
        if error.errno is not None:
            raise UsageError(f"--output: cannot write to {path}: {error.strerror}") from error
        raise UsageError(
            f"--output: {error}; give --overwrite to replace it, --resume to go on with it, or "
            "another --output"
        ) from error


def _check_is_no_class(path: Path, data: Path) -> None:
    """Raise UsageError if a run's folder would be taken for one of the pictures."""
    try:
        parts, _ = find_parts(data)
    except ValueError:  # loading will say it
        return
    for root in parts.values() or [data]:
        if path.resolve().is_relative_to(root):
            raise UsageError(
                f"--output: {path} is in {root}, where each folder holds the pictures of a class; "
                f"give one outside of it, such as {data.parent / 'runs' / path.name}"
            )


def _resume(args: argparse.Namespace, given: dict[str, Any]) -> Run:
    max_unreadable = given.pop("max_unreadable", None)
    if args.recipe is not None:
        given["recipe"] = args.recipe
    if given or args.output is not None or args.overwrite:
        names = [f"--{name.replace('_', '-')}" for name in given]
        names += ["--output"] * (args.output is not None) + ["--overwrite"] * args.overwrite
        raise UsageError(f"--resume goes on with the run's own settings; leave out {names[0]}")
    check_weights(args.resume)
    with reading_run():
        return Run.resume(
            args.resume, max_unreadable=max_unreadable, accept_changes=args.accept_changes
        )


def _of_option(error: ValueError, otherwise: str = "") -> UsageError:
    """Return an error about an entry of the recipe as one about its option."""
    name, _, rest = str(error).partition(":")
    if name in [entry.name for entry in fields(Recipe)]:
        return UsageError(f"--{name.replace('_', '-')}:{rest}")
    return UsageError(f"{otherwise}{error}")


def _run(run: Run, images: Images, callbacks: Sequence[Callback], args: argparse.Namespace) -> int:
    """Train from the beginning, or from where the run's state has come to; then report."""
    recipe = run.recipe
    try:
        run.build(images, tell=partial(tell, "train"))
    except ValueError as error:
        raise _of_option(error) from error
    with unreadable_share(recipe.max_unreadable):
        with Progress("image") as checking:
            run.prepare(tell=partial(tell, "train"), after_each=checked(checking))
        print(_headline(run), flush=True)
        if distributed.size() > 1 and distributed.rank() == 0:
            tell("train", who_is_where())
        if args.find_lr is not None:
            return _find_lr(run, args.find_lr)
        on_interrupt(lambda: f"interrupted. {_what_is_kept(run)}")
        try:
            with Progress("image") as progress, _timeline(args.timeline):
                for _ in run.fit([_Watch(progress), *callbacks]):
                    pass
            score = run.finish()
            if args.report and distributed.rank() == 0:
                with Progress("image") as looking:
                    write_run_report(run, checked(looking, "report"))
        except KeyboardInterrupt as interrupt:
            raise InterruptedRunError(interrupt, _what_is_kept(run)) from None
        except DivergedError as error:
            for file in error.files if distributed.rank() == 0 else ():
                tell("train", f"in the batch: {file}")
            raise CommandError(
                f"epoch {run.done + 1}: {error} than {run.recipe.lr:g}. {_what_is_kept(run)}"
            ) from error
        except OSError as error:
            raise CommandError(f"{one_line(error)}. {_what_is_kept(run)}") from error
    print(f"best weights: epoch {run.description.best_epoch}, {run.files.weights}")
    if args.report:
        print(f"report: {run.files.report}")
    print(result_line(score))
    return 0


def _find_lr(run: Run, target: str) -> int:
    curve = run.find_lr()
    print(curve)
    if target != "-" and distributed.rank() == 0:
        write(curve.csv(), target)
    return 0


def _timeline(file: Path | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if file is None else distributed.timeline(file)


class _Watch(Callback):
    """Shows the bar of an epoch, and prints a line after it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._images = 0  # of the epoch, that the bar has shown
        self._steps = 0  # since the start
        self._began = 0.0

    def on_start(self, run: Run) -> None:
        self._began = time.monotonic()
        self._show(run)

    def on_step(self, run: Run, score: Score) -> None:
        self._steps += 1
        left = run.steps * run.recipe.epochs - run.scheduler.last_epoch
        seconds = (time.monotonic() - self._began) / self._steps * left
        text = f"{score}, {_clock(seconds)} left of the run"
        self._progress.step(score.count - self._images, text)
        self._images = score.count

    def on_epoch(self, run: Run, epoch: Epoch) -> None:
        self._progress.end()
        best = run.description.best_epoch == epoch.number
        print(_line(epoch, run.recipe.epochs, best), flush=True)
        self._show(run)

    def _show(self, run: Run) -> None:
        batch_size = run.batch_size
        self._images = run.description.batch * batch_size
        if run.done < run.recipe.epochs and not run.stopped:
            total = len(run.images.train) // batch_size * batch_size
            self._progress.start(total, f"epoch {run.done + 1}/{run.recipe.epochs}", self._images)


# -- what is printed --------------------------------------------------------------------------


def _headline(run: Run) -> str:
    recipe, images = run.recipe, run.images
    counts = [len(part) for part in (images.train, images.validation or (), images.test)]
    return (
        f"{recipe.model} on {recipe.data}: {counts[0]} training, {counts[1]} "
        f"validation and {counts[2]} test images of {len(images.classes)} classes, "
        f"{images.in_channels}×{recipe.size}×{recipe.size}"
    )


def _line(epoch: Epoch, epochs: int, better: bool) -> str:
    return (
        f"epoch {epoch.number:{len(str(epochs))}}/{epochs}  train: {epoch.train}  "
        f"validation: {epoch.validation}  {epoch.seconds:.1f} s{'  best' if better else ''}"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _what_is_kept(run: Run) -> str:
    files = run.files
    if run.description.test is not None:
        return f"The run is finished; its weights are in {files.weights}"
    saved = files.saved(run.description)
    if saved is None or not (saved.history or saved.batch):
        return "No epoch was finished, so nothing was saved"
    place = f"after epoch {len(saved.history)}"
    if saved.batch:
        place = f"in epoch {len(saved.history) + 1}, after batch {saved.batch}"
    best = f"The best weights so far (epoch {saved.best_epoch}) are in {files.weights}; "
    return f"{best if saved.history else ''}`lucid train --resume {files.path}` goes on {place}"
