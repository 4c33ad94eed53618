"""Softmax and cross entropy in one pass over the rows; see the NumPy backend."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba._softmax import WORTH, log_softmax_row
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._formula import vector_exp
from lucid.kernels.numba.machine._native import (
    FLOAT,
    WIDTH,
    bits_to_float,
    empty,
    floats,
    kernel,
    share,
    words,
)
from lucid.kernels.numba.machine._vector import load, spread, store, total
from lucid.kernels.numpy import _loss as reference

Array = np.ndarray


@kernel
def cross_entropy_rows(
    chunk, thread, rows, columns, chunks, x, log_p, losses, target, weight, smoothing
):
    """Some rows of logarithms of probabilities, and their losses."""
    share_of_all = bits_to_float(smoothing)
    start, stop = share(rows, chunk, chunks)
    for row in range(start, stop):
        out = log_p + row * columns * FLOAT
        log_softmax_row(x + row * columns * FLOAT, out, columns)
        label = words(target)[row]
        if label < 0:
            floats(losses)[row] = np.float32(0)
            continue
        loss = -floats(out)[label]
        if weight != 0:
            loss *= floats(weight)[label]
        if smoothing != 0:
            sums = spread(np.float32(0))
            for i in range(0, columns, WIDTH):
                value = load(out + i * FLOAT, columns - i)
                if weight != 0:
                    value = value * load(weight + i * FLOAT, columns - i)
                sums = sums + value
            loss *= np.float32(1) - share_of_all
            loss -= share_of_all / np.float32(columns) * total(sums)
        floats(losses)[row] = loss


@kernel
def cross_entropy_grad_rows(
    chunk, thread, rows, columns, chunks, grad, log_p, out, target, weight, smoothing, weights
):
    """Some rows of ``grad · (e^log_p · sum(t) - t)``, t the smoothed and weighted targets.

    ``weights`` is what the smoothing is shared by: their sum or number.
    """
    share_of_all = bits_to_float(smoothing)
    start, stop = share(rows, chunk, chunks)
    for row in range(start, stop):
        label = words(target)[row]
        offset = row * columns * FLOAT
        slope = floats(grad)[row] if label >= 0 else np.float32(0)
        hit = np.float32(0)
        if label >= 0:
            hit = (np.float32(1) - share_of_all) * slope
            if weight != 0:
                hit *= floats(weight)[label]
        even = share_of_all / np.float32(columns) * slope
        factor, spreading = spread(hit + even * bits_to_float(weights)), spread(even)
        for i in range(0, columns, WIDTH):
            at, rest = offset + i * FLOAT, columns - i
            value = vector_exp(load(log_p + at, rest)) * factor
            if smoothing != 0:
                if weight != 0:
                    value = value - spreading * load(weight + i * FLOAT, rest)
                else:
                    value = value - spreading
            store(out + at, value, rest)
        if label >= 0:
            floats(out + offset)[label] -= hit


def _is_fast(x: Array, target: Array, weight: Array | None) -> bool:
    if x.dtype != np.float32 or x.size == 0 or not x.flags.c_contiguous:
        return False
    if weight is not None and weight.dtype != np.float32:
        return False
    return bool(target.max() < x.shape[1])  # if not, NumPy raises


@accelerates(reference.cross_entropy)
def cross_entropy(
    x: Array, target: Array, weight: Array | None, smoothing: float
) -> tuple[Array, Array]:
    if not _is_fast(x, target, weight):
        return NotImplemented
    target = np.ascontiguousarray(target, np.int64)
    weight = None if weight is None else np.ascontiguousarray(weight)
    losses, log_p = empty((len(x),)), empty(x.shape)
    _threads.launch(
        cross_entropy_rows.pack(
            _threads.chunks_of(x.size, WORTH, len(x)),
            rows=len(x),
            columns=x.shape[1],
            x=x,
            log_p=log_p,
            losses=losses,
            target=target,
            weight=weight,
            smoothing=float(smoothing),
        )
    )
    return losses, log_p


@accelerates(reference.cross_entropy_grad)
def cross_entropy_grad(
    grad: Array, log_p: Array, target: Array, weight: Array | None, smoothing: float
) -> Array:
    if grad.dtype != np.float32 or not _is_fast(log_p, target, weight):
        return NotImplemented
    grad, target = np.ascontiguousarray(grad), np.ascontiguousarray(target, np.int64)
    weight = None if weight is None else np.ascontiguousarray(weight)
    weights = float(log_p.shape[1] if weight is None else weight.sum()) if smoothing else 0.0
    out = empty(log_p.shape)
    _threads.launch(
        cross_entropy_grad_rows.pack(
            _threads.chunks_of(log_p.size, WORTH, len(log_p)),
            rows=len(log_p),
            columns=log_p.shape[1],
            grad=grad,
            log_p=log_p,
            out=out,
            target=target,
            weight=weight,
            smoothing=float(smoothing),
            weights=weights,
        )
    )
    return out
