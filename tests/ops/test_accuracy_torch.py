"""What is summed or averaged on the way to a result costs it no accuracy; float16 is only stored.

The expected values are PyTorch's in float64, of the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import kernels
from lucid.nn import functional as ours

torch = pytest.importorskip("torch")
theirs = torch.nn.functional


@pytest.fixture(params=kernels.available_backends(), autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    before = kernels.get_backend()
    try:
        kernels.set_backend(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    yield
    kernels.set_backend(before)


class Library:
    """The functions of one library under the same names."""

    def __init__(self, base: Any, functional: Any, wrap: Callable[[np.ndarray], Any]) -> None:
        self.base, self.F, self.wrap = base, functional, wrap


LUCID = Library(lucid, ours, lucid.from_numpy)
TORCH = Library(torch, theirs, torch.from_numpy)

rng = np.random.default_rng(0)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


EQUAL = channels_last(np.full((4, 3, 128, 128), 0.45))
IMAGES = channels_last(rng.standard_normal((4, 8, 48, 48)) + 3)
LARGE = channels_last(rng.standard_normal((4, 8, 40, 40)) * 100)
ROWS = rng.uniform(0.1, 1.1, (30_000, 10))
SHORT = rng.uniform(-1, 1, (4, 8))
LOGITS = rng.standard_normal((3, 20_000))
DEEP, WEIGHT = rng.standard_normal((2, 8, 1, 3, 3))[0], rng.standard_normal((6, 8, 3, 3)) * 0.1
LABELS = rng.integers(0, 10, len(ROWS))
WHERE = rng.integers(0, 3, len(ROWS))
ONES, ZEROS = np.ones(8), np.zeros(8)

# name -> (function of a library and its tensors, arrays)
CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "mean": (lambda lib, x: x.mean(), (EQUAL,)),
    "mean_of_columns": (lambda lib, x: x.mean(0), (ROWS,)),
    "mean_of_images": (lambda lib, x: x.mean((2, 3)), (EQUAL,)),
    "mean_of_channels": (lambda lib, x: x.mean((0, 2, 3)), (EQUAL,)),
    "var": (lambda lib, x: x.var((0, 2, 3)), (IMAGES,)),
    "std": (lambda lib, x: x.std((2, 3)), (LARGE,)),
    "std_of_few": (lambda lib, x: x.std(1), (SHORT,)),
    "norm": (lambda lib, x: lib.base.norm(x, 2, (0, 2, 3)), (LARGE,)),
    "norm_3": (lambda lib, x: lib.base.norm(x, 3, 0), (ROWS,)),
    "logsumexp": (lambda lib, x: lib.base.logsumexp(x, (0, 2, 3)), (IMAGES,)),
    "cumsum": (lambda lib, x: lib.base.cumsum(x, 0) / 1000, (ROWS,)),
    "softmax": (lambda lib, x: lib.F.softmax(x, 1), (LOGITS,)),
    "softmax_of_columns": (lambda lib, x: lib.F.softmax(x, 0), (np.ascontiguousarray(LOGITS.T),)),
    "log_softmax": (lambda lib, x: lib.F.log_softmax(x, 0), (ROWS,)),
    "batch_norm": (
        lambda lib, x, w, b: lib.F.batch_norm(x, None, None, w, b, training=True),
        (LARGE, ONES, ZEROS),
    ),
    "group_norm": (lambda lib, x, w, b: lib.F.group_norm(x, 2, w, b), (LARGE, ONES, ZEROS)),
    "instance_norm": (
        lambda lib, x, w, b: lib.F.instance_norm(x, weight=w, bias=b),
        (LARGE, ONES, ZEROS),
    ),
    "layer_norm": (lambda lib, x: lib.F.layer_norm(x, (8, 40, 40)), (LARGE,)),
    "layer_norm_of_few": (lambda lib, x: lib.F.layer_norm(x, (10,)), (ROWS,)),
    "avg_pool2d": (lambda lib, x: lib.F.avg_pool2d(x, 40), (LARGE,)),
    "adaptive_avg_pool2d": (lambda lib, x: lib.F.adaptive_avg_pool2d(x, 3), (LARGE,)),
    "bias": (lambda lib, x, b: (x + b).mean(), (ROWS, np.zeros(10))),
    "linear": (
        lambda lib, x, w, b: lib.F.linear(x, w, b).mean(),
        (ROWS, np.ones((4, 10)), np.zeros(4)),
    ),
    "conv2d": (
        lambda lib, x, w, b: lib.F.conv2d(x, w, b, padding=1),
        (IMAGES, WEIGHT, np.zeros(6)),
    ),
    "depthwise": (lambda lib, x, w, b: lib.F.conv2d(x, w, b, groups=8), (IMAGES, DEEP, ZEROS)),
    "mse_loss": (lambda lib, x: lib.F.mse_loss(x, x.detach() * 0.5), (EQUAL,)),
    "cross_entropy": (lambda lib, x: lib.F.cross_entropy(x * 9, lib.wrap(LABELS)), (ROWS,)),
    "cross_entropy_smooth": (
        lambda lib, x: lib.F.cross_entropy(x, lib.wrap(LABELS[:3]), label_smoothing=0.5),
        (LOGITS,),
    ),
    "kl_div": (lambda lib, x: lib.F.kl_div(x, x.detach(), reduction="batchmean"), (ROWS,)),
    "index_select": (
        lambda lib, x: lib.base.index_select(x, 0, lib.wrap(WHERE)).mean(),
        (ROWS[:3],),
    ),
    "embedding": (lambda lib, x: lib.F.embedding(lib.wrap(WHERE), x).mean(), (ROWS[:3],)),
    "gather": (lambda lib, x: lib.base.gather(x, 0, lib.wrap(WHERE[:, None])).mean(), (ROWS[:3],)),
    "einsum": (lambda lib, x: lib.base.einsum("ij->j", x) / 1000, (ROWS,)),
    "einsum_of_two": (lambda lib, x, y: lib.base.einsum("ij,ij->j", x, y) / 1000, (ROWS, ROWS)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_like_float64(name: str, dtype: str) -> None:
    fn, given = CASES[name]
    arrays = [array.astype(dtype) for array in given]
    mine = [lucid.from_numpy(array.copy(order="K")) for array in arrays]
    exact = [torch.from_numpy(array.astype(np.float64)) for array in arrays]
    for tensor in (*mine, *exact):
        tensor.requires_grad = True
    y, expected = fn(LUCID, *mine), fn(TORCH, *exact)
    assert y.dtype == dtype
    # All of one sign: sums of them are large.
    slope = 1 + np.cos(np.arange(y.data.size)).reshape(y.shape) / 2
    slope = np.asarray(slope / np.sqrt(y.data.size), dtype)
    y.backward(lucid.from_numpy(slope))
    expected.backward(torch.from_numpy(np.asarray(slope, np.float64)))
    results = [(y, expected.detach())] + [(a.grad, b.grad) for a, b in zip(mine, exact)]
    for result, right in results:
        assert result is not None
        assert result.dtype == dtype
        largest = float(right.abs().max())
        step = np.finfo(dtype).eps * largest + (np.finfo(dtype).smallest_subnormal)
        error = np.abs(result.detach().numpy().astype(np.float64) - right.numpy()).max()
        assert error <= 3 * 16 * step, (error / step, largest)  # log2 of 2^16


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("axes", [(0, 2, 3), (2, 3), 0, 1, None], ids=str)
def test_equal_numbers_do_not_deviate(axes: Any, dtype: str) -> None:
    x = lucid.from_numpy(EQUAL.astype(dtype))
    assert not lucid.var(x, axes).numpy().any()
    assert not lucid.std(x, axes).numpy().any()


def test_neighbouring_numbers_deviate() -> None:
    x = np.full((1000, 2), 4096, np.float32)
    x[::4] = np.nextafter(np.float32(4096), np.float32(5000))
    expected = np.var(x.astype(np.float64), axis=0, ddof=1)
    np.testing.assert_allclose(lucid.var(lucid.from_numpy(x), 0).numpy(), expected, rtol=1e-6)


def test_float16_beyond_its_range_on_the_way() -> None:
    x = lucid.from_numpy(np.full((5000, 20), 20, np.float16))
    assert x.mean().item() == x.mean((0, 1)).item() == 20
    assert x.sum().item() == np.inf
    assert x.norm().item() == pytest.approx(20 * np.sqrt(100_000), rel=1e-3)
    images = lucid.from_numpy(np.full((1, 2, 64, 64), 300, np.float16))
    assert (ours.avg_pool2d(images, 64).numpy() == 300).all()
    assert (ours.adaptive_avg_pool2d(images, 1).numpy() == 300).all()


def test_attention_of_float16_has_scores_in_float32() -> None:
    rng = np.random.default_rng(0)
    halves = [(rng.standard_normal((4, 6, 8)) * 6).astype(np.float16) for _ in range(3)]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *[torch.from_numpy(half.astype(np.float64)) for half in halves]
    )
    got = ours.scaled_dot_product_attention(*map(lucid.from_numpy, halves))
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-3, atol=1e-2)
