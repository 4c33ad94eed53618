"""Who is measured, and how each is set up.

A contender's function takes the case, its folder and the number of threads, imports what it needs,
and returns a callable: inference returns the logits as an array, a training step returns the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._case import Case, lucid_model, lucid_step

Run = Callable[[], Any]
SetUp = Callable[[Case, Path, int], Run]


class NotAvailableError(Exception):
    """This contender is not on this machine: its row says why."""


@dataclass(frozen=True)
class Contender:
    """A library in one way of using it.

    Attributes:
        label: as the tables have it.
        family: contenders of one family are compared as its best.
        modes: what it can do.
        packages: what it imports, in the order in which they count as its own base memory.
        set_up: see the module.
        needs_onnx: whether ``model.onnx`` must be there.
    """

    label: str
    family: str
    modes: tuple[str, ...]
    packages: tuple[str, ...]
    set_up: SetUp
    needs_onnx: bool = False


# -- lucid ------------------------------------------------------------------------------------


def _lucid(backend: str, compiled: bool, case: Case, folder: Path, threads: int) -> Run:
    import lucid

    if backend not in lucid.available_backends():
        raise NotAvailableError(f"lucid {lucid.__version__} has no backend {backend!r}")
    lucid.set_backend(backend)
    lucid.set_num_threads(threads)
    if case.trains:
        return lucid_step(case, folder)
    model = lucid_model(case, folder)
    images = np.load(folder / "images.npy")
    if compiled:
        plan = lucid.compile(model, images.shape, keep_module=False)
        del model
        return lambda: plan(images)
    x = lucid.tensor(images)

    def run() -> np.ndarray:
        with lucid.no_grad():
            return model(x).data

    return run


# -- PyTorch ----------------------------------------------------------------------------------


def torch_model(case: Case, folder: Path) -> Any:
    """Return PyTorch's model with the case's weights."""
    import torch

    from benchmarks._case import configuration
    from benchmarks._torch_model import TorchMobileNetV4

    model = TorchMobileNetV4(configuration(case))
    with np.load(folder / "state.npz") as state:
        model.load_state_dict({name: torch.from_numpy(state[name]) for name in state.files})
    return model.train(case.trains)


def _torch(layout: str, compiled: bool, case: Case, folder: Path, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    memory_format = getattr(torch, layout)
    model = torch_model(case, folder).to(memory_format=memory_format)
    x = torch.from_numpy(np.load(folder / "images.npy")).to(memory_format=memory_format)
    if compiled:
        import torch._inductor.config as inductor

        # Weights as constants, which are then prepared for the kernels once. Inference only.
        inductor.freezing = not case.trains
    forward = torch.compile(model) if compiled else model
    if case.trains:
        return _torch_step(case, forward, model, x, folder)

    def run() -> np.ndarray:
        with torch.no_grad() if compiled else torch.inference_mode():
            return forward(x).numpy()

    return run


def _torch_step(case: Case, forward: Any, model: Any, x: Any, folder: Path) -> Run:
    import torch

    y = torch.from_numpy(np.load(folder / "labels.npy"))
    optimizer: torch.optim.Optimizer
    if case.optimizer == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# -- runtimes that read ONNX ------------------------------------------------------------------


def _onnxruntime(case: Case, folder: Path, threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": np.load(folder / "images.npy")}
    return lambda: session.run(None, feed)[0]


def _openvino(case: Case, folder: Path, threads: int) -> Run:
    import openvino as ov

    model = ov.Core().compile_model(
        str(folder / "model.onnx"),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Otherwise bfloat16 where the processor has it, which is another computation.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request = model.create_infer_request()
    images = np.load(folder / "images.npy")
    return lambda: request.infer({0: images}, share_inputs=True, share_outputs=True)[0]


def _onnx_reference(case: Case, folder: Path, threads: int) -> Run:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(folder / "model.onnx"))
    feed = {"x": np.load(folder / "images.npy")}
    return lambda: evaluator.run(None, feed)[0]


# -- all of them ------------------------------------------------------------------------------

_BOTH, _INFERENCE = ("inference", "training"), ("inference",)
_STARTS, _STEPS = ("start", "cold start"), ("cold training",)  # the usual way of each library

CONTENDERS = {
    "lucid-numpy": Contender(
        "lucid numpy, eager",
        "lucid numpy",
        _BOTH + _STEPS,
        ("lucid",),
        partial(_lucid, "numpy", False),
    ),
    "lucid-numpy-compiled": Contender(
        "lucid numpy, compiled",
        "lucid numpy",
        _INFERENCE + _STARTS,
        ("lucid",),
        partial(_lucid, "numpy", True),
    ),
    "lucid-numba": Contender(
        "lucid numba, eager",
        "lucid numba",
        _BOTH + _STEPS,
        ("llvmlite", "lucid"),
        partial(_lucid, "numba", False),
    ),
    "lucid-numba-compiled": Contender(
        "lucid numba, compiled",
        "lucid numba",
        _INFERENCE + _STARTS,
        ("llvmlite", "lucid"),
        partial(_lucid, "numba", True),
    ),
    "torch": Contender(
        "PyTorch eager",
        "PyTorch",
        (*_BOTH, "start", *_STEPS),
        ("torch",),
        partial(_torch, "contiguous_format", False),
    ),
    "torch-channels-last": Contender(
        "PyTorch eager, channels last",
        "PyTorch",
        _BOTH,
        ("torch",),
        partial(_torch, "channels_last", False),
    ),
    "torch-compile": Contender(
        "PyTorch compiled", "PyTorch", _BOTH, ("torch",), partial(_torch, "contiguous_format", True)
    ),
    "torch-compile-channels-last": Contender(
        "PyTorch compiled, channels last",
        "PyTorch",
        _BOTH,
        ("torch",),
        partial(_torch, "channels_last", True),
    ),
    "onnxruntime": Contender(
        "ONNX Runtime",
        "ONNX Runtime",
        _INFERENCE + _STARTS,
        ("onnxruntime",),
        _onnxruntime,
        True,
    ),
    "openvino": Contender("OpenVINO", "OpenVINO", _INFERENCE, ("openvino",), _openvino, True),
    "onnx-reference": Contender(
        "ONNX's own evaluator, on NumPy",
        "ONNX on NumPy",
        _INFERENCE,
        ("onnx",),
        _onnx_reference,
        True,
    ),
}
