"""Softmax and cross entropy in one pass over the rows; see the NumPy backend."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._formula import vector_exp
from lucid.kernels.numba._native import (
    WIDTH,
    address,
    bits_to_float,
    empty,
    float_bits,
    floats,
    kernel,
    words,
)
from lucid.kernels.numba._softmax import log_softmax_row
from lucid.kernels.numba._vector import load, spread, store, total
from lucid.kernels.numpy import _loss as reference

Array = np.ndarray

# Logits worth a chunk: some 10 µs.
_WORTH = 1 << 14


@kernel
def cross_entropy_rows(args, chunk, thread):
    """Some rows of logarithms of probabilities, and their losses."""
    x, log_p, losses, rows, columns, chunks = (
        args[0], args[1], floats(args[2]), args[3], args[4], args[5]
    )  # fmt: skip
    target, weight, smoothing = words(args[6]), args[7], bits_to_float(args[8])
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        out = log_p + row * columns * 4
        log_softmax_row(x + row * columns * 4, out, columns)
        label = target[row]
        if label < 0:
            losses[row] = np.float32(0)
            continue
        loss = -floats(out)[label]
        if weight != 0:
            loss *= floats(weight)[label]
        if args[8] != 0:
            sums = spread(np.float32(0))
            for i in range(0, columns, WIDTH):
                value = load(out + i * 4, columns - i)
                if weight != 0:
                    value = value * load(weight + i * 4, columns - i)
                sums = sums + value
            loss = loss * (np.float32(1) - smoothing) - smoothing / np.float32(columns) * total(
                sums
            )
        losses[row] = loss


@kernel
def cross_entropy_grad_rows(args, chunk, thread):
    """Some rows of ``grad · (e^log_p · sum(t) - t)``, t the smoothed and weighted targets."""
    grad, log_p, out, rows, columns, chunks = (
        floats(args[0]), args[1], args[2], args[3], args[4], args[5]
    )  # fmt: skip
    target, weight, smoothing = words(args[6]), args[7], bits_to_float(args[8])
    weights = bits_to_float(args[9])  # what the smoothing is shared by: their sum or number
    for row in range(rows * chunk // chunks, rows * (chunk + 1) // chunks):
        label = target[row]
        offset = row * columns * 4
        slope = grad[row] if label >= 0 else np.float32(0)
        hit = np.float32(0)
        if label >= 0:
            hit = (np.float32(1) - smoothing) * slope
            if weight != 0:
                hit *= floats(weight)[label]
        share = smoothing / np.float32(columns) * slope
        factor, spreading = spread(hit + share * weights), spread(share)
        for i in range(0, columns, WIDTH):
            at, rest = offset + i * 4, columns - i
            value = vector_exp(load(log_p + at, rest)) * factor
            if args[8] != 0:
                if weight != 0:
                    value = value - spreading * load(weight + i * 4, rest)
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


def cross_entropy(
    x: Array, target: Array, weight: Array | None, smoothing: float
) -> tuple[Array, Array]:
    """Return the losses ``(M,)`` of logits ``(M, C)``, and the logarithms of the probabilities."""
    if not _is_fast(x, target, weight):
        return reference.cross_entropy(x, target, weight, smoothing)
    target = np.ascontiguousarray(target, np.int64)
    weight = None if weight is None else np.ascontiguousarray(weight)
    losses, log_p = empty((len(x),)), empty(x.shape)
    chunks = max(1, min(len(x), _threads.MAX_CHUNKS, x.size // _WORTH))
    _threads.run(
        _threads.plan(
            (
                cross_entropy_rows.address,
                chunks,
                address(x),
                address(log_p),
                address(losses),
                *x.shape,
                chunks,
                address(target),
                0 if weight is None else address(weight),
                float_bits(smoothing),
            )
        )
    )
    return losses, log_p


def cross_entropy_grad(
    grad: Array, log_p: Array, target: Array, weight: Array | None, smoothing: float
) -> Array:
    """Return the gradient with respect to the logits, given that of the losses, ``(M,)``."""
    if grad.dtype != np.float32 or not _is_fast(log_p, target, weight):
        return reference.cross_entropy_grad(grad, log_p, target, weight, smoothing)
    grad, target = np.ascontiguousarray(grad), np.ascontiguousarray(target, np.int64)
    weight = None if weight is None else np.ascontiguousarray(weight)
    weights = float(log_p.shape[1] if weight is None else weight.sum()) if smoothing else 0.0
    out = empty(log_p.shape)
    chunks = max(1, min(len(log_p), _threads.MAX_CHUNKS, log_p.size // _WORTH))
    _threads.run(
        _threads.plan(
            (
                cross_entropy_grad_rows.address,
                chunks,
                address(grad),
                address(log_p),
                address(out),
                *log_p.shape,
                chunks,
                address(target),
                0 if weight is None else address(weight),
                float_bits(smoothing),
                float_bits(weights),
            )
        )
    )
    return out
