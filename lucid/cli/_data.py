"""The labelled images that `lucid train` and `lucid eval` are given: loaded and checked."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

from lucid.cli._arguments import fraction
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._output import Progress
from lucid.data import Images, UnreadableError


def add_unreadable(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options that say how many pictures may be unreadable."""
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


def load(read: Callable[[], Images]) -> Images:
    """Return the images that ``read`` does; UsageError if there are none such."""
    try:
        return read()
    except (ValueError, OSError) as error:
        raise UsageError(f"--data: {error}") from error


def check_classes(images: Images, classes: list[str] | None, count: int) -> None:
    """Raise UsageError if the images are not of the model's classes."""
    try:
        images.check_classes(classes, count)
    except ValueError as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def unreadable_share(share: float) -> Iterator[None]:
    """Say in the command's words that too many pictures cannot be read."""
    try:
        yield
    except UnreadableError as error:
        if error.found is None:
            raise CommandError(str(error)) from error
        allowed = f"--max-unreadable {share:g}" if share else "--strict"
        raise CommandError(
            f"{error.found}, more than {allowed} allows; mend or remove them, or allow a larger "
            "share with --max-unreadable"
        ) from error


def checked(progress: Progress, what: str = "checking") -> Callable[[int, int], None]:
    """Return what moves the bar while all pictures are gone through once."""
    before = 0

    def step(done: int, total: int) -> None:
        nonlocal before
        if not before:
            progress.start(total, what)
        progress.step(done - before)
        before = done
        if done == total:
            progress.end()

    return step
