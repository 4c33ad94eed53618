"""`SyncBatchNorm`: ranks with parts of a batch compute what one does with all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.autograd import gradcheck
from lucid.kernels.geometry import Conv
from lucid.ops._batch_norm import BatchNormTraining
from lucid.ops._conv_norm_act import ConvNormAct
from tests.distributed.launch import check_ranks

SCRIPT = "tests/distributed/sync_batch_norm.py"


@pytest.mark.parametrize(
    ("ranks", "backend"),
    [
        pytest.param(2, "numpy"),
        pytest.param(2, "numba", marks=pytest.mark.slow),
        pytest.param(4, "numpy", marks=pytest.mark.slow),
    ],
)
def test_layers_over_ranks(ranks: int, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("llvmlite")
    assert check_ranks(ranks, SCRIPT, LUCID_BACKEND=backend).endswith("done\n")


class _WithItself:
    """An exchange with another part that has the same values: the statistics stay the same."""

    def statistics(self, mean: Any, variance: Any, rows: int) -> tuple[Any, Any]:
        return mean, variance

    def sums(self, dweight: Any, dbias: Any, rows: int) -> tuple[Any, Any, int]:
        return 2 * dweight, 2 * dbias, 2 * rows


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kernel", [3, 1])
def test_kernels_exchange(dtype: str, kernel: int) -> None:
    """What they are told of other parts takes the place of their own sums."""
    draw = np.random.default_rng(0)
    x, weight, scale, shift = (
        lucid.tensor(draw.normal(size=shape), dtype=dtype, requires_grad=True)
        for shape in ((3, 4, 6, 6), (5, 4, kernel, kernel), (5,), (5,))
    )
    found = []
    for exchange in (None, _WithItself()):
        for tensor in (x, weight, scale, shift):
            tensor.grad = None
        y, *_ = ConvNormAct.apply(x, weight, scale, shift, 1e-3, (0.0, 6.0), Conv(), exchange)
        z, *_ = BatchNormTraining.apply(y * y, scale, shift, 1e-3, exchange)
        (z * z * z).sum().backward()
        found.append([z, x.grad, weight.grad, scale.grad, shift.grad])
    tolerance = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    for one, other in zip(*found):
        assert one is not None
        assert other is not None
        size = float(np.abs(one.data).max())
        np.testing.assert_allclose(one.data / size, other.data / size, atol=tolerance)


def test_gradient_of_one_rank() -> None:
    norm = nn.SyncBatchNorm(3, dtype="float64")
    for shape in ((4, 3), (4, 3, 2), (2, 3, 2, 2)):
        x = lucid.tensor(np.random.default_rng(1).normal(size=shape), dtype="float64")
        x.requires_grad = True
        assert gradcheck(lambda x, w, b: norm(x), (x, norm.weight, norm.bias))


def test_conversion() -> None:
    plain = nn.Sequential(
        nn.Conv2d(2, 3, 1, bias=False),
        nn.Sequential(nn.BatchNorm2d(3, eps=1e-2, momentum=None, affine=False), nn.ReLU()),
        nn.BatchNorm2d(3, bias=False, track_running_stats=False).eval(),
    )
    model = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    assert model is plain
    assert isinstance(model[1][0], nn.SyncBatchNorm)
    assert (model[1][0].eps, model[1][0].momentum, model[1][0].affine) == (1e-2, None, False)
    assert isinstance(model[1], nn.Sequential)
    norm = model[2]
    assert isinstance(norm, nn.SyncBatchNorm)
    assert not norm.training
    assert norm.bias is None
    assert norm.running_mean is None
    assert nn.SyncBatchNorm.convert_sync_batchnorm(model)[2] is norm
    one = nn.BatchNorm1d(4, dtype="float64")
    assert nn.SyncBatchNorm.convert_sync_batchnorm(one).weight is one.weight


def test_converted_model_is_the_same() -> None:
    lucid.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU6())
    x = lucid.randn(4, 2, 8, 8)
    trained = model(x)
    expected = model.eval()(x)
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert np.array_equal(model(x).data, expected.data)
    with lucid.no_grad():
        np.testing.assert_allclose(lucid.compile(model, x.shape)(x).data, expected.data, atol=1e-5)
    assert np.array_equal(model.train()(x).data, trained.data)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected process_group=None, which means all ranks"):
        nn.SyncBatchNorm(3, process_group="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"SyncBatchNorm: expected an input of shape \(N, C\), "):
        nn.SyncBatchNorm(3)(lucid.zeros(3))
    with pytest.raises(ValueError, match="SyncBatchNorm: in training there must be more than one"):
        nn.SyncBatchNorm(3)(lucid.zeros(1, 3))
