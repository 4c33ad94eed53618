"""One step of an optimiser: all parameters in one launch, and one pass over memory.

A table has a row for each parameter: where it, its gradient and its state lie. All their elements
together are cut into equal chunks, so that many small parameters cost no more than one large one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    WIDTH,
    Kernel,
    address,
    bits_to_float,
    float_bits,
    kernel,
    piece,
    share,
    words,
)
from lucid.kernels.numba.machine._vector import (
    fused,
    load,
    maximum,
    maximum_or_nan,
    root,
    spread,
    store,
)
from lucid.kernels.numpy import _optim as reference

Array = np.ndarray
Settings = reference.Settings

# Elements worth a chunk: some 10 µs.
_WORTH = 1 << 14

# Words of a row of the table: the number of its first element, how many it has, two numbers of its
# own, and addresses: the parameter, its gradient, three arrays of state (0: none).
_ENTRY = 9


@piece
def _row_of(table, rows, element):
    """The row of the table that has an element."""
    low, high = 0, rows
    while high - low > 1:
        middle = (low + high) // 2
        if words(table + middle * _ENTRY * 8)[0] <= element:
            low = middle
        else:
            high = middle
    return low


@piece
def _after(start, skip):
    """The address of an element behind ``skip`` others; 0 if there is no array."""
    return start + skip * 4 if start != 0 else 0


@piece
def _start(table, rows, total, chunk, chunks):
    """The first element of a chunk, its row, and where the chunk ends."""
    first, stop = share(total, chunk, chunks)
    return first, _row_of(table, rows, first), stop


@piece
def _piece(table, row, element, stop):
    """Of a row from an element on: how many of the chunk, its two numbers, where its arrays are."""
    entry = words(table + row * _ENTRY * 8)
    skip = element - entry[0]
    return (
        min(stop - element, entry[1] - skip), bits_to_float(entry[2]), bits_to_float(entry[3]),
        _after(entry[4], skip), _after(entry[5], skip),
        _after(entry[6], skip), _after(entry[7], skip), _after(entry[8], skip),
    )  # fmt: skip


@piece
def _vector(bits):
    return spread(bits_to_float(bits))


@piece
def _descent(maximize, decay, grad, param):
    """``±grad + decay · param``."""
    if maximize != 0:
        grad = spread(np.float32(0)) - grad
    if decay != 0:
        grad = grad + _vector(decay) * param
    return grad


@kernel
def sgd(chunk, thread, chunks, table, rows, total, maximize, decay, lr, momentum, fresh, nesterov):
    """One chunk of a step of gradient descent with momentum."""
    length, old, new = _vector(lr), _vector(momentum), _vector(fresh)
    element, row, stop = _start(table, rows, total, chunk, chunks)
    while element < stop:
        count, first, _, p_at, g_at, buffer_at, _, _ = _piece(table, row, element, stop)
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(maximize, decay, load(g_at + at, rest), p)
            if buffer_at == 0:
                store(p_at + at, p - g * length, rest)
                continue
            buffer = g
            if first == 0:
                buffer = fused(g, new, load(buffer_at + at, rest) * old)
            store(buffer_at + at, buffer, rest)
            step = g + buffer * old if nesterov != 0 else buffer
            store(p_at + at, p - step * length, rest)
        element += count
        row += 1


@kernel
def adam(
    chunk, thread, chunks, table, rows, total, maximize, decay, fresh1, beta2, fresh2, eps, shrink
):
    """One chunk of a step of Adam, AMSGrad or AdamW."""
    mean_new, square_old, square_new = _vector(fresh1), _vector(beta2), _vector(fresh2)
    above, factor = _vector(eps), _vector(shrink)
    element, row, stop = _start(table, rows, total, chunk, chunks)
    while element < stop:
        count, size, root_size, p_at, g_at, mean_at, square_at, largest_at = _piece(
            table, row, element, stop
        )
        length, correction = spread(size), spread(root_size)
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest) * factor
            g = _descent(maximize, decay, load(g_at + at, rest), p)
            mean = load(mean_at + at, rest)
            mean = mean + (g - mean) * mean_new
            square = fused(g * square_new, g, load(square_at + at, rest) * square_old)
            store(mean_at + at, mean, rest)
            store(square_at + at, square, rest)
            if largest_at != 0:
                square = maximum_or_nan(square, load(largest_at + at, rest))
                store(largest_at + at, square, rest)
            step = mean / (root(square) / correction + above)
            store(p_at + at, p - step * length, rest)
        element += count
        row += 1


@kernel
def rmsprop(
    chunk, thread, chunks, table, rows, total, maximize, decay, lr, alpha, fresh, eps, momentum
):
    """One chunk of a step of RMSprop."""
    length, old, new = _vector(lr), _vector(alpha), _vector(fresh)
    above, kept = _vector(eps), _vector(momentum)
    element, row, stop = _start(table, rows, total, chunk, chunks)
    while element < stop:
        count, _, _, p_at, g_at, square_at, mean_at, buffer_at = _piece(table, row, element, stop)
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(maximize, decay, load(g_at + at, rest), p)
            square = fused(g * new, g, load(square_at + at, rest) * old)
            store(square_at + at, square, rest)
            if mean_at != 0:
                mean = load(mean_at + at, rest)
                mean = mean + (g - mean) * new
                store(mean_at + at, mean, rest)
                # A variance; rounding must not make it negative, or the root is NaN.
                square = maximum(square - mean * mean, spread(np.float32(0)))
            step = g / (root(square) + above)
            if buffer_at != 0:
                step = load(buffer_at + at, rest) * kept + step
                store(buffer_at + at, step, rest)
            store(p_at + at, p - step * length, rest)
        element += count
        row += 1


@kernel
def adagrad(chunk, thread, chunks, table, rows, total, maximize, decay, eps):
    """One chunk of a step of Adagrad."""
    above = _vector(eps)
    element, row, stop = _start(table, rows, total, chunk, chunks)
    while element < stop:
        count, size, _, p_at, g_at, total_at, _, _ = _piece(table, row, element, stop)
        length = spread(size)
        for i in range(0, count, WIDTH):
            at, rest = i * 4, count - i
            p = load(p_at + at, rest)
            g = _descent(maximize, decay, load(g_at + at, rest), p)
            sums = load(total_at + at, rest) + g * g
            store(total_at + at, sums, rest)
            store(p_at + at, p - g / (root(sums) + above) * length, rest)
        element += count
        row += 1


class _Update(NamedTuple):
    """A kernel, and what it is told of an optimiser."""

    kernel: Kernel
    states: tuple[str, ...]
    settings: tuple[str, ...]  # as they are
    made: Callable[[Settings], dict[str, float]]  # of settings
    numbers: Callable[[Settings, int], tuple[float, float]]  # a parameter's own, by its count


_UPDATES = {
    "adagrad": _Update(
        adagrad,
        ("sum",),
        ("eps",),
        lambda s: {},
        lambda s, count: (s["lr"] / (1 + (count - 1) * s["lr_decay"]), 0),
    ),
    "adam": _Update(
        adam,
        ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
        ("eps",),
        lambda s: {
            "fresh1": 1 - s["betas"][0],
            "beta2": s["betas"][1],
            "fresh2": 1 - s["betas"][1],
            "shrink": reference.decays(s)[1],
        },
        lambda s, count: (
            s["lr"] / (1 - s["betas"][0] ** count),
            (1 - s["betas"][1] ** count) ** 0.5,
        ),
    ),
    "rmsprop": _Update(
        rmsprop,
        ("square_avg", "grad_avg", "momentum_buffer"),
        ("lr", "alpha", "eps", "momentum"),
        lambda s: {"fresh": 1 - s["alpha"]},
        lambda s, count: (0, 0),
    ),
    "sgd": _Update(
        sgd,
        ("momentum_buffer",),
        ("lr", "momentum", "nesterov"),
        lambda s: {"fresh": 1 - s["dampening"]},
        lambda s, count: (count == 1, 0),
    ),
}


_FLOAT32 = np.dtype(np.float32)


def _is_fast(array: Array) -> bool:
    return array.dtype == _FLOAT32 and array.flags.carray  # contiguous and writeable


@accelerates(reference.optimizer_step)
def optimizer_step(
    kind: str,
    params: Sequence[Array],
    grads: Sequence[Array],
    states: Mapping[str, Sequence[Array]],
    counts: Sequence[int],
    settings: Settings,
) -> None:
    update = _UPDATES[kind]
    numbers = functools.cache(
        lambda count: tuple(float_bits(float(n)) for n in update.numbers(settings, count))
    )
    kept = [states.get(name) for name in update.states]
    rows, others, alive = [], [], []
    first = 0
    for index, (param, grad) in enumerate(zip(params, grads)):
        state = [None if arrays is None else arrays[index] for arrays in kept]
        changed = [array for array in (param, *state) if array is not None]
        if grad.dtype != _FLOAT32 or not all(map(_is_fast, changed)):
            others.append(index)
            continue
        if not grad.flags.c_contiguous:
            grad = np.ascontiguousarray(grad)
            alive.append(grad)
        if param.size:
            places = [0 if array is None else address(array) for array in (param, grad, *state)]
            places += [0] * (5 - len(places))
            rows.append((first, param.size, *numbers(counts[index]), *places))
            first += param.size
    if rows:
        told = {name: settings[name] for name in update.settings} | update.made(settings)
        told["decay"] = reference.decays(settings)[0]
        told["maximize"] = settings["maximize"]
        table = np.array(rows, np.int64)  # it must live as long as the launch
        _threads.launch(
            update.kernel.pack(
                _threads.chunks_of(first, _WORTH, 16 * _threads.get_num_threads()),
                table=table,
                rows=len(rows),
                total=first,
                **{name: float(value) for name, value in told.items()},
            )
        )
    if others:
        reference.optimizer_step(
            kind,
            _chosen(params, others),
            _chosen(grads, others),
            {name: _chosen(arrays, others) for name, arrays in states.items()},
            _chosen(counts, others),
            settings,
        )


def _chosen(values: Sequence[Any], numbers: list[int]) -> list[Any]:
    return [values[number] for number in numbers]
