"""The file in the making: nodes and constants, named after their place in the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import Tensor
from lucid.graph import Operation, Value, leaves
from lucid.onnx._traced import FIX, Array, ExportError, Size, Traced, Varying, place

# As a name, of a value or of none; what is a constant gets one.
Input = str | Value | Tensor | Array | None


def element_type(dtype: Any) -> int:
    """Return the number by which ONNX knows a dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class Node(NamedTuple):
    """One node of the file."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    name: str
    attributes: dict[str, Any]


class Context:
    """What emitters write into.

    Attributes:
        traced: the model.
        opset: the version of the operators.
        operation: the operation whose nodes are being written.
        nodes: so far.
        constants: the arrays of the file by name.
        names: of the values.
        makers: the operations that made them.
    """

    def __init__(self, traced: Traced, opset: int) -> None:
        self.traced = traced
        self.opset = opset
        self.operation: Operation | None = None
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.names: dict[Value, str] = {}
        self._stored: dict[Any, tuple[str, Array]] = {}  # arrays with their names
        self._once: dict[Any, str] = {}
        self._taken: Counter[str] = Counter()
        self._sources: dict[tuple[int, ...], tuple[Value, int]] = {}
        self._shapes: dict[Value, str] = {}
        self.makers: dict[Value, Operation] = {}

    # -- names ----------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """Return ``name``, with a number behind it if it is taken."""
        self._taken[name] += 1
        count = self._taken[name]
        return name if count == 1 else self.unique(f"{name}_{count}")

    @property
    def where(self) -> str:
        """Where in the model the operation is, in words, and what it is."""
        assert self.operation is not None
        return f"{place(self.operation.module)} {self.operation.name}"

    def refuse(self, why: str) -> ExportError:
        """Return an error that names the operation and its place."""
        return ExportError(f"export: {self.where} {why}")

    def need(self, opset: int, what: str) -> None:
        """Raise ExportError if the file's operators are older than ``what`` needs."""
        if self.opset < opset:
            raise self.refuse(
                f"needs {what}, which is in opset {opset} and later, not in opset "
                f"{self.opset}; give opset={opset}"
            )

    def define(self, value: Value, name: str) -> None:
        """Let ``name`` be that of a value, whose sizes are known from now on."""
        self.names[value] = name
        if self.operation is not None:
            self.makers[value] = self.operation
        for axis, size in enumerate(self.traced.shape(value)):
            if isinstance(size, Size):
                self._sources.setdefault(size.runs, (value, axis))

    # -- nodes and constants ----------------------------------------------------------------------

    def node(self, kind: str, *inputs: Input, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or a tuple of them.

        Args:
            kind: the operator.
            inputs: names, values, tensors or arrays; None where an optional one is left out.
            outputs: how many.
            attributes: those that are None are left out.
        """
        module = self.operation.module if self.operation else ""
        name = self.unique(f"{module}/{kind}" if module else kind)
        given = [self.input(each) for each in inputs]
        while given and not given[-1]:
            given.pop()
        made = [name] if outputs == 1 else [f"{name}:{index}" for index in range(outputs)]
        settings = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(kind, given, made, name, settings))
        return made[0] if outputs == 1 else tuple(made)

    def once(self, kind: str, x: Input, *arrays: Array, axis: int | None = None) -> str:
        """Return the output of a node of that input and those values; it is added once."""
        key = kind, self.input(x), axis, *[(each.dtype.str, each.tobytes()) for each in arrays]
        if key not in self._once:
            self._once[key] = self.node(kind, x, *arrays, axis=axis)
        return self._once[key]

    def input(self, given: Input) -> str:
        """Return the name of what is given to a node."""
        if given is None or isinstance(given, str):
            return given or ""
        if isinstance(given, Value):
            return self.names[given]
        if isinstance(given, Varying):
            return self._varying(given)
        return self.constant(given)

    def constant(self, given: Tensor | Array, name: str = "") -> str:
        """Return the name of an array of the file; equal ones without a name are one.

        Args:
            given: the values; those of a parameter or buffer get its name.
            name: another name.
        """
        array = given.data if isinstance(given, Tensor) else np.asarray(given)
        name = name or self.traced.names.get(id(array), "")
        key: Any = id(array)
        if not name:
            key = array.dtype.str, array.shape, array.tobytes()
        if (key, name) not in self._stored:
            module = self.operation.module if self.operation else ""
            path = f"{module}/constant" if module else "constant"
            stored = self.unique(name or path)
            self._stored[key, name] = stored, array  # kept, so that its id is no other's
            self.constants[stored] = np.ascontiguousarray(array).reshape(array.shape)
        return self._stored[key, name][0]

    def like(self, number: float, x: Any) -> Array:
        """Return a number in the dtype of ``x``."""
        return np.asarray(number, x.dtype)

    def cast(self, x: Input, dtype: Any) -> str:
        """Add what converts ``x``, unless it has that dtype."""
        if not isinstance(x, str) and x is not None and getattr(x, "dtype", None) == dtype:
            return self.input(x)
        return self.node("Cast", x, to=element_type(dtype))

    def with_axes(self, kind: str, x: Input, axes: Sequence[int]) -> str:
        """Add a Squeeze or Unsqueeze, whose axes were an attribute before opset 13."""
        if self.opset >= 13:
            return self.node(kind, x, np.array(axes, np.int64))
        return self.node(kind, x, axes=list(axes))

    def rename(self, made: str, name: str) -> None:
        """Let what a node has made be called ``name``; what others are called is copied."""
        makers = [node for node in self.nodes if made in node.outputs]
        if not makers:
            self.nodes.append(Node("Identity", [made], [name], self.unique("Identity"), {}))
            return
        for node in self.nodes:
            for names in (node.inputs, node.outputs):
                names[:] = [name if each == made else each for each in names]

    def used(self, results: Sequence[str]) -> tuple[list[Node], dict[str, Array]]:
        """Return the nodes and constants of which the results are made."""
        needed = set(results)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return kept[::-1], constants

    # -- sizes --------------------------------------------------------------------------------

    def shape(self, value: Any) -> tuple[int | Size, ...]:
        """Return the shape of a value, with sizes that depend on the input, or of a constant."""
        return self.traced.shape(value)

    def fixed(self, given: Any, what: str) -> Any:
        """Return what must not depend on the input's size."""
        if any(isinstance(leaf, (Size, Varying)) for leaf in leaves(given)):
            raise self.refuse(f"depends on the input's size by {what}{FIX}")
        return given

    def sizes(self, sizes: Sequence[int | Size]) -> str:
        """Return the name of a vector of integers, those that depend on the input computed."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(np.array(sizes, np.int64))
        parts = [
            self._size(size) if isinstance(size, Size) else self.constant(np.array([size]))
            for size in sizes
        ]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def _size(self, size: Size) -> str:
        """Return the name of a vector of one element, a size that is that of some value."""
        for factor in range(1, 1 + min(abs(run) for run in size.runs)):
            if any(run % factor for run in size.runs):
                continue
            found = self._sources.get(tuple(run // factor for run in size.runs))
            if found is None:
                continue
            value, axis = found
            if value not in self._shapes:
                self._shapes[value] = self.node("Shape", value)
            one = self.node("Gather", self._shapes[value], np.array([axis], np.int64), axis=0)
            return one if factor == 1 else self.node("Mul", one, np.array([factor], np.int64))
        raise self.refuse(
            "depends on the input's size in a way that no file can say (an integer is "
            f"{', '.join(map(str, size.runs))} for inputs of several sizes){FIX}"
        )

    def _varying(self, varying: Varying) -> str:
        """Return the name of a constant of the input's size: one that repeats along those axes."""
        arrays = [np.asarray(run) for run in varying.runs]
        rest = list(arrays)
        if len({array.ndim for array in arrays}) > 1:
            raise self.refuse(f"has a constant that depends on the input's size{FIX}")
        target: list[int | Size] = []
        for axis in range(arrays[0].ndim):
            lengths = tuple(array.shape[axis] for array in arrays)
            if len(set(lengths)) == 1:
                target.append(lengths[0])
                continue
            target.append(Size(lengths))
            rest = [array.take([0], axis) for array in rest]
        alike = all(
            np.array_equal(part, rest[0], equal_nan=part.dtype.kind == "f") for part in rest
        )
        if not alike or not all((array == part).all() for array, part in zip(arrays, rest)):
            raise self.refuse(f"has a constant that depends on the input's size or values{FIX}")
        return self.node("Expand", rest[0], self.sizes(target))
