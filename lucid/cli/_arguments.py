"""Types of command-line arguments, and the lookup of a model's name."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable

from lucid import models
from lucid.cli._errors import UsageError
from lucid.models._registry import _canonical as canonical_name


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    common: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
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
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def positive_int(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text) if text.strip().lstrip("+-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return value


def non_negative_int(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.strip().isdigit():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def positive_float(text: str) -> float:
    """Parse a finite number over 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number over 0, got {text!r}")
    return value


def non_negative_float(text: str) -> float:
    """Parse a finite number of at least 0."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def fraction(text: str) -> float:
    """Parse a number from 0 up to, but not including, 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1), got {text!r}")
    return value


def open_fraction(text: str) -> float:
    """Parse a number between 0 and 1, neither of them included."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value


def shape(text: str) -> tuple[int, ...]:
    """Parse ``1,3,224,224`` (or ``1x3x224x224``) into a shape."""
    parts = text.replace("x", ",").strip("() ").split(",")
    if not parts or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected sizes such as 1,3,224,224, got {text!r}")
    return tuple(int(part) for part in parts)


def model_name(name: str) -> str:
    """Return lucid's spelling of ``name`` if a model is registered under it.

    Raises:
        UsageError: otherwise, with the closest names there are.
    """
    names = models.list_models()
    if canonical_name(name) in names:
        return canonical_name(name)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`lucid models` lists them all"
    raise UsageError(f"there is no model {name!r}; {hint}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
