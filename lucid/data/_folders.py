"""Folders of pictures: what is in them, and how they are divided into parts and classes."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Container, Iterator, Sequence
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


class PictureFolder:
    """The pictures of a folder by their suffixes, at any depth and in linked folders too.

    They come sorted by their paths. What is hidden (its name begins with a dot) does not count. A
    folder that can be reached in several ways is searched once, so links may form circles; a link
    to a folder that this one is in is passed over, as other classes may be there.

    Memory is taken for the folders, and for the names in one of them at a time.

    Args:
        root: where to search.
        searched: folders that are passed over, as they were searched before, by device and inode;
            those searched now are added.
        taken: paths of pictures that are passed over.

    Attributes:
        is_empty: whether there is no picture, not even one that is passed over.
        left_out: how many other files there are by suffix, of those without one under ``"no
            suffix"``, of folders that cannot be opened under ``"closed folder"``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        searched: set[tuple[int, int]] | None = None,
        taken: Container[str] = (),
    ) -> None:
        self.is_empty = True
        self.left_out: Counter[str] = Counter()
        self._root = str(Path(root))
        self._taken = taken
        self._folders: set[str] = set()
        self._count = 0
        searched = set() if searched is None else searched
        above = {folder_id(place) for place in Path(root).resolve().parents}
        waiting = deque([self._root])
        while waiting:
            place = waiting.popleft()
            try:
                identity = folder_id(place)
                if identity not in above and identity not in searched:
                    self._search(place, waiting)
                    searched.add(identity)
            except OSError:
                self.left_out["closed folder"] += 1

    def _search(self, place: str, waiting: deque[str]) -> None:
        with os.scandir(place) as entries:
            self._folders.add(place)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = _below(place, entry.name)
                if os.path.isdir(path) if entry.is_symlink() else entry.is_dir():
                    # Linked folders come last: what is in them may have a name without the link.
                    (waiting.append if entry.is_symlink() else waiting.appendleft)(path)
                elif not _is_picture(entry):
                    self.left_out[Path(entry.name).suffix.lower() or "no suffix"] += 1
                else:
                    self.is_empty = False
                    self._count += path not in self._taken

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Yield the path of each picture."""
        within = [iter([self._root] if self._root in self._folders else [])]
        while within:
            path = next(within[-1], None)
            if path is None:
                within.pop()
            elif path in self._folders:
                within.append(self._sorted(path))
            elif path not in self._taken:
                yield path

    def _sorted(self, place: str) -> Iterator[str]:
        with os.scandir(place) as entries:
            names = [
                entry.name
                for entry in entries
                if _below(place, entry.name) in self._folders or _is_picture(entry)
            ]
        names.sort(key=os.path.normcase)
        return (_below(place, name) for name in names)


def folder_id(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return what tells a folder whatever its name: device and inode."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def has_pictures_name(name: str) -> bool:
    """Return whether a file of this name counts as a picture in a folder."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return has_pictures_name(entry.name) and (
        entry.is_file() or (entry.is_symlink() and not entry.is_dir())
    )


def _below(place: str, name: str) -> str:
    return name if place == os.curdir else os.path.join(place, name)


def find_pictures(folder: str | os.PathLike[str]) -> Found:
    """Return the pictures of a :class:`PictureFolder` as paths, and its other files' suffixes."""
    pictures = PictureFolder(folder)
    return Found(list(map(Path, pictures)), pictures.left_out)


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
