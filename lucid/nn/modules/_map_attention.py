"""Attention between the positions of a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid import kernels
from lucid.autograd import Tensor
from lucid.nn._untouched import Untouched


class MapAttention:
    """``softmax(q·kᵀ / √key_dim)·v`` over all positions of a map ``(N, C, H, W)``.

    It has no parameters: three modules make queries, keys and values of the map. The result is
    ``(N, heads·value_dim, H', W')``, of the size of the queries' map.

    Args:
        paths: the modules that make queries ``(N, heads·key_dim, H', W')``, keys and values.
        num_heads: how many queries a position has.
        key_dim: numbers in a query and in a key.
        value_dim: numbers in a value.
        is_shared: whether all heads share one key and one value a position (Shazeer 2019); else
            each has its own.
    """

    def __init__(
        self,
        paths: tuple[Callable[[Any], Tensor], ...],
        num_heads: int,
        key_dim: int,
        value_dim: int,
        is_shared: bool,
    ) -> None:
        self.paths = paths
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.is_shared = is_shared

    def state(self) -> tuple[Any, ...]:
        """Return what the output depends on, beside the input and what the modules make of it."""
        numbers = self.num_heads, self.key_dim, self.value_dim, self.is_shared
        return (*map(id, self.paths), *numbers, *map(type, numbers))

    def __call__(self, x: Tensor) -> Tensor:
        query, key, value = [path(x) for path in self.paths]
        n, _, height, width = query.shape
        heads, positions = self.num_heads, height * width
        q = _rows(query) * self.key_dim**-0.5
        k, v = _rows(key), _rows(value)
        if self.is_shared:  # the key is the same for all heads: they are just more rows
            q = q.reshape(n, positions * heads, self.key_dim)
        else:
            q = q.reshape(n, positions, heads, self.key_dim).transpose(1, 2)
            k = k.reshape(n, -1, heads, self.key_dim).transpose(1, 2)
            v = v.reshape(n, -1, heads, self.value_dim).transpose(1, 2)
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        if not self.is_shared:
            y = y.transpose(1, 2)
        return y.reshape(n, height, width, heads * self.value_dim).permute(0, 3, 1, 2)

    def held(self) -> KeptAttention | None:
        """Return what computes it in a row of kept layers, None if nothing does."""
        numbers = self.num_heads, self.key_dim, self.value_dim
        if not self.is_shared or {*map(type, numbers)} != {int} or min(numbers) < 1:
            return None
        return KeptAttention(kernels.active(), *numbers)


class KeptAttention(NamedTuple):
    """An attention whose heads share keys and values, as a part of a row of kept layers."""

    backend: Any
    num_heads: int
    key_dim: int
    value_dim: int

    @property
    def untouched(self) -> Untouched:
        """It has no tensors."""
        return Untouched(())

    @property
    def run(self) -> Callable[..., Any]:
        """The backend's function of maps of queries, keys and values."""
        run: Callable[..., Any] = self.backend.keep_attention(self.num_heads, self.key_dim**-0.5)
        return run

    def made(self, dtype: Any, *shapes: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the output's shape ``(N, H, W, O)``, or None if the maps are not to be so."""
        q, k, v = shapes
        widths = self.num_heads * self.key_dim, self.key_dim, self.value_dim
        # In half precision each operation rounds, which one alone does not.
        if dtype not in (np.float32, np.float64) or (q[3], k[3], v[3]) != widths or k[:3] != v[:3]:
            return None
        return (*q[:3], self.num_heads * self.value_dim)


def _rows(x: Tensor) -> Tensor:
    """Return a map ``(N, C, H, W)`` as ``(N, H·W, C)``: a view, as channels come last in memory."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, h * w, c)
