"""The one source of randomness: initialisation, dropout, shuffling, augmentation."""

from __future__ import annotations

import numpy as np

_generator = np.random.default_rng()


def generator() -> np.random.Generator:
    """Return the generator that everything random in lucid draws from."""
    return _generator


def manual_seed(seed: int) -> np.random.Generator:
    """Make everything random repeat: initialisation, dropout, shuffling, augmentation.

    Args:
        seed: a non-negative integer.

    Returns:
        The generator, now freshly seeded.

    Raises:
        ValueError: if ``seed`` is negative or no integer.
    """
    global _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"manual_seed: expected a non-negative integer, got {seed!r}")
    _generator = np.random.default_rng(int(seed))
    return _generator
