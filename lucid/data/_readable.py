"""Reading many pictures, some of which cannot be read."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from lucid import _random
from lucid.data._dataset import Dataset, Subset, paths_of
from lucid.data._fetch import PassedOverError
from lucid.data._workers import StaysHere

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[str], Any]

# Pillow decodes and resizes without holding Python's lock.
READERS = min(4, os.cpu_count() or 1)

# What fails for a picture that is damaged, gone or too large.
_READING = (ValueError, OSError, MemoryError)

_NAMED = 20  # of a list of pictures, as many are named


def each(
    load: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = READERS,
    ahead: int = 64,
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item and what ``load`` makes of it: the error, if it cannot be read.

    So many threads load, and so many items are taken ahead of their turn; none with 0 threads.
    """

    def attempt(item: Item) -> Result | Exception:
        try:
            return load(item)
        except _READING as error:
            return error

    if not workers:
        yield from ((item, attempt(item)) for item in items)
        return
    readers = ThreadPoolExecutor(workers)
    begun: deque[tuple[Item, Future[Result | Exception]]] = deque()
    try:
        for item in items:
            begun.append((item, readers.submit(attempt, item)))
            if len(begun) > ahead:
                item, result = begun.popleft()
                yield item, result.result()
        while begun:
            item, result = begun.popleft()
            yield item, result.result()
    finally:
        readers.shutdown(cancel_futures=True)  # an interrupt does not wait for all the rest


class UnreadableError(ValueError):
    """Too many pictures cannot be read, or all those of a part.

    Args:
        message: what is wrong, in words.
        found: how many of how many cannot be read; None if all of a part cannot.
    """

    def __init__(self, message: str, found: str | None = None) -> None:
        super().__init__(message)
        self.found = found


class _Unreadable(StaysHere):
    """The pictures that the work does without, up to a share of all: each is told once."""

    def __init__(self, share: float, tell: Tell) -> None:
        self._share = share
        self._tell = tell
        self._total = 0
        self._messages: dict[str, None] = {}

    def report(self, messages: list[str], total: int, tell: Tell) -> None:
        """Tell what was found unreadable among so many pictures, before the work."""
        self._total = total
        self._messages = dict.fromkeys(messages)
        if messages:
            tell(f"{len(messages)} of {total} pictures cannot be read:")
        for message in messages[:_NAMED]:
            tell(message)
        if len(messages) > _NAMED:
            tell(f"and {len(messages) - _NAMED} more")
        self._check()

    def __call__(self, message: str) -> None:
        """Tell of one that could still be read when the work began."""
        if message not in self._messages:
            self._messages[message] = None
            self._tell(message)
            self._check()

    def _check(self) -> None:
        count = len(self._messages)
        if count > max(self._share * self._total, self._share > 0):
            found = f"{count} of {self._total} pictures cannot be read"
            raise UnreadableError(
                f"{found}, more than max_unreadable={self._share:g} allows; mend or remove them, "
                "or allow a larger share",
                found,
            )


class _Readable(Subset):
    """Those samples of a data set whose pictures can be read.

    A picture that can be read no more when its turn comes is told and left out of its batch.
    """

    batch = None  # one by one

    def __init__(self, dataset: Dataset, indices: Sequence[int], unreadable: _Unreadable) -> None:
        super().__init__(dataset, indices)
        self._unreadable = unreadable

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        try:
            return super().__getitem__(index)
        except PassedOverError:
            raise
        except _READING as error:
            raise PassedOverError(str(error), self._unreadable) from error


def readable(
    parts: Sequence[Dataset],
    max_unreadable: float = 0.25,
    *,
    tell: Tell = warnings.warn,
    after_each: Callable[[int, int], Any] | None = None,
) -> list[Dataset]:
    """Read all pictures of the parts once, tell of those that cannot be read, and leave them out.

    A picture that can be read no more when its turn comes is told too, and left out of its batch;
    a :class:`DataLoader` passes over a batch without any. The parts are read in threads, so their
    transforms must not keep anything.

    Example::

        images = data.load_images("digits", size=32)
        train, test = data.readable([images.train, images.test], max_unreadable=0.01)

    Args:
        parts: an :class:`ImageFolder` or :class:`ImageList` each, or a :class:`Subset` of one.
            What does not come from files is returned as it is.
        max_unreadable: share of all pictures that may be unreadable. At least one may be, except
            if it is 0.
        tell: called with a line of text for each unreadable picture, a warning if left out.
        after_each: called with the number of pictures read so far and of all, for a progress bar.

    Raises:
        UnreadableError: if too many cannot be read, or all of a part; also later, when too many
            cannot be read any more.
    """
    return without(find_unreadable(parts, after_each=after_each), parts, max_unreadable, tell=tell)


def find_unreadable(
    parts: Sequence[Dataset],
    rank: int = 0,
    ranks: int = 1,
    *,
    after_each: Callable[[int, int], Any] | None = None,
) -> dict[tuple[int, int], str]:
    """Return what is wrong with pictures, by the number of their part and their index in it.

    Args:
        parts: as :func:`readable` takes them.
        rank: which of several ranks this is, that read some of the pictures each.
        ranks: how many there are.
        after_each: called with the number of pictures read so far and of those to read.
    """
    if not paths_of(parts[0]):
        return {}
    places = [(number, index) for number, part in enumerate(parts) for index in range(len(part))]
    places = places[rank::ranks]
    found = {}
    outcomes = each(lambda place: probe(parts[place[0]], place[1]), places)
    for done, (place, outcome) in enumerate(outcomes, 1):
        if isinstance(outcome, Exception):
            found[place] = str(outcome)
        if after_each is not None:
            after_each(done, len(places))
    return found


def without(
    found: Mapping[tuple[int, int], str],
    parts: Sequence[Dataset],
    max_unreadable: float,
    *,
    tell: Tell,
    tell_of_one: Tell | None = None,
) -> list[Dataset]:
    """Return the parts without the pictures that were found unreadable, as :func:`readable` does.

    Args:
        found: what is wrong with them, as :func:`find_unreadable` returns it.
        parts: the parts.
        max_unreadable: share of all pictures that may be unreadable.
        tell: called with a line for each of those that were found.
        tell_of_one: called with a line for one that can be read no more when its turn comes; as
            ``tell`` if left out.
    """
    if not paths_of(parts[0]):
        return list(parts)
    unreadable = _Unreadable(max_unreadable, tell_of_one or tell)
    unreadable.report([found[place] for place in sorted(found)], sum(map(len, parts)), tell)
    good = [
        [index for index in range(len(part)) if (number, index) not in found]
        for number, part in enumerate(parts)
    ]
    if not all(good):
        raise UnreadableError("a part of the data has no picture that can be read")
    return [_Readable(part, chosen, unreadable) for part, chosen in zip(parts, good)]


def probe(dataset: Dataset, index: int) -> None:
    """Read a sample and keep nothing of it, nor draw from lucid's generator."""
    with _random.seeded(index):
        dataset[index]
