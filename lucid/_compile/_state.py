"""What a model keeps between calls: its attributes, and the random generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid import _random
from lucid.autograd import Tensor


def same_values(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal, NaN to NaN."""
    if a is b or a.dtype != b.dtype:
        return a is b
    # First without a thought of NaN, in a third of the time.
    return np.array_equal(a, b) or (a.dtype.kind in "fc" and np.array_equal(a, b, equal_nan=True))


def same_state(a: Any, b: Any) -> bool:
    """Whether an object is equal to a deep copy of it, in all that it holds.

    What a deep copy shares with the original, such as functions, counts as the same.
    """
    return _same(a, b, {})


def _same(a: Any, b: Any, seen: dict[tuple[int, int], Any]) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (bool, int, float, complex, str, bytes)):
        return bool(a == b or (a != a and b != b))
    if (id(a), id(b)) in seen:
        return True
    seen[id(a), id(b)] = a, b  # they stay alive, so nothing else gets their ids
    if isinstance(a, Tensor):
        return same_values(a.data, b.data)
    if isinstance(a, np.ndarray):
        return same_values(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y, seen) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key], seen) for key in a)
    if isinstance(a, (set, frozenset)):
        return a == b
    try:
        taken_apart = _parts(a), _parts(b)
    except Exception:  # it cannot be taken apart: only it itself can tell
        return bool(a == b)
    return _same(taken_apart[0], taken_apart[1], seen)


def _parts(value: Any) -> Any:
    """Return what makes up an object: what copying and pickling go by."""
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    make, args, *rest = reduced
    state = rest[0] if rest else None
    return make, args, state, *[list(items) for items in rest[1:3] if items is not None]


def _random_state() -> Any:
    of_numpy = np.random.get_state(legacy=False)  # noqa: NPY002  # models of users may draw there
    return _random.generator().bit_generator.state, of_numpy, random.getstate()


@contextlib.contextmanager
def no_random_numbers_lost() -> Iterator[Callable[[], bool]]:
    """Give what tells whether a random generator has moved on; set all back afterwards."""
    before = _random_state()
    try:
        yield lambda: not same_state(_random_state(), before)
    finally:
        _random.generator().bit_generator.state = before[0]
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])
