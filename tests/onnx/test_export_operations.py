"""Each operation of lucid as ONNX's, at every opset, run by ONNX Runtime and ONNX's reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
import lucid.nn.functional as F  # noqa: N812
from lucid import nn
from lucid.autograd import Tensor

from .runtimes import assert_close, evaluated, images, onnx_runtime, reference

onnx = pytest.importorskip("onnx")

# The newest opset that ONNX Runtime promises to run.
RUN = 22


class Of(nn.Module):
    """A function as a module, with a parameter it may use."""

    def __init__(self, function: Callable[..., Any], *shape: int) -> None:
        super().__init__()
        self.function = function
        rng = np.random.default_rng(1)
        self.w = nn.Parameter(rng.uniform(0.5, 1.5, shape or (4,)).astype(np.float32))

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x, self.w)


def _changed(x: Tensor, w: Tensor) -> Tensor:
    before = x + 1
    x += w
    x.mul_(x).clamp_(0.1)
    return x * before


# Name of the operation -> the function of (x, w), the input's shape, the parameter's.
Case = tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...]]
IMAGE = (2, 4, 6, 5)
ROWS = (3, 4)
OPERATIONS: dict[str, Case] = {
    "Conv2d": (lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 0), (1, 2), 2), IMAGE, (6, 2, 3, 2)),
    "ConvInputGrad": (
        lambda x, w: F.conv_transpose2d(x, w, None, (2, 3), (1, 0), (1, 2), 2, (1, 2)),
        IMAGE,
        (4, 3, 3, 2),
    ),
    "Linear": (F.linear, ROWS, (5, 4)),
    "Linear of 3 axes": (lambda x, w: F.linear(x, w, w[:, 0]), (2, 3, 4), (5, 4)),
    "BatchNormInference": (lambda x, w: F.batch_norm(x, w, w, w, w), IMAGE, (4,)),
    "BatchNormTraining": (lambda x, w: F.batch_norm(x, None, None, w, w), IMAGE, (4,)),
    "Standardize": (lambda x, w: F.layer_norm(x, (5,), w), IMAGE, (5,)),
    "Standardize of groups": (lambda x, w: F.group_norm(x, 2, w, w), IMAGE, (4,)),
    "MaxPool2d": (lambda x, w: F.max_pool2d(x, (3, 2), 2, 1, (1, 2)), IMAGE, ()),
    "MaxPool2d over the end": (lambda x, w: F.max_pool2d(x, 2, 2, ceil_mode=True), IMAGE, ()),
    "SumPool2d": (lambda x, w: F.avg_pool2d(x, 3, 2, 1), IMAGE, ()),
    "SumPool2d without padding": (lambda x, w: F.avg_pool2d(x, 3, 2, 1, True, False), IMAGE, ()),
    "Clip": (lambda x, w: F.relu(x - 1) + F.relu6(x * 9) + F.hardtanh(x, -0.5, 2.0), ROWS, ()),
    "LeakyReLU": (lambda x, w: F.leaky_relu(x, 0.2), ROWS, ()),
    "PReLU": (F.prelu, IMAGE, (4,)),
    "ELU": (lambda x, w: F.elu(x, 0.7) + F.selu(x) + F.celu(x, 0.3), ROWS, ()),
    "SiLU": (lambda x, w: F.silu(x), ROWS, ()),
    "Hardswish": (lambda x, w: F.hardswish(x * 3), ROWS, ()),
    "Hardsigmoid": (lambda x, w: F.hardsigmoid(x * 3), ROWS, ()),
    "GELU": (lambda x, w: F.gelu(x) + F.gelu(x * 2, "tanh"), ROWS, ()),
    "Softplus": (lambda x, w: F.softplus(x, 2.0, 0.5) + F.mish(x) + F.logsigmoid(x), ROWS, ()),
    "Compare": (
        lambda x, w: lucid.where((x > w - 1) & (x <= 0.7) | (x != x), x, 0.0)
        + ((w >= 1.0) ^ ~(x < 0)).float() + (x == x.abs()).float(),
        ROWS, (4,),
    ),
    "Compare with infinities": (
        lambda x, w: lucid.stack([f(1 / (x > 0).float() * x) for f in
                                  (lucid.isnan, lucid.isinf, lucid.isfinite)]).float(),
        ROWS, (),
    ),
    "Compare integers": (
        lambda x, w: (((x * 4).long() > 0.5) | ((x * 4).long() >= -2)).float(), ROWS, ()
    ),
    "Arg": (lambda x, w: x.argmax(1) + x.argmin(1, keepdim=True) + w.argmax(), ROWS, (4,)),
    "Rows": (lambda x, w: F.embedding(x.argmax(2), w, 0) + F.embedding(w.argmax(0), w)[:1],
             (2, 5, 4), (4, 3)),
    "in place": (lambda x, w: _changed(x * 2, w), ROWS, (4,)),
    "Softmax": (lambda x, w: x.softmax(-1) + x.softmax(1), IMAGE, ()),
    "LogSoftmax": (lambda x, w: F.log_softmax(x, 2), IMAGE, ()),
    "MatMul": (lambda x, w: (x @ w) @ (x @ w).transpose(-2, -1), (2, 3, 4), (4, 5)),
    "Add": (lambda x, w: x + w, ROWS, ()),
    "Sub": (lambda x, w: 1.0 - x - w, ROWS, ()),
    "Mul": (lambda x, w: x * w * x, ROWS, ()),
    "Div": (lambda x, w: x / w, ROWS, ()),
    "Remainder": (lambda x, w: (x * 4) % w, ROWS, ()),
    "Pow": (lambda x, w: x.abs() ** w, ROWS, ()),
    "PowScalar": (lambda x, w: x**2 + x.abs() ** 0.5, ROWS, ()),
    "Step": (
        lambda x, w: x.floor() + (x * 3).ceil() + (x * 5).round() + x.sign() + (x * 4).trunc(),
        ROWS, (),
    ),
    "Step of integers": (
        lambda x, w: ((x * 9).long().trunc() + (x * 3).long().sign()).float(), ROWS, ()
    ),
    "Where": (lambda x, w: lucid.where(np.arange(4) % 2 == 0, x, w), ROWS, ()),
    "Maximum": (lambda x, w: lucid.maximum(x, w) + lucid.minimum(x, 0.2), ROWS, ()),
    "Clamp": (lambda x, w: x.clamp(-0.5, 1) + x.clamp(max=w) + x.clamp(min=0.1), ROWS, ()),
    "Neg": (lambda x, w: -x, ROWS, ()),
    "Abs": (lambda x, w: x.abs(), ROWS, ()),
    "Sqrt": (lambda x, w: x.abs().sqrt(), ROWS, ()),
    "Rsqrt": (lambda x, w: (x.abs() + 1).rsqrt(), ROWS, ()),
    "Reciprocal": (lambda x, w: (x.abs() + 1).reciprocal(), ROWS, ()),
    "Exp": (lambda x, w: x.exp(), ROWS, ()),
    "Expm1": (lambda x, w: x.expm1(), ROWS, ()),
    "Log": (lambda x, w: x.abs().log(), ROWS, ()),
    "Log1p": (lambda x, w: x.abs().log1p(), ROWS, ()),
    "Sigmoid": (lambda x, w: x.sigmoid(), ROWS, ()),
    "Erf": (lambda x, w: x.erf(), ROWS, ()),
    "Sin": (lambda x, w: x.sin(), ROWS, ()),
    "Cos": (lambda x, w: x.cos(), ROWS, ()),
    "Asin": (lambda x, w: (x / 9).asin() + x.sin().asin(), ROWS, ()),
    "Acos": (lambda x, w: (x / 9).acos(), ROWS, ()),
    "Atan": (lambda x, w: x.atan(), ROWS, ()),
    "Sinh": (lambda x, w: x.sinh(), ROWS, ()),
    "Cosh": (lambda x, w: x.cosh(), ROWS, ()),
    "Asinh": (lambda x, w: (x * 9).asinh(), ROWS, ()),
    "Acosh": (lambda x, w: (x.abs() + 1).acosh(), ROWS, ()),
    "Atanh": (lambda x, w: (x / 9).atanh(), ROWS, ()),
    "Tan": (lambda x, w: x.tan(), ROWS, ()),
    "Tanh": (lambda x, w: x.tanh(), ROWS, ()),
    "Cast": (lambda x, w: (x * 5).astype(np.int64).astype(np.float32), ROWS, ()),
    "Sum": (lambda x, w: x.sum(1, keepdim=True) + x.sum((2, 3), keepdim=True), IMAGE, ()),
    "Sum of integers": (lambda x, w: (x * 5).astype(np.int32).sum(1), ROWS, ()),
    "Mean": (lambda x, w: x.mean((2, 3)) + x.mean((2, 3), keepdim=True).flatten(1), IMAGE, ()),
    "Var": (lambda x, w: x.var((2, 3)) + x.var(1, correction=0).mean((1, 2))[:, None], IMAGE, ()),
    "Std": (lambda x, w: x.std(1), IMAGE, ()),
    "Norm": (lambda x, w: x.norm(2, 1) + x.norm(3, 1) + x.norm(1, 1), ROWS, ()),
    "Norm of a number": (lambda x, w: x + x[-1, 0].norm() * x[0, 1].norm(), ROWS, ()),
    "Prod": (lambda x, w: x.prod(1), ROWS, ()),
    "Cumsum": (lambda x, w: x.cumsum(1), ROWS, ()),
    "Extremum": (lambda x, w: x.amax(1) - x.amin((1,)), ROWS, ()),
    "LogSumExp": (lambda x, w: x.logsumexp(1), ROWS, ()),
    "Reshape": (lambda x, w: x.reshape(-1, 2, 10).reshape(x.shape[0], 3, 4, 10), (2, 4, 6, 5), ()),
    "Permute": (lambda x, w: x.permute(0, 3, 1, 2), IMAGE, ()),
    "Expand": (lambda x, w: x.unsqueeze(1).expand(-1, 3, -1) * w, ROWS, ()),
    "Copy": (lambda x, w: x.clone() + x.permute(1, 0).contiguous().t(), ROWS, ()),
    "Flip": (lambda x, w: x.flip(1, 3), IMAGE, ()),
    "Roll": (lambda x, w: x.roll((1, -2), (2, 3)), IMAGE, ()),
    "Cat": (lambda x, w: lucid.cat([x, x * 2, w.expand(x.shape[0], 4)], 1), ROWS, ()),
    "ConstantPad": (lambda x, w: F.pad(x, (1, 2, -1, 1), value=0.5), IMAGE, ()),
    "Pad by reflection": (lambda x, w: F.pad(x, (2, 1, 1, 0), "reflect"), IMAGE, ()),
    "GetItem": (lambda x, w: x[:, 1:-1, -1, ::2] + x[:, :2, None, 0, ::-2].squeeze(2), IMAGE, ()),
    "GetItem by an array": (lambda x, w: x[:, [2, 0, 0]] * x[:, 1:, -1:, [1]], IMAGE, ()),
    "GetItem by arrays": (lambda x, w: F.interpolate(x, (3, 9)), IMAGE, ()),
    "GetItem by booleans": (lambda x, w: x[:, np.array([True, False, True, True])], IMAGE, ()),
    "GetItem by arrays apart": (lambda x, w: x[:, [0, 1], :, [2, 4]].transpose(0, 1), IMAGE, ()),
}  # fmt: skip
# Those that only an opset has, and those of a fixed batch: what they do depends on all sizes.
NEED = {"Compare": 12, "Compare integers": 12, "Einsum": 12, "PutAdd": 16, "Maximum": 12}
FIXED: dict[str, Case] = {
    "Einsum": (lambda x, w: lucid.einsum("bi,ij,bj->b", x, w, x), ROWS, (4, 4)),
    "SetItem": (lambda x, w: x.scatter(1, np.array([[0, 2]] * 3), 7.0), ROWS, ()),
    "PutAdd": (lambda x, w: x.scatter_add(1, np.array([[0, 0, 3]] * 3), x), ROWS, ()),
    "Resample": (lambda x, w: F.interpolate(x, (4, 9), mode="bilinear"), IMAGE, ()),
    "Adaptive pooling": (lambda x, w: F.adaptive_avg_pool2d(x, (4, 3)), IMAGE, ()),
    "Attention": (
        lambda x, w: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 2, 5, 4), (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*OPERATIONS, *FIXED])
def test_an_operation_is_the_same_elsewhere(tmp_path: Path, name: str) -> None:
    function, shape, weight = (OPERATIONS | FIXED)[name]
    model, path = Of(function, *weight), tmp_path / "model.onnx"
    lucid.onnx.export(model, path, shape, dynamic_batch=name not in FIXED)
    for batch in (shape[0],) if name in FIXED else (1, 5):
        x = images((batch, *shape[1:]))
        assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(11, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_has_the_operations(tmp_path: Path, opset: int) -> None:
    for name, (function, shape, weight) in (OPERATIONS | FIXED).items():
        if opset < NEED.get(name, 0):
            continue
        model, path = Of(function, *weight), tmp_path / "model.onnx"
        lucid.onnx.export(model, path, shape, opset=opset, dynamic_batch=name not in FIXED)
        assert onnx.load(path).opset_import[0].version == opset
        x = images(shape)
        expected = evaluated(model, x)
        if opset <= RUN:
            assert_close(onnx_runtime(path)(x)[0], expected)
        # The reference takes older batch norms as training, and cuts a transposed convolution's
        # weights into groups along the wrong axis.
        if name != "ConvInputGrad" and (opset >= 14 or name != "BatchNormInference"):
            assert_close(reference(path)(x)[0], expected)


def test_every_operation_of_the_table_is_tried() -> None:
    from lucid.onnx._emit import EMITTERS, REFUSED

    assert not EMITTERS.keys() & REFUSED.keys()
    tried = {name.partition(" ")[0] for name in OPERATIONS | FIXED} | {"Overwrite"}
    emitted = {kind.__name__ for kind in EMITTERS if kind.__module__.startswith("lucid.")}
    assert emitted <= tried | {"FakeQuantize"}
