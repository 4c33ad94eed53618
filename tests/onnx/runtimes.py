"""What runs ONNX files in the tests, each by a function that loads a file to be run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn

Arrays = list[np.ndarray]
Run = Callable[..., Arrays]  # the outputs for some inputs


@functools.cache
def saturates() -> bool:
    """Whether runtimes add 8-bit products in 16 bits, which may end: on x86-64 without VNNI.

    ONNX Runtime and OpenVINO do, and tell so: the files are right, their sums are not.
    """
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    numbers = {
        "one": np.float32(1), "no": np.uint8(0), "weight": np.full((1, 8, 1, 1), 127, np.int8),
        "step": np.float32(1e4), "none": np.uint8(0),
    }  # fmt: skip
    nodes = [
        ("QuantizeLinear", ["image", "one", "no"], "q"),
        ("DequantizeLinear", ["q", "one", "no"], "x"),
        ("DequantizeLinear", ["weight", "one"], "w"), ("Conv", ["x", "w"], "y"),
        ("QuantizeLinear", ["y", "step", "none"], "r"),
        ("DequantizeLinear", ["r", "step", "none"], "out"),
    ]  # fmt: skip
    float32, helper = onnx.TensorProto.FLOAT, onnx.helper
    graph = helper.make_graph(
        [helper.make_node(kind, reads, [made]) for kind, reads, made in nodes],
        "sums",
        [helper.make_tensor_value_info("image", float32, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("out", float32, [1, 1, 4, 4])],
        [onnx.numpy_helper.from_array(np.asarray(each), name) for name, each in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"image": np.full((1, 8, 4, 4), 255, np.float32)})
    return bool(abs(sums - 8 * 127 * 255).max() > 1e4)


def session_options() -> Any:
    """Return those with which ONNX Runtime's sums of integers are exact on any processor."""
    options = pytest.importorskip("onnxruntime").SessionOptions()
    if saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def onnx_runtime(path: Path) -> Run:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: list(session.run(None, dict(zip(names, inputs))))


def openvino(path: Path) -> Run:
    ov = pytest.importorskip("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if saturates():
        settings["LP_TRANSFORMS_MODE"] = "NO"
    compiled = ov.Core().compile_model(str(path), "CPU", settings)

    def run(*inputs: np.ndarray) -> Arrays:
        results = compiled(list(inputs))
        return [results[output] for output in compiled.outputs]

    return run


def reference(path: Path) -> Run:
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(str(path))

    def run(*inputs: np.ndarray) -> Arrays:
        with np.errstate(all="ignore"):  # infinities arise silently in lucid
            return list(evaluator.run(None, dict(zip(evaluator.input_names, inputs))))

    return run


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino, "reference": reference}


def images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms and layer scales other numbers than those they start with."""
    rng = np.random.default_rng(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name.endswith("running_var"):
            tensor.data[...] = rng.uniform(0.5, 1.5, tensor.shape)
        elif name.endswith(("running_mean", "norm.bias")):
            tensor.data[...] = rng.normal(0, 0.1, tensor.shape)
        elif name.endswith("norm.weight"):
            tensor.data[...] = rng.uniform(0.5, 1.5, tensor.shape)
        elif name.endswith("gamma"):
            # Larger ones grow the rounding of float32 itself to some 1e-4, against float64.
            tensor.data[...] = rng.uniform(0.05, 0.15, tensor.shape)
    return model


def calibrated(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give batch norms the statistics of random images.

    With statistics of other numbers a deep hybrid grows the rounding of float32 to some 4e-4 of the
    largest logit, against float64; with these it is 5e-6.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with lucid.no_grad():
        model.train()(lucid.from_numpy(images(shape)))
    return model.eval()


def evaluated(model: nn.Module, *inputs: np.ndarray) -> np.ndarray:
    with lucid.no_grad():
        return model.eval()(*[lucid.from_numpy(each) for each in inputs]).numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
