"""``lucid eval``: measure what was learned."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

from lucid._check import printable
from lucid.cli._arguments import AddCommand, positive_int
from lucid.cli._data import add_unreadable, check_classes, checked, load, unreadable_share
from lucid.cli._errors import UsageError, reading_run
from lucid.cli._output import (
    Progress,
    add_format,
    add_overwrite,
    check_new,
    check_one_prints,
    tell,
    write,
)
from lucid.cli._weights import check_weights, open_model
from lucid.data import Images, load_images, readable
from lucid.report import write_report
from lucid.training import Evaluation, Recipe, RunFiles, Score
from lucid.training._environment import environment
from lucid.training._pictures import Pictures
from lucid.training._recipe import SIZE
from lucid.visual._summary import table

# So many classes are listed, the worst ones; of so few, it is shown which is taken for which.
_LISTED, _SHOWN = 20, 12


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "eval",
        evaluate_model,
        "Measure trained weights on their test images. Which these are is read from the .json "
        "beside them; the accuracy is the one that `lucid train` printed. With --data any weights "
        "can be measured that `lucid predict` takes. It prints precision, recall and F1 of each "
        "class, what is taken for what, and how far the probabilities can be believed.",
        "  lucid eval runs/mobilenetv4_conv_small-digits",
    )
    parser.add_argument(
        "weights", type=Path, help="a run's folder or a file that `lucid train` wrote"
    )
    parser.add_argument(
        "--data", help="other images to measure on (default: those of the training)"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="measure on all images of --data, not on its test part alone",
    )
    parser.add_argument("--batch-size", type=positive_int, help="default: that of the training")
    parser.add_argument(
        "--flips",
        action="store_true",
        help="show the model each image mirrored too, and take the mean of both answers",
    )
    add_unreadable(parser, "default: that of the training")
    add_format(parser, "--json")
    add_format(parser, "--csv")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write a page on it, .html, with the worst mistakes as pictures, and its numbers as "
        ".json beside it",
    )
    add_overwrite(parser)


def evaluate_model(args: argparse.Namespace) -> int:
    """Run ``lucid eval``."""
    check_one_prints(args)
    written: dict[Path, str] = {}
    for option, target, suffixes in (
        ("--json", args.json, ()),
        ("--csv", args.csv, ()),
        ("--report", args.report, (".html",)),
        ("--report", args.report and args.report.with_suffix(".json"), ()),
    ):
        if target not in (None, "-"):
            path = check_new(Path(target), option, args.overwrite, suffixes)
            if path in written:
                raise UsageError(f"{written[path]} and {option} both write {path}; name another")
            written[path] = option
    check_weights(args.weights)
    files = RunFiles(args.weights)
    recipe = Recipe()
    if args.data is None or files.description.is_file():
        with reading_run():
            recipe = files.read_description().recipe
    if args.data is not None:
        if args.data == "digits" != recipe.data:
            raise UsageError(f"{args.weights} was not trained on digits but on {recipe.data}")
        recipe = replace(recipe, data=args.data, limit=None)  # a quick try was of other images
    model, classes = open_model("eval", str(args.weights), None)
    size = model.pretrained_cfg["input_size"][-1] if model.pretrained_cfg else SIZE
    if args.all and args.data is None:
        raise UsageError("--all measures on all images of --data; give it")
    own = args.data is None
    listed = own and files.read_description().pictures and files.pictures.is_file()
    images = load(
        lambda: load_images(
            recipe.data,
            size,
            model=model,
            augment=recipe.augment,
            validation=recipe.validation if own else None,  # divided as for the training
            limit=None if listed else recipe.limit,
        )
    )
    if own:
        images = load(lambda: _as_they_were(files, images, recipe.limit is not None))
    check_classes(images, classes, model.num_classes)
    if args.all:
        images = replace(images, test=images.together())
    tell_line = partial(tell, "eval")
    for note in images.notes:
        tell_line(note)
    share = recipe.max_unreadable if args.max_unreadable is None else args.max_unreadable
    with unreadable_share(share):
        with Progress("image") as checking:
            (test,) = readable([images.test], share, tell=tell_line, after_each=checked(checking))
        with Progress("image") as progress:
            evaluation = Evaluation.measure(
                model,
                test,
                images.classes,
                batch_size=args.batch_size or recipe.batch_size or 64,
                flips=args.flips,
                after_each=checked(progress, "measuring"),
            )
        if args.report is not None:
            with Progress("image") as looking:
                write_report(
                    args.report,
                    evaluation,
                    model=model,
                    images=replace(images, test=test),
                    description=files.read_description() if own else None,
                    environment=environment(),
                    after_each=checked(looking, "report"),
                )
    if args.json is not None:
        write(json.dumps(evaluation.document()) + "\n", args.json)
    if args.csv is not None:
        write(_as_csv(evaluation), args.csv)
    if "-" not in (args.json, args.csv):
        print(_as_text(evaluation))
        print(result_line(evaluation.score))
    return 0


def _as_they_were(files: RunFiles, images: Images, limited: bool) -> Images:
    """Return the images of a run in the parts in which they were, although some have changed."""
    expected = files.read_description().pictures
    if expected in ("", Pictures.of(images).digest):
        return images
    before, changes = Pictures.read(files.pictures), "some of the test may have been learned from"
    if before.digest == expected:
        images, changes = (
            before.placed(images, new=False),
            before.changes(images, limited=limited),
        )
    if changes:
        tell("eval", f"warning: the pictures are not those of the training: {changes}")
    return images


def result_line(score: Score) -> str:
    """Return what is printed of the test images' score, by `lucid train` too."""
    return (
        f"test accuracy {100 * score.accuracy:.2f} % ({score.correct} of {score.count}), "
        f"loss {score.loss:.4f}"
    )


def _as_csv(evaluation: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("class", "images", "precision", "recall", "f1"))
    for name, *figures in map(astuple, evaluation.per_class()):
        writer.writerow((name, *("" if math.isnan(figure) else figure for figure in figures)))
    return text.getvalue()


def _as_text(evaluation: Evaluation) -> str:
    """Return all figures but those of the last line, as tables and sentences."""
    names = [printable(name) for name in evaluation.classes]
    parts = [_table_of_classes(evaluation)]
    counts = evaluation.confusion
    if len(names) <= _SHOWN:
        rows = [[name, *map(str, row)] for name, row in zip(names, counts.tolist())]
        parts.append(table([["class", *(f"as {name}" for name in names)], *rows], left=1))
    pairs = [
        f"{pair.count} of the {counts[pair.label].sum()} images of {names[pair.label]} were taken "
        f"for {names[pair.prediction]}"
        for pair in evaluation.confused(5)
    ]
    parts += ["\n".join(pairs)] if pairs else []
    low, high = evaluation.interval()
    figures = [
        f"expected calibration error {_percent(evaluation.calibration_error())}, mean probability "
        f"{_percent(float(evaluation.confidences.mean()))}",
        f"95 % interval of the accuracy: {_percent(low)} to {_percent(high)}",
    ]
    if len(names) > 5:
        figures.append(f"top-5 accuracy {_percent(evaluation.top(5))}")
    return "\n\n".join([*parts, "\n".join(figures)])


def _table_of_classes(evaluation: Evaluation) -> str:
    scores = evaluation.per_class()
    rows = [["class", "images", "precision", "recall", "F1"]]
    if len(scores) > _LISTED:
        scores = sorted(scores, key=lambda one: (math.isnan(one.f1), one.f1))[:_LISTED]
        rows[0][0] = f"the {_LISTED} classes with the lowest F1"
    for one in scores:
        shares = map(_percent, (one.precision, one.recall, one.f1))
        rows.append([printable(one.name), str(one.count), *shares])
    rows.append(["mean of all", "", *map(_percent, evaluation.macro().values())])
    return table(rows, left=1)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"
