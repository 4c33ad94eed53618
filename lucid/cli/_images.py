"""The images that `lucid predict` and `lucid embed` are given: found, and gone through once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import numpy as np

from lucid import distributed, nn
from lucid._check import printable
from lucid._files import FORMATS, HeldElsewhereError, OtherPartsError, Parts
from lucid.cli._arguments import fraction, non_negative_int, positive_int, shard
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._output import Failures, Progress, tell
from lucid.data import Item, Source, open_source
from lucid.data._folders import describe_left_out
from lucid.data._readable import READERS
from lucid.distributed._map_images import PART_SIZE, fill
from lucid.distributed._picture_model import PictureModel, outcomes
from lucid.distributed._tables import Table

_FILES = (".npz", *(f".{format}" for format in FORMATS))  # endings that no folder is meant by
_NAMED = 20  # of what cannot be read for a folder of parts; all of it is in a file there

_WORTH_A_PLAN = 32  # batches: fewer are done before a plan is compiled

_PARTS_HELP = (
    "With a folder as --output the result is written in parts, `part-00000.parquet` and so on, "
    "each whole or not at all. Started again, the command goes on behind the parts that are there. "
    "`_errors.csv` lists what cannot be read. --shard I/N takes each N-th picture (of N archives "
    "or more, each N-th archive), for N processes that share the folder."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which images and which weights, and the options of parts."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM), a folder with images at any depth, "
        "a list (.txt with a path a line, .csv with a column `file` or `path`), a tar archive or a "
        "Parquet file with images, or a pattern in quotes such as 'photos/**/*.jpg' or "
        "'shards-{000..099}.tar'",
    )
    parser.add_argument(
        "--weights",
        required=True,
        help="a .safetensors or .npz file, a run's folder that `lucid train` wrote, PyTorch's "
        ".pth, or a Hugging Face repo id",
    )
    parser.add_argument(
        "--model",
        help="a name that `lucid models` lists (default: what the weights say or have)",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=16, help="images in a step (default: 16)"
    )
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        help="threads that decode images ahead; with 0 they are decoded in between (default: one "
        "a processor, at most 4). With --ray, processes that compute (default: one a processor)",
    )
    parser.set_defaults(divides=_divides)
    parts = parser.add_argument_group("millions of pictures", _PARTS_HELP)
    parts.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="the share I, from 0 to N-1, of N (default: all; of several ranks each takes its own)",
    )
    parts.add_argument(
        "--part-size",
        type=positive_int,
        metavar="N",
        help=f"images in a part (default: {PART_SIZE})",
    )
    parts.add_argument(
        "--format", choices=FORMATS, help="of the parts' files (default: parquet, extra `parquet`)"
    )
    parts.add_argument(
        "--max-unreadable",
        type=fraction,
        metavar="SHARE",
        help="share of the images that may be unreadable without an exit status of 1, which a "
        "scheduler would answer by another start (default: 0)",
    )
    parts.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="divide the images among --workers processes of Ray (extra `ray`): of the cluster at "
        "this address, or started on this machine",
    )


def _divides(args: argparse.Namespace) -> bool:
    """Return whether several ranks have a share each."""
    if args.shard is not None:
        raise UsageError("--shard: each rank takes its own share; leave it out, or mpiexec")
    return wants_parts(args)


def wants_parts(args: argparse.Namespace) -> bool:
    """Return whether the result goes into a folder of parts; UsageError if it cannot."""
    options = ("shard", "part_size", "format", "max_unreadable", "ray")
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(args, name) is not None]
    output = args.output
    if output is not None and (output.is_dir() or not output.suffix or given):
        if output.suffix.lower() in _FILES and not output.is_dir():
            raise UsageError(f"{given[0]} needs a folder of parts, and {output} is a file's name")
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output: {output} is a file; name a folder for the parts")
        if args.overwrite:
            raise UsageError("parts are added to those that are there; leave out --overwrite")
        return True
    if given:
        raise UsageError(f"{given[0]} needs a folder of parts; name one by --output")
    return False


def find_images(args: argparse.Namespace, failures: Failures) -> Source:
    """Return the pictures that are named, and tell what is missing; UsageError if all is."""
    try:
        source = open_source(args.images)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    if source.left_out:
        tell(failures.command, f"passed over: {describe_left_out(source.left_out)}")
    for message in source.missing:
        failures.add(message)
    return source


def run(
    model: nn.Module, table: Table, source: Source, args: argparse.Namespace, failures: Failures
) -> Iterator[tuple[Item, np.ndarray]]:
    """Yield the images that can be read, each with its row, and tell of the others.

    A bar on stderr shows the progress. If none could be read it ends in CommandError.
    """
    pictures, count = _pictures(model, table, source, args)
    threads = READERS if args.workers is None else args.workers
    found = seen = 0
    with Progress("image") as progress:
        progress.start(count)
        for outcome in outcomes(pictures, source.numbered(), threads):
            progress.step()
            seen += 1
            if isinstance(outcome.row, Exception):
                progress.hide()
                failures.add(str(outcome.row))
            else:
                found += 1
                yield outcome.item, outcome.row
    if not found:
        raise CommandError(f"none of the {seen} images could be read")


def write_parts(
    model: nn.Module,
    table: Table,
    source: Source,
    args: argparse.Namespace,
    failures: Failures,
) -> int:
    """Write the parts that are missing, and return the exit status.

    Args:
        model: the model.
        table: what is computed.
        source: all images, also those of other shards.
        args: the command's.
        failures: tells of the first images that cannot be read.
    """
    if source.missing:
        raise UsageError("; ".join(source.missing[:5]))
    share = args.shard or (distributed.rank(), distributed.size())
    size = args.part_size or PART_SIZE
    part = source.part(*share)
    pictures, count = _pictures(model, table, part, args)
    settings = {"source": source.fingerprint(), "part_size": size, **pictures.settings()}
    try:
        parts = Parts(args.output, settings, args.format or FORMATS[0], share)
        with parts.held(), Progress("image") as progress:
            there = len(parts.finished)
            progress.start(count, done=there * size)
            for outcome in fill(parts, part, pictures, size, args.workers, args.ray):
                progress.step()
                if isinstance(outcome.row, Exception) and failures.count < _NAMED:
                    progress.hide()
                    failures.add(str(outcome.row))
    except (OtherPartsError, HeldElsewhereError) as error:
        raise UsageError(f"--output: {error}") from error
    print(f"{len(parts.finished)} parts in {args.output}, {there} of them from before")
    if parts.errors:
        tell(failures.command, f"{parts.errors} images cannot be read: {parts.error_file}")
    of = len(parts.finished) * size if count is None else count
    return 1 if parts.errors > (args.max_unreadable or 0) * of else 0


def _pictures(
    model: nn.Module, table: Table, source: Source, args: argparse.Namespace
) -> tuple[PictureModel, int | None]:
    """Return the model, compiled if the images are many, and their number, None if not known."""
    try:
        count = len(source)
    except TypeError:
        count = None
    compiled = count is None or count > _WORTH_A_PLAN * args.batch_size
    return PictureModel(model, table, args.batch_size, compiled=compiled), count


def shown(name: str) -> str:
    """Return a name as text on one line that any file and terminal takes."""
    return printable(os.fsencode(name).decode("utf-8", "replace"))
