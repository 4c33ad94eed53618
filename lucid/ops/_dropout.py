"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._random import generator
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, as_float, floating

__all__ = ["dropout", "dropout2d"]


class Dropout(Function):
    """Multiplication by a mask of 0 and 1, and by a factor."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, keep: Array, scale: float) -> Array:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        y: Array = x.data * keep
        y *= scale
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (keep,) = ctx.saved_tensors
        return Dropout.apply(grad, keep.data, ctx.scale)


def _random_in_order_of(x: Array) -> Array:
    """Return numbers from [0, 1) in the shape and memory order of ``x``."""
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    values = generator().random([x.shape[axis] for axis in order], dtype=np.float32)
    return values.transpose(np.argsort(order))


def _drop(x: Tensor, keep: Array, p: float) -> Tensor:
    keep = np.asarray(keep)  # without axes NumPy compares to a scalar
    return Dropout.apply(x, keep, 1 / (1 - p) if p < 1 else 0.0)


def _checked(input: Any, p: float, who: str) -> Tensor:
    if not 0 <= as_float(p, "p", who) <= 1:
        raise ValueError(f"{who}: p must be between 0 and 1, got {p}")
    return floating(input, who)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set elements to 0 with probability ``p`` and multiply the others by ``1 / (1 - p)``.

    Args:
        input: any shape.
        p: how likely an element is dropped (Hinton et al. 2012).
        training: without, the input itself comes back.
        inplace: accepted as in PyTorch, and without effect.

    Raises:
        ValueError: if ``p`` is not between 0 and 1.
    """
    x = _checked(input, p, "dropout")
    if not training or p == 0:
        return x
    return _drop(x, _random_in_order_of(x.data) >= p, p)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set whole channels of ``(N, C, H, W)`` to 0 with probability ``p``; see :func:`dropout`.

    As in PyTorch, three axes are ``(N, C, L)``.

    Raises:
        ValueError: if the input does not have three or four axes, or ``p`` is not between 0 and 1.
    """
    x = _checked(input, p, "dropout2d")
    if x.ndim not in (3, 4):
        raise ValueError(f"dropout2d: expected an input of shape (N, C, H, W), got {x.shape}")
    if not training or p == 0:
        return x
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
    return _drop(x, generator().random(shape, dtype=np.float32) >= p, p)
