"""Reductions, sorting, softmax, and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid import nn, ops
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.onnx._operators._table import (
    Built,
    Weight,
    axis_of,
    given_ints,
    operator,
    scalar,
    tensor,
)
from lucid.onnx._read import Node

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _extreme(x: Tensor, axes: tuple[int, ...], keep: bool, of: Any, empty: float) -> Tensor:
    if x.dtype.kind == "b":
        return _extreme(x.astype(np.uint8), axes, keep, of, empty).astype(bool)
    if any(x.shape[axis] == 0 for axis in axes):
        sizes = [1 if axis in axes else length for axis, length in enumerate(x.shape)]
        if x.dtype.kind != "f":
            kind = np.iinfo(x.dtype)
            empty = kind.min if empty < 0 else kind.max
        kept = ops.full(sizes, empty, dtype=x.dtype)
        return kept if keep else kept.reshape([s for a, s in enumerate(sizes) if a not in axes])
    return of(x, axes, keep)


def _log_sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return ops.log(ops.sum(x, axes, keep))


_REDUCTIONS: dict[str, tuple[Reduction, str]] = {
    "ReduceL1": (lambda x, axes, keep: ops.sum(ops.abs(x), axes, keep), "`lucid.sum`"),
    "ReduceL2": (lambda x, axes, keep: ops.norm(x, 2, axes, keep), "`lucid.norm`"),
    "ReduceLogSum": (_log_sum, "`lucid.log` of `lucid.sum`"),
    "ReduceLogSumExp": (ops.logsumexp, "`lucid.logsumexp`"),
    "ReduceMax": (
        lambda x, axes, keep: _extreme(x, axes, keep, ops.amax, -math.inf),
        "`lucid.amax`",
    ),
    "ReduceMean": (ops.mean, "`lucid.mean`"),
    "ReduceMin": (
        lambda x, axes, keep: _extreme(x, axes, keep, ops.amin, math.inf),
        "`lucid.amin`",
    ),
    "ReduceProd": (ops.prod, "`lucid.prod`"),
    "ReduceSum": (ops.sum, "`lucid.sum`"),
    "ReduceSumSquare": (lambda x, axes, keep: ops.sum(x * x, axes, keep), "`lucid.sum`"),
}


def _reduced(reduce: Reduction) -> Callable[..., Any]:
    def compute(node: Node, x: Any, axes: Any = None) -> Any:
        x = tensor(x)
        given = given_ints(node, "axes", axes)
        if not given and node.integer("noop_with_empty_axes"):
            along: tuple[int, ...] = ()
        else:
            along = tuple(axis_of(axis, x.ndim) for axis in given or range(x.ndim))
        if not along and x.ndim:  # each element by itself
            return reduce(x.unsqueeze(-1), (x.ndim,), False).astype(x.dtype)
        return reduce(x, along, bool(node.integer("keepdims", 1))).astype(x.dtype)

    return compute


for _name, (_function, _text) in _REDUCTIONS.items():
    operator(_name, text=_text)(_reduced(_function))


def _place(node: Node, x: Any, function: Any) -> Any:
    x = tensor(x)
    axis, keep = axis_of(node.integer("axis"), x.ndim), bool(node.integer("keepdims", 1))
    if node.integer("select_last_index"):
        return (x.shape[axis] - 1) - function(ops.flip(x, axis), axis, keep)
    return function(x, axis, keep)


@operator("ArgMax")
def arg_max(node: Node, x: Any) -> Any:
    """`lucid.argmax`."""
    return _place(node, x, ops.argmax)


@operator("ArgMin")
def arg_min(node: Node, x: Any) -> Any:
    """`lucid.argmin`."""
    return _place(node, x, ops.argmin)


@operator("TopK")
def top_k(node: Node, x: Any, k: Any = None) -> Any:
    """`lucid.topk`."""
    count = node.integer("k") if k is None else int(scalar(k))
    found = ops.topk(tensor(x), count, node.integer("axis", -1), bool(node.integer("largest", 1)))
    return found.values, found.indices


@operator("CumSum")
def cum_sum(node: Node, x: Any, axis: Any) -> Any:
    """`lucid.cumsum`, also backwards or without the element itself."""
    x, along = tensor(x), int(scalar(axis))
    backwards = node.integer("reverse")
    values = ops.flip(x, along) if backwards else x
    sums = ops.cumsum(values, along).astype(x.dtype)
    if node.integer("exclusive"):
        sums = sums - values
    return ops.flip(sums, along) if backwards else sums


# -- softmax ------------------------------------------------------------------------------------


def _softmax_layer(node: Node, rank: int | None, made: Any) -> Built | None:
    if node.opset >= 13:
        return made(node.integer("axis", -1)), {}
    last = rank is not None and node.integer("axis", 1) in (-1, rank - 1)
    return (made(-1), {}) if last else None


def _softmax(node: Node, x: Any, function: Any) -> Any:
    x = tensor(x)
    if node.opset >= 13:
        return function(x, node.integer("axis", -1))
    # Before opset 13, over all axes from that one on.
    axis = axis_of(node.integer("axis", 1), x.ndim)
    rows = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return function(rows, 1).reshape(x.shape)


@operator("Softmax", layer=lambda node, rank: _softmax_layer(node, rank, nn.Softmax), size=None)
def softmax(node: Node, x: Any) -> Any:
    """`nn.Softmax`."""
    return _softmax(node, x, F.softmax)


@operator(
    "LogSoftmax", layer=lambda node, rank: _softmax_layer(node, rank, nn.LogSoftmax), size=None
)
def log_softmax(node: Node, x: Any) -> Any:
    """`nn.LogSoftmax`."""
    return _softmax(node, x, F.log_softmax)


@operator("Hardmax")
def hardmax(node: Node, x: Any) -> Any:
    """1 at the first of the largest, else 0."""

    def one_at_most(x: Tensor, axis: int) -> Tensor:
        axis = axis_of(axis, x.ndim)
        along = ops.arange(x.shape[axis]).reshape(
            [-1 if each == axis else 1 for each in range(x.ndim)]
        )
        return ops.eq(ops.argmax(x, axis, True), along).astype(x.dtype)

    return _softmax(node, x, one_at_most)


# -- products of matrices -----------------------------------------------------------------------


def linear_layer(weight: Weight, bias: Weight | None, transposed: bool) -> Built | None:
    """Return the layer of a matrix ``(I, O)``, or ``(O, I)`` if it is the transposed one."""
    if weight.array.ndim != 2 or weight.array.dtype.kind != "f":
        return None
    weight = weight if transposed else weight.transposed
    outputs, inputs = weight.array.shape
    if bias is not None and bias.array.shape != (outputs,):
        return None
    return nn.Linear(inputs, outputs, bias is not None), {"weight": weight, "bias": bias}


def _is_linear(node: Node) -> bool:
    """Whether a Gemm is a product and a sum, with no factors."""
    factors = node.number("alpha", 1.0), node.number("beta", 1.0)
    return factors == (1, 1) and not node.integer("transA")


def _gemm_layer(node: Node, rank: int | None, b: Weight, c: Weight | None = None) -> Built | None:
    return linear_layer(b, c, bool(node.integer("transB"))) if _is_linear(node) else None


@operator("Gemm", layer=_gemm_layer, size=None)
def gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    """`nn.Linear`, or `lucid.matmul` with factors."""
    x, y = tensor(a), tensor(b)
    if _is_linear(node) and node.integer("transB") and (c is None or c.shape == y.shape[:1]):
        return ops.linear(x, y, c)
    x = x.transpose(0, 1) if node.integer("transA") else x
    y = y.transpose(0, 1) if node.integer("transB") else y
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    product = ops.matmul(x, y)
    if alpha != 1:
        product = (product * alpha).astype(x.dtype)
    if c is None or beta == 0:
        return product
    summand = tensor(c)
    return product + (summand if beta == 1 else (summand * beta).astype(summand.dtype))


def _mat_mul_layer(
    node: Node, rank: int | None, b: Weight, bias: Weight | None = None
) -> Built | None:
    return linear_layer(b, bias, False)


@operator("MatMul", layer=_mat_mul_layer, size=None)
def mat_mul(node: Node, a: Any, b: Any, bias: Any = None) -> Any:
    """`nn.Linear`, with the constant that is added to it; or `lucid.matmul`."""
    product = ops.matmul(tensor(a), tensor(b))
    return product if bias is None else product + tensor(bias)


@operator("Einsum", size=None)
def einsum(node: Node, *values: Any) -> Any:
    """`lucid.einsum`."""
    return ops.einsum(node.text("equation"), *map(tensor, values))


@operator("LpNormalization")
def lp_normalization(node: Node, x: Any) -> Any:
    """`nn.functional.normalize`."""
    x, p, axis = tensor(x), node.integer("p", 2), node.integer("axis", -1)
    norm = ops.norm(x, p, axis, True)
    return ops.where(norm == 0, 0.0, x / norm)
