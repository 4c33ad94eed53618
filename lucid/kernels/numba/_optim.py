"""Optimiser updates: all parameters in one launch, and one pass over memory; see the NumPy backend.

A table has a row for each parameter: where it, its gradient and its state lie. All their elements
together are cut into equal chunks, so that many small parameters cost no more than one large one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    WIDTH,
    address,
    bits_to_float,
    float_bits,
    kernel,
    words,
)
from lucid.kernels.numba.machine._vector import load, maximum, maximum_or_nan, root, spread, store
from lucid.kernels.numpy import _optim as reference

Array = np.ndarray

# Elements worth a chunk: some 10 µs.
_WORTH = 1 << 14

# A row of the table: the number of its first element, how many it has, two numbers of its own,
# and addresses: the parameter, its gradient, its state.
_ENTRY = 9
_FIRST, _SIZE, _STEP, _CORRECTION, _PARAM, _GRAD, _STATE = range(7)

# What every update reads from its row of arguments.
_TABLE, _PARAMS, _TOTAL, _CHUNKS, _DECAY, _MAXIMIZE, _SETTINGS = range(7)


@njit
def _row_of(table, rows, element):
    """The row of the table that has an element."""
    low, high = 0, rows
    while high - low > 1:
        middle = (low + high) // 2
        if words(table + middle * _ENTRY * 8)[_FIRST] <= element:
            low = middle
        else:
            high = middle
    return low


@njit
def _start(args, chunk):
    """The first element of a chunk, its row, and where the chunk ends."""
    total, chunks = args[_TOTAL], args[_CHUNKS]
    first = total * chunk // chunks
    return first, _row_of(args[_TABLE], args[_PARAMS], first), total * (chunk + 1) // chunks


@njit
def _piece(args, row, element, stop):
    """The row, the bytes before ``element`` in it, and how many elements of the chunk it has."""
    entry = words(args[_TABLE] + row * _ENTRY * 8)
    skip = element - entry[_FIRST]
    return entry, skip * 4, min(stop - element, entry[_SIZE] - skip)


@njit
def _setting(args, index):
    return spread(bits_to_float(args[_SETTINGS + index]))


@njit
def _descent(args, grad, param):
    """``±grad + weight_decay · param``."""
    if args[_MAXIMIZE] != 0:
        grad = spread(np.float32(0)) - grad
    if args[_DECAY] != 0:
        grad = grad + spread(bits_to_float(args[_DECAY])) * param
    return grad


@kernel
def sgd(args, chunk, thread):
    """One chunk of a step of gradient descent with momentum."""
    lr, momentum, fresh = _setting(args, 0), _setting(args, 1), _setting(args, 2)
    buffered, nesterov, first = args[_SETTINGS + 3], args[_SETTINGS + 4], args[_SETTINGS + 5]
    element, row, stop = _start(args, chunk)
    while element < stop:
        entry, skip, count = _piece(args, row, element, stop)
        p_at, g_at = entry[_PARAM] + skip, entry[_GRAD] + skip
        buffer_at = entry[_STATE] + skip
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(args, load(g_at + at, rest), p)
            if buffered == 0:
                store(p_at + at, p - g * lr, rest)
                continue
            buffer = g
            if first == 0:
                buffer = load(buffer_at + at, rest) * momentum + g * fresh
            store(buffer_at + at, buffer, rest)
            step = g + buffer * momentum if nesterov != 0 else buffer
            store(p_at + at, p - step * lr, rest)
        element += count
        row += 1


@kernel
def adam(args, chunk, thread):
    """One chunk of a step of Adam, AMSGrad or AdamW."""
    fresh1, beta2, fresh2 = _setting(args, 0), _setting(args, 1), _setting(args, 2)
    eps, shrink, amsgrad = _setting(args, 3), _setting(args, 4), args[_SETTINGS + 5]
    shrinking = args[_SETTINGS + 6]
    element, row, stop = _start(args, chunk)
    while element < stop:
        entry, skip, count = _piece(args, row, element, stop)
        p_at, g_at = entry[_PARAM] + skip, entry[_GRAD] + skip
        mean_at, square_at = entry[_STATE] + skip, entry[_STATE + 1] + skip
        largest_at = entry[_STATE + 2] + skip
        step_size = spread(bits_to_float(entry[_STEP]))
        correction = spread(bits_to_float(entry[_CORRECTION]))
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            if shrinking != 0:
                p = p * shrink
            g = _descent(args, load(g_at + at, rest), p)
            mean = load(mean_at + at, rest)
            mean = mean + (g - mean) * fresh1
            square = load(square_at + at, rest) * beta2 + g * fresh2 * g
            store(mean_at + at, mean, rest)
            store(square_at + at, square, rest)
            if amsgrad != 0:
                square = maximum_or_nan(square, load(largest_at + at, rest))
                store(largest_at + at, square, rest)
            step = mean / (root(square) / correction + eps)
            store(p_at + at, p - step * step_size, rest)
        element += count
        row += 1


@kernel
def rmsprop(args, chunk, thread):
    """One chunk of a step of RMSprop."""
    lr, alpha, fresh, eps = (
        _setting(args, 0), _setting(args, 1), _setting(args, 2), _setting(args, 3)
    )  # fmt: skip
    momentum, centred, buffered = _setting(args, 4), args[_SETTINGS + 5], args[_SETTINGS + 6]
    element, row, stop = _start(args, chunk)
    while element < stop:
        entry, skip, count = _piece(args, row, element, stop)
        p_at, g_at = entry[_PARAM] + skip, entry[_GRAD] + skip
        square_at = entry[_STATE] + skip
        mean_at, buffer_at = entry[_STATE + 1] + skip, entry[_STATE + 2] + skip
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(args, load(g_at + at, rest), p)
            square = load(square_at + at, rest) * alpha + g * fresh * g
            store(square_at + at, square, rest)
            if centred != 0:
                mean = load(mean_at + at, rest)
                mean = mean + (g - mean) * fresh
                store(mean_at + at, mean, rest)
                # A variance; rounding must not make it negative, or the root is NaN.
                square = maximum(square - mean * mean, spread(np.float32(0)))
            step = g / (root(square) + eps)
            if buffered != 0:
                step = load(buffer_at + at, rest) * momentum + step
                store(buffer_at + at, step, rest)
            store(p_at + at, p - step * lr, rest)
        element += count
        row += 1


@kernel
def adagrad(args, chunk, thread):
    """One chunk of a step of Adagrad."""
    eps = _setting(args, 0)
    element, row, stop = _start(args, chunk)
    while element < stop:
        entry, skip, count = _piece(args, row, element, stop)
        p_at, g_at = entry[_PARAM] + skip, entry[_GRAD] + skip
        total_at = entry[_STATE] + skip
        step_size = spread(bits_to_float(entry[_STEP]))
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(args, load(g_at + at, rest), p)
            total = load(total_at + at, rest) + g * g
            store(total_at + at, total, rest)
            store(p_at + at, p - g / (root(total) + eps) * step_size, rest)
        element += count
        row += 1


# -- tables ---------------------------------------------------------------------------------------


_FLOAT32 = np.dtype(np.float32)


def _is_fast(array: Array) -> bool:
    return array.dtype == _FLOAT32 and array.flags.c_contiguous


def _update(
    function: int,
    params: Sequence[Array],
    grads: Sequence[Array],
    states: Sequence[Sequence[Array] | None],
    steps: Sequence[int] | None,
    numbers: Callable[[int], tuple[float, float]],
    settings: Sequence[int],
    weight_decay: float,
    maximize: bool,
) -> list[int]:
    """Run an update, and return the numbers of the parameters that it cannot do.

    ``numbers`` gives a parameter's own two numbers, from the count of its steps.
    """
    bits = functools.cache(lambda step: tuple(map(float_bits, numbers(step))))
    rows, others, alive = [], [], []
    first = 0
    for index, param in enumerate(params):
        grad = grads[index]
        state = [arrays[index] for arrays in states if arrays is not None]
        if not (_is_fast(param) and grad.dtype == _FLOAT32 and all(map(_is_fast, state))):
            others.append(index)
            continue
        if not grad.flags.c_contiguous:
            grad = np.ascontiguousarray(grad)
            alive.append(grad)
        if param.size:
            places = [0 if arrays is None else address(arrays[index]) for arrays in states]
            rows.append(
                (
                    first,
                    param.size,
                    *bits(0 if steps is None else steps[index]),
                    address(param),
                    address(grad),
                    *places,
                    *(0,) * (3 - len(places)),
                )
            )
            first += param.size
    if rows:
        table = np.array(rows, np.int64)
        chunks = max(1, min(16 * _threads.get_num_threads(), first // _WORTH))
        decay = float_bits(weight_decay) if weight_decay != 0 else 0
        _threads.run(
            _threads.plan(
                (
                    function,
                    chunks,
                    address(table),
                    len(rows),
                    first,
                    chunks,
                    decay,
                    maximize,
                    *settings,
                )
            )
        )
    return others


def _chosen(arrays: Sequence[Any] | None, numbers: list[int]) -> Any:
    return None if arrays is None else [arrays[index] for index in numbers]


def _none(step: int) -> tuple[float, float]:
    return 0.0, 0.0


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """Gradient descent with momentum."""
    settings = [
        *map(float_bits, (lr, momentum, 1 - dampening)),
        momentum_buffers is not None,
        nesterov,
        first,
    ]
    others = _update(
        sgd.address,
        params,
        grads,
        [momentum_buffers],
        None,
        _none,
        settings,
        weight_decay,
        maximize,
    )
    if others:
        reference.sgd_step(
            _chosen(params, others),
            _chosen(grads, others),
            _chosen(momentum_buffers, others),
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            first=first,
        )


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None,
    steps: Sequence[int],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    """Adam, AMSGrad and AdamW."""

    def numbers(step: int) -> tuple[float, float]:
        return lr / (1 - beta1**step), (1 - beta2**step) ** 0.5

    settings = [
        *map(float_bits, (1 - beta1, beta2, 1 - beta2, eps, 1 - lr * weight_decay)),
        max_exp_avg_sqs is not None,
        decoupled_weight_decay and weight_decay != 0,
    ]
    states = [exp_avgs, exp_avg_sqs, max_exp_avg_sqs]
    added = 0.0 if decoupled_weight_decay else weight_decay
    others = _update(adam.address, params, grads, states, steps, numbers, settings, added, maximize)
    if others:
        reference.adam_step(
            _chosen(params, others),
            _chosen(grads, others),
            _chosen(exp_avgs, others),
            _chosen(exp_avg_sqs, others),
            _chosen(max_exp_avg_sqs, others),
            _chosen(steps, others),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )


def rmsprop_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    square_avgs: Sequence[Array],
    grad_avgs: Sequence[Array] | None,
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """RMSprop, centred or not."""
    settings = [
        *map(float_bits, (lr, alpha, 1 - alpha, eps, momentum)),
        grad_avgs is not None,
        momentum_buffers is not None,
    ]
    states = [square_avgs, grad_avgs, momentum_buffers]
    others = _update(
        rmsprop.address, params, grads, states, None, _none, settings, weight_decay, maximize
    )
    if others:
        reference.rmsprop_step(
            _chosen(params, others),
            _chosen(grads, others),
            _chosen(square_avgs, others),
            _chosen(grad_avgs, others),
            _chosen(momentum_buffers, others),
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            maximize=maximize,
        )


def adagrad_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    sums: Sequence[Array],
    steps: Sequence[int],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    """Adagrad."""

    def numbers(step: int) -> tuple[float, float]:
        return lr / (1 + (step - 1) * lr_decay), 0.0

    others = _update(
        adagrad.address,
        params,
        grads,
        [sums],
        steps,
        numbers,
        [float_bits(eps)],
        weight_decay,
        maximize,
    )
    if others:
        reference.adagrad_step(
            _chosen(params, others),
            _chosen(grads, others),
            _chosen(sums, others),
            _chosen(steps, others),
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            eps=eps,
            maximize=maximize,
        )
