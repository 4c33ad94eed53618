"""Values of the wrong kind, and nested values in which one is put."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

NUMBERS: list[Any] = [
    0, 1, -1, 2, 7, 255, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.5, -0.5, 1e-300, 1e308,
    float("nan"), float("inf"), -float("inf"), True, False,
]  # fmt: skip
OTHERS: list[Any] = [
    None, "", "mean", "0", "x" * 1000, "\x00", "\ud800", b"x", [], [1, 2], (0,), (1, -1), (2, 3),
    [[1, 2], [3]], [None], {}, {"a": 1}, 1j, Ellipsis, slice(None), object, range(3),
]  # fmt: skip
ARRAYS: list[Any] = [
    np.float32(1.5), np.int64(3), np.array("x"), np.array([object()]), np.zeros((0, 3)),
    np.array(np.nan), np.ones((3, 3), np.uint8), np.array([True, False]), np.zeros(3, "S4"),
    np.datetime64("2024-01-01"), np.zeros(2, [("a", "f4")]), np.ones(2, np.complex64),
]  # fmt: skip


def hostile(rng: random.Random) -> Any:
    """Return a value of any kind."""
    return copy.deepcopy(rng.choice(rng.choice([NUMBERS, NUMBERS, OTHERS, ARRAYS])))


def corrupt(value: Any, rng: random.Random, one: Any = hostile) -> Any:
    """Return ``value`` with one part, at any depth, replaced, removed or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        changed, key = dict(value), rng.choice(list(value))
        action = rng.random()
        if action < 0.1:
            del changed[key]
        elif action < 0.2:
            changed[rng.choice(["", "extra", 0, "lr"])] = one(rng)
        else:
            changed[key] = corrupt(value[key], rng, one)
        return changed
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        items, index = list(value), rng.randrange(len(value))
        action = rng.random()
        if action < 0.1:
            del items[index]
        elif action < 0.2:
            items.append(items[index])
        else:
            items[index] = corrupt(items[index], rng, one)
        return type(value)(items) if type(value) in (list, tuple) else items
    return one(rng)


def spoil(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with bytes changed, cut out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 4, 30])):
        if not changed:
            break
        # Most of the structure of a file is at its ends.
        near = min(len(changed), rng.choice([16, 200, len(changed)]))
        at = rng.randrange(near) if rng.random() < 0.7 else len(changed) - 1 - rng.randrange(near)
        match rng.randrange(5):
            case 0 | 1:
                changed[at] = rng.choice([0, 0xFF, 0x7F, 0x80, rng.randrange(256)])
            case 2:
                del changed[at : at + rng.choice([1, 4, 100])]
            case 3:
                changed[at:at] = changed[at : at + rng.choice([1, 4, 100])]
            case 4:
                changed[at : at + 4] = rng.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(
                    4, "little"
                )
    if rng.random() < 0.2:
        del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)
