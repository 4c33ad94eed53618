"""``lucid predict``: what is in the images."""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lucid._files import atomic_path
from lucid.cli._arguments import AddCommand, positive_int
from lucid.cli._errors import UsageError
from lucid.cli._images import add_arguments, find_images, run, shown, wants_parts, write_parts
from lucid.cli._output import (
    Failures,
    add_format,
    add_output,
    check_new,
    check_one_prints,
    open_text,
    tell,
)
from lucid.cli._weights import Opened, open_network
from lucid.data import Item
from lucid.data.datasets import read_image
from lucid.distributed._tables import Classes, Guess
from lucid.distributed._tables import class_names as known_names
from lucid.visual._explain import SUFFIXES, explain, matplotlib_figure
from lucid.visual._gradcam import gradcam
from lucid.visual._summary import table

MOST_EXPLAINED = 20


class Prediction(NamedTuple):
    """An image and its likeliest classes, likeliest first."""

    item: Item
    top: list[Guess]


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "predict",
        predict,
        "Say what is in images. The likeliest classes of each image with their probabilities. "
        "Folders are searched at any depth, hidden files left out. A file that cannot be read is "
        "named on stderr and passed over; the exit status is then 1.",
        "  lucid predict photo.jpg --weights timm/mobilenetv4_conv_small.e2400_r224_in1k\n"
        "  lucid predict photos/ --weights w.safetensors --model mobilenet_v4_conv_small --csv -\n"
        "  lucid predict digit.png --weights runs/mobilenetv4_conv_small-digits\n"
        "  lucid predict digit.png --weights digits.onnx\n"
        "  lucid predict archive/ --weights w.npz -o classes/ --shard 3/8",
    )
    add_arguments(parser)
    parser.add_argument(
        "--top", type=positive_int, default=5, help="classes for each image (default: 5)"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of the classes: one a line, or a JSON list (default: those of the training, "
        "ImageNet's for 1000 classes, otherwise numbers)",
    )
    add_format(parser, "--json")
    add_format(parser, "--csv")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FILE",
        help="draw what speaks for the likeliest class (Grad-CAM), a row for each of the first "
        f"{MOST_EXPLAINED} images: {', '.join(SUFFIXES)}",
    )
    add_output(parser, "a folder for parts, instead of the table")


def predict(args: argparse.Namespace) -> int:
    """Run ``lucid predict``."""
    check_one_prints(args)
    in_parts = _check_targets(args)
    given = None if args.classes is None else read_classes(args.classes)
    failures = Failures("predict")
    source = find_images(args, failures)
    opened = open_network("predict", args.weights, args.model)
    known = given or opened.classes
    classes = Classes(args.top, partial(class_names, opened, given), known)
    if in_parts:
        return write_parts(opened.model, classes, source, args, failures)
    rows = run(opened.model, classes, source, args, failures)
    found = (Prediction(item, classes.guesses(row[None])[0]) for item, row in rows)
    _write(args, opened, found)
    return failures.status


def _check_targets(args: argparse.Namespace) -> bool:
    """Return whether the result goes into parts; UsageError if it cannot go where it should."""
    targets = {"--json": args.json, "--csv": args.csv, "--explain": args.explain}
    given = [option for option, target in targets.items() if target is not None]
    if wants_parts(args):
        if given:
            raise UsageError(
                f"{given[0]} does not go with a folder of parts; leave one of them out"
            )
        return True
    if args.output is not None:
        raise UsageError(f"--output: {args.output} is no folder; for one file use --csv or --json")
    files = {
        option: Path(target) for option, target in targets.items() if target not in (None, "-")
    }
    for option, path in files.items():
        suffixes = SUFFIXES if option == "--explain" else ()
        check_new(path, option, args.overwrite, suffixes)
    if len(set(files.values())) < len(files):
        raise UsageError(f"{' and '.join(files)} name one file; give each its own")
    if args.explain is not None:
        matplotlib_figure()
    return False


def _write(args: argparse.Namespace, opened: Opened, predictions: Iterator[Prediction]) -> None:
    """Write predictions as they come; the table waits for all, to know its widths."""
    first = next(predictions)  # without any, nothing is written
    has_table = "-" not in (args.json, args.csv)
    rows = [("image", "class", "probability")]
    explained = []
    count = 0
    with contextlib.ExitStack() as stack:
        targets = ((args.json, _json_into), (args.csv, _csv_into))
        adds = [stack.enter_context(into(to)) for to, into in targets if to is not None]
        for count, prediction in enumerate(itertools.chain([first], predictions), start=1):
            for add in adds:
                add(prediction)
            if has_table:
                rows += _as_rows(prediction)
            if args.explain is not None and count <= MOST_EXPLAINED:
                explained.append(prediction)
    if has_table:
        print(table(rows, left=2))
    if args.explain is not None:
        if count > MOST_EXPLAINED:
            tell("predict", f"{args.explain} shows the first {MOST_EXPLAINED} of {count} images")
        _explain(opened, explained, args.explain)


# -- names of classes -------------------------------------------------------------------------


def read_classes(path: Path) -> list[str]:
    """Read the names of classes, a JSON list or one a line; UsageError if they are not."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--classes: {path} cannot be read: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"--classes: {path} must hold a list of names")
    while names and not names[-1].strip():
        names.pop()
    return [name.strip() for name in names]


def class_names(opened: Opened, given: list[str] | None, count: int) -> list[str]:
    """Return the names of ``count`` classes: those given, or those known; else numbers."""
    if given is not None:
        if len(given) != count:
            raise UsageError(f"--classes: {len(given)} names for the model's {count} classes")
        return given
    return known_names(count) if opened.classes is None else opened.classes


# -- output -----------------------------------------------------------------------------------


def _as_rows(prediction: Prediction) -> list[tuple[str, str, str]]:
    names = itertools.chain([shown(prediction.item.name)], itertools.repeat(""))
    return [
        (name, guess.name, f"{100 * guess.probability:.2f} %")
        for name, guess in zip(names, prediction.top)
    ]


@contextlib.contextmanager
def _json_into(target: str) -> Iterator[Callable[[Prediction], None]]:
    separator = "[\n"
    with open_text(target) as text:

        def add(prediction: Prediction) -> None:
            nonlocal separator
            top = [asdict(guess) for guess in prediction.top]
            entry = json.dumps({"file": prediction.item.name, "top": top}, indent=2)
            text.write(separator + textwrap.indent(entry, "  "))
            separator = ",\n"

        yield add
        text.write("\n]\n")


@contextlib.contextmanager
def _csv_into(target: str) -> Iterator[Callable[[Prediction], None]]:
    with open_text(target) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "rank", "index", "name", "probability"))

        def add(prediction: Prediction) -> None:
            for rank, guess in enumerate(prediction.top, start=1):
                writer.writerow((shown(prediction.item.name), rank, *astuple(guess)))

        yield add


def _explain(opened: Opened, predictions: Sequence[Prediction], target: Path) -> None:
    rows: list[Any] = []
    for item, top in predictions:
        assert not isinstance(item.content, Exception)
        result = gradcam(opened.model, read_image(item.content), top[0].index)
        bars = [(guess.name, guess.probability) for guess in top[:5]]
        rows.append((Path(item.name).name, result, bars))
    figure = explain(rows)
    with atomic_path(target) as path:
        figure.savefig(path, dpi=150)
