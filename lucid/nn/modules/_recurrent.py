"""Recurrent layers over sequences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import count, one_of, probability
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn.modules._layer import Layer
from lucid.nn.utils.rnn import PackedSequence
from lucid.ops._common import floating
from lucid.ops._join import cat, stack
from lucid.ops._recurrent import CELLS, Cell, State, Weights, recur

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(Layer):
    """Cells in layers, in one direction or two; the parameters bear PyTorch's names."""

    _kind = ""  # the cell in CELLS
    _sizes = ("input_size", "hidden_size")
    # Printed if they are something else.
    _defaults = (
        ("proj_size", 0),
        ("num_layers", 1),
        ("bias", True),
        ("batch_first", False),
        ("dropout", 0.0),
        ("bidirectional", False),
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self._who = type(self).__name__
        self.input_size = count(input_size, "input_size", self._who)
        self.hidden_size = count(hidden_size, "hidden_size", self._who)
        self.bias = self._flag(bias, "bias")
        self.num_layers = count(num_layers, "num_layers", self._who)
        self.batch_first = self._flag(batch_first, "batch_first")
        self.dropout = float(probability(dropout, "dropout", self._who))
        self.bidirectional = self._flag(bidirectional, "bidirectional")
        self.proj_size = count(proj_size, "proj_size", self._who, 0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"{self._who}: proj_size must be smaller than hidden_size={hidden_size}, got "
                f"{proj_size}"
            )
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        size = self.input_size
        for layer in range(self.num_layers):
            for suffix in self._suffixes:
                self._register_cell(size, f"_l{layer}{suffix}", dtype, self.proj_size)
            size = (self.proj_size or self.hidden_size) * len(self._suffixes)
        self.reset_parameters()

    def _flag(self, value: Any, name: str) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"{self._who}: {name} must be True or False, got {value!r}")
        return value

    @property
    def _cell(self) -> Cell:
        return CELLS[self._kind]

    def _register_cell(
        self, input_size: int, suffix: str, dtype: DTypeLike | None, projected: int = 0
    ) -> None:
        rows = self._cell.gates * self.hidden_size
        self._register_empty(f"weight_ih{suffix}", (rows, input_size), dtype)
        self._register_empty(f"weight_hh{suffix}", (rows, projected or self.hidden_size), dtype)
        if self.bias:
            self._register_empty(f"bias_ih{suffix}", (rows,), dtype)
            self._register_empty(f"bias_hh{suffix}", (rows,), dtype)
        if projected:
            self._register_empty(f"weight_hr{suffix}", (projected, self.hidden_size), dtype)

    def _weights(self, suffix: str = "") -> Weights:
        values: list[Any] = [getattr(self, name + suffix, None) for name in Weights._fields]
        return Weights(*values)

    def reset_parameters(self) -> None:
        """Draw the parameters again, uniform within ±1/√hidden_size."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _taken(self, input: Any, dtype: np.dtype[Any]) -> Tensor:
        """Return the input as a tensor whose last axis and dtype are right."""
        x = floating(input, self._who)
        if x.ndim == 0 or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{self._who}: expected {self.input_size} input features (last axis), got an input "
                f"of shape {x.shape}"
            )
        if x.dtype != dtype:
            raise TypeError(
                f"{self._who}: expected an input of {dtype}, as the parameters are, got {x.dtype}; "
                "convert one of them with to()"
            )
        return x

    def _state(self, hx: Any, shapes: list[tuple[int, ...]], dtype: np.dtype[Any]) -> State:
        """Return the tensors of a state, of the shapes expected; zeros for None."""
        if hx is None:
            return tuple([wrap(np.zeros(shape, dtype)) for shape in shapes])
        given = hx if isinstance(hx, (tuple, list)) else (hx,)
        state = tuple([floating(part, self._who) for part in given])
        if [part.shape for part in state] != shapes:
            raise ValueError(
                f"{self._who}: expected a state of {' and '.join(map(str, shapes))}, got "
                f"{' and '.join(str(part.shape) for part in state)}"
            )
        return state

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        values = [(name, getattr(self, name), usual) for name, usual in self._defaults]
        others = [f"{name}={value}" for name, value, usual in values if value != usual]
        return ", ".join([super().extra_repr(), *others])

    def flatten_parameters(self) -> None:
        """Do nothing: for PyTorch's it is of use on graphics processors."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Return the results of all steps, and the states after each sequence's last one.

        Args:
            input: ``(T, N, I)``, with ``batch_first`` ``(N, T, I)``, without batch ``(T, I)``, or
                packed sequences.
            hx: the first states ``(layers · directions, N, H)``, an LSTM's a pair; None for 0.

        Returns:
            The last layer's results, shaped as the input, with H features for each direction; and
            the last states, shaped as ``hx``.

        Raises:
            ValueError: if a shape does not fit.
            TypeError: if the input has another dtype than the parameters.
        """
        dtype = self._weights("_l0").weight_ih.dtype
        if isinstance(input, PackedSequence):
            rows, batch_sizes, order, unsorted = input
            rows, sizes, batched = self._taken(rows, dtype), batch_sizes.tolist(), True
        else:
            x = self._taken(input, dtype)
            if x.ndim not in (2, 3) or x.shape[self.batch_first and x.ndim == 3] == 0:
                raise ValueError(
                    f"{self._who}: expected an input of shape "
                    f"{'(N, T, I)' if self.batch_first else '(T, N, I)'} or (T, I) with at least "
                    f"one step, got {x.shape}"
                )
            order = unsorted = None
            batched = x.ndim == 3
            x = x.transpose(0, 1) if self.batch_first and batched else x
            sizes = [x.shape[1] if batched else 1] * x.shape[0]
            rows = x.reshape(sum(sizes), self.input_size)
        cells = self.num_layers * len(self._suffixes)
        lead = (cells, sizes[0]) if batched else (cells,)
        width = self.proj_size or self.hidden_size
        shapes = [(*lead, width), (*lead, self.hidden_size)][: self._cell.states]
        state = self._state(hx, shapes, dtype)
        if not batched:
            state = tuple([part.unsqueeze(1) for part in state])
        if order is not None:
            state = tuple([part[:, order.data] for part in state])
        rows, state = self._through_layers(rows, sizes, state)
        if unsorted is not None:
            state = tuple([part[:, unsorted.data] for part in state])
        if not batched:
            state = tuple([part.squeeze(1) for part in state])
        last = state if len(state) > 1 else state[0]
        if isinstance(input, PackedSequence):
            return input._replace(data=rows), last
        output = rows.reshape(*x.shape[:-1], rows.shape[1])
        return output.transpose(0, 1) if self.batch_first and batched else output, last

    def _through_layers(self, rows: Tensor, sizes: list[int], state: State) -> tuple[Tensor, State]:
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                rows = F.dropout(rows, self.dropout, self.training)
            results = []
            for backwards, suffix in enumerate(self._suffixes):
                begin = tuple([part[len(ends)] for part in state])
                weights = self._weights(f"_l{layer}{suffix}")
                result, end = recur(self._cell, rows, sizes, begin, weights, bool(backwards))
                results.append(result)
                ends.append(end)
            rows = cat(results, 1) if len(results) > 1 else results[0]
        return rows, tuple([stack(parts) for parts in zip(*ends)])


class RNN(_Recurrent):
    r"""Elman's network: :math:`h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})`.

    Args:
        input_size: I, the features of a step.
        hidden_size: H, the features of a state and a result.
        num_layers: how many layers; each takes the results of the one before.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether to add the b.
        batch_first: whether sequences are ``(N, T, I)`` rather than ``(T, N, I)``.
        dropout: probability with which what goes from layer to layer is dropped in training.
        bidirectional: go through the sequences from both ends; the results stand side by side.
        dtype: of the parameters, float32 by default.

    The parameters are ``weight_ih_l0`` ``(H, I)``, ``weight_hh_l0`` ``(H, H)``, ``bias_ih_l0`` and
    ``bias_hh_l0`` ``(H,)``; the second layer's end in ``_l1``, the other direction's in
    ``_l0_reverse``. They begin uniform within ±1/√H.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        self._kind = one_of(nonlinearity, ("tanh", "relu"), "nonlinearity", "RNN")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
        )
        self.nonlinearity = nonlinearity


class LSTM(_Recurrent):
    r"""Long short-term memory (Hochreiter & Schmidhuber 1997).

    .. math::

        i, f, g, o &= W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh} \\
        c_t &= \sigma(f)\,c_{t-1} + \sigma(i) \tanh(g), \qquad h_t = \sigma(o) \tanh(c_t)

    Args:
        input_size: as in :class:`RNN`, as are the next ones.
        hidden_size: H.
        num_layers: how many layers.
        bias: whether to add the b.
        batch_first: whether sequences are ``(N, T, I)``.
        dropout: between layers.
        bidirectional: go from both ends.
        proj_size: if not 0, the size to which ``weight_hr_l0`` projects h.
        dtype: of the parameters.

    The parameters are those of :class:`RNN`, for four gates, i, f, g and o: ``(4H, I)`` and so on.

    Example:
        >>> lstm = nn.LSTM(input_size=3, hidden_size=5, batch_first=True)
        >>> output, (h, c) = lstm(lucid.randn(2, 7, 3))  # two sequences of seven steps
        >>> output.shape, h.shape, c.shape
        ((2, 7, 5), (1, 2, 5), (1, 2, 5))
        >>> lucid.equal(output[:, -1], h[0])
        True
    """

    _kind = "lstm"


class GRU(_Recurrent):
    r"""Gated recurrent units (Cho et al. 2014).

    .. math::

        r, z &= \sigma(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}) \\
        n &= \tanh(W_{in} x_t + b_{in} + r\,(W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z)\,n + z\,h_{t-1}

    Arguments as in :class:`LSTM`, without ``proj_size``. The parameters are those of :class:`RNN`,
    for three gates, r, z and n: ``(3H, I)`` and so on.
    """

    _kind = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
        )
