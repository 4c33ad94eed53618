"""Matrix products in pieces that OpenBLAS multiplies as they lie.

OpenBLAS copies both factors of a product into the order in which its kernels read them. For
processors with AVX-512 it has kernels that take them as they are, for up to a million multiply-adds
(``sgemm_small_kernel_permit_skylakex.c``), and one call of NumPy multiplies many pairs of matrices.
So a large product is cut: 10 to 15 % less time where both factors have many rows, a third less
where one has 49, half where it has 2 to 16. Elsewhere a product is one call, as it was.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from lucid.kernels import _blas
from lucid.kernels._memory import empty
from lucid.kernels.numpy._calls import HERE, Calls

Array = np.ndarray

# OpenBLAS's names of the processors that it has such kernels for, and what those take at most.
_CORES = "SkylakeX", "Cooperlake", "SapphireRapids"
_MOST = 1_000_000

# A kernel's tile has 32 or 64 columns and 6 rows.
_COLUMNS, _ROWS, _MANY_ROWS = 32, 6, 192

# Floats of a block of columns: it stays in the first-level cache.
_BLOCK = 6144

# To cut a matrix into blocks takes as long as so many rows save.
_WORTHWHILE = 384


@functools.cache
def _takes_pieces() -> bool:
    return _blas.Blas().core in _CORES


def in_pieces(dtype: np.dtype) -> bool:
    """Whether products of numbers of a type are cut."""
    return dtype == np.float32 and _takes_pieces()


def _cuts(count: int, size: int) -> list[tuple[slice, int]]:
    """Return slices of ``range(count)`` and the size of their pieces: whole ones, and a rest."""
    whole = count // size * size
    cuts = [(slice(0, whole), size), (slice(whole, count), count - whole)]
    return [(part, size) for part, size in cuts if part.start < part.stop]


def _evenly(count: int, most: int, unit: int) -> int:
    """Return the size of pieces of at most ``most``, all about as large, a multiple of ``unit``."""
    pieces = math.ceil(count / most)
    return min(most, math.ceil(count / pieces / unit) * unit)


class Columns:
    """A matrix ``(K, N)`` that rows are multiplied by, cut into blocks of columns.

    Args:
        matrix: in any layout. It is copied unless it is C-contiguous or not worth it.
        rows: how many rows it will be multiplied by; None: unknown, or many times.

    Attributes:
        unit: so many columns, at the end maybe fewer, stay together.
        count: how many such units there are.
    """

    def __init__(self, matrix: Array, rows: int | None = None) -> None:
        depth, columns = matrix.shape
        self._columns, self.unit = columns, 1
        self._whole: Array | None = None
        self._blocks: list[tuple[int, Array]] = []  # with the number of the first unit
        if in_pieces(matrix.dtype) and (rows is None or rows >= _WORTHWHILE):
            most = max(1, _BLOCK // max(1, depth) // _COLUMNS) * _COLUMNS
            self.unit = _evenly(columns, most, _COLUMNS) if columns > _COLUMNS else columns
            for part, unit in _cuts(columns, self.unit):
                blocks = np.empty(((part.stop - part.start) // unit, depth, unit), matrix.dtype)
                blocks[...] = matrix[:, part].reshape(depth, -1, unit).transpose(1, 0, 2)
                self._blocks.append((part.start // self.unit, blocks))
        else:
            self._whole = np.ascontiguousarray(matrix) if rows is None else matrix
        self.count = math.ceil(columns / self.unit)

    def columns(self, units: slice) -> slice:
        """Return which columns some units are."""
        return slice(units.start * self.unit, min(units.stop * self.unit, self._columns))

    def multiply(
        self,
        rows: Array,
        out: Array,
        units: slice | None = None,
        depth: slice = slice(None),
        calls: Calls = HERE,
    ) -> None:
        """Write ``rows @ matrix`` to ``out``.

        Args:
            rows: ``(M, K)`` in any layout.
            out: ``(M, N)``; each row lies side by side.
            units: only the columns of these.
            depth: only the rows of the matrix that these are.
            calls: what the product is one of.
        """
        units = slice(0, self.count) if units is None else units
        if self._whole is not None:
            calls.do(np.matmul, rows, self._whole[depth, units], out=out)
            return
        column = 0
        for first, blocks in self._blocks:
            some = blocks[max(0, units.start - first) : max(0, units.stop - first), depth]
            if some.size == 0 or len(rows) == 0:
                continue
            count, k, width = some.shape
            most = max(1, _MOST // (k * width * _ROWS)) * _ROWS
            target = out[:, column : column + count * width]
            column += count * width
            for part, size in _cuts(len(rows), _evenly(len(rows), min(most, _MANY_ROWS), _ROWS)):
                pieces = target[part].reshape(-1, size, count, width).transpose(0, 2, 1, 3)
                calls.do(np.matmul, rows[part].reshape(-1, 1, size, k), some, out=pieces)


def multiply_transposed(a: Array, b: Array, out: Array) -> None:
    """Write ``a.T @ b`` to ``out``, for long matrices ``(K, M)`` and ``(K, N)``."""
    depth, m = a.shape
    n = b.shape[1]
    if not in_pieces(a.dtype) or depth * m * n <= _MOST:
        np.matmul(a.T, b, out=out)
        return
    most = _MOST // (min(m, _COLUMNS) * min(n, _COLUMNS))
    along = _cuts(depth, math.ceil(depth / math.ceil(depth / most)))
    parts = sum((part.stop - part.start) // size for part, size in along)
    sums = out[None] if parts == 1 else empty((parts, m, n), out.dtype)
    first = 0
    for part, size in along:
        count = (part.stop - part.start) // size
        target = sums[first : first + count]
        first += count
        for rows, height in _cuts(m, min(m, _COLUMNS)):
            left = a[part, rows].reshape(count, size, -1, 1, height).transpose(0, 2, 3, 4, 1)
            for columns, width in _cuts(n, min(n, _COLUMNS)):
                right = b[part, columns].reshape(count, size, 1, -1, width).transpose(0, 2, 3, 1, 4)
                pieces = target[:, rows, columns].reshape(count, -1, height, right.shape[2], width)
                np.matmul(left, right, out=pieces.transpose(0, 1, 3, 2, 4))
    if parts > 1:
        np.add.reduce(sums, axis=0, out=out)
