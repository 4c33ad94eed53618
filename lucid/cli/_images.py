"""The images that `lucid predict` and `lucid embed` are given: found, and read in batches."""

from __future__ import annotations

import argparse
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import printable
from lucid.autograd import Tensor
from lucid.cli._arguments import positive_int
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._output import Failures, Progress, tell
from lucid.data._folders import Found, describe_left_out, find_pictures
from lucid.data._read_image import SUFFIXES, load_picture
from lucid.data._readable import each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which images and which weights."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM), a folder with images at any depth, "
        "or a pattern in quotes such as 'photos/**/*.jpg'",
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


def find_images(arguments: Sequence[str], failures: Failures) -> list[Path]:
    """Return the files that arguments name, each once, a folder's sorted; UsageError if none."""
    found: dict[Path, None] = {}
    left_out: Counter[str] = Counter()
    missing = []
    for argument in arguments:
        names = [argument]
        if not os.path.lexists(argument) and glob.has_magic(argument):
            names = sorted(glob.glob(argument, recursive=True))
        parts = [_pictures_at(Path(name)) for name in names]
        paths = [path for part in parts for path in part.pictures]
        if not paths:
            missing.append(_nothing_at(argument))
        found.update(dict.fromkeys(paths))
        for part in parts:
            left_out += part.left_out
    if not found:
        raise UsageError("; ".join(missing))
    if left_out:
        tell(failures.command, f"passed over: {describe_left_out(left_out)}")
    for message in missing:
        failures.add(message)
    return list(found)


def _pictures_at(path: Path) -> Found:
    if path.is_dir():
        return find_pictures(path)
    return Found([path] if path.is_file() else [], Counter())


def _nothing_at(argument: str) -> str:
    if Path(argument).is_dir():
        return f"no image found in {argument}: no file in it ends in {', '.join(SUFFIXES)}"
    if glob.has_magic(argument):
        return f"no image found: nothing matches {argument}"
    return f"no image found: there is no file {argument}"


def read_batches(
    paths: Sequence[Path],
    transform: Callable[[Any], Tensor],
    batch_size: int,
    failures: Failures,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield paths and the batch ``(N, C, H, W)`` of their images, without those unreadable.

    A bar on stderr shows the progress. If none could be read it ends in CommandError.
    """
    found = False
    with Progress("image") as progress:
        progress.start(len(paths))
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            good: list[Path] = []
            images: list[np.ndarray] = []
            for path, image in each(lambda path: load_picture(path, transform), part):
                if isinstance(image, Exception):
                    progress.hide()
                    failures.add(str(image))
                else:
                    good.append(path)
                    images.append(image.data)
            if good:
                found = True
                yield good, Tensor(np.stack(images))
            progress.step(len(part))
    if not found:
        raise CommandError(f"none of the {len(paths)} images could be read")


def shown(path: Path) -> str:
    """Return a path as text on one line that any file and terminal takes."""
    return printable(os.fsencode(path).decode("utf-8", "replace"))
