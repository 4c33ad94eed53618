"""Batch normalisation over rows ``(M, C)`` (Ioffe & Szegedy 2015): statistics, value, gradient.

Rows are worked through in blocks that stay in a core's cache, so that each pass reads the
activation from memory once however many steps it takes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lucid.kernels._memory import empty, empty_like
from lucid.kernels.exchange import Exchange, sums_of_all
from lucid.kernels.numpy._rows import Rows
from lucid.kernels.numpy._threads import in_parts


def batch_norm_stats(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each column of ``x`` ``(M, C)``, in float64.

    One pass: sums of ``x - pivot`` and of its square, with some rows' mean as the pivot, so that
    nothing cancels where the mean is large against the deviation.
    """
    count = len(x)
    rows = Rows(*x.shape)
    pivot = x[:: max(1, count // 256)].mean(axis=0, dtype=np.float64).astype(x.dtype)
    wide, pivots = rows.wide(x), rows.repeat(pivot)

    def centred(block: slice) -> tuple[np.ndarray, np.ndarray]:
        values = np.subtract(wide[block], pivots, out=empty_like(wide[block]))
        return values, values

    shift, squares = rows.sums(centred, x.size, x.dtype) / count
    return pivot + shift, np.maximum(squares - shift * shift, 0)


def scale_shift(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return ``x * scale + shift`` for rows ``(M, C)`` and columns' factors ``(C,)``."""
    y = empty(x.shape, x.dtype)
    rows = Rows(*x.shape)
    wide, out = rows.wide(x), rows.wide(y)
    scale, shift = rows.repeat(scale), rows.repeat(shift)

    def part(part: slice) -> None:
        for block in rows.blocks(part):
            np.multiply(wide[block], scale, out=out[block])
            out[block] += shift

    in_parts(part, rows.wide_count, x.size)
    return y


def keep_affine(scale: np.ndarray, shift: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of images ``(N, H, W, C)`` that writes ``x * scale + shift``.

    Args:
        scale: a factor for each channel.
        shift: a summand.
    """

    def run(x: np.ndarray) -> np.ndarray:
        return scale_shift(x.reshape(-1, x.shape[3]), scale, shift).reshape(x.shape)

    return run


def batch_norm_grad(
    grad: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    weight: np.ndarray | None,
    exchange: Exchange | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of ``x``, of the weight and of the bias in training mode.

    With ``xhat = (x - mean) * inverse_std``: ``dbias = sum(grad)``, ``dweight = sum(grad * xhat)``,
    ``dx = weight * inverse_std * (grad - dbias / M - xhat * dweight / M)``. With an exchange the
    sums in ``dx`` are those of all parts, as mean and deviation are; the results are this part's.
    """
    rows = Rows(*x.shape)
    wide_x, wide_grad, means = rows.wide(x), rows.wide(grad), rows.repeat(mean)

    def pair(block: slice) -> tuple[np.ndarray, np.ndarray]:
        return wide_grad[block], np.subtract(wide_x[block], means, out=empty_like(wide_x[block]))

    dbias, dweight = rows.sums(pair, x.size, x.dtype)
    dweight *= inverse_std
    weight_sum, bias_sum, count = sums_of_all(exchange, dweight, dbias, len(x))
    # dx = a * grad + b * (x - mean) + c, column by column
    factor = inverse_std if weight is None else inverse_std * weight
    a = rows.repeat(np.asarray(factor, x.dtype))
    b = rows.repeat((-factor * inverse_std * weight_sum / count).astype(x.dtype))
    c = rows.repeat((-factor * bias_sum / count).astype(x.dtype))
    gx = empty(x.shape, x.dtype)
    wide_gx = rows.wide(gx)

    def gradient(part: slice) -> None:
        scratch = rows.scratch(x.dtype)
        for block in rows.blocks(part):
            centred = np.subtract(wide_x[block], means, out=scratch[: len(wide_x[block])])
            centred *= b
            centred += c
            np.multiply(wide_grad[block], a, out=wide_gx[block])
            wide_gx[block] += centred

    in_parts(gradient, rows.wide_count, x.size)
    return gx, dweight.astype(x.dtype), dbias.astype(x.dtype)
