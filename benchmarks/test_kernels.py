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
from lucid._compile._trace import Trace, trace
from lucid.ops._activation import GELU, Clip, Softmax
from lucid.ops._batch_norm import BatchNormInference
from lucid.ops._conv import Conv2d

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Shape:
    """A convolution: its input in NHWC, its weight, and stride, padding, dilation, groups."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    how: tuple[Any, ...]

    def __str__(self) -> str:
        (n, h, w, c), (out, width, kh, kw) = self.x, self.weight
        kind = "depthwise" if width == 1 < self.how[3] else "conv"
        return f"{kind}{kh}x{kw}s{self.how[0][0]}-{n}x{h}x{w}x{c}-{out}"


@cache
def traced(variant: str, batch: int, size: int) -> Trace:
    """Return the operations of a variant."""
    model = models.create_model(f"mobilenet_v4_{variant}").eval()
    return trace(model, (batch, 3, size, size), np.dtype(np.float32))


def _variants(config: pytest.Config) -> list[str]:
    text = config.getoption("--variants")
    return list(VARIANTS) if text == "all" else text.split(",")


def shapes(config: pytest.Config, wanted: Any) -> list[Any]:
    """Return what ``wanted(operation, trace)`` gives for all operations, each once, but None."""
    found: dict[Any, None] = {}
    for variant in _variants(config):
        run = traced(variant, config.getoption("--batch"), config.getoption("--size"))
        for operation in run.operations:
            shape = wanted(operation, run)
            if shape is not None:
                found[shape] = None
    return list(found)


def _convolution(operation: Any, run: Trace) -> Shape | None:
    if operation.kind is not Conv2d:
        return None
    x, weight, _, how = operation.args
    n, c, h, w = run.values[x.index].shape
    return Shape((n, h, w, c), weight.shape, how)


def _of_kind(kind: Any) -> Callable[[Any, Trace], tuple[int, ...] | None]:
    def wanted(operation: Any, run: Trace) -> tuple[int, ...] | None:
        if operation.kind is not kind:
            return None
        shape = run.values[operation.args[0].index].shape
        if len(shape) == 4:
            n, c, h, w = shape
            return (n, h, w, c)
        return shape

    return wanted


WANTED = {
    "convolution": _convolution,
    "norm": _of_kind(BatchNormInference),
    "clip": _of_kind(Clip),
    "gelu": _of_kind(GELU),
    "softmax": _of_kind(Softmax),
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
    return x, weight, backend.conv2d(x, weight, None, *shape.how)


def test_conv2d(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    timed(
        benchmark,
        lambda: backend.conv2d(x, weight, None, *convolution.how),
        _macs(convolution, y),
    )


def test_prepared_conv(benchmark, backend, convolution):
    """As a plan runs it: weights packed before, bias and ReLU6 within."""
    x, weight, y = _operands(convolution, backend)
    _, run = backend.prepare_conv(
        x.shape, weight, normal(len(weight)), ("clip", 0.0, 6.0), *convolution.how
    )
    out = np.empty_like(y)
    timed(benchmark, lambda: run(x, out, None), _macs(convolution, y))


def test_conv2d_input_grad(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    grad = normal(*y.shape)
    timed(
        benchmark,
        lambda: backend.conv2d_input_grad(grad, weight, x.shape, *convolution.how),
        _macs(convolution, y),
    )


def test_conv2d_weight_grad(benchmark, backend, convolution):
    x, weight, y = _operands(convolution, backend)
    grad = normal(*y.shape)
    timed(
        benchmark,
        lambda: backend.conv2d_weight_grad(x, grad, weight.shape, *convolution.how),
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


def test_softmax(benchmark, backend, softmax):
    x = normal(*softmax)
    timed(benchmark, lambda: backend.softmax(x, -1), size=x.size)


def test_softmax_grad(benchmark, backend, softmax):
    grad, y = normal(*softmax), backend.softmax(normal(*softmax), -1)
    timed(benchmark, lambda: backend.softmax_grad(grad, y, -1), size=y.size)


def test_cross_entropy(benchmark, backend):
    x, target = normal(16, 1000), RNG.integers(0, 1000, 16)
    timed(benchmark, lambda: backend.cross_entropy(x, target, None, 0.0), size=x.size)


@pytest.fixture
def parameters(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """All parameters of the first variant."""
    model = models.create_model(f"mobilenet_v4_{_variants(request.config)[0]}")
    return [parameter.data for parameter in model.parameters()]


def test_sgd_step(benchmark, backend, parameters):
    grads = [normal(*p.shape) * np.float32(1e-3) for p in parameters]
    buffers = [np.zeros_like(p) for p in parameters]

    def run() -> None:
        backend.sgd_step(
            parameters,
            grads,
            buffers,
            lr=1e-3,
            momentum=0.9,
            dampening=0.0,
            weight_decay=0.0,
            nesterov=False,
            maximize=False,
            first=False,
        )

    timed(benchmark, run, size=sum(p.size for p in parameters))
