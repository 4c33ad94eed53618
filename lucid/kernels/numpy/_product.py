"""Products of matrices, on lucid's threads rather than BLAS's where there is something to divide.

OpenBLAS's threads look for more work for 26 ms after each product and keep the kernels that come
next from the cores: the three products of a classifier cost a training step of
mobilenetv4_conv_small 75 ms of processor time.
"""

from __future__ import annotations

import math

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._threads import ELEMENT, in_parts

Array = np.ndarray

# Multiply-adds up to which OpenBLAS itself stays on one thread.
_SMALL = 1 << 18


@in_float32
def matmul(a: Array, b: Array) -> Array:
    """Return the products of matrices ``(…, m, k)`` and ``(…, k, n)``; leading axes broadcast."""
    leading: tuple[int, ...] = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = leading + a.shape[-2:-1] + b.shape[-1:]
    work = math.prod(shape) * a.shape[-1]
    if work <= _SMALL:
        product: Array = np.matmul(a, b)
        return product
    out = empty(shape, np.result_type(a, b))
    target = out
    while target.ndim > 2 and len(target) == 1:
        target = target[0]
        a, b = (m[0] if m.ndim > target.ndim else m for m in (a, b))
    # Divided by the rows of one product, by its columns, or by the first of the leading axes.
    a, b = (np.expand_dims(m, tuple(range(target.ndim - m.ndim))) for m in (a, b))
    first, is_row = len(target), target.ndim == 2 and len(target) == 1
    a_is_shared, b_is_shared = len(a) < first, target.ndim == 2 or len(b) < first

    def part(some: slice) -> None:
        if is_row:
            np.matmul(a, b[:, some], out=target[:, some])
        else:
            np.matmul(
                a if a_is_shared else a[some], b if b_is_shared else b[some], out=target[some]
            )

    in_parts(part, target.shape[1] if is_row else first, work // ELEMENT)
    return out


@in_float32
def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``x @ weight.T + bias``.

    Args:
        x: ``(M, K)``.
        weight: ``(O, K)``.
        bias: ``(O,)`` or None.
    """
    y = matmul(x, weight.T)
    if bias is not None:
        y += bias
    return y
