"""The module that an ONNX file becomes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lucid._check import short
from lucid.autograd import Tensor
from lucid.autograd._function import observe
from lucid.autograd._tensor import wrap
from lucid.nn import Module
from lucid.onnx._operators import OPERATORS
from lucid.onnx._read import Input, Node
from lucid.ops._common import operand


class Step(NamedTuple):
    """A node, the path of the layer that it is or None, and the values that it uses last."""

    node: Node
    layer: str | None
    last: tuple[str, ...]


class ImportedModel(Module):
    """A network from an ONNX file: its nodes, run one after the other.

    A node with constant weights that is one of lucid's layers is that layer, under the name that
    its weights have in the file; what else the file holds of numbers to learn are parameters. What
    depends on nothing but shapes is computed on NumPy arrays, outside the graph.

    Attributes:
        inputs: name, shape and dtype of what ``forward`` takes; open sizes are None.
        outputs: the names of what it returns.
        metadata: the texts in the file, by name.
        opset: the file's version of ONNX's operators.
        pretrained_cfg: what the file says of images and classes, as a model of lucid's has it;
            None if it says nothing.
        name: the architecture that the file names, or None.
    """

    def __init__(
        self, inputs: list[Input], outputs: list[str], metadata: dict[str, str], opset: int
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.metadata = metadata
        self.opset = opset
        self.pretrained_cfg: dict[str, Any] | None = None
        self.name: str | None = None
        self._steps: list[Step] = []
        self._constants: dict[str, np.ndarray] = {}
        self._learned: dict[str, str] = {}  # value -> path of the parameter

    def forward(self, *inputs: Any) -> Any:
        """Return the output, or several as a tuple, for the file's inputs in their order.

        Raises:
            ValueError: if there are more or fewer inputs, one has another number of axes than in
                the file, or a node cannot compute; the message names the node.
        """
        if len(inputs) != len(self.inputs):
            names = ", ".join(short(each.name) for each in self.inputs)
            raise ValueError(
                f"ImportedModel: expected {len(self.inputs)} inputs ({names}), got {len(inputs)}"
            )
        values: dict[str, Any] = dict(self._constants)
        for declared, value in zip(self.inputs, inputs):
            x = operand(value, "ImportedModel")
            if declared.shape is not None and x.ndim != len(declared.shape):
                raise ValueError(
                    f"ImportedModel: expected {short(declared.name)} of shape "
                    f"{_shown(declared.shape)}, got {x.shape}"
                )
            values[declared.name] = x
        for name, path in self._learned.items():
            values[name] = self.get_parameter(path)
        for step in self._steps:
            results = self._run(step, [values[name] if name else None for name in step.node.inputs])
            values.update(zip(step.node.outputs, results))
            for name in step.last:
                del values[name]
        found = [operand(values[name], "ImportedModel") for name in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)

    def _run(self, step: Step, inputs: list[Any]) -> tuple[Any, ...]:
        node = step.node
        try:
            if step.layer is not None:
                return (self.get_submodule(step.layer)(inputs[0]),)
            return compute(node, inputs)
        except Exception as error:
            reason = str(error).removeprefix(f"{node}: ")
            raise ValueError(f"{node}: {reason or type(error).__name__}") from error

    def extra_repr(self) -> str:
        """Return what goes in and what comes out."""
        inputs = ", ".join(f"{each.name} {_shown(each.shape)}" for each in self.inputs)
        return f"{inputs} -> {', '.join(self.outputs)}"


def compute(node: Node, inputs: list[Any]) -> tuple[Any, ...]:
    """Return what a node gives; arrays, outside the graph, where it takes nothing else."""
    function = OPERATORS[node.kind].compute
    if any(isinstance(value, Tensor) for value in inputs):
        result = function(node, *inputs)
        return result if isinstance(result, tuple) else (result,)
    with observe(None):
        result = function(node, *inputs)
    results = result if isinstance(result, tuple) else (result,)
    return tuple(each.data if isinstance(each, Tensor) else each for each in results)


def as_parameter_data(array: np.ndarray) -> Tensor:
    """Return an array of a file as a tensor of its own memory."""
    return wrap(np.ascontiguousarray(array))


def _shown(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "(…)"
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
