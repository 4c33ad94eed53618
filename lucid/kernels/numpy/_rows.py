"""Work on rows ``(M, C)`` column by column, in blocks that stay in the cache."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.numpy._threads import in_parts, sum_parts

Pair = Callable[[slice], tuple[np.ndarray, np.ndarray]]

# Floats in a block: 2 MiB, so that some stay in the third-level cache. On one thread a
# quarter of a MiB does as well, but two threads hand Python's lock to each other at every call of
# NumPy: batch norm's gradient of 16×56×56×96 took 28 ms with blocks of 1 << 14 (one thread: 18),
# 10.6 with 1 << 16 (11.5), 6.3 with 1 << 18 (9.2) and 5.3 with 1 << 19 (9.3).
BLOCK = 1 << 19

# Numbers in NumPy's buffer. Of shorter rows, as many as fit are copied there before an operation
# that repeats an operand along them, needed or not: with more than half of it a row goes as it is.
# 0.20 to 0.25 ns an element for rows of 32 to 4096 floats, 0.14 for 4097 and more.
_BUFFER = 8192

# Rows that are summed in the array's own precision; longer sums continue in float64. One float32
# sum over a block loses three bits more, which deep networks then multiply.
_GROUP = 64


@functools.lru_cache
def rows_together(period: int, columns: int) -> int:
    """Return how many of ``period`` rows, a divisor, make a row of more than half a buffer.

    As few as do; or as many as fit the buffer, if that takes more than four of it.
    """
    most = min(period, 4 * _BUFFER // max(1, columns))
    longer = range(_BUFFER // 2 // max(1, columns) + 1, most + 1)
    shorter = range(min(period, _BUFFER // max(1, columns)), 1, -1)
    return next((n for n in itertools.chain(longer, shorter) if period % n == 0), 1)


def repeated(factors: np.ndarray, times: int) -> np.ndarray:
    """Return a row of factors as many times, one after the other."""
    long = np.empty((times, len(factors)), factors.dtype)
    long[...] = factors  # np.tile takes three times as long
    return long.reshape(-1)


class Rows:
    """How a map of ``count`` rows and ``columns`` columns is worked through.

    Neighbouring rows are taken as one long row, and a column's factor is repeated along it.

    Args:
        count: how many rows.
        columns: how many columns.
        period: no long row crosses a multiple of so many rows, such as an image's pixels.
    """

    def __init__(self, count: int, columns: int, period: int | None = None) -> None:
        self.columns = columns
        period = period or count
        self.together = rows_together(period, columns)
        self.width = self.together * columns
        self.wide_count = count // self.together

    def wide(self, rows: np.ndarray) -> np.ndarray:
        """Return a contiguous map as long rows."""
        return rows.reshape(-1, self.width)

    def repeat(self, factors: np.ndarray) -> np.ndarray:
        """Return one value a column as one a column of the long rows."""
        return repeated(factors, self.together)

    def blocks(self, part: slice) -> Iterator[slice]:
        """Return slices of the long rows ``part``, a block each."""
        step = max(1, BLOCK // max(1, self.width))
        for start in range(part.start, part.stop, step):
            yield slice(start, min(start + step, part.stop))

    def scratch(self, dtype: np.dtype) -> np.ndarray:
        """Return memory for one block of long rows."""
        rows = min(self.wide_count, max(1, BLOCK // max(1, self.width)))
        return empty((rows, self.width), dtype)

    def sums(self, pair: Pair, size: int, dtype: np.dtype) -> np.ndarray:
        """Return the columns' sums ``(2, C)`` of maps ``a`` and of ``a * b``, in float64.

        Args:
            pair: returns the long rows of ``a`` and of ``b`` in a block.
            size: how many elements a map has.
            dtype: of the maps.
        """

        def sums(part: slice) -> np.ndarray:
            total = np.zeros((2, self.columns))
            for block in self.blocks(part):
                a, b = (
                    rows.reshape(-1, self.columns).astype(wide, copy=False) for rows in pair(block)
                )
                total += column_sums(a, b)
            return total

        wide = dtype
        total = sum_parts(in_parts(sums, self.wide_count, size))
        if not np.isfinite(total).all():  # a look at each block's would be 3 % of a kernel's time
            wide = np.dtype(np.float64)
            total = sum_parts(in_parts(sums, self.wide_count, size))
        return total


def column_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the column sums ``(2, C)`` of contiguous ``a`` and of ``a * b``, in float64.

    64 strips are added up, each a 64th of the rows end to end: a row at a time took up to ten
    times as long. A strip's sum is taken in the arrays' own precision and may overflow.
    """
    count, columns = a.shape
    whole = count // _GROUP * _GROUP
    total = np.zeros((2, columns))
    for rows, strips in ((slice(0, whole), _GROUP), (slice(whole, count), count - whole)):
        if rows.start == rows.stop:
            continue
        part = a[rows].reshape(strips, -1)
        sums = np.empty((2, part.shape[1]), a.dtype)
        np.add.reduce(part, axis=0, out=sums[0])
        np.einsum("rc,rc->c", part, b[rows].reshape(strips, -1), out=sums[1])
        total += np.add.reduce(sums.reshape(2, -1, columns), axis=1, dtype=np.float64)
    return total
