"""Reading an ONNX file: checked against its size, sorted, in plain Python and NumPy.

Nothing here computes, and no file outside the model's folder is opened.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import short
from lucid._extras import extra
from lucid._files._common import PathLike, as_path, check_source, fill

OLDEST, NEWEST = 7, 28  # opsets: before, broadcasting had to be asked for

# Codes of TensorProto.DataType: the dtype, and the field that holds elements one by one.
_DTYPES: dict[int, tuple[str, str]] = {
    1: ("<f4", "float_data"),
    2: ("|u1", "int32_data"),
    3: ("|i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("|b1", "int32_data"),
    10: ("<f2", "int32_data"),
    11: ("<f8", "double_data"),
    12: ("<u4", "uint64_data"),
    13: ("<u8", "uint64_data"),
    16: ("<u2", "int32_data"),  # bfloat16, which is widened to float32
}
_FLOAT16, _BFLOAT16 = 10, 16


class UnsupportedError(ValueError):
    """The file is sound, but asks for what lucid does not compute."""


@dataclass
class Node:
    """One operation of the file.

    Attributes:
        kind: the operator; of another domain than ONNX's own with that in front.
        name: as in the file, or a number.
        inputs: names of values, empty where an optional one is left out.
        outputs: names of values, empty where one is not wanted.
        attributes: numbers, texts, arrays, and lists of them.
        opset: the version of the operators.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = NEWEST

    def __str__(self) -> str:
        return f"{self.kind} node {short(self.name)}"

    def _get(self, name: str, default: Any, kinds: type | tuple[type, ...], what: str) -> Any:
        value = self.attributes.get(name, default)
        if value is not default and not isinstance(value, kinds):
            raise ValueError(f"{self}: expected {what} as {name}, got {short(value)}")
        return value

    def integer(self, name: str, default: int = 0) -> int:
        """Return an attribute that is an integer."""
        return self._get(name, default, int, "an integer")

    def number(self, name: str, default: float = 0.0) -> float:
        """Return an attribute that is a number."""
        return self._get(name, default, (int, float), "a number")

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute that is a text."""
        return self._get(name, default, str, "a text")

    def ints(self, name: str, default: Any = None) -> Any:
        """Return an attribute that is a list of integers, or the default."""
        value = self._get(name, default, list, "a list of integers")
        if value is not default and not all(isinstance(item, int) for item in value):
            raise ValueError(f"{self}: expected a list of integers as {name}, got {short(value)}")
        return value

    def wants(self, output: int) -> bool:
        """Whether an output is used."""
        return output < len(self.outputs) and self.outputs[output] != ""


@dataclass
class Input:
    """An input of the model: sizes are numbers, or None where they are open."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any] | None


@dataclass
class Model:
    """What is in a file.

    Attributes:
        inputs: those that have no constant of their name.
        outputs: names of values.
        constants: arrays by name.
        nodes: each after those whose outputs it takes.
        metadata: texts by name.
        opset: the version of ONNX's own operators.
        size: bytes of the file and of the tensors beside it.
    """

    inputs: list[Input]
    outputs: list[str]
    constants: dict[str, np.ndarray]
    nodes: list[Node]
    metadata: dict[str, str]
    opset: int
    size: int


def read(path: PathLike, who: str) -> Model:
    """Read an ONNX file.

    Raises:
        ImportError: if the package onnx is not installed.
        FileNotFoundError: if there is no such file.
        UnsupportedError: a ValueError: if it is of an opset or holds a dtype that lucid has not.
        ValueError: if it is damaged.
    """
    onnx = extra("onnx", "onnx", "reading .onnx files needs the package onnx")
    path = as_path(path, f"{who}(path)")
    check_source(path, who)
    content = path.read_bytes()
    try:
        if not content:
            raise ValueError("it is empty")
        proto = onnx.ModelProto.FromString(content)
        return _Reader(path.parent, len(content)).model(proto)
    except UnsupportedError as error:
        raise UnsupportedError(f"{who}: {path}: {error}") from error
    except Exception as error:  # what damage leads to depends on where it is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{who}: {path} is no sound ONNX model: {reason:.500}") from error


class _Reader:
    """Reads one model; counts what is taken from files beside it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self.left: dict[Path, int] = {}  # bytes of a file beside it that no tensor has taken

    def model(self, proto: Any) -> Model:
        graph = proto.graph
        if not graph.output:
            raise ValueError("it has no graph with an output")
        opset = _opset(proto.opset_import)
        constants = {}
        for tensor in graph.initializer:
            if tensor.name in constants:
                raise ValueError(f"two initialisers are called {short(tensor.name)}")
            constants[tensor.name] = self.array(tensor, f"initialiser {short(tensor.name)}")
        if graph.sparse_initializer:
            raise UnsupportedError("sparse initialisers are not supported")
        inputs = [_input(value) for value in graph.input if value.name not in constants]
        nodes = [self.node(node, index, opset) for index, node in enumerate(graph.node)]
        outputs = [value.name for value in graph.output]
        nodes = _sorted(nodes, {*constants, *(each.name for each in inputs)}, outputs)
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        return Model(inputs, outputs, constants, nodes, metadata, opset, self.size)

    def node(self, proto: Any, index: int, opset: int) -> Node:
        domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
        name = proto.name or str(index)
        node = Node(domain + proto.op_type, name, list(proto.input), list(proto.output), {}, opset)
        for attribute in proto.attribute:
            node.attributes[attribute.name] = self.attribute(attribute, f"{node}")
        return node

    def attribute(self, proto: Any, where: str) -> Any:
        where = f"{where}: {proto.name}"
        match proto.type:
            case 1:
                return float(proto.f)
            case 2:
                return int(proto.i)
            case 3:
                return proto.s.decode("utf-8")
            case 4:
                return self.array(proto.t, where)
            case 6:
                return [float(number) for number in proto.floats]
            case 7:
                return [int(number) for number in proto.ints]
            case 8:
                return [text.decode("utf-8") for text in proto.strings]
        return None  # graphs and the like, which no operator here reads

    def array(self, proto: Any, where: str) -> np.ndarray:
        """Return a tensor's elements, once their number is that of its dimensions."""
        if proto.data_type not in _DTYPES:
            raise UnsupportedError(f"{where} has the data type {proto.data_type}, not supported")
        name, fieldname = _DTYPES[proto.data_type]
        dtype = np.dtype(name)
        shape = tuple(proto.dims)
        if any(size < 0 for size in shape) or proto.HasField("segment"):
            raise ValueError(f"{where} has the shape {short(shape)}")
        count = math.prod(shape)
        if proto.data_location == 1:
            array = self.external(proto, count, dtype, where)
        elif proto.HasField("raw_data"):
            if len(proto.raw_data) != count * dtype.itemsize:
                raise ValueError(
                    f"{where} should have shape {short(shape)} but holds "
                    f"{len(proto.raw_data)} bytes"
                )
            array = np.frombuffer(proto.raw_data, dtype).copy()
        else:
            array = _listed(getattr(proto, fieldname), dtype, proto.data_type, count, where)
        if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError(f"{where} holds booleans that are neither 0 nor 1")
        if proto.data_type == _BFLOAT16:  # the upper half of a float32
            array = np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(shape)

    def external(self, proto: Any, count: int, dtype: np.dtype[Any], where: str) -> np.ndarray:
        """Return elements that lie in a file beside the model, inside its folder."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"), where)
        length = _number(entries.get("length", str(count * dtype.itemsize)), where)
        path = self.folder / location
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or ".." in parts or Path(location).is_absolute():
            raise ValueError(f"{where}: {short(location)} is no place for external data")
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{where}: {short(location)} leads out of the model's folder")
        check_source(path, where)
        size = path.stat().st_size
        if length != count * dtype.itemsize or offset + length > size:
            raise ValueError(
                f"{where} should have {count * dtype.itemsize} bytes: expected them in "
                f"{short(location)} of {size} bytes, got {length} from {offset} on"
            )
        left = self.left.setdefault(path, size) - length
        if left < 0:
            raise ValueError(f"{where}: the tensors in {short(location)} are more than all of it")
        self.left[path] = left
        self.size += length
        array = np.empty(count, dtype)
        with path.open("rb") as file:
            file.seek(offset)
            fill(array, file, where)
        return array


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{where}: expected a number of bytes, got {short(text)}")
    return int(text)


def _listed(values: Any, dtype: np.dtype[Any], code: int, count: int, where: str) -> np.ndarray:
    """Return elements that stand one by one in the file."""
    if len(values) != count:
        raise ValueError(f"{where} should have {count} elements but holds {len(values)}")
    if dtype.kind == "f" and code != _FLOAT16:
        return np.array(values, dtype)
    bits = np.dtype("<u2") if code in (_FLOAT16, _BFLOAT16) else dtype
    wide = np.array(values, np.uint64 if code in (12, 13) else np.int64)
    array = wide.astype(bits)
    if (array.astype(wide.dtype) != wide).any():
        raise ValueError(f"{where} holds numbers that {dtype} does not have")
    return array.view(dtype)


def _opset(imports: Iterable[Any]) -> int:
    opsets = [entry.version for entry in imports if entry.domain in ("", "ai.onnx")]
    if not opsets:
        raise ValueError("it does not say which opset it is of")
    if not OLDEST <= opsets[0] <= NEWEST:
        raise UnsupportedError(
            f"expected an opset from {OLDEST} to {NEWEST}, got {opsets[0]}; export it with another "
            "opset, or convert it with onnx.version_converter"
        )
    return opsets[0]


def _input(value: Any) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise UnsupportedError(f"input {short(value.name)} is no tensor")
    shape = None
    if kind.HasField("shape"):
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if any(size is not None and size < 0 for size in sizes):
            raise ValueError(f"input {short(value.name)} has the shape {short(sizes)}")
        shape = tuple(sizes)
    dtype, _ = _DTYPES.get(kind.elem_type, ("", ""))
    if kind.elem_type and not dtype:
        raise UnsupportedError(
            f"input {short(value.name)} has the data type {kind.elem_type}, not supported"
        )
    return Input(value.name, shape, np.dtype(dtype).newbyteorder("=") if dtype else None)


def _sorted(nodes: Sequence[Node], known: set[str], wanted: Iterable[str]) -> list[Node]:
    """Return nodes in the order in which they can run.

    Raises:
        ValueError: if a value has no source or two, or depends on itself.
    """
    sources: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in sources or name in known:
                raise ValueError(f"{node} makes the value {short(name)}, which there is already")
            sources[name] = index
    needs: dict[int, dict[int, None]] = {}  # in the order of the file
    for index, node in enumerate(nodes):
        needs[index] = {}
        for name in filter(None, node.inputs):
            if name in sources:
                needs[index][sources[name]] = None
            elif name not in known:
                raise ValueError(f"{node} takes the value {short(name)}, which nothing makes")
    for name in wanted:
        if name not in sources and name not in known:
            raise ValueError(f"it should return the value {short(name)}, which nothing makes")
    if all(source < index for index, those in needs.items() for source in those):
        return list(nodes)
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = ", ".join(str(nodes[index]) for index in error.args[1][:4])
        raise ValueError(f"its nodes wait for one another in a circle: {circle}") from None
    return [nodes[index] for index in order]
