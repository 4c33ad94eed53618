"""``lucid predict``: what is in the images."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid._files import atomic_path
from lucid.autograd import no_grad
from lucid.cli._arguments import AddCommand, positive_int
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._images import add_arguments, find_images, read_batches, shown
from lucid.cli._output import (
    Failures,
    add_format,
    add_overwrite,
    check_new,
    check_one_prints,
    write,
)
from lucid.cli._weights import Opened, open_network
from lucid.data import imagenet_classes
from lucid.data.datasets import read_image
from lucid.data.transforms import for_model
from lucid.ops import softmax
from lucid.visual._explain import SUFFIXES, explain, matplotlib_figure
from lucid.visual._gradcam import gradcam
from lucid.visual._summary import table

MOST_EXPLAINED = 20


@dataclass(frozen=True)
class Guess:
    """A class that an image may show."""

    index: int
    name: str
    probability: float


class Prediction(NamedTuple):
    """An image and its likeliest classes, likeliest first."""

    path: Path
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
        "  lucid predict digit.png --weights digits.onnx",
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
    add_overwrite(parser)


def predict(args: argparse.Namespace) -> int:
    """Run ``lucid predict``."""
    check_one_prints(args)
    targets = {"--json": args.json, "--csv": args.csv, "--explain": args.explain}
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
    given = None if args.classes is None else read_classes(args.classes)
    failures = Failures("predict")
    paths = find_images(args.images, failures)
    opened = open_network("predict", args.weights, args.model)
    predictions = _predict(opened, given, paths, args.top, args.batch_size, failures)
    if args.json is not None:
        write(_as_json(predictions), args.json)
    if args.csv is not None:
        write(_as_csv(predictions), args.csv)
    if "-" not in (args.json, args.csv):
        print(_as_table(predictions))
    if args.explain is not None:
        if len(predictions) > MOST_EXPLAINED:
            print(
                f"lucid predict: {args.explain} shows the first {MOST_EXPLAINED} of "
                f"{len(predictions)} images",
                file=sys.stderr,
            )
        _explain(opened, predictions[:MOST_EXPLAINED], args.explain)
    return failures.status


def _predict(
    opened: Opened,
    given: list[str] | None,
    paths: Sequence[Path],
    top: int,
    batch_size: int,
    failures: Failures,
) -> list[Prediction]:
    predictions = []
    for good, images in read_batches(paths, for_model(opened.model), batch_size, failures):
        with no_grad():
            logits = opened.model(images).double()
        if getattr(opened.model, "outputs", None) == ["probabilities"]:  # of an ONNX file
            logits = logits.clamp(min=1e-300).log()
        if not getattr(opened.model, "num_classes", logits.shape[1]):
            raise CommandError("the weights have no classifier; `lucid embed` takes them")
        if not np.isfinite(logits.data).all():
            raise CommandError(
                "the model's results are not all finite numbers; are the weights whole?"
            )
        names = class_names(opened, given, logits.shape[1])
        for path, probabilities in zip(good, softmax(logits, 1).data):
            order = np.argsort(-probabilities, kind="stable")[:top]
            guesses = [Guess(int(i), names[i], float(probabilities[i])) for i in order]
            predictions.append(Prediction(path, guesses))
    return predictions


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
    if opened.classes is not None:
        return opened.classes
    return imagenet_classes() if count == 1000 else [str(index) for index in range(count)]


# -- output -----------------------------------------------------------------------------------


def _as_table(predictions: Sequence[Prediction]) -> str:
    rows = [("image", "class", "probability")]
    for path, top in predictions:
        for rank, guess in enumerate(top):
            name = shown(path) if rank == 0 else ""
            rows.append((name, guess.name, f"{100 * guess.probability:.2f} %"))
    return table(rows, left=2)


def _as_json(predictions: Sequence[Prediction]) -> str:
    document = [
        {"file": str(path), "top": [asdict(guess) for guess in top]} for path, top in predictions
    ]
    return json.dumps(document, indent=2) + "\n"


def _as_csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "rank", "index", "name", "probability"))
    for path, top in predictions:
        for rank, guess in enumerate(top, start=1):
            writer.writerow((shown(path), rank, guess.index, guess.name, guess.probability))
    return text.getvalue()


def _explain(opened: Opened, predictions: Sequence[Prediction], target: Path) -> None:
    rows: list[Any] = []
    for path, top in predictions:
        result = gradcam(opened.model, read_image(path), top[0].index)
        bars = [(guess.name, guess.probability) for guess in top[:5]]
        rows.append((path.name, result, bars))
    figure = explain(rows)
    with atomic_path(target) as path:
        figure.savefig(path, dpi=150)
