"""``lucid eval``: measure what was learned."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from lucid.cli._arguments import AddCommand, positive_int
from lucid.cli._data import add_unreadable, check_classes, checked, load, unreadable_share
from lucid.cli._errors import UsageError, reading_run
from lucid.cli._output import Progress, tell
from lucid.cli._weights import check_weights, open_model
from lucid.data import DataLoader, load_images, readable
from lucid.data._readable import READERS
from lucid.training import Recipe, RunFiles, Score, evaluate


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "eval",
        evaluate_model,
        "Measure trained weights on their test images. Which these are is read from the .json "
        "beside them; the accuracy is the one that `lucid train` printed. With --data any weights "
        "can be measured that `lucid predict` takes.",
        "  lucid eval runs/mobilenetv4_conv_small-digits",
    )
    parser.add_argument(
        "weights", type=Path, help="a run's folder or a file that `lucid train` wrote"
    )
    parser.add_argument(
        "--data", help="other images to measure on (default: those of the training)"
    )
    parser.add_argument("--batch-size", type=positive_int, help="default: that of the training")
    add_unreadable(parser, "default: that of the training")


def evaluate_model(args: argparse.Namespace) -> int:
    """Run ``lucid eval``."""
    check_weights(args.weights)
    files = RunFiles(args.weights)
    recipe = Recipe()
    if args.data is None or files.description.is_file():
        with reading_run():
            recipe = files.read_description().recipe
    if args.data is not None:
        if args.data == "digits" != recipe.data:
            raise UsageError(f"{args.weights} was not trained on digits but on {recipe.data}")
        recipe = replace(recipe, data=args.data)
    model, classes = open_model("eval", str(args.weights), None)
    size = model.pretrained_cfg["input_size"][-1] if model.pretrained_cfg else recipe.size
    images = load(lambda: load_images(recipe.data, size, model=model, limit=recipe.limit))
    check_classes(images, classes, model.num_classes)
    tell_line = partial(tell, "eval")
    for note in images.notes:
        tell_line(note)
    share = recipe.max_unreadable if args.max_unreadable is None else args.max_unreadable
    with unreadable_share(share):
        with Progress("image") as checking:
            (test,) = readable([images.test], share, tell=tell_line, after_each=checked(checking))
        batch_size = args.batch_size or recipe.batch_size
        score = evaluate(model, DataLoader(test, batch_size, num_workers=READERS))
    print(result_line(score))
    return 0


def result_line(score: Score) -> str:
    """Return what is printed of the test images' score, by `lucid train` too."""
    return (
        f"test accuracy {100 * score.accuracy:.2f} % ({score.correct} of {score.count}), "
        f"loss {score.loss:.4f}"
    )
