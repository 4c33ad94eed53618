"""The table of operators, and what their functions share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import Tensor
from lucid.nn import Module
from lucid.onnx._read import Node, UnsupportedError
from lucid.ops._common import operand

Compute = Callable[..., Any]


class Weight(NamedTuple):
    """A constant of the file: its name, and its elements."""

    name: str
    array: np.ndarray

    @property
    def transposed(self) -> Weight:
        """The same with its axes the other way round, under a name of its own."""
        return Weight(f"{self.name}.T", np.ascontiguousarray(self.array.T))


# A layer, and its parameters and buffers by name.
Built = tuple[Module, dict[str, Weight | None]]


class Operator(NamedTuple):
    """How lucid computes an operator.

    Attributes:
        compute: ``compute(node, *inputs)``. Inputs are tensors, or arrays where they depend on
            nothing but shapes and constants, or None; results likewise, several as a tuple.
        text: in words, for the documentation.
        layer: ``layer(node, rank, *constants)``: the layer that the node is if all inputs but the
            first are constants, or None; ``rank`` is the input's number of axes, or None.
        size: ``size(node, *inputs)``: about how many elements come of constants; by default what
            the inputs broadcast to. None if it is not to be computed ahead.
        fixed: the positions of inputs that are settings: never parameters.
    """

    compute: Compute
    text: str
    layer: Callable[..., Built | None] | None = None
    size: Callable[..., int] | None = None
    fixed: tuple[int, ...] = ()

    def check(self, node: Node) -> None:
        """Raise a ValueError unless the node has a right number of inputs."""
        parameters = list(inspect.signature(self.compute).parameters.values())[1:]
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return
        least = sum(p.default is p.empty for p in parameters)
        given = len(node.inputs)
        if not least <= given <= len(parameters) or "" in node.inputs[:least]:
            raise ValueError(f"{node}: expected {least} to {len(parameters)} inputs, got {given}")


OPERATORS: dict[str, Operator] = {}


def broadcast_size(node: Node, *inputs: Any) -> int:
    """Return how many elements the inputs broadcast to; if they do not, how many they are."""
    shapes = [np.shape(value) for value in inputs if value is not None]
    try:
        return int(np.prod(np.broadcast_shapes(*shapes), dtype=object))
    except ValueError:
        return sum(int(np.size(value)) for value in inputs)


def operator(
    *names: str,
    text: str | None = None,
    layer: Callable[..., Built | None] | None = None,
    size: Callable[..., int] | None = broadcast_size,
    fixed: tuple[int, ...] = (),
) -> Callable[[Compute], Compute]:
    """Enter a function into the table, under the names of the operators that it computes."""

    def enter(compute: Compute) -> Compute:
        described = text or (inspect.getdoc(compute) or "").partition("\n")[0]
        for name in names:
            OPERATORS[name] = Operator(compute, described, layer, size, fixed)
        return compute

    return enter


def tensor(value: Any, who: str = "onnx") -> Tensor:
    """Return a tensor or an array as a tensor."""
    return operand(value, who)


def array(value: Any) -> np.ndarray:
    """Return the elements of a tensor or an array: shapes, axes and such."""
    return value.data if isinstance(value, Tensor) else np.asarray(value)


def ints(value: Any) -> list[int]:
    """Return integers that a tensor or an array holds."""
    numbers = array(value)
    if numbers.dtype.kind not in "iu" or numbers.ndim > 1:
        raise ValueError(f"expected a list of integers, got {numbers.dtype} {numbers.shape}")
    return [int(number) for number in numbers.reshape(-1)]


def scalar(value: Any) -> Any:
    """Return the one number that a tensor or an array holds."""
    numbers = array(value)
    if numbers.size != 1:
        raise ValueError(f"expected one number, got shape {numbers.shape}")
    return numbers.reshape(()).item()


def given_ints(node: Node, name: str, value: Any) -> list[int] | None:
    """Return integers that are an input since some opset, and were an attribute before."""
    return node.ints(name) if value is None else ints(value)


def whole(x: Any) -> bool:
    """Whether a tensor or an array holds integers or booleans."""
    return array_dtype(x).kind != "f"


def array_dtype(x: Any) -> np.dtype[Any]:
    """Return the dtype of a tensor or an array."""
    return np.dtype(x.dtype)


def axis_of(axis: int, ndim: int) -> int:
    """Return an axis counted from the front."""
    if not -ndim <= axis < max(ndim, 1):
        raise ValueError(f"axis {axis} is out of range for {ndim} axes")
    return axis % ndim if ndim else 0


def unsupported(node: Node, what: str) -> UnsupportedError:
    """Return the error for a form of an operator that lucid does not compute."""
    return UnsupportedError(f"{node}: {what} is not supported")
