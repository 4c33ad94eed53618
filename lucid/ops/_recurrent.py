"""Recurrent cells, and a sequence that goes through one step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid import kernels
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._function import is_observed
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._activation import relu
from lucid.ops._common import Array
from lucid.ops._elementwise import sigmoid, tanh
from lucid.ops._join import Cat, cat, split
from lucid.ops._linear import linear

State = tuple[Tensor, ...]  # what a cell hands on: (h,), of an LSTM (h, c)


class Parts(Function):
    """Cuts along an axis, all at once: the gradient of each single slice would be a whole array."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
        ctx.axis = axis
        ends = np.cumsum(sizes).tolist()
        cuts = [slice(start, end) for start, end in zip([0, *ends], ends)]
        return tuple([x.data[(slice(None),) * axis + (cut,)] for cut in cuts])

    @staticmethod
    def backward(ctx: Node, *grads: Tensor) -> Any:
        return Cat.apply(ctx.axis, *grads)


def _parts(x: Tensor, sizes: Sequence[int], axis: int) -> Any:
    return split(x, sizes, axis) if is_observed() else Parts.apply(x, sizes, axis)


class Maths(NamedTuple):
    """What a cell computes with: of arrays or of tensors."""

    sigmoid: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    gates: Callable[[Any, int], Any]  # cuts (N, gates · H)
    join: Callable[[list[Any]], Any]


ARRAYS = Maths(
    lambda x: kernels.active().sigmoid(x),
    np.tanh,
    lambda x, count: np.split(x, count, 1),
    lambda gates: np.concatenate(gates, 1),
)
TENSORS = Maths(
    sigmoid,
    tanh,
    lambda x, count: _parts(x, (x.shape[1] // count,) * count, 1),
    lambda gates: cat(gates, 1),
)


def _lstm(m: Maths, x: Any, s: Any, h: Any, c: Any) -> Any:
    i, f, g, o = m.gates(x + s, 4)
    i, f, g, o = m.sigmoid(i), m.sigmoid(f), m.tanh(g), m.sigmoid(o)
    new = f * c + i * g
    t = m.tanh(new)
    return (o * t, new), (i, f, g, o, t, c)


def _lstm_grad(m: Maths, kept: Any, grad_h: Any, grad_c: Any) -> Any:
    i, f, g, o, t, c = kept
    grad_c = grad_c + grad_h * o * (1 - t * t)
    grad_i, grad_f = grad_c * g * i * (1 - i), grad_c * c * f * (1 - f)
    sums = m.join([grad_i, grad_f, grad_c * i * (1 - g * g), grad_h * t * o * (1 - o)])
    return sums, sums, None, grad_c * f


def _gru(m: Maths, x: Any, s: Any, h: Any) -> Any:
    (r, z, n), (from_r, from_z, from_n) = m.gates(x, 3), m.gates(s, 3)
    r, z = m.sigmoid(r + from_r), m.sigmoid(z + from_z)
    n = m.tanh(n + r * from_n)
    return (n + z * (h - n),), (r, z, n, from_n, h)


def _gru_grad(m: Maths, kept: Any, grad: Any) -> Any:
    r, z, n, from_n, h = kept
    grad_z, grad_n = grad * (h - n) * z * (1 - z), grad * (1 - z) * (1 - n * n)
    grad_r = grad_n * from_n * r * (1 - r)
    return m.join([grad_r, grad_z, grad_n]), m.join([grad_r, grad_z, grad_n * r]), grad * z


def _rnn(activation: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda m, x, s, h: ((activation(x + s),), None)


class Cell(NamedTuple):
    """A kind of cell: its gates, the tensors in its state, and how they change.

    ``step`` takes what the maps of input and state gave, and the state; it returns the new state
    and what ``gradient`` needs of it. Without a gradient, it takes tensors alone.
    """

    gates: int
    states: int
    step: Callable[..., Any]
    gradient: Callable[..., Any] | None = None


CELLS = {
    "tanh": Cell(1, 1, _rnn(tanh)),
    "relu": Cell(1, 1, _rnn(relu)),
    "lstm": Cell(4, 2, _lstm, _lstm_grad),
    "gru": Cell(3, 1, _gru, _gru_grad),
}


class Step(Function):
    """A step of a cell: with single operations an LSTM takes twice as long."""

    @staticmethod
    def forward(ctx: Node, cell: Cell, *values: Tensor) -> tuple[Array, ...]:
        ctx.cell = cell
        ctx.save_for_backward(*values)
        state, ctx.kept = cell.step(ARRAYS, *[value.data for value in values])
        return state

    @staticmethod
    def backward(ctx: Node, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values, cell = ctx.saved_tensors, ctx.cell
        if is_grad_enabled():
            return None, *cell.gradient(TENSORS, cell.step(TENSORS, *values)[1], *grads)
        found = cell.gradient(ARRAYS, ctx.kept, *[grad.data for grad in grads])
        return None, *[None if grad is None else wrap(grad) for grad in found]


def _step(cell: Cell, *values: Tensor) -> State:
    if cell.gradient is None or is_observed():
        return cell.step(TENSORS, *values)[0]
    return Step.apply(cell, *values)


class Weights(NamedTuple):
    """The parameters of a cell, under PyTorch's names; the last projects an LSTM's result."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None


def recur(
    cell: Cell, rows: Tensor, sizes: list[int], state: State, weights: Weights, backwards: bool
) -> tuple[Tensor, State]:
    """Return the result of each step as rows ``(M, H)``, and the last state of each sequence.

    Args:
        cell: what is done at each step.
        rows: ``(M, I)``: the inputs of all sequences at the first step, then at the second, ….
        sizes: how many sequences have a first step, a second, …; they do not grow.
        state: where each sequence begins, tensors ``(N, H)``.
        weights: the cell's parameters.
        backwards: go from each sequence's last step to its first.
    """
    inputs = _parts(linear(rows, weights.weight_ih, weights.bias_ih), sizes, 0)
    begin = state
    ended: list[list[Tensor]] = []
    steps = list(range(len(sizes)))[:: -1 if backwards else 1]
    state = tuple([part[: sizes[steps[0]]] for part in begin]) if min(sizes) < sizes[0] else begin
    results: dict[int, Tensor] = {}
    for step in steps:
        size, running = sizes[step], state[0].shape[0]
        if size < running:  # sequences end here
            ended.append([part[size:] for part in state])
            state = tuple([part[:size] for part in state])
        elif size > running:  # and begin here, as seen from the end
            state = tuple([cat([part, b[running:size]]) for part, b in zip(state, begin)])
        from_state = linear(state[0], weights.weight_hh, weights.bias_hh)
        state = _step(cell, inputs[step], from_state, *state)
        if weights.weight_hr is not None:
            state = (linear(state[0], weights.weight_hr), *state[1:])
        results[step] = state[0]
    if ended:
        state = tuple([cat(parts) for parts in zip(state, *reversed(ended))])
    return cat([results[step] for step in range(len(sizes))]), state
