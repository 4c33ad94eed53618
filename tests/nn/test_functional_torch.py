"""Values and gradients of every function against PyTorch, in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import kernels
from lucid.nn import functional as F  # noqa: N812
from tests.nn.cases import CASES, Case

torch = pytest.importorskip("torch")

INF, NAN = float("inf"), float("nan")


@pytest.fixture(params=kernels.available_backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    before = kernels.get_backend()
    kernels.set_backend(request.param)
    yield request.param
    kernels.set_backend(before)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_like_torch(case: Case) -> None:
    arrays = [array.astype(np.float32) for array in case.arrays(seed=1)]
    ours = [lucid.tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    got = case.fn(F, lucid.tensor, *ours)
    expected = case.fn(torch.nn.functional, torch.tensor, *theirs)
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5
    )
    weights = np.random.default_rng(2).standard_normal(got.shape).astype(np.float32)
    (got * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    for a, b in zip(ours, theirs):
        if b.grad is not None:
            assert a.grad is not None
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=2e-5)


# Functions that e^x decides where x is small, of arguments (functional, x).
TAILS: dict[str, Callable[[Any, Any], Any]] = {
    "sigmoid": lambda f, x: x.sigmoid(),
    "silu": lambda f, x: f.silu(x),
    "glu": lambda f, x: f.glu(x.reshape(-1, 1).expand(-1, 2) * (x * 0 + 1).reshape(-1, 1)),
    "softplus": lambda f, x: f.softplus(x),
    "softplus_2": lambda f, x: f.softplus(x / 2, 2.0),
    "mish": lambda f, x: f.mish(x),
    # PyTorch's own second derivative is 0 there.
    "logsigmoid": lambda f, x: f.logsigmoid(-x) if f is F else -f.softplus(x),
    "elu": lambda f, x: f.elu(x),
    "celu": lambda f, x: f.celu(x, 2.0),
    "selu": lambda f, x: f.selu(x),
}
PRECISION = {np.float16: (-9.5, 6e-3), np.float32: (-80.0, 2e-5), np.float64: (-600.0, 1e-12)}


@pytest.mark.parametrize("size", [16, 300])
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("name", TAILS)
def test_small_values_and_slopes_are_exact(
    backend: str, name: str, dtype: type[np.floating[Any]], size: int
) -> None:
    """Relative to their size: the value, the gradient and its gradient, against float64."""
    low, tolerance = PRECISION[dtype]
    values = np.linspace(low, -4.5, size).astype(dtype)
    x = lucid.tensor(values, dtype=dtype, requires_grad=True)
    t = torch.tensor(values.astype(np.float64), requires_grad=True)
    y, u = TAILS[name](F, x), TAILS[name](torch.nn.functional, t)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=tolerance)
    y.sum().backward(retain_graph=True)
    (slope,) = lucid.autograd.grad(y.sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), expected.detach().numpy(), rtol=tolerance)
    np.testing.assert_allclose(slope.detach().numpy(), expected.detach().numpy(), rtol=tolerance)
    (second,) = lucid.autograd.grad(slope.sum(), x)
    (expected,) = torch.autograd.grad(expected.sum(), t)
    np.testing.assert_allclose(second.numpy(), expected.numpy(), rtol=tolerance)


@pytest.mark.parametrize("beyond", [-3.0, 3.0, 0.0])
@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "elu", "leaky_relu", "relu6"])
def test_gradients_at_the_bends(name: str, beyond: float) -> None:
    x, t = lucid.tensor([beyond], requires_grad=True), torch.tensor([beyond], requires_grad=True)
    getattr(F, name)(x).sum().backward()
    getattr(torch.nn.functional, name)(t).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-5)


def compare(
    fn: Callable[[Any, Any, Any], Any], values: Any, dtype: Any = np.float32, rtol: float = 1e-5
) -> None:
    """Compare value and gradient of ``fn(functional, tensor, x)`` at an array of values."""
    array = np.asarray(values, dtype)
    x = lucid.tensor(array, dtype=dtype, requires_grad=True)
    t = torch.tensor(array, requires_grad=True)
    y = fn(F, lambda v: lucid.tensor(np.asarray(v), np.asarray(v).dtype), x)
    u = fn(torch.nn.functional, lambda v: torch.tensor(np.asarray(v)), t)
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=rtol, atol=1e-7)
    y.sum().backward()
    u.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=rtol, atol=1e-7)


EDGES = np.float32([0, 1, -1, 0.5, 2, -2, NAN, INF, -INF, 1e30, 1e-30, 100, -100])
# Losses of an input and a target of one shape, of arguments (functional, x, target, reduction).
LOSSES: dict[str, Callable[[Any, Any, Any, str], Any]] = {
    "mse": lambda f, x, t, how: f.mse_loss(x, t, reduction=how),
    "l1": lambda f, x, t, how: f.l1_loss(x, t, reduction=how),
    "smooth_l1": lambda f, x, t, how: f.smooth_l1_loss(x, t, reduction=how),
    "smooth_l1_0": lambda f, x, t, how: f.smooth_l1_loss(x, t, reduction=how, beta=0.0),
    "smooth_l1_2": lambda f, x, t, how: f.smooth_l1_loss(x, t, reduction=how, beta=2.0),
    "huber": lambda f, x, t, how: f.huber_loss(x, t, reduction=how),
    "huber_half": lambda f, x, t, how: f.huber_loss(x, t, reduction=how, delta=0.5),
    "bce_with_logits": lambda f, x, t, how: f.binary_cross_entropy_with_logits(x, t, reduction=how),
    "kl_div": lambda f, x, t, how: f.kl_div(x, t, reduction=how),
    "kl_div_log": lambda f, x, t, how: f.kl_div(x, t, reduction=how, log_target=True),
}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize("target", [0.0, 1.0, 0.5, -1.0, INF, NAN])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_at_the_edges(name: str, target: float) -> None:
    fn = LOSSES[name]
    compare(lambda f, tensor, x: fn(f, x, tensor(np.full_like(EDGES, target)), "none"), EDGES)
    finite = EDGES[np.isfinite(EDGES) & (np.abs(EDGES) < 1e20)]
    for values in (finite, finite[:0]):
        for how in ("mean", "sum"):
            compare(
                lambda f, tensor, x, values=values, how=how: fn(
                    f, x, tensor(np.full_like(values, target)), how
                ),
                values,
            )


@pytest.mark.parametrize("target", [0.0, 1.0, 0.5])
def test_binary_cross_entropy_at_the_edges(target: float) -> None:
    p = np.float32([0, 1, 0.5, 1e-30, 1e-13, 1 - 1e-7, 1e-45])
    compare(
        lambda f, tensor, x: f.binary_cross_entropy(x, tensor(p * 0 + target), reduction="none"), p
    )
    logits = np.float32([0, 1, -20, -30, -50, 20, 30, -85, INF, -INF])
    compare(
        lambda f, tensor, x: f.binary_cross_entropy(
            x.sigmoid(), tensor(np.full_like(logits, target)), reduction="none"
        ),
        logits,
    )


LOGITS = {
    "finite": [[1, 2, 3], [0, 0, 0], [-1, 5, 2], [100, -100, 0]],
    "large": [[1e30, 0, -1e30], [1e38, 1e38, 0], [1e4, 0, 0], [-1e4, 0, 1]],
    "minus_infinity": [[-INF, 0, 1]] * 4,
    "infinity": [[INF, 0, 1], [0, INF, 1], [1, 2, 3], [INF, INF, 0]],
    "nan": [[NAN, 0, 1], [1, 2, 3], [1, NAN, 0], [1, 2, 3]],
}
HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "ignore": {"ignore_index": 1},
    "smooth": {"label_smoothing": 0.1},
    "all_smooth": {"label_smoothing": 1.0},
    "weighted": {"weight": [0.5, 2, 0]},
    "weight_0": {"weight": [0, 0, 0]},
    "weight_nan": {"weight": [NAN, 1, 2]},
    "weight_negative": {"weight": [-1, 1, 2], "label_smoothing": 0.3, "ignore_index": 2},
}


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("how", HOW)
def test_cross_entropy_at_the_edges(backend: str, how: str, logits: str) -> None:
    rows = np.zeros((4, 51), np.float32)  # more than a vector
    rows[:, :3] = LOGITS[logits]
    settings = dict(HOW[how])
    weight = settings.pop("weight", None)
    if weight is not None:
        weight = np.resize(np.float32(weight), 51)
    out = settings.get("ignore_index", -100)
    for labels in ([0, 1, 2, 1], [0, out, 2, out], [out] * 4):
        for reduction in ("none", "mean", "sum"):
            compare(
                lambda f, tensor, x, labels=labels, reduction=reduction: f.cross_entropy(
                    x,
                    tensor(np.array(labels)),
                    weight=None if weight is None else tensor(weight),
                    reduction=reduction,
                    **settings,
                ),
                rows,
            )


@pytest.mark.parametrize(
    ("a", "b", "dim"),
    [
        ([1.0, 2], [1.0], 0),
        ([[1.0, 2], [3, -1]], [[1.0], [2]], 1),
        ([[1.0, 2], [3, -1]], [[1.0], [2]], 0),
        ([[1.0, 2], [3, -1]], [1.0, 5], -2),
        ([1.0, 2], [[[1.0], [2]]], -1),
        ([1.0, 2], 3.0, 0),
        (2.0, -3.0, 0),
        ([1.0, 2], [0.0, 0.0], 0),
    ],
)
def test_cosine_similarity_of_shapes_that_broadcast(a: Any, b: Any, dim: int) -> None:
    compare(lambda f, tensor, x: f.cosine_similarity(x, tensor(np.float32(b)), dim), a)
    compare(lambda f, tensor, x: f.cosine_similarity(tensor(np.float32(a)), x, dim), b)
