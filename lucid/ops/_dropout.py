"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._random import generator
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import Array, as_float, floating, operand
from lucid.ops._layout import SHAPES

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]


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
    return _drop_channels(input, p, training, "dropout2d", (3, 4))


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set whole channels of ``(N, C, L)`` or ``(C, L)`` to 0; as :func:`dropout2d`."""
    return _drop_channels(input, p, training, "dropout1d", (2, 3))


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Set whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to 0; as :func:`dropout2d`."""
    return _drop_channels(input, p, training, "dropout3d", (4, 5))


def _drop_channels(input: Any, p: float, training: bool, who: str, axes: tuple[int, int]) -> Tensor:
    """Drop channels of inputs with so many axes."""
    x = _checked(input, p, who)
    if x.ndim not in axes:
        shape = SHAPES[axes[-1] - 2]
        raise ValueError(f"{who}: expected an input of shape {shape}, got {x.shape}")
    if not training or p == 0:
        return x
    if x.ndim < axes[-1] and who != "dropout2d":  # one input: its channels come first
        return _drop_channels(x.unsqueeze(0), p, training, who, axes).squeeze(0)
    return _drop(x, generator().random(_of_channels(x), dtype=np.float32) >= p, p)


def _of_channels(x: Tensor) -> tuple[int, ...]:
    return (*x.shape[:2], *(1,) * (x.ndim - 2))


def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Set elements to SELU's lower limit with probability ``p``, and keep mean and variance.

    Args:
        input: any shape, of mean 0 and variance 1.
        p: how likely an element is dropped (Klambauer et al. 2017).
        training: without, the input itself comes back.
        inplace: accepted as in PyTorch, and without effect.
    """
    x = _checked(input, p, "alpha_dropout")
    return _drop_to_limit(x, p, x.shape) if training and p else operand(input, "alpha_dropout")


def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Set whole channels of ``(N, C, *)`` to SELU's lower limit; as :func:`alpha_dropout`."""
    who = "feature_alpha_dropout"
    x = _checked(input, p, who)
    if not training or p == 0:
        return operand(input, who)
    if x.ndim < 2:
        raise ValueError(f"{who}: expected an input of shape (N, C, *), got {x.shape}")
    return _drop_to_limit(x, p, _of_channels(x))


def _drop_to_limit(x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    if p == 1:
        return x * 0.0
    limit = -1.7580993408473766  # -λα of SELU
    factor = ((limit**2 * p + 1) * (1 - p)) ** -0.5
    keep = generator().random(shape, dtype=np.float32) >= p
    dropped = np.where(keep, 0, limit) - limit * p
    return x * wrap((keep * factor).astype(x.dtype)) + wrap((dropped * factor).astype(x.dtype))
