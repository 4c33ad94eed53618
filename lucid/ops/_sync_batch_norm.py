"""Statistics of batch normalisation over the batches of all ranks."""

from __future__ import annotations

import numpy as np

from lucid import _ranks
from lucid.ops._common import Array


class OverRanks:
    """An :class:`Exchange` with the other ranks, each of which counts by its rows.

    Attributes:
        rows: those of all ranks, once the statistics are known.
    """

    def __init__(self) -> None:
        self.rows = 0

    def statistics(self, mean: Array, variance: Array, rows: int) -> tuple[Array, Array]:
        """Return mean and biased variance of all rows (Chan et al. 1983): nothing cancels."""
        mine = np.concatenate([[rows], mean, variance])
        found = np.empty((_ranks.size(), mine.size))
        _ranks.communicator().Allgather(mine, found)
        counts, means, variances = found[:, :1], *np.split(found[:, 1:], 2, axis=1)
        self.rows = int(counts.sum())
        if self.rows <= 1:
            raise ValueError(
                "SyncBatchNorm: in training there must be more than one value a channel on all "
                f"ranks together, got {self.rows}; use a larger batch or eval()"
            )
        total = (counts * means).sum(axis=0) / self.rows
        squares = counts * (variances + (means - total) ** 2)
        return total, squares.sum(axis=0) / self.rows

    def sums(self, dweight: Array, dbias: Array, rows: int) -> tuple[Array, Array, int]:
        """Return the sums over all ranks, and the number of all rows."""
        total = _ranks.all_reduce(np.concatenate([dweight, dbias, [rows]], dtype=np.float64))
        return *np.split(total[:-1], 2), int(total[-1])  # type: ignore[return-value]


def over_ranks() -> OverRanks | None:
    """Return an exchange with the other ranks, or None if there are none."""
    return OverRanks() if _ranks.is_initialized() else None
