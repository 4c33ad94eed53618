"""Products of matrices."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def matmul(a: Array, b: Array) -> Array:
    """Return the products of matrices ``(…, m, k)`` and ``(…, k, n)``; leading axes broadcast."""
    product: Array = np.matmul(a, b)
    return product


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``x @ weight.T + bias``.

    Args:
        x: ``(M, K)``.
        weight: ``(O, K)``.
        bias: ``(O,)`` or None.
    """
    y: Array = x @ weight.T
    if bias is not None:
        y += bias
    return y
