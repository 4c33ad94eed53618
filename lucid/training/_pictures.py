"""Which pictures a run was given, and for what: a run that goes on must find them as they were."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lucid.data import Images, Subset
from lucid.data._dataset import paths_of, transform_of, with_transform
from lucid.data._folders import first_of

_PARTS = ("train", "validation", "test")
_HEAD = ["part", "bytes", "file"]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run.

    Args:
        rows: of each its part, its size in bytes (-1 if it is not there), and its path.
    """

    rows: list[tuple[str, int, str]]

    @classmethod
    def of(cls, images: Images) -> Pictures:
        """Return those of some images; none if these are not from files."""
        return cls(
            [
                (part, path.stat().st_size if path.is_file() else -1, str(path))
                for part in _PARTS
                for path in paths_of(getattr(images, part) or ())
            ]
        )

    @classmethod
    def read(cls, file: Path) -> Pictures:
        """Read what :attr:`csv` was written to; no pictures if there is no such file."""
        try:
            text = file.read_bytes().decode("utf-8", "surrogateescape")
            rows = list(csv.reader(io.StringIO(text, newline="")))
            return cls([(part, int(size), path) for part, size, path in rows[1:]])
        except (OSError, ValueError, csv.Error):
            return cls([])

    @property
    def csv(self) -> bytes:
        """The pictures as a table."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([_HEAD, *self.rows])
        return text.getvalue().encode("utf-8", "surrogateescape")

    @property
    def digest(self) -> str:
        """What tells this table from another; empty if there are no pictures."""
        return hashlib.sha256(self.csv).hexdigest() if self.rows else ""

    def changes(self, images: Images, *, limited: bool) -> str:
        """Return in words what has become of these pictures; empty if they are as they were.

        Args:
            images: what there is now, however it is divided.
            limited: whether these were a part of what there was, so that others are not new.
        """
        before, now = ({path: n for _, n, path in one.rows} for one in (self, Pictures.of(images)))
        gone = [path for path in before if now.get(path, -1) == -1 != before[path]]
        new = [path for path in now if path not in before and not limited]
        changed = [path for path in before if now.get(path, -1) not in (-1, before[path])]
        found = {"gone": gone, "new": new, "of another size": changed}
        return "; ".join(
            f"{len(paths)} {what}: {first_of(paths)}" for what, paths in found.items() if paths
        )

    def placed(self, images: Images, *, new: bool) -> Images:
        """Return images in which each picture is in the part in which it was.

        Args:
            images: in the parts into which they are divided now.
            new: whether to learn from pictures that are new; they are left out if not.

        Raises:
            ValueError: if nothing is left of a part.
        """
        whole = images.together()
        known = {(part, path) for part, _, path in self.rows}
        elsewhere = {path: part for part, _, path in self.rows}
        parts = []
        for part, _, path in Pictures.of(images).rows:
            stays = (part, path) in known
            parts.append(part if stays else elsewhere.get(path, "train" if new else ""))
        places = np.array(parts)
        train, validation, test = (Subset(whole, np.flatnonzero(places == name)) for name in _PARTS)
        for name, kept in zip(_PARTS, (train, validation, test)):
            if not len(kept):
                raise ValueError(f"none of the pictures of the {name} part is left")
        train = with_transform(train, transform_of(images.train))
        return replace(images, train=train, validation=validation, test=test)
