"""What batch norm needs of those who compute other parts of the same batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

Array = np.ndarray


class Exchange(Protocol):
    """Given to a kernel of batch norm whose statistics are those of all parts together.

    Each part's kernel calls it once forward and once backward.
    """

    def statistics(self, mean: Array, variance: Array, rows: int) -> tuple[Array, Array]:
        """Return mean and biased variance ``(C,)`` of all parts' rows, in float64."""
        ...

    def sums(self, dweight: Array, dbias: Array, rows: int) -> tuple[Array, Array, int]:
        """Return the sums over all parts, in float64, and the number of all rows."""
        ...


def sums_of_all(
    exchange: Exchange | None, dweight: Array, dbias: Array, rows: int
) -> tuple[Array, Array, int]:
    """Return what :meth:`Exchange.sums` does; without an exchange there is one part."""
    return (dweight, dbias, rows) if exchange is None else exchange.sums(dweight, dbias, rows)
