"""Normalisation."""

from __future__ import annotations

import math
from typing import Any

from lucid import nn, ops
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.onnx._operators._table import Built, Weight, axis_of, operator, tensor, unsupported
from lucid.onnx._read import Node


def _is_list(*weights: Weight | None) -> bool:
    return all(w is None or (w.array.ndim == 1 and w.array.dtype.kind == "f") for w in weights)


def _batch_norm_layer(
    node: Node, rank: int | None, scale: Weight, bias: Weight, mean: Weight, variance: Weight
) -> Built | None:
    if node.integer("training_mode") or not _is_list(scale, bias, mean, variance):
        return None
    kind = nn.BatchNorm1d if rank in (2, 3) else nn.BatchNorm2d
    layer = kind(len(scale.array), node.number("epsilon", 1e-5), 1 - node.number("momentum", 0.9))
    return layer, {
        "weight": scale, "bias": bias, "running_mean": mean, "running_var": variance
    }  # fmt: skip


@operator("BatchNormalization", layer=_batch_norm_layer, size=None)
def batch_norm(node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    """`nn.BatchNorm2d` or `nn.BatchNorm1d`, which train in training mode."""
    x = tensor(x)
    sizes = (1, -1) + (1,) * (x.ndim - 2)
    eps, keep = node.number("epsilon", 1e-5), node.number("momentum", 0.9)
    means, variances = tensor(mean), tensor(variance)
    results: tuple[Tensor, ...] = ()
    if node.integer("training_mode"):
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        own = ops.mean(x, axes), ops.var(x, axes, correction=0)
        results = tuple(
            old * keep + new.astype(old.dtype) * (1 - keep)
            for old, new in zip((means, variances), own)
        )
        means, variances = own
    elif node.wants(1):
        raise unsupported(node, "more than one output")
    factor = tensor(scale) / ops.sqrt(variances + eps)
    y = x * factor.reshape(sizes) + (tensor(bias) - means * factor).reshape(sizes)
    return (y.astype(x.dtype), *results) if results else y.astype(x.dtype)


def _layer_norm_layer(
    node: Node, rank: int | None, scale: Weight, bias: Weight | None = None
) -> Built | None:
    axis, shape = node.integer("axis", -1), scale.array.shape
    last = axis if axis < 0 or rank is None else axis - rank
    if node.wants(1) or node.wants(2) or last != -len(shape) or scale.array.dtype.kind != "f":
        return None
    if bias is not None and bias.array.shape != shape:
        return None
    layer = nn.LayerNorm(shape, node.number("epsilon", 1e-5), bias=bias is not None)
    return layer, {"weight": scale, "bias": bias}


@operator("LayerNormalization", layer=_layer_norm_layer, size=None)
def layer_norm(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    """`nn.LayerNorm`."""
    x = tensor(x)
    first = axis_of(node.integer("axis", -1), x.ndim)
    axes, eps = tuple(range(first, x.ndim)), node.number("epsilon", 1e-5)
    y = F.layer_norm(x, x.shape[first:], None, None, eps) * tensor(scale)
    y = y if bias is None else y + tensor(bias)
    if not (node.wants(1) or node.wants(2)):
        return y
    mean = ops.mean(x, axes, True)
    return y, mean, ops.rsqrt(ops.var(x, axes, correction=0, keepdim=True) + eps)


@operator("RMSNormalization", size=None)
def rms_norm(node: Node, x: Any, scale: Any) -> Any:
    """From `lucid.mean` and `lucid.rsqrt`."""
    x = tensor(x)
    axes = tuple(range(axis_of(node.integer("axis", -1), x.ndim), x.ndim))
    mean = ops.mean(x * x, axes, True) + node.number("epsilon", 1e-5)
    return (x * ops.rsqrt(mean) * tensor(scale)).astype(x.dtype)


def _instance_norm_layer(node: Node, rank: int | None, scale: Weight, bias: Weight) -> Built | None:
    if rank != 4 or not _is_list(scale, bias):
        return None
    layer = nn.InstanceNorm2d(len(scale.array), node.number("epsilon", 1e-5), affine=True)
    return layer, {"weight": scale, "bias": bias}


@operator("InstanceNormalization", layer=_instance_norm_layer, size=None)
def instance_norm(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    """`nn.InstanceNorm2d`, or `nn.functional.instance_norm`."""
    eps = node.number("epsilon", 1e-5)
    return F.instance_norm(x, weight=tensor(scale), bias=tensor(bias), eps=eps)


def _group_norm_layer(node: Node, rank: int | None, scale: Weight, bias: Weight) -> Built | None:
    groups = node.integer("num_groups", 1)
    # Before opset 21, one factor for each group: only with groups of one channel are they alike.
    if node.opset < 21 or not _is_list(scale, bias) or len(scale.array) % max(groups, 1):
        return None
    layer = nn.GroupNorm(groups, len(scale.array), node.number("epsilon", 1e-5))
    return layer, {"weight": scale, "bias": bias}


@operator("GroupNormalization", layer=_group_norm_layer, size=None)
def group_norm(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    """`nn.GroupNorm`; with a factor for each group, before opset 21, `nn.functional.group_norm`."""
    x, groups = tensor(x), node.integer("num_groups", 1)
    y = F.group_norm(x, groups, None, None, node.number("epsilon", 1e-5))
    channels = x.shape[1] if node.opset >= 21 else groups
    grouped = y.reshape(x.shape[0], channels, -1)
    sizes = (1, channels, 1)
    scaled = grouped * tensor(scale).reshape(sizes) + tensor(bias).reshape(sizes)
    return scaled.reshape(x.shape)


@operator("MeanVarianceNormalization", size=None)
def mean_variance_norm(node: Node, x: Any) -> Any:
    """From `lucid.mean` and `lucid.var`."""
    x, axes = tensor(x), tuple(node.ints("axes", [0, 2, 3]))
    deviation = ops.sqrt(ops.var(x, axes, correction=0, keepdim=True))
    return (x - ops.mean(x, axes, True)) / (deviation + 1e-9)


@operator("LRN", size=None)
def local_response_norm(node: Node, x: Any) -> Any:
    """From `lucid.cumsum` over the channels."""
    x, size = tensor(x), node.integer("size", 1)
    before = math.ceil((size - 1) / 2)
    pads = (0, 0) * (x.ndim - 2) + (size - 1 - before, size - 1 - (size - 1 - before))
    squares = nn.functional.pad(x * x, pads)
    count = x.shape[1]
    total = squares[:, :count]
    for place in range(1, size):
        total = total + squares[:, place : place + count]
    scale = total * (node.number("alpha", 1e-4) / size) + node.number("bias", 1.0)
    return x / ops.pow(scale, node.number("beta", 0.75))
