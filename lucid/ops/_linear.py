"""The linear map of a layer: a matrix product and a bias in one operation."""

from __future__ import annotations

import math
from typing import Any

from lucid import kernels
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating, operand, save_factors, wanted
from lucid.ops._matmul import matmul

__all__ = ["linear"]


class Linear(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Array:
        save_factors(ctx, x, weight)
        ctx.x_shape = x.shape
        # One large matrix product: NumPy would make one for each row of the leading axes.
        rows = x.data.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y: Array = kernels.active().linear(rows, weight.data, None if bias is None else bias.data)
        return y.reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = grad.reshape(math.prod(grad.shape[:-1]), grad.shape[-1])
        return wanted(
            ctx,
            lambda: Linear.apply(grad, weight.transpose(0, 1), None),
            lambda: Linear.apply(rows.t(), x.reshape(rows.shape[0], x.shape[-1]).t(), None),
            lambda: rows.sum(0),
        )


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    r"""Return :math:`x W^T + b`.

    Args:
        input: ``(*, I)``, with any number of leading axes.
        weight: ``(O, I)``, or ``(I,)`` for one output without an axis.
        bias: ``(O,)``, one number for all, or None.

    Returns:
        ``(*, O)``, or ``(*)`` for a weight ``(I,)``; integers if all three are integers.

    Raises:
        ValueError: if the shapes do not fit each other.
        TypeError: if the dtypes differ.
    """
    return apply_linear("linear", input, weight, bias)


def apply_linear(who: str, input: Any, weight: Any, bias: Any) -> Tensor:
    """Check the arguments in the name of ``who`` and apply the map."""
    given = [operand(value, who) for value in (input, weight)]
    if bias is not None:
        given.append(operand(bias, who))
    whole = all(value.dtype.kind in "iu" for value in given)
    if not whole:
        given = [floating(value, who) for value in given]
    x, w = given[:2]
    b = given[2] if len(given) == 3 else None
    if w.ndim == 1:
        return apply_linear(who, x, w.unsqueeze(0), b).squeeze(-1)
    if w.ndim != 2:
        raise ValueError(f"{who}: expected a weight of shape (O, I), got shape {w.shape}")
    if x.ndim == 0 or x.shape[-1] != w.shape[1]:
        got = x.shape[-1] if x.ndim else "none"
        raise ValueError(
            f"{who}: expected {w.shape[1]} input features (last axis), got {got} from an input of "
            f"shape {x.shape}"
        )
    if b is not None and b.shape in ((), (1,)):
        b = b.expand(w.shape[0]).contiguous()
    if b is not None and b.shape != (w.shape[0],):
        raise ValueError(f"{who}: expected a bias of shape ({w.shape[0]},), got shape {b.shape}")
    dtypes = {t.dtype for t in (x, w, b) if t is not None}
    if len(dtypes) > 1:
        raise TypeError(
            f"{who}: input and weight must have the same dtype, got {x.dtype} and {w.dtype}"
            + ("" if b is None else f", and a bias of {b.dtype}")
            + "; convert one with astype()"
        )
    if whole:  # the layer's kernels are for floats
        product = matmul(x, w.transpose(0, 1))
        return product if b is None else product + b
    return Linear.apply(x, w, b)
