"""Batch normalisation over rows ``(M, C)`` (Ioffe & Szegedy 2015): statistics, value, gradient.

Rows are worked through in blocks that stay in a core's cache, so that each pass reads the
activation from memory once however many steps it takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lucid.kernels._memory import empty, empty_like
from lucid.kernels.numpy._threads import in_parts, sum_parts

# Floats in a block: half a MiB, so that a block and its scratch copy fit the second-level cache.
_BLOCK = 1 << 17


def _blocks(x: np.ndarray, part: slice) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, x.shape[1]))
    for start in range(part.start, part.stop, rows):
        yield slice(start, min(start + rows, part.stop))


def _scratch(x: np.ndarray) -> np.ndarray:
    return empty((min(len(x), max(1, _BLOCK // max(1, x.shape[1]))), x.shape[1]), x.dtype)


# Rows that are summed in the array's own precision; longer sums continue in float64. One float32
# sum over a block loses three bits more, which deep networks then multiply.
_GROUP = 64


def _column_sums(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Return the column sums of ``a``, or of ``a * b``, ``(M, C)``, in float64."""
    whole = len(a) // _GROUP * _GROUP
    total = np.zeros(a.shape[1])
    for rows, shape in (
        (slice(0, whole), (-1, _GROUP, a.shape[1])),
        (slice(whole, None), (1, -1, a.shape[1])),
    ):
        part = a[rows].reshape(shape)
        if part.size == 0:
            continue
        if b is None:
            sums = part.sum(axis=1)
        else:
            sums = np.einsum("gmc,gmc->gc", part, b[rows].reshape(shape))
        total += sums.sum(axis=0, dtype=np.float64)
    return total


def batch_norm_stats(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each column of ``x`` ``(M, C)``, in float64.

    One pass: sums of ``x - pivot`` and of its square, with the first block's mean as the pivot,
    so that nothing cancels where the mean is large against the deviation.
    """
    rows = len(x)
    pivot = x[: max(1, _BLOCK // max(1, x.shape[1]))].mean(axis=0, dtype=np.float64)
    pivot = pivot.astype(x.dtype)

    def sums(part: slice) -> np.ndarray:
        total = np.zeros((2, x.shape[1]))
        scratch = _scratch(x)
        for block in _blocks(x, part):
            centred = np.subtract(x[block], pivot, out=scratch[: len(x[block])])
            total[0] += _column_sums(centred)
            total[1] += _column_sums(centred, centred)
        return total

    shift, squares = sum_parts(in_parts(sums, rows, x.size)) / rows
    return pivot + shift, np.maximum(squares - shift * shift, 0)


def scale_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return ``x * scale + shift`` for rows ``(M, C)`` and columns' factors ``(C,)``."""
    y = empty_like(x)

    def rows(part: slice) -> None:
        for block in _blocks(x, part):
            np.multiply(x[block], scale, out=y[block])
            y[block] += shift

    in_parts(rows, len(x), x.size)
    return y


def batch_norm_grad(
    grad: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    weight: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of ``x``, of the weight and of the bias in training mode.

    With ``xhat = (x - mean) * inverse_std``: ``dbias = sum(grad)``, ``dweight = sum(grad * xhat)``,
    ``dx = weight * inverse_std * (grad - dbias / M - xhat * dweight / M)``.
    """

    def sums(part: slice) -> np.ndarray:
        total = np.zeros((2, x.shape[1]))
        scratch = _scratch(x)
        for block in _blocks(x, part):
            centred = np.subtract(x[block], mean, out=scratch[: len(x[block])])
            total[0] += _column_sums(grad[block])
            total[1] += _column_sums(grad[block], centred)
        return total

    dbias, dweight = sum_parts(in_parts(sums, len(x), x.size))
    dweight *= inverse_std
    # dx = a * grad + b * (x - mean) + c, column by column
    factor = inverse_std if weight is None else inverse_std * weight
    a = np.asarray(factor, x.dtype)
    b = (-factor * inverse_std * dweight / len(x)).astype(x.dtype)
    c = (-factor * dbias / len(x)).astype(x.dtype)
    gx = empty_like(x)

    def rows(part: slice) -> None:
        scratch = _scratch(x)
        for block in _blocks(x, part):
            centred = np.subtract(x[block], mean, out=scratch[: len(x[block])])
            centred *= b
            centred += c
            np.multiply(grad[block], a, out=gx[block])
            gx[block] += centred

    in_parts(rows, len(x), x.size)
    return gx, dweight.astype(x.dtype), dbias.astype(x.dtype)
