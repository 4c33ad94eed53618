"""Batch norms multiplied into the weights of the layers before them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.graph import Operation, Value, leaves
from lucid.onnx._traced import Traced
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d
from lucid.ops._linear import Linear


def fold_batch_norms(traced: Traced) -> None:
    """Take each batch norm away that follows a convolution or linear layer of its own.

    The weights keep their names; the bias that arises is ``bias`` beside the ``weight``.
    """
    arguments = [operation.args for operation in traced.operations]
    uses = Counter(leaves([arguments, traced.result], Value))
    operations: list[Operation] = []
    layers: dict[Value, int] = {}  # the place of the layer that made a value
    for operation in traced.operations:
        place = layers.get(operation.args[0]) if operation.kind is BatchNormInference else None
        folded = None
        if place is not None and uses[operation.args[0]] == 1:
            folded = _folded(traced, operations[place], operation)
        if place is not None and folded is not None:
            operations[place] = folded
            continue
        if operation.kind is Conv2d or (operation.kind is Linear and operation.args[0].ndim == 2):
            layers[operation.outputs[0]] = len(operations)
        operations.append(operation)
    traced.operations = operations


def _folded(traced: Traced, layer: Operation, norm: Operation) -> Operation | None:
    """Return a layer with the norm behind it; None if one of them is not by constants."""
    x, weight, bias, *rest = layer.args
    _, scale, shift, mean, variance, eps = norm.args
    if not all(each is None or isinstance(each, Tensor) for each in (weight, bias, scale, shift)):
        return None
    wide = np.dtype(np.float64)
    factors, summands = scale_and_shift(scale, shift, mean, variance, eps, wide)
    kernel = weight.data * factors.reshape(-1, *[1] * (weight.ndim - 1))
    if bias is not None:
        summands = summands + bias.data * factors
    new = [wrap(each.astype(weight.dtype)) for each in (kernel, summands)]
    name = traced.names.get(id(weight.data), "")
    if name.endswith("weight"):
        traced.names[id(new[0].data)] = name
        traced.names[id(new[1].data)] = name.removesuffix("weight") + "bias"
    return replace(layer, args=[x, *new, *rest], outputs=norm.outputs)
