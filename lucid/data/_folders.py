"""Folders of pictures: what is in them, and how they are divided into parts and classes."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lucid.data._read_image import SUFFIXES

# What folders of the parts may be called, in capitals or not.
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Found(NamedTuple):
    """The pictures of a folder, and how many other files there are of each suffix."""

    pictures: list[Path]
    left_out: Counter[str]


def find_pictures(folder: str | os.PathLike[str]) -> Found:
    """Search a folder for pictures, at any depth and in linked folders too.

    What is hidden (its name begins with a dot) does not count. A folder that can be reached in
    several ways is searched once, so links may form circles; a link to a folder that this one is
    in is passed over, as other classes may be there.

    Args:
        folder: where to search.

    Returns:
        The pictures by their suffixes, sorted; and the number of the other files by suffix, of
        those without one under ``"no suffix"``, of folders that cannot be opened under
        ``"closed folder"``.
    """
    found = Found([], Counter())
    above = [place.stat() for place in Path(folder).resolve().parents]
    searched = {(status.st_dev, status.st_ino) for status in above}
    waiting = deque([Path(folder)])
    while waiting:
        place = waiting.popleft()
        try:
            status = place.stat()
            entries = list(os.scandir(place))
        except OSError:
            found.left_out["closed folder"] += 1
            continue
        if (status.st_dev, status.st_ino) in searched:
            continue
        searched.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = place / entry.name
            if entry.name.startswith("."):
                continue
            linked = entry.is_symlink()
            if path.is_dir() if linked else entry.is_dir():
                # Linked folders come last: what is in them may have a name without the link.
                (waiting.append if linked else waiting.appendleft)(path)
            elif path.suffix.lower() in SUFFIXES and (linked or entry.is_file()):
                found.pictures.append(path)
            else:
                found.left_out[path.suffix.lower() or "no suffix"] += 1
    found.pictures.sort()
    return found


def describe_left_out(left_out: Counter[str]) -> str:
    """Return ``3 files (2 .heic, 1 .txt)``."""
    kinds = left_out.most_common()
    named = [f"{count} {suffix}" for suffix, count in kinds[:5]]
    rest = sum(count for _, count in kinds[5:])
    total = left_out.total()
    listing = ", ".join([*named, *([f"{rest} of other kinds"] if rest else [])])
    return f"{total} file{'s' * (total != 1)} ({listing})"


def part_of(name: Any) -> str | None:
    """Return train, val or test for what a part may be called; None for another name."""
    return _PARTS.get(name.casefold()) if isinstance(name, str) else None


def find_parts(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of train, val and test, if ``root`` is divided so, and notes on others.

    A folder such as train/ that holds pictures and no folders is a class of that name.
    """
    folders = subfolders(root)
    named = [(part_of(folder.name), folder) for folder in folders]
    if not any(part and subfolders(folder) for part, folder in named):
        return {}, []
    parts: dict[str, Path] = {}
    for part, folder in named:
        if part in parts:
            raise ValueError(
                f"{root} has both {parts[part].name}/ and {folder.name}/; keep one of them, or put "
                "their pictures together"
            )
        if part is not None:
            parts[part] = folder
    others = [folder.name for part, folder in named if part is None]
    if "train" not in parts:
        if others:
            return {}, []
        raise ValueError(f"{root} has a folder {folders[0].name}/ but no train/ beside it")
    if len(parts) == 1:
        raise ValueError(
            f"{root} has a folder {parts['train'].name}/ but neither test/ nor val/ beside it"
        )
    if others:
        return parts, [f"{root}: passed over beside the parts: {first_of(others)}"]
    return parts, []


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones."""
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def first_of(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are, as text."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
