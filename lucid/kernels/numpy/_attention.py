"""Attention prepared for many calls on inputs of one shape, and between the positions of maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.numpy._calls import Calls
from lucid.kernels.numpy._steps import Step
from lucid.kernels.numpy._threads import ELEMENT, images_in_parts
from lucid.kernels.prepared import Prepared

Array = np.ndarray

# Steps of an element-wise function that take as long as softmax, for a score.
_SOFTMAX = 4


def prepare_attention(
    q_shape: tuple[int, ...],
    k_shape: tuple[int, ...],
    v_shape: tuple[int, ...],
    scale: float,
    dtype: np.dtype,
) -> Prepared:
    """Return a step ``run(out, q, k, v)``.

    It writes ``softmax(scale · q·kᵀ)·v`` into ``out``, which is C-contiguous and overlaps none of
    the others. Their layout may be any.

    Args:
        q_shape: ``(…, L, E)``.
        k_shape: ``(…, S, E)``; the leading axes of all three broadcast.
        v_shape: ``(…, S, V)``.
        scale: factor of the scores.
        dtype: of all arrays.
    """
    lead = np.broadcast_shapes(q_shape[:-2], k_shape[:-2])
    scores = empty((*lead, q_shape[-2], k_shape[-2]), dtype)
    row = empty((*lead, q_shape[-2], 1), dtype)

    def issue(calls: Calls, out: Array, q: Array, k: Array, v: Array) -> None:
        def some_rows(part: slice) -> None:
            some, sums = scores[..., part, :], row[..., part, :]
            calls.do(np.matmul, q[..., part, :], k.swapaxes(-1, -2), out=some)
            calls.do(np.multiply, some, scale, out=some)
            calls.do(np.max, some, axis=-1, keepdims=True, out=sums)
            calls.do(np.subtract, some, sums, out=some)
            calls.do(np.exp, some, out=some)
            calls.do(np.sum, some, axis=-1, keepdims=True, out=sums)
            calls.do(np.divide, some, sums, out=some)
            calls.do(np.matmul, some, v, out=out[..., part, :])

        products = scores.size * (q.shape[-1] + v.shape[-1]) // ELEMENT
        calls.divide(some_rows, q.shape[-2], products + _SOFTMAX * scores.size)

    return Step(issue, in_any_layout=True)


def keep_attention(heads: int, scale: float) -> Callable[..., Array]:
    """Return a function of maps ``q`` ``(N, H, W, heads·E)``, ``k`` ``(N, h, w, E)``, ``v``.

    Each position's queries attend to all positions of ``k``, which all heads share: the result
    ``(N, H, W, heads·V)`` is ``softmax(scale · q·kᵀ)·v``.

    Args:
        heads: how many queries a position has.
        scale: factor of the scores.
    """

    def run(q: Array, k: Array, v: Array) -> Array:
        n, height, width, _ = q.shape
        keys, values = k.reshape(n, -1, k.shape[3]), v.reshape(n, -1, v.shape[3])
        rows = q.reshape(n, height * width * heads, keys.shape[2])
        out = empty((*rows.shape[:2], values.shape[2]), q.dtype)

        def part(images: slice) -> None:
            a, b, c = rows[images], keys[images], values[images]
            prepare_attention(a.shape, b.shape, c.shape, scale, q.dtype)(out[images], a, b, c)

        images_in_parts(part, n, out.size * 2 * keys.shape[1] // ELEMENT)
        return out.reshape(n, height, width, -1)

    return run
