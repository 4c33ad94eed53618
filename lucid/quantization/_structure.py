"""Which layers follow which, as quantisation wants to know it; batch norms folded into layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from lucid import nn
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.graph import Operation, Value, leaves, trace
from lucid.nn._parameter import overwrite
from lucid.ops._activation import Clip, LeakyReLU
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d
from lucid.ops._elementwise._arithmetic import Add, Mul, Sub
from lucid.ops._linear import Linear
from lucid.quantization._layers import is_quantizable

Layer = Any  # a Conv2d or a Linear

# Modules that return what they are given, in evaluation.
_NOTHING = (nn.Identity, nn.Dropout)


class Structure:
    """The layers of a model that can be quantised, and who reads what they compute.

    Attributes:
        layers: path -> layer, in the order in which they run.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        graph = trace(model, example)
        self.modules = dict(model.named_modules())
        self._same: dict[Value, Value] = {}  # what nothing was done to -> what it was
        self._readers: dict[Value, list[Operation | None]] = {}
        for operation in graph.operations:
            values = [self._origin(value) for value in leaves(operation.args, Value)]
            if isinstance(operation.kind, _NOTHING) and len(values) == 1:
                self._same[operation.outputs[0]] = values[0]
                continue
            for value in values:
                self._readers.setdefault(value, []).append(operation)
        for value in leaves(graph.result, Value):
            self._readers.setdefault(self._origin(value), []).append(None)
        self._times = Counter((op.kind, op.module) for op in graph.operations)
        self.layers: dict[str, Layer] = {}
        self._operations: dict[str, Operation] = {}
        for operation in graph.operations:
            layer: Layer = self.modules.get(operation.module)
            known = operation.kind in (Conv2d, Linear) and is_quantizable(layer)
            if known and operation.args[1] is layer.weight:
                self.layers[operation.module] = layer
                self._operations[operation.module] = operation

    def _origin(self, value: Value) -> Value:
        return self._same.get(value, value)

    def readers(self, value: Value) -> list[Operation | None]:
        """Return the operations that read a value; None stands for the model's caller."""
        return self._readers.get(self._origin(value), [])

    def only_reader(self, operation: Operation) -> Operation | None:
        """Return the one operation that reads the result of one which runs once, or None."""
        if self._times[operation.kind, operation.module] > 1:
            return None
        readers = self.readers(operation.outputs[0])
        return readers[0] if len(readers) == 1 else None

    def batch_norms(self) -> dict[str, str]:
        """Return the paths of layers whose result a batch norm alone reads, and that one's path."""
        found = {}
        for path, operation in self._operations.items():
            norm = self.only_reader(operation)
            if norm is None or norm.kind is not BatchNormInference:
                continue
            module = self.modules[norm.module]
            once = self._times[norm.kind, norm.module] == 1 and norm.module
            if once and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                found[path] = norm.module
        return found

    def pairs(self) -> list[tuple[Layer, Layer]]:
        """Return layers of which the second alone reads the first's result, or its ReLU."""
        found = []
        by_operation = {id(operation): path for path, operation in self._operations.items()}
        for path, operation in self._operations.items():
            reader = self.only_reader(operation)
            if reader is not None and _is_homogeneous(reader):
                readers = self.readers(reader.outputs[0])
                reader = readers[0] if len(readers) == 1 else None
            if reader is None or reader.kind is not operation.kind:
                continue
            other = by_operation.get(id(reader))
            if other is not None and self._times[reader.kind, reader.module] == 1:
                found.append((self.layers[path], self.layers[other]))
        return found

    def is_summand(self, path: str) -> bool:
        """Return whether a sum or a product reads a layer's result, such as a residual's."""
        readers = self.readers(self._operations[path].outputs[0])
        return any(each is not None and each.kind in (Add, Sub, Mul) for each in readers)


def _is_homogeneous(operation: Operation) -> bool:
    """Return whether f(s·x) = s·f(x) for every s > 0."""
    if operation.kind is Clip:
        return operation.args[1:] == [0.0, np.inf]
    return operation.kind is LeakyReLU


def fold_batch_norms(model: nn.Module, example: Tensor) -> None:
    """Multiply batch norms into the layers before them, and put ``nn.Identity`` in their place.

    This is what evaluation computes (Jacob et al. 2018, section 3.2). A batch norm of the batch's
    own statistics stays, as does one behind anything but a layer that nothing else reads.
    """
    structure = Structure(model, example)
    for path, norm_path in structure.batch_norms().items():
        layer: Layer = structure.layers[path]
        norm: Any = structure.modules[norm_path]
        scale, shift = scale_and_shift(
            norm.weight,
            norm.bias,
            norm.running_mean.data,
            norm.running_var.data,
            norm.eps,
            layer.weight.dtype,
        )
        if layer.bias is not None:
            shift = shift + layer.bias.data * scale
        factors = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        overwrite(layer.weight, layer.weight.data * factors)
        layer.bias = nn.Parameter(wrap(shift.astype(layer.weight.dtype)))
        parent, _, name = norm_path.rpartition(".")
        setattr(structure.modules[parent], name, nn.Identity())
