"""What runs ONNX files in the tests, each by a function that loads a file to be run."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

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
    net, ones = nn.Sequential(nn.Conv2d(8, 1, 1), nn.Conv2d(1, 1, 1)), lucid.ones(1, 8, 2, 2)
    for name, parameter in net.named_parameters():
        parameter.data[...] = name.endswith("weight")
    small, x = lucid.quantize(net, [ones]), np.full(ones.shape, 1.9, np.float32)  # 243 of 255 steps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sums.onnx"
        lucid.onnx.export(small, path, x.shape)
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        (sums,) = session.run(None, {session.get_inputs()[0].name: x})
    return bool(np.abs(sums - evaluated(small, x)).max() > 1)


def onnx_runtime(path: Path) -> Run:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    if saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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
