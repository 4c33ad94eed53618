"""ONNX files as modules: built by hand, with what can be wrong with them."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

rng = np.random.default_rng(0)


def model(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    *,
    shape: Any = ("n", 3, 8, 8),
    output: str = "y",
    opset: int = 17,
    **more: str,
) -> Any:
    """Return a file's content with the input ``x``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    helper.set_model_props(proto, more)
    return proto


def load(proto: Any, folder: Path) -> Any:
    path = folder / "model.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return lucid.onnx.load(path)


def weights(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def network() -> Any:
    """A small network with names as PyTorch's exporter gives them."""
    return model(
        [
            helper.make_node(
                "Conv", ["x", "stem.conv.weight", ""], ["a"], "/stem/conv/Conv", pads=[1, 1, 1, 1]
            ),
            helper.make_node(
                "BatchNormalization",
                ["a", "stem.bn.weight", "stem.bn.bias", "stem.bn.mean", "stem.bn.var"],
                ["b"],
                "/stem/bn/BatchNormalization",
            ),
            helper.make_node("Clip", ["b", "zero", "six"], ["c"], "/stem/act/Clip"),
            helper.make_node("Mul", ["c", "scale.gamma"], ["d"], "/scale/Mul"),
            helper.make_node("Shape", ["d"], ["s"], "/Shape"),
            helper.make_node("Gather", ["s", "first"], ["batch"], "/Gather", axis=0),
            helper.make_node("Concat", ["batch", "rest"], ["sizes"], "/Concat", axis=0),
            helper.make_node("Reshape", ["d", "sizes"], ["e"], "/Reshape"),
            helper.make_node("MatMul", ["e", "onnx::MatMul_12"], ["f"], "/head/MatMul"),
            helper.make_node("Add", ["head.bias", "f"], ["y"], "/head/Add"),
        ],
        {
            "stem.conv.weight": weights(4, 3, 3, 3),
            "stem.bn.weight": weights(4),
            "stem.bn.bias": weights(4),
            "stem.bn.mean": weights(4),
            "stem.bn.var": np.abs(weights(4)) + 0.5,
            "zero": np.float32(0),
            "six": np.float32(6),
            "scale.gamma": weights(4, 1, 1),
            "first": np.array([0]),
            "rest": np.array([-1]),
            "onnx::MatMul_12": weights(256, 5),
            "head.bias": weights(5),
        },
    )


def test_nodes_become_layers_under_the_names_of_their_weights(tmp_path: Path) -> None:
    net = load(network(), tmp_path)
    kinds = {name: type(module) for name, module in net.named_modules() if name}
    assert kinds == {
        "stem": nn.Module,
        "stem.conv": nn.Conv2d,
        "stem.bn": nn.BatchNorm2d,
        "stem.act": nn.ReLU6,
        "scale": nn.Module,
        "head": nn.Linear,
    }
    assert [name for name, _ in net.named_parameters()] == [
        "stem.conv.weight", "stem.bn.weight", "stem.bn.bias", "scale.gamma",
        "head.weight", "head.bias",
    ]  # fmt: skip
    assert not net.training


def test_values_are_those_of_the_reference_evaluator(tmp_path: Path) -> None:
    proto = network()
    x = weights(2, 3, 8, 8)
    (expected,) = (
        pytest.importorskip("onnx.reference").ReferenceEvaluator(proto).run(None, {"x": x})
    )
    net = load(proto, tmp_path)
    np.testing.assert_allclose(net(x).data, expected, atol=1e-4)
    compiled = lucid.compile(net, (2, 3, 8, 8))
    np.testing.assert_allclose(compiled(x), expected, atol=1e-4)
    assert not compiled._runs_as_itself
    again = copy.deepcopy(net)
    np.testing.assert_array_equal(again(x).data, net(x).data)


def test_what_depends_on_shapes_alone_is_no_part_of_the_graph(tmp_path: Path) -> None:
    from lucid.graph import trace

    graph = trace(load(network(), tmp_path), lucid.zeros(2, 3, 8, 8))
    names = [operation.name for operation in graph.operations]
    assert names == ["Conv2d", "BatchNormInference", "Clip", "Mul", "Reshape", "Linear"]
    summary = str(lucid.summary(load(network(), tmp_path), (2, 3, 8, 8)))
    assert "stem.conv" in summary
    assert "Conv2d" in summary


def test_it_learns(tmp_path: Path) -> None:
    net = load(network(), tmp_path).train()
    x, labels = lucid.tensor(weights(8, 3, 8, 8)), lucid.arange(8) % 5
    mean = net.stem.bn.running_mean.data.copy()
    optimizer = lucid.optim.SGD(net.parameters(), 0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert (net.stem.bn.running_mean.data != mean).any()


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    lucid.manual_seed(0)
    expected = lucid.rand(3).tolist()
    lucid.manual_seed(0)
    load(network(), tmp_path)
    assert lucid.rand(3).tolist() == expected


def test_all_operators_that_lucid_does_not_compute_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LSTM", ["x"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Fancy", ["b"], ["y"], "third", domain="com.example"),
    ]
    with pytest.raises(ValueError, match=r"LSTM node 'first', com\.example\.Fancy node 'third'"):
        load(model(nodes), tmp_path)


def test_errors_name_the_node(tmp_path: Path) -> None:
    net = load(network(), tmp_path)
    with pytest.raises(ValueError, match=r"Conv node '/stem/conv/Conv'.*expected 3 input channels"):
        net(lucid.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"expected 'x' of shape \(\?, 3, 8, 8\), got \(3, 8, 8\)"):
        net(lucid.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"expected 1 inputs \('x'\), got 2"):
        net(lucid.zeros(1, 3, 8, 8), 1)


def relu(*names: str) -> Any:
    return helper.make_node("Relu", names[:1], names[1:], f"to_{names[1]}")


@pytest.mark.parametrize(
    ("nodes", "constants", "match"),
    [
        ([relu("a", "b"), relu("b", "a"), relu("a", "y")], {}, "wait for one another in a circle"),
        ([relu("nothing", "y")], {}, "takes the value 'nothing', which nothing makes"),
        ([relu("x", "z")], {}, "should return the value 'y', which nothing makes"),
        ([relu("x", "y"), relu("x", "y")], {}, "makes the value 'y', which there is already"),
        ([helper.make_node("Relu", ["x", "x"], ["y"])], {}, "expected 1 to 1 inputs, got 2"),
        (
            [helper.make_node("Expand", ["one", "huge"], ["y"])],
            {"one": np.ones(1, np.float32), "huge": np.array([1 << 40])},
            "makes constants far larger than the file",
        ),
        (
            [helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 0])],
            {"w": weights(1, 3, 1, 1)},
            "expected one or two numbers over 0",
        ),
    ],
    ids=["circle", "no source", "no output", "two sources", "inputs", "huge", "stride"],
)
def test_a_graph_that_cannot_run_is_refused(
    nodes: list[Any], constants: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        load(model(nodes, constants), tmp_path)
    assert "model.onnx" in str(caught.value)


def test_nodes_in_another_order_are_sorted(tmp_path: Path) -> None:
    net = load(model([relu("a", "y"), helper.make_node("Neg", ["x"], ["a"])]), tmp_path)
    x = weights(1, 3, 8, 8)
    np.testing.assert_array_equal(net(x).data, np.maximum(-x, 0))


def test_a_layer_may_take_a_constant(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "conv"),
        helper.make_node("Add", ["x", "a"], ["y"], "add"),
    ]
    image, kernels = weights(1, 3, 8, 8), weights(3, 3, 1, 1)
    net = load(model(nodes, {"image": image, "w": kernels}), tmp_path)
    expected = nn.functional.conv2d(image, kernels).data
    np.testing.assert_allclose(net(lucid.zeros(1, 3, 8, 8)).data, expected, atol=1e-5)


def external(location: str, **more: str) -> Any:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"w": weights(8)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return proto


def test_tensors_may_lie_in_the_folder_of_the_model(tmp_path: Path) -> None:
    values = weights(8)
    (tmp_path / "w.bin").write_bytes(b"1234" + values.tobytes())
    net = load(external("w.bin", offset="4", length="32"), tmp_path)
    np.testing.assert_array_equal(net.w.data, values)


@pytest.mark.parametrize("location", ["../w.bin", "a/../../w.bin", "/etc/hostname", "link.bin", ""])
def test_no_file_outside_the_folder_is_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(32))
    os.symlink(tmp_path / "w.bin", folder / "link.bin")
    with pytest.raises(ValueError, match=r"no place for external data|leads out of the model's"):
        load(external(location), folder)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"offset": "8"}, "should have 32 bytes"),
        ({"length": "16"}, "should have 32 bytes"),
        ({"offset": "-4"}, "expected a number of bytes"),
    ],
)
def test_external_data_that_do_not_fit_are_refused(
    settings: dict[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(32))
    with pytest.raises(ValueError, match=match):
        load(external("w.bin", **settings), tmp_path)


def _with_dims(*dims: int) -> bytes:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"w": weights(8)})
    proto.graph.initializer[0].dims[:] = dims
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"not a model", "is no sound ONNX model"),
        (network().SerializeToString()[:-100], "is no sound ONNX model"),
        (_with_dims(1 << 40), "should have shape"),
        (_with_dims(-8), "has the shape"),
        (_with_dims(9), "should have shape"),
    ],
    ids=["empty", "text", "cut off", "huge", "negative", "other"],
)
def test_a_damaged_file_is_refused(content: bytes, match: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        load(content, tmp_path)
    assert f"onnx.load: {tmp_path}" in str(caught.value)


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        lucid.onnx.load(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        lucid.onnx.load(tmp_path)


@pytest.mark.parametrize("opset", [6, 99])
def test_other_opsets_are_named(opset: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected an opset from 7 to 28, got {opset}"):
        load(model([relu("x", "y")], opset=opset), tmp_path)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_follows_from_the_size(auto_pad: str, tmp_path: Path) -> None:
    proto = model(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], auto_pad=auto_pad, strides=[2, 2]),
            helper.make_node(
                "MaxPool", ["a"], ["y"], auto_pad=auto_pad, kernel_shape=[2, 2], strides=[2, 2]
            ),
        ],
        {"w": weights(4, 3, 3, 3)},
        shape=("n", 3, "h", "w"),
    )
    net = load(proto, tmp_path)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in (7, 8, 13):
        x = weights(2, 3, size, size + 1)
        np.testing.assert_allclose(net(x).data, session.run(None, {"x": x})[0], atol=1e-4)
