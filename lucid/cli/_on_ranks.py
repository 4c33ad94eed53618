"""What a command does that an MPI launcher started several times at once."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from lucid import _ranks, distributed
from lucid.cli._errors import UsageError
from lucid.cli._output import tell
from lucid.distributed import _watch


def join() -> None:
    """Join the other ranks, if a launcher started several; only rank 0 prints from now on.

    Raises:
        UsageError: if they cannot be joined.
    """
    try:
        distributed.init()
    except (ImportError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    if _ranks.rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; what is wrong with them is told once."""
    silent = sys.stderr if _ranks.rank() == 0 else sys.stdout
    with contextlib.redirect_stderr(silent):
        return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Raise UsageError if several ranks would do the same work.

    A command that divides its work says so by a default of its parser, ``divides``: a function of
    the arguments.
    """
    if _ranks.size() > 1 and not ("divides" in args and args.divides(args)):
        raise UsageError(
            f"{_ranks.size()} processes were started, and one does this: leave out mpiexec (with "
            "srun give -n 1)"
        )


def ended(command: str, message: str, status: int) -> int:
    """Tell why the command ended, once, and return its status; other ranks end too."""
    _watch.end_together(message, status)
    if _ranks.rank() == 0:
        tell(command, message)
    return status
