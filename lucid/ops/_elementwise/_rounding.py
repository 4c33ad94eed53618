"""Rounding and signs: piecewise constant, so the gradient is zero."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, operand
from lucid.ops._elementwise._table import Unary, elementwise_pair, named_as, unary

__all__ = ["ceil", "floor", "frac", "nextafter", "round", "sign", "trunc"]


class Step(Function):
    """A NumPy function that is constant between its jumps."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, ufunc: Any) -> Array:
        kind = x.data.dtype.kind
        if kind == "b" or (kind != "f" and ufunc is not _sign):
            return x.data.copy()  # NumPy would make floats of whole numbers
        return np.asarray(ufunc(x.data))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return grad * 0.0


def _step(ufunc: Any, doc: str, name: str = "") -> Unary:
    who = name or ufunc.__name__

    def operation(input: Any) -> Tensor:
        return Step.apply(operand(input, who), ufunc)

    return named_as(operation, who, doc)


def _sign(x: Array) -> Array:
    if x.dtype.kind != "f":
        return np.sign(x)
    signs = (x > 0).view(np.int8)
    signs -= (x < 0).view(np.int8)
    return signs.astype(x.dtype)


sign: Unary = _step(
    _sign, "Return -1, 0 or 1, and 0 for NaN, as PyTorch does; the gradient is 0.", "sign"
)
floor = _step(np.floor, "Return the largest whole number not above ``input``; the gradient is 0.")
ceil = _step(np.ceil, "Return the smallest whole number not below ``input``; the gradient is 0.")
trunc = _step(np.trunc, "Return ``input`` rounded towards 0; the gradient is 0.")


@unary(lambda grad: grad, keep="nothing")
def frac(x: Array) -> Array:
    """Return what :func:`trunc` cuts off."""
    return x - np.trunc(x)


_round = _step(np.rint, "", "round")


def round(input: Any, *, decimals: int = 0) -> Tensor:
    """Return the nearest number of so many ``decimals``, halves to the even one; no gradient."""
    input = operand(input, "round")
    if decimals == 0 or input.data.dtype.kind != "f":
        return _round(input)
    scale = 10.0 ** builtins.abs(decimals)
    return _round(input * scale) / scale if decimals > 0 else _round(input / scale) * scale


nextafter = elementwise_pair(
    np.nextafter,
    "Return the number next to ``input`` on the way to ``other``.",
    lambda g, a, b: g,
    lambda g, a, b: g * 0.0,
)
