"""ONNX files that are damaged, or made to do harm: a module or one clear error."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

import lucid
from tests.hostile.values import spoil
from tests.hostile.verdict import attempt, check

HUGE = [0, 1, -1, 3, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]
SECRET = "secret.bin"


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Try one file; beside its folder lies one that it must not read."""
    secret = np.frombuffer(b"SECRET!!" * 64, np.float32)
    (folder / SECRET).write_bytes(secret.tobytes())
    home = folder / "home"
    home.mkdir()
    (home / "link.bin").symlink_to(folder / SECRET)
    (home / "own.bin").write_bytes(bytes(512))
    path = home / "model.onnx"
    proto = network(rng)
    kinds = [damaged, sizes, graph, attributes, external, constants, nested]
    content = rng.choice(kinds)(rng, proto)
    path.write_bytes(content)
    net, _ = attempt(lambda: lucid.onnx.load(path), path.name)
    if net is not None:
        tensors = [*net.state_dict().values(), *net._constants.values()]
        for value in tensors:
            data = value.data if isinstance(value, lucid.Tensor) else value
            check(b"SECRET!!" not in data.tobytes(), "a file outside the folder was read")
        if rng.random() < 0.3:  # it may run, or say what is wrong
            attempt(lambda: net(lucid.zeros(1, 3, 8, 8)))
    names = {entry.name for entry in home.iterdir()}
    check(names == {"link.bin", "own.bin", "model.onnx"}, f"files appeared: {names}")


def network(rng: random.Random) -> ModelProto:
    """A sound file."""
    values = np.random.default_rng(rng.randrange(100))

    def weights(*shape: int) -> np.ndarray:
        return values.standard_normal(shape).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "b", "g"], ["d"], "norm"),
        helper.make_node("Clip", ["d", "low", "high"], ["e"], "clip"),
        helper.make_node("MaxPool", ["e"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["p", "", "scales"], ["r"], "resize", mode="linear"),
        helper.make_node("Shape", ["r"], ["s"], "shape"),
        helper.make_node("Slice", ["s", "zero", "one"], ["n"], "slice"),
        helper.make_node("Concat", ["n", "rest"], ["sizes"], "concat", axis=0),
        helper.make_node("Reshape", ["r", "sizes"], ["f"], "reshape"),
        helper.make_node("ConstantOfShape", ["many"], ["ones"], "filled"),
        helper.make_node("Tile", ["ones", "one"], ["tiled"], "tile"),
        helper.make_node("Expand", ["tiled", "one"], ["wide"], "expand"),
        helper.make_node("Range", ["start", "stop", "step"], ["steps"], "range"),
        helper.make_node("Gemm", ["f", "m", "k"], ["h"], "gemm", transB=1),
        helper.make_node("Add", ["h", "wide"], ["i"], "add"),
        helper.make_node("Cast", ["steps"], ["floats"], "cast", to=1),
        helper.make_node("Add", ["i", "floats"], ["t"], "more"),
        helper.make_node("Softmax", ["t"], ["y"], "softmax", axis=-1),
    ]
    arrays = {
        "w": weights(4, 3, 3, 3), "b": weights(4), "g": np.abs(weights(4)) + 1,
        "low": np.float32(0), "high": np.float32(6), "rest": np.array([-1]),
        "zero": np.array([0]), "one": np.array([1]), "many": np.array([4]),
        "scales": np.array([1, 1, 2, 2], np.float32), "m": weights(4, 256), "k": weights(4),
        "start": np.array(0), "stop": np.array(4), "step": np.array(1),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", rng.choice([11, 13, 17]))]
    )


def damaged(rng: random.Random, proto: ModelProto) -> bytes:
    """Wrong bytes anywhere, or none."""
    content = proto.SerializeToString()
    return content if rng.random() < 0.05 else spoil(content, rng)


def sizes(rng: random.Random, proto: ModelProto) -> bytes:
    """Sizes of tensors that are not theirs, and elements of other kinds."""
    for _ in range(rng.choice([1, 1, 3])):
        tensor = rng.choice(proto.graph.initializer)
        match rng.randrange(4):
            case 0:
                tensor.dims[:] = [rng.choice(HUGE) for _ in range(rng.choice([0, 1, 2, 5, 70]))]
            case 1:
                tensor.data_type = rng.choice([*range(30), 2**31 - 1, -1])
            case 2:
                tensor.raw_data = bytes(rng.choice([0, 1, 8, 100]))
            case 3:
                tensor.ClearField("raw_data")
                tensor.int32_data[:] = [rng.choice([0, 1, -1, 2**31 - 1]) for _ in range(4)]
                tensor.float_data[:] = [float("nan")] * rng.choice([0, 4])
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        if rng.random() < 0.2:
            dim.dim_value = rng.choice(HUGE)
    return proto.SerializeToString()


def graph(rng: random.Random, proto: ModelProto) -> bytes:
    """Circles, values without a source, other operators, too many or too few inputs."""
    nodes = proto.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)]
    for _ in range(rng.choice([1, 1, 4])):
        node = rng.choice(nodes)
        match rng.randrange(7):
            case 0:
                node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "nothing"])
            case 1:
                node.output[0] = rng.choice([*names, "", "other"])
            case 2:
                node.input.append(rng.choice([*names, ""]))
            case 3:
                del node.input[-1:]
            case 4:
                others = [
                    "Loop",
                    "If",
                    "Relu",
                    "Conv",
                    "Split",
                    "TopK",
                    "Pad",
                    "Einsum",
                    "",
                    "x" * 999,
                ]
                node.op_type = rng.choice([*others, rng.choice(nodes).op_type])
            case 5:
                node.name = rng.choice(["a." * 5000, "", ".", "/", "\n", "weight", "forward", "é"])
            case 6:
                proto.graph.output[0].name = rng.choice([*names, "", "nothing"])
    if rng.random() < 0.2:
        proto.opset_import[0].version = rng.choice([*HUGE, 5, 28, 29])
    return proto.SerializeToString()


def attributes(rng: random.Random, proto: ModelProto) -> bytes:
    """Settings of other kinds and sizes."""
    names = ["axis", "pads", "strides", "kernel_shape", "group", "dilations", "to", "mode", "axes"]
    for _ in range(rng.choice([1, 2, 5])):
        node = rng.choice(proto.graph.node)
        value: Any = rng.choice([
            rng.choice(HUGE), [rng.choice(HUGE)], [rng.choice(HUGE)] * 4, 0.5, "text", [0.5], ["a"],
            numpy_helper.from_array(np.ones(3)),
        ])  # fmt: skip
        name = rng.choice([*names, *(attribute.name for attribute in node.attribute)])
        for index, attribute in enumerate(node.attribute):
            if attribute.name == name:
                del node.attribute[index]
                break
        node.attribute.append(helper.make_attribute(name, value))
    return proto.SerializeToString()


def external(rng: random.Random, proto: ModelProto) -> bytes:
    """Elements in another file, mostly one that is not the model's."""
    tensor = next(each for each in proto.graph.initializer if each.name == "k")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {
        "location": rng.choice([
            f"../{SECRET}", "link.bin", "own.bin", "/etc/passwd", "", ".", "..", "a/../../x", "\0",
            "/dev/zero", "//etc/hostname", f"..\\{SECRET}", "model.onnx", f"home/../../{SECRET}",
        ]),
        "offset": rng.choice(["0", "0", "8", "-1", "9" * 30, "x", str(2**62)]),
        "length": rng.choice(["16", "16", "0", "-1", "1e3", str(2**62)]),
    }  # fmt: skip
    for key, value in entries.items():
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)
    return proto.SerializeToString()


def constants(rng: random.Random, proto: ModelProto) -> bytes:
    """Small constants of which large ones would be made."""
    for _ in range(rng.choice([1, 2])):
        name = rng.choice(["many", "one", "stop", "step", "start", "rest", "scales", "zero"])
        tensor = next(each for each in proto.graph.initializer if each.name == name)
        old = numpy_helper.to_array(tensor)
        new = np.full(old.shape, rng.choice(HUGE)).astype(old.dtype)
        tensor.CopyFrom(numpy_helper.from_array(new, name))
    if rng.random() < 0.3:  # each doubles the one before
        for index in range(60):
            before = "wide" if index == 0 else f"double{index - 1}"
            node = helper.make_node("Concat", [before] * 2, [f"double{index}"], axis=0)
            proto.graph.node.insert(len(proto.graph.node) - 2, node)
        proto.graph.node[-2].input[1] = "double59"
    return proto.SerializeToString()


def nested(rng: random.Random, proto: ModelProto) -> bytes:
    """Graphs in graphs, deeper than the package would write them."""
    inner = proto.graph.SerializeToString()
    for _ in range(rng.choice([1, 20, 60, 2000])):
        attribute = _field(1, b"then_branch") + _field(6, inner) + b"\xa0\x01\x05"  # type: GRAPH
        inner = _field(1, _field(4, b"If") + _field(2, b"y") + _field(5, attribute))
    output = _field(12, proto.graph.output[0].SerializeToString())
    proto.ClearField("graph")
    return proto.SerializeToString() + _field(7, inner + output)


def _field(number: int, content: bytes) -> bytes:
    """Return bytes as a field of a protobuf message."""
    length, digits = len(content), b""
    while length > 127:
        digits += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + digits + bytes([length]) + content
