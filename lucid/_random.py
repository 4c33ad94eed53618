"""The one source of randomness: initialisation, dropout, shuffling, augmentation."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lucid._check import is_whole

if TYPE_CHECKING:
    from numpy.random import Generator

# Made when first asked for: NumPy loads its random module only then, a third of lucid's start.
_generator: Generator | None = None


# What draws holds its lock. A forked child in which nobody will release it could not draw.
_held: list[Any] = []


def _hold() -> None:
    if _generator is not None:
        lock = _generator.bit_generator.lock
        lock.acquire()
        _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)


class _Own(threading.local):
    """What this thread draws from in place of the one generator, and what that is seeded with."""

    seed: tuple[int, ...] | None = None
    generator: Generator | None = None


_own = _Own()


@contextlib.contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Let this thread draw from a generator of its own meanwhile.

    So what a sample of a data set draws depends on its seed alone: not on the thread that loads
    it, nor on what was drawn before.

    Args:
        seed: non-negative integers, from which the generator is made when it is first asked for.
    """
    before = _own.seed, _own.generator
    _own.seed, _own.generator = seed, None
    try:
        yield
    finally:
        _own.seed, _own.generator = before


def generator() -> Generator:
    """Return the generator that everything random in lucid draws from."""
    global _generator
    if _own.seed is not None:
        _own.generator = _own.generator or np.random.default_rng(_own.seed)
        return _own.generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def check_state(state: Any) -> None:
    """Raise what NumPy raises, unless ``state`` is one that the generator can take."""
    np.random.default_rng().bit_generator.state = state


@contextlib.contextmanager
def restored(start: Any = None) -> Iterator[None]:
    """Put the generator back at the end, as if nothing had been drawn.

    Args:
        start: the state to draw from meanwhile; the present one if left out.
    """
    bits = generator().bit_generator
    now = bits.state
    try:
        if start is not None:
            bits.state = start
        yield
    finally:
        bits.state = now


def manual_seed(seed: int) -> Generator:
    """Make everything random repeat: initialisation, dropout, shuffling, augmentation.

    Args:
        seed: a non-negative integer.

    Returns:
        The generator, now freshly seeded.

    Raises:
        ValueError: if ``seed`` is negative or no integer.
    """
    global _generator
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"manual_seed: expected a non-negative integer, got {seed!r}")
    _generator = np.random.default_rng(int(seed))
    return _generator
