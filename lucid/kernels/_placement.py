"""Where maps lie in one block of memory, by when each is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass
class Life:
    """A map: its size in bytes, and the steps between which it is needed."""

    size: int
    first: int
    last: int
    offset: int = -1


def place(lives: Sequence[Life]) -> int:
    """Give each map an offset such that maps needed at the same time do not overlap.

    The largest first, each at the lowest offset that is free for as long as it lives: the greedy
    rule of Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference".

    Returns:
        The block's size in bytes.
    """
    placed: list[Life] = []
    for life in sorted(lives, key=lambda life: life.size, reverse=True):
        offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + life.size <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.size) // ALIGNMENT) * ALIGNMENT)
        life.offset = offset
        placed.append(life)
    return max((life.offset + life.size for life in placed), default=0)
