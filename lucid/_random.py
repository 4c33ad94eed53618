"""The one source of randomness: initialisation, dropout, shuffling, augmentation."""

from __future__ import annotations

import os
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


def generator() -> Generator:
    """Return the generator that everything random in lucid draws from."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


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
