"""Types of command-line arguments, and the lookup of a model's name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from lucid import models, nn
from lucid.cli._errors import UsageError
from lucid.models._registry import check_name
from lucid.nn.utils import skip_init


class HelpFormatter(argparse.HelpFormatter):
    """Wraps at the terminal's width, but for examples: they are there to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example") else super()._fill_text(text, width, indent)


Run = Callable[[argparse.Namespace], int]
AddCommand = Callable[[str, Run, str, str], argparse.ArgumentParser]


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    name: str,
    run: Run,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add the sub-command ``name`` that calls ``run``, and return its parser."""
    parser = commands.add_parser(
        name,
        parents=[common],
        help=description[0].lower() + description[1:].split(".")[0],
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def positive_int(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text) if text.strip().lstrip("+-").isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return value


def non_negative_int(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """Parse a share such as 3/8: which one, counted from 0, of how many."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(
            f"expected I/N with I from 0 to N-1, such as 0/8 to 7/8, got {text!r}"
        )
    return int(index), int(count)


def _number(expected: str, is_right: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a parser of numbers that are right; infinite ones and NaN never are."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (math.isfinite(value) and is_right(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


positive_float = _number("a number over 0", lambda value: value > 0)
fraction = _number("a number in [0, 1)", lambda value: 0 <= value < 1)


def add_input(parser: argparse.ArgumentParser, batch_size: int = 1, of: str = "a batch") -> None:
    """Add the options of an input's shape; :func:`input_shape` reads them."""
    parser.add_argument(
        "--size",
        type=image_size,
        default=(224, 224),
        metavar="PIXELS",
        help="height and width of the images; HxW if they differ (default: 224)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=batch_size,
        help=f"images in {of} (default: {batch_size})",
    )
    parser.add_argument("--channels", type=positive_int, default=3, help="of an image (default: 3)")


def input_shape(args: argparse.Namespace) -> tuple[int, int, int, int]:
    """Return the shape (N, C, H, W) that the options of :func:`add_input` say."""
    return (args.batch_size, args.channels, *args.size)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a model and its input; :func:`build` makes it."""
    parser.add_argument("model", help="a name that `lucid models` lists")
    add_input(parser)
    parser.add_argument("--num-classes", type=non_negative_int, default=1000, help="default: 1000")


def build(args: argparse.Namespace) -> nn.Module:
    """Return the model of the arguments of :func:`add_model`, without weights: it is shown only."""
    return skip_init(
        models.create_model,
        model_name(args.model),
        num_classes=args.num_classes,
        in_channels=args.channels,
    )


def image_size(text: str) -> tuple[int, int]:
    """Parse the height and width of an image."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"expected pixels such as 224 or 192x256, got {text!r}")
    return int(sides[0]), int(sides[-1])


def model_name(name: str) -> str:
    """Return ``name`` if such a model is registered; else UsageError with the closest names."""
    try:
        return check_name(name)
    except models.UnknownModelError as error:
        raise UsageError(str(error)) from error
