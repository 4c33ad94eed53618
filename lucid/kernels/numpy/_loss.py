"""Softmax and cross entropy in one."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._softmax import log_softmax
from lucid.kernels.numpy._sums import sums

Array = np.ndarray


@in_float32
def cross_entropy(
    x: Array, target: Array, weight: Array | None, smoothing: float
) -> tuple[Array, Array]:
    """Return the losses ``(M,)`` of logits ``(M, C)``, and the logarithms of the probabilities.

    Args:
        x: logits ``(M, C)``.
        target: the true class of each row, ``(M,)``; a row with -1 is left out: its loss is 0.
        weight: one a class, ``(C,)``, or None for 1.
        smoothing: that share of the target is spread evenly over all classes.
    """
    log_p = log_softmax(x, 1)
    rows = np.flatnonzero(target >= 0)
    loss = np.zeros(len(target), x.dtype)
    hit = -log_p[rows, target[rows]]
    if weight is not None:
        hit *= weight[target[rows]]
    if smoothing:
        spread = log_p if weight is None else log_p * weight
        hit *= 1 - smoothing
        hit -= np.asarray(smoothing / x.shape[1] * sums(spread[rows], (1,)), x.dtype)
    loss[rows] = hit
    return loss, log_p


@in_float32
def cross_entropy_grad(
    grad: Array, log_p: Array, target: Array, weight: Array | None, smoothing: float
) -> Array:
    """Return the gradient with respect to the logits, given that of the losses, ``(M,)``."""
    classes = log_p.shape[1]
    kept = target >= 0
    rows = np.flatnonzero(kept)
    grad = np.where(kept, grad, grad.dtype.type(0))
    hit = (1 - smoothing) * grad[rows]
    if weight is not None:
        hit *= weight[target[rows]]
    # The loss of a row is -sum(t * log p), so its gradient is p * sum(t) - t.
    total = np.zeros_like(grad)
    total[rows] = hit
    if smoothing:
        spread = smoothing / classes * grad
        total += spread * (classes if weight is None else weight.sum())
    result: Array = np.exp(log_p)
    result *= total[:, None]
    if smoothing:
        result -= spread[:, None] * (np.ones(1, grad.dtype) if weight is None else weight)
    result[rows, target[rows]] -= hit
    return result
