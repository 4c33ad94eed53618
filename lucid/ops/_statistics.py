"""Statistics of several variables: covariance and correlation."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.ops._common import operand, promoted, with_axes
from lucid.ops._diagonal import diag
from lucid.ops._elementwise import clamp, sqrt
from lucid.ops._matmul import matmul
from lucid.ops._reduce import sum as total
from lucid.ops._shape import squeeze

__all__ = ["corrcoef", "cov"]


def _weights(weights: Any, count: int, kinds: str, name: str) -> Tensor | None:
    if weights is None:
        return None
    w = operand(weights, "cov")
    if w.shape != (count,) or w.data.dtype.kind not in kinds or (w.data < 0).any():
        kind = "floating-point numbers" if kinds == "f" else "integers"
        raise ValueError(
            f"cov: {name} must be {count} {kind} of at least 0, one an observation; got shape "
            f"{w.shape} of {w.dtype}"
        )
    return w


def cov(input: Any, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """Return the covariances of variables, each a row of observations; a vector is one row.

    The divisor is their number less ``correction``. ``fweights`` is how often each observation was
    made, in integers; ``aweights`` how much it counts, in floating-point numbers.
    """
    input = with_axes(input, "cov", 0, 2)
    if input.dtype == np.bool_:
        raise TypeError("cov: expected numbers, got booleans; use astype()")
    x = input.reshape(1, -1) if input.ndim < 2 else input
    count: Any = x.shape[1]
    often = _weights(fweights, count, "iu", "fweights")
    much = _weights(aweights, count, "f", "aweights")
    if much is not None:
        x, much = promoted("cov", x, much)
    w = much if often is None else often if much is None else often * much
    divisor: Any = wrap(np.array(count - correction, np.float32))
    if w is not None:
        count = total(w)
        if count.item() == 0:
            raise ValueError("cov: the weights add up to 0")
        reliable = total(w * much) / count if much is not None and correction else 1
        divisor = count - correction * reliable
    x = x - (total(x if w is None else x * w, 1) / count)[:, None]
    products = matmul(x, (x if w is None else x * w).T)
    return squeeze(products / clamp(divisor, 0))


def corrcoef(input: Any) -> Tensor:
    """Return the correlations of variables: their :func:`cov` by the standard deviations."""
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviations = sqrt(diag(c))
    return clamp(c / deviations[:, None] / deviations, -1, 1)
