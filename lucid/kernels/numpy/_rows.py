"""Work on rows ``(M, C)`` column by column, in blocks that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lucid.kernels._memory import empty

# Floats in a block: 2 MiB, so that some stay in the third-level cache. On one thread a
# quarter of a MiB does as well, but two threads hand Python's lock to each other at every call of
# NumPy: batch norm's gradient of 16×56×56×96 took 28 ms with blocks of 1 << 14 (one thread: 18),
# 10.6 with 1 << 16 (11.5), 6.3 with 1 << 18 (9.2) and 5.3 with 1 << 19 (9.3).
BLOCK = 1 << 19

# Floats in a row of the reshaped map. NumPy starts anew at each end of a row, which costs as much
# as 30 to 100 elements.
_WIDE = 1 << 11

# Rows that are summed in the array's own precision; longer sums continue in float64. One float32
# sum over a block loses three bits more, which deep networks then multiply.
_GROUP = 64


class Rows:
    """How a map of ``count`` rows and ``columns`` columns is worked through.

    Neighbouring rows are taken as one long row, and a column's factor is repeated along it:
    ``(32,)`` at 16×112×112 rows took 0.6 ns an element, ``(2048,)`` 0.2 to 0.35.

    Args:
        count: how many rows.
        columns: how many columns.
        period: no long row crosses a multiple of so many rows, such as an image's pixels.
    """

    def __init__(self, count: int, columns: int, period: int | None = None) -> None:
        self.columns = columns
        period = period or count
        most = max(1, min(period, _WIDE // max(1, columns)))
        self.together = next(n for n in range(most, 0, -1) if period % n == 0)
        self.width = self.together * columns
        self.wide_count = count // self.together

    def wide(self, rows: np.ndarray) -> np.ndarray:
        """Return a contiguous map as long rows."""
        return rows.reshape(-1, self.width)

    def repeat(self, factors: np.ndarray) -> np.ndarray:
        """Return one value a column as one a column of the long rows."""
        return np.tile(factors, self.together)

    def blocks(self, part: slice) -> Iterator[slice]:
        """Return slices of the long rows ``part``, a block each."""
        step = max(1, BLOCK // max(1, self.width))
        for start in range(part.start, part.stop, step):
            yield slice(start, min(start + step, part.stop))

    def scratch(self, dtype: np.dtype | type) -> np.ndarray:
        """Return memory for one block of long rows."""
        rows = min(self.wide_count, max(1, BLOCK // max(1, self.width)))
        return empty((rows, self.width), dtype)

    def sums(self, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        """Return the column sums ``(C,)`` of long rows ``a``, or of ``a * b``, in float64."""
        return column_sums(
            a.reshape(-1, self.columns), None if b is None else b.reshape(-1, self.columns)
        )


def column_sums(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Return the column sums of contiguous ``a``, or of ``a * b``, ``(M, C)``, in float64.

    64 strips are added up, each a 64th of the rows end to end: a row at a time took up to ten
    times as long.
    """
    count, columns = a.shape
    whole = count // _GROUP * _GROUP
    total = np.zeros(columns)
    for rows, strips in ((slice(0, whole), _GROUP), (slice(whole, count), count - whole)):
        if rows.start == rows.stop:
            continue
        part = a[rows].reshape(strips, -1)
        if b is None:
            sums = part.sum(axis=0)
        else:
            sums = np.einsum("rc,rc->c", part, b[rows].reshape(strips, -1))
        total += sums.reshape(-1, columns).sum(axis=0, dtype=np.float64)
    return total
