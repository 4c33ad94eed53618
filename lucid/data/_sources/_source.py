"""Pictures from wherever they are, one after the other."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lucid.data._folders import PictureFolder, folder_id, has_pictures_name
from lucid.data._read_image import SUFFIXES
from lucid.data._sources._item import Container, Get, Item, Paths
from lucid.data._sources._list import LISTS, PictureList
from lucid.data._sources._parquet import PARQUETS, ParquetPictures
from lucid.data._sources._tar import TARS, TarPictures

Argument = str | os.PathLike[str]

_MOST_PLACES = 10**5


class Source:
    r"""Pictures by name, in an order that is always the same; :func:`open_source` makes one.

    Iterating gives items ``(name, content)``; the content is a path or the bytes of a file. No
    picture is decoded, and none is kept. Where a source is damaged, the content is the error.

    ``len()`` is the number of items. An archive of tar does not tell it: TypeError.

    Args:
        containers: what it is made of, one after the other.
        missing: what was not found, a line for each argument that named nothing.
        left_out: how many files in its folders are no pictures, by suffix.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("list.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
        >>> source = data.open_source("list.txt")
        >>> len(source), [name for name, content in source.part(0, 2)]
        (3, ['a.jpg', 'c.jpg'])
    """

    def __init__(self, containers: list[Container], missing: list[str], left_out: Counter[str]):
        self.missing = missing
        self.left_out = left_out
        self._containers = containers
        self._index, self._count = 0, 1
        self._by_archive = False

    def part(self, index: int, count: int) -> Source:
        """Return a part for one of several processes; each item is in exactly one part.

        If there are at least ``count`` archives (tar, Parquet), each ``count``-th of them is in a
        part as a whole, and no other is read. Otherwise, and always of other sources, it is each
        ``count``-th picture.

        Args:
            index: which part, counted from 0.
            count: how many parts there are.

        Raises:
            ValueError: if there is no such part, or this is a part already.
        """
        if not 0 <= index < count:
            raise ValueError(f"part: expected an index from 0 to {count - 1}, got {index}")
        if self._count > 1:
            raise ValueError("part: this is a part already; take parts of the whole")
        result = Source(self._containers, self.missing, self.left_out)
        result._index, result._count = index, count
        archives = sum(container.is_archive for container in self._containers)
        result._by_archive = archives >= count > 1
        return result

    def numbered(
        self, wanted: Callable[[int], bool] = lambda number: True
    ) -> Iterator[tuple[int, Item]]:
        """Yield items with their numbers, counted from 0; others than those wanted are not read.

        Args:
            wanted: is told a number, and returns whether the item is wanted.
        """
        for number, get in enumerate(self._gets()):
            if wanted(number):
                yield number, get()

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self.numbered())

    def __len__(self) -> int:
        """Return the number of items; TypeError if only going over them tells."""
        unit = total = 0
        for container in self._containers:
            length = container.length()
            if length is None:
                raise TypeError("this source does not tell how many pictures it has")
            if self._is_whole(container):
                total += length * (unit % self._count == self._index)
                unit += 1
            else:
                total += len(range((self._index - unit) % self._count, length, self._count))
                unit += length
        return total

    def fingerprint(self) -> str:
        """Return a text that is another one if the source, of which this is a part, has changed.

        It is made of the names of files and of the sizes of archives.
        """
        digest = hashlib.blake2b(digest_size=16)
        for container in self._containers:
            digest.update(type(container).__name__.encode() + b"\0")
            for mark in container.marks():
                digest.update(os.fsencode(mark) + b"\0")
        return digest.hexdigest()

    def _gets(self) -> Iterator[Get]:
        unit = 0
        for container in self._containers:
            if self._is_whole(container):
                if unit % self._count == self._index:
                    yield from container
                unit += 1
                continue
            for get in container:
                if unit % self._count == self._index:
                    yield get
                unit += 1

    def _is_whole(self, container: Container) -> bool:
        return container.is_archive and self._by_archive


def open_source(pictures: Argument | Sequence[Argument]) -> Source:
    """Return the pictures that are found at one place or several, each file once.

    A place is one of these:

    - a folder: its pictures at any depth, sorted by path, hidden ones left out;
    - a picture, whatever its name;
    - a list: a text file (``.txt``) with a path a line, or a CSV file with a column ``file`` or
      ``path``, or with paths in its first column; paths count from the folder of the list;
    - an archive: tar (``.tar``, ``.tar.gz``, ``.tgz``; WebDataset's), of which those members are
      taken that have a picture's suffix;
    - a Parquet file (extra ``parquet``) with a column ``image``, ``bytes`` or ``jpg`` of bytes, or
      of Hugging Face's struct ``{bytes, path}``;
    - a pattern for several of them: ``photos/**/*.jpg``, ``shards-{000..099}.tar``.

    Files are named by their paths, pictures in archives by the archive's path and their own name
    there, those in lists as they are listed. What a list or an archive names twice comes twice.

    Args:
        pictures: a place, or several.

    Raises:
        FileNotFoundError: if there is no picture at all; of what else is missing, the attribute
            ``missing`` tells.
        ValueError: if braces stand for more than 100,000 files.

    Example:
        >>> from PIL import Image
        >>> import os
        >>> os.makedirs("photos/deep")
        >>> for name in ("photos/b.png", "photos/deep/a.png", "photos/c.png"):
        ...     Image.new("RGB", (8, 6)).save(name)
        >>> source = data.open_source("photos")
        >>> [item.name for item in source]
        ['photos/b.png', 'photos/c.png', 'photos/deep/a.png']
        >>> [item.name for item in source.part(1, 2)]
        ['photos/c.png']
    """
    search = _Search()
    places = [pictures] if isinstance(pictures, (str, os.PathLike)) else pictures
    expanded = (name for place in places for name in _without_braces(os.fspath(place)))
    names = list(itertools.islice(expanded, _MOST_PLACES + 1))
    if len(names) > _MOST_PLACES:
        raise ValueError(f"open_source: the braces stand for more than {_MOST_PLACES:,} files")
    missing = [_nothing_at(name) for name in names if not search.add(name)]
    if len(missing) == len(names):
        more = [f"and {len(missing) - 5} more"] if len(missing) > 5 else []
        raise FileNotFoundError("; ".join([*missing[:5], *more]) or "no image found: none is named")
    return Source(search.containers, missing, search.left_out)


class _Search:
    """Finds what a source is made of, each file once."""

    def __init__(self) -> None:
        self.containers: list[Container] = []
        self.left_out: Counter[str] = Counter()
        self._folders: set[tuple[int, int]] = set()
        self._files: set[str] = set()
        self._loose: list[str] | None = None  # the last container's pictures, if more may come

    def add(self, place: str) -> bool:
        """Add the pictures at a place, and return whether there are any."""
        if os.path.lexists(place) or not glob.has_magic(place):
            return self._add(Path(place), place)
        found = [self._add(Path(name), place) for name in sorted(glob.glob(place, recursive=True))]
        return any(found)

    def _add(self, path: Path, place: str) -> bool:
        if path.is_dir():
            return self._add_folder(path)
        if not path.is_file():
            return False
        name = str(path)
        if name in self._files or self._is_in_folder(path):
            return True
        self._files.add(name)
        if name.lower().endswith(TARS):
            self._append(TarPictures(path))
        elif name.lower().endswith(PARQUETS):
            self._append(ParquetPictures(path))
        elif place.lower().endswith(LISTS):  # "photos/*" means no list that lies there
            self._append(PictureList(path))
        else:
            if self._loose is None:
                loose: list[str] = []
                self._append(Paths(loose))
                self._loose = loose
            self._loose.append(name)
        return True

    def _add_folder(self, path: Path) -> bool:
        if folder_id(path) in self._folders:
            return True
        folder = PictureFolder(path, self._folders, frozenset(self._files))
        self.left_out += folder.left_out
        if len(folder):
            self._append(Paths(folder))
        return not folder.is_empty

    def _is_in_folder(self, path: Path) -> bool:
        return (
            bool(self._folders)
            and has_pictures_name(path.name)
            and folder_id(path.parent) in self._folders
        )

    def _append(self, container: Container) -> None:
        self.containers.append(container)
        self._loose = None


def _without_braces(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern with ranges such as ``{000..099}`` stands for, as a shell."""
    braces = re.search(r"\{(\d{1,9})\.\.(\d{1,9})\}", pattern)
    if braces is None or os.path.lexists(pattern):
        yield pattern
        return
    bounds = braces.groups()
    is_padded = any(text[0] == "0" < text[1:] for text in bounds)
    width = max(map(len, bounds)) if is_padded else 0
    for number in range(int(bounds[0]), int(bounds[1]) + 1):
        yield from _without_braces(
            f"{pattern[: braces.start()]}{number:0{width}}{pattern[braces.end() :]}"
        )


def _nothing_at(place: str) -> str:
    if Path(place).is_dir():
        return f"no image found in {place}: no file in it ends in {', '.join(SUFFIXES)}"
    if glob.has_magic(place):
        return f"no image found: nothing matches {place}"
    return f"no image found: there is no file {place}"
