"""Activations."""

from __future__ import annotations

import math
from typing import Any

from lucid import kernels
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating


class Clip(Function):
    """``min(max(x, low), high)``: ReLU, ReLU6 and Hardtanh. Keeps its output."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, low: float, high: float) -> Array:
        y: Array = kernels.active().clip(x.data, low, high)
        ctx.save_for_backward(y)
        ctx.bounds = low, high
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return ClipGrad.apply(grad, y.detach(), *ctx.bounds)


class ClipGrad(Function):
    """Linear in ``grad``; the output only chooses where it passes, so it is its own derivative."""

    @staticmethod
    def forward(ctx: Node, grad: Tensor, y: Tensor, low: float, high: float) -> Array:
        ctx.save_for_backward(None, y)
        ctx.bounds = low, high
        result: Array = kernels.active().clip_grad(grad.data, y.data, low, high)
        return result

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        _, y = ctx.saved_tensors
        return ClipGrad.apply(grad, y, *ctx.bounds)


def relu(input: Any, inplace: bool = False) -> Tensor:
    """Return ``max(x, 0)``.

    Args:
        input: any shape; integers are taken as float32.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """
    return Clip.apply(floating(input, "relu"), 0.0, math.inf)


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """Return ``min(max(x, 0), 6)`` (Krizhevsky 2010). For the arguments see :func:`relu`."""
    return Clip.apply(floating(input, "relu6"), 0.0, 6.0)
