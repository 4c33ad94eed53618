"""Each kernel at the shapes that the models give it, with each backend (pytest-benchmark).

    python -m pytest benchmarks/test_kernels.py --variants all --batch 16
    python -m pytest benchmarks/test_kernels.py -k "weight_grad and numba"

The shapes come from a trace of the models, each once; with ``--benchmark-json`` the file has the
multiply-adds and GFLOP/s of each, as ``extra_info``.
``python -m pytest`` alone does not collect this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks._case import VARIANTS
from lucid import kernels, models
from lucid.autograd import Tensor
from lucid.graph import Graph, trace
from lucid.kernels.geometry import Conv, Epilogue
from lucid.ops._activation import GELU, Clip, Softmax
from lucid.ops._batch_norm import BatchNormInference
from lucid.ops._conv import Conv2d
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul
from lucid.ops._reduce import Mean

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Shape:
    """A convolution: its input in NHWC, its weight, and its geometry."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    conv: Conv

    def __str__(self) -> str:
        (n, h, w, c), (out, width, kh, kw) = self.x, self.weight
        kind = "depthwise" if width == 1 < self.conv.groups else "conv"
        return f"{kind}{kh}x{kw}s{self.conv.stride[0]}-{n}x{h}x{w}x{c}-{out}"


@cache
def traced(variant: str, batch: int, size: int) -> Graph:
    """Return the operations of a variant."""
    model = models.create_model(f"mobilenet_v4_{variant}")
    return trace(model, Tensor(np.zeros((batch, 3, size, size), np.float32)))


def _variants(config: pytest.Config) -> list[str]:
    text = config.getoption("--variants")
    return list(VARIANTS) if text == "all" else text.split(",")


def shapes(config: pytest.Config, wanted: Any) -> list[Any]:
    """Return what ``wanted(operation, graph)`` gives for all operations, each once, but None."""
    found: dict[Any, None] = {}
    for variant in _variants(config):
        graph = traced(variant, config.getoption("--batch"), config.getoption("--size"))
        for operation in graph.operations:
            shape = wanted(operation, graph)
            if shape is not None:
                found[shape] = None
    return list(found)


def _convolution(operation: Any, graph: Graph) -> Shape | None:
    if operation.kind is not Conv2d:
        return None
    x, weight, _, conv = operation.args
    n, c, h, w = x.shape
    return Shape((n, h, w, c), weight.shape, conv)


def _of_kind(kind: Any) -> Callable[[Any, Graph], tuple[int, ...] | None]:
    def wanted(operation: Any, graph: Graph) -> tuple[int, ...] | None:
        if operation.kind is not kind:
            return None
        shape = operation.args[0].shape
        if len(shape) == 4:
            n, c, h, w = shape
            return (n, h, w, c)
        return shape

    return wanted


@dataclass(frozen=True)
class Product:
    """A product of matrices: the shapes of both, and whether the second is a transposed view."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    transposed: bool

    def __str__(self) -> str:
        return f"{_id(self.a)}-{_id(self.b)}{'T' if self.transposed else ''}"

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return math.prod(self.a) * self.b[-1]


def _product(operation: Any, graph: Graph) -> Product | None:
    if operation.kind is not MatMul:
        return None
    a, b = operation.args
    return Product(a.shape, b.shape, b.strides[-2] < b.strides[-1])


def _linear(operation: Any, graph: Graph) -> tuple[int, ...] | None:
    """Return rows, inputs and outputs of a linear layer."""
    if operation.kind is not Linear:
        return None
    x, weight = operation.args[:2]
    return (math.prod(x.shape[:-1]), *weight.shape[::-1])


def _attention(operation: Any, graph: Graph) -> tuple[int, ...] | None:
    """Return images, queries, keys and width where a softmax of scores is multiplied on."""
    if operation.kind is not MatMul or operation.args[0].ndim != 3:
        return None
    scores, values = operation.args
    softmaxes = {made for step in graph.operations if step.kind is Softmax for made in step.outputs}
    return (*scores.shape, values.shape[-1]) if scores in softmaxes else None


WANTED = {
    "convolution": _convolution,
    "norm": _of_kind(BatchNormInference),
    "clip": _of_kind(Clip),
    "gelu": _of_kind(GELU),
    "softmax": _of_kind(Softmax),
    "mean": _of_kind(Mean),
    "product": _product,
    "layer": _linear,
    "attention": _attention,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, wanted in WANTED.items():
        if name in metafunc.fixturenames:
            values = shapes(metafunc.config, wanted)
            metafunc.parametrize(
                name, values, ids=[v if isinstance(v, str) else _id(v) for v in values]
            )


def _id(shape: Any) -> str:
    return "x".join(map(str, shape)) if isinstance(shape, tuple) else str(shape)


@pytest.fixture(params=kernels.available_backends())
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The kernels of a backend."""
    before = kernels.get_backend()
    try:
        kernels.set_backend(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    yield kernels.active()
    kernels.set_backend(before)


def normal(*shape: int) -> np.ndarray:
    """Return float32 values, all of them written, so that their memory is there."""
    return RNG.standard_normal(shape).astype(np.float32)


def timed(benchmark: Any, run: Callable[[], Any], macs: int = 0, size: int = 0) -> None:
    """Time ``run`` after a call that warms up, which is when a backend compiles."""
    run()
    benchmark.pedantic(run, rounds=7, iterations=3, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    if macs:
        benchmark.extra_info.update(macs=macs, gflops=round(2e-9 * macs / seconds, 2))
    if size:
        benchmark.extra_info.update(values=size, values_per_ns=round(size / seconds * 1e-9, 3))


def _macs(shape: Shape, y: np.ndarray) -> int:
    return y.size * math.prod(shape.weight[1:])


def _operands(shape: Shape, backend: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, weight = normal(*shape.x), normal(*shape.weight)
    return x, weight, backend.conv2d(x, weight, shape.conv)


def test_conv2d(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    timed(
        benchmark,
        lambda: backend.conv2d(x, weight, convolution.conv),
        _macs(convolution, y),
    )


def test_prepared_conv(benchmark, backend, convolution):
    """As a plan runs it: weights packed before, bias and ReLU6 within."""
    x, weight, y = _operands(convolution, backend)
    run = backend.prepare_conv(
        x.shape, weight, convolution.conv, Epilogue(None, normal(len(weight)), (0.0, 6.0))
    )
    out = np.empty_like(y)
    timed(benchmark, lambda: run(out, x), _macs(convolution, y))


def test_conv2d_input_grad(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    grad = normal(*y.shape)
    timed(
        benchmark,
        lambda: backend.conv2d_input_grad(grad, weight, x.shape, convolution.conv),
        _macs(convolution, y),
    )


def test_conv2d_weight_grad(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    grad = normal(*y.shape)
    timed(
        benchmark,
        lambda: backend.conv2d_weight_grad(x, grad, weight.shape, convolution.conv),
        _macs(convolution, y),
    )


def test_batch_norm_stats(benchmark, backend, norm):
    x = normal(math.prod(norm[:-1]), norm[-1])
    timed(benchmark, lambda: backend.batch_norm_stats(x), size=x.size)


def test_scale_shift(benchmark, backend, norm):
    x = normal(math.prod(norm[:-1]), norm[-1])
    scale, shift = normal(norm[-1]), normal(norm[-1])
    timed(benchmark, lambda: backend.scale_shift(x, scale, shift), size=x.size)


def test_batch_norm_grad(benchmark, backend, norm):
    grad, x = (normal(math.prod(norm[:-1]), norm[-1]) for _ in range(2))
    mean, scale, weight = normal(norm[-1]), normal(norm[-1]), normal(norm[-1])
    timed(benchmark, lambda: backend.batch_norm_grad(grad, x, mean, scale, weight), size=x.size)


def test_clip(benchmark, backend, clip):
    x = normal(*clip)
    timed(benchmark, lambda: backend.clip(x, 0.0, 6.0), size=x.size)


def test_clip_grad(benchmark, backend, clip):
    grad, y = normal(*clip), np.clip(normal(*clip), 0, 6)
    timed(benchmark, lambda: backend.clip_grad(grad, y, 0.0, 6.0), size=y.size)


def test_gelu(benchmark, backend, gelu):
    x = normal(*gelu)
    timed(benchmark, lambda: backend.gelu(x, False), size=x.size)


def test_gelu_grad(benchmark, backend, gelu):
    grad, x = normal(*gelu), normal(*gelu)
    timed(benchmark, lambda: backend.gelu_grad(grad, x, False), size=x.size)


@pytest.mark.parametrize("name", ["silu", "hardswish"])
def test_other_activations(benchmark, backend, clip, name):
    """At the shapes of ReLU6, which they can take the place of."""
    x = normal(*clip)
    timed(benchmark, lambda: getattr(backend, name)(x), size=x.size)


@pytest.mark.parametrize("name", ["gelu", "silu", "hardswish"])
def test_prepared_conv_with_activation(benchmark, backend, convolution, name):
    x, weight, y = _operands(convolution, backend)
    activation = (name, False) if name == "gelu" else (name,)
    run = backend.prepare_conv(
        x.shape,
        weight,
        convolution.conv,
        Epilogue(None, normal(len(weight)), activation=activation),
    )
    out = np.empty_like(y)
    timed(benchmark, lambda: run(out, x), _macs(convolution, y))


def test_mean_of_images(benchmark, backend, mean):
    x, size = normal(*mean), mean[1:3]
    none = ((0, 0), (0, 0))
    timed(benchmark, lambda: backend.sum_pool2d(x, size, size, none, (1, 1)), size=x.size)


def test_matmul(benchmark, backend, product):
    a, b = normal(*product.a), normal(*product.b)
    if product.transposed:
        b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    timed(benchmark, lambda: backend.matmul(a, b), product.macs)


def test_matmul_grads(benchmark, backend, product):
    """Both gradients: ``g·bᵀ`` and ``aᵀ·g``."""
    a, b = normal(*product.a), normal(*product.b)
    grad = normal(*product.a[:-1], product.b[-1])

    def run() -> None:
        backend.matmul(grad, b.swapaxes(-1, -2))
        backend.matmul(a.swapaxes(-1, -2), grad)

    timed(benchmark, run, 2 * product.macs)


def test_linear(benchmark, backend, layer):
    rows, inputs, outputs = layer
    x, weight, bias = normal(rows, inputs), normal(outputs, inputs), normal(outputs)
    timed(benchmark, lambda: backend.linear(x, weight, bias), math.prod(layer))


def test_linear_grads(benchmark, backend, layer):
    rows, inputs, outputs = layer
    x, weight, grad = normal(rows, inputs), normal(outputs, inputs), normal(rows, outputs)

    def run() -> None:
        backend.linear(grad, weight.T, None)
        backend.linear(grad.T, x.T, None)

    timed(benchmark, run, 2 * math.prod(layer))


def test_prepared_attention(benchmark, backend, attention):
    n, queries, keys, width = attention
    q, k, v = normal(n, queries, width), normal(n, keys, width), normal(n, keys, width)
    out = np.empty_like(q)
    run = backend.prepare_attention(q.shape, k.shape, v.shape, 0.125, q.dtype)
    timed(benchmark, lambda: run(out, q, k, v), 2 * n * queries * keys * width)


def test_softmax(benchmark, backend, softmax):
    x = normal(*softmax)
    timed(benchmark, lambda: backend.softmax(x, -1), size=x.size)


def test_softmax_grad(benchmark, backend, softmax):
    grad, y = normal(*softmax), backend.softmax(normal(*softmax), -1)
    timed(benchmark, lambda: backend.softmax_grad(grad, y, -1), size=y.size)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(benchmark, backend, smoothing):
    x, target = normal(16, 1000), RNG.integers(0, 1000, 16)
    timed(benchmark, lambda: backend.cross_entropy(x, target, None, smoothing), size=x.size)


def test_cross_entropy_grad(benchmark, backend):
    x, target, grad = normal(16, 1000), RNG.integers(0, 1000, 16), normal(16)
    _, log_p = backend.cross_entropy(x, target, None, 0.1)
    timed(
        benchmark,
        lambda: backend.cross_entropy_grad(grad, log_p, target, None, 0.1),
        size=x.size,
    )


@pytest.fixture
def parameters(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """All parameters of the first variant."""
    model = models.create_model(f"mobilenet_v4_{_variants(request.config)[0]}")
    return [parameter.data for parameter in model.parameters()]


STEPS = {
    "sgd": {"weight_decay": 0.0, "momentum": 0.9, "dampening": 0.0, "nesterov": False},
    "adam": {  # AdamW, as models are trained
        "weight_decay": 1e-2,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "decoupled_weight_decay": True,
    },
    "rmsprop": {"weight_decay": 0.0, "alpha": 0.9, "eps": 1e-3, "momentum": 0.9},
    "adagrad": {"weight_decay": 0.0, "lr_decay": 0.0, "eps": 1e-10},
}
STATES = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
    "adagrad": ("sum",),
}


@pytest.mark.parametrize("kind", STEPS)
def test_optimizer_step(benchmark, backend, parameters, kind):
    grads = [normal(*p.shape) * np.float32(1e-3) for p in parameters]
    states = {name: [np.zeros_like(p) for p in parameters] for name in STATES[kind]}
    counts = [10] * len(parameters)
    settings = {"lr": 1e-3, "maximize": False, **STEPS[kind]}
    timed(
        benchmark,
        lambda: backend.optimizer_step(kind, parameters, grads, states, counts, settings),
        size=sum(p.size for p in parameters),
    )
