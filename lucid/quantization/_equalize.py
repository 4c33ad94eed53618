"""Cross-layer equalisation: the weights of neighbouring layers brought into like ranges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lucid.nn._parameter import overwrite

Array = np.ndarray

# Chains of layers take some rounds until a change at one end has arrived at the other.
_ROUNDS, _SETTLED = 20, 1e-3


def equalize(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Scale the channels between layers, down in the one and up in the other.

    The model computes the same: ReLU and what does nothing pass a positive factor on. Channel by
    channel the largest weights of both layers become the geometric mean of what they were (Nagel
    et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.1, equation 11). A channel that is 0 in either layer stays.
    """
    pairs = list(pairs)
    for _ in range(_ROUNDS):
        if max((_equalize_pair(*pair) for pair in pairs), default=0.0) < _SETTLED:
            break


def _equalize_pair(first: Any, second: Any) -> float:
    """Equalise two layers and return by how much the channels' factors were off 1, at most."""
    rows = first.weight.data.reshape(len(first.weight), -1)
    columns = _by_input(second, second.weight.data)
    ranges = np.abs(rows).max(axis=1), np.abs(columns).reshape(len(columns), -1).max(axis=1)
    used = (ranges[0] > 0) & (ranges[1] > 0)
    factors = np.sqrt(np.divide(ranges[0], ranges[1], out=np.ones_like(ranges[0]), where=used))
    overwrite(first.weight, (rows / factors[:, None]).reshape(first.weight.shape))
    if first.bias is not None:
        overwrite(first.bias, first.bias.data / factors)
    columns = columns * factors.reshape(-1, *[1] * (columns.ndim - 1))
    overwrite(second.weight, _by_output(second, columns))
    return float(np.abs(np.log(factors)).max(initial=0.0))


def _by_input(layer: Any, weight: Array) -> Array:
    """Return a weight ``(O, I/groups, …)`` as ``(I, O/groups, …)``."""
    groups = getattr(layer, "groups", 1)
    parts = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return parts.reshape(-1, *parts.shape[2:])


def _by_output(layer: Any, columns: Array) -> Array:
    """Undo :func:`_by_input`."""
    groups = getattr(layer, "groups", 1)
    parts = columns.reshape(groups, -1, *columns.shape[1:]).swapaxes(1, 2)
    return parts.reshape(layer.weight.shape)
