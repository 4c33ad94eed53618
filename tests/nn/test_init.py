"""Initial values: bounds, moments, structure, repetition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.nn import init

SHAPE = (200, 150)


def _check_moments(values: np.ndarray, mean: float, std: float) -> None:
    """Both within five standard errors (of a distribution with no heavier tails than normal)."""
    n = values.size
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
    assert abs(values.std() - std) < 5 * std / math.sqrt(2 * n)


# fan in 150, fan out 200
@pytest.mark.parametrize(
    ("fill", "bound"),
    [
        (lambda t: init.uniform_(t, -0.3, 0.3), 0.3),
        (lambda t: init.xavier_uniform_(t, gain=2.0), 2 * math.sqrt(6 / 350)),
        (lambda t: init.kaiming_uniform_(t), math.sqrt(6 / 150)),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), 1 / math.sqrt(150)),
        (
            lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="tanh"),
            5 / 3 * math.sqrt(3 / 200),
        ),
    ],
)
def test_uniform(fill: Any, bound: float) -> None:
    lucid.manual_seed(0)
    t = lucid.zeros(*SHAPE)
    assert fill(t) is t
    values = t.numpy()
    assert values.dtype == np.float32
    assert bound * 0.999 < np.abs(values).max() <= bound * 1.00001
    _check_moments(values, 0, bound / math.sqrt(3))


@pytest.mark.parametrize(
    ("fill", "mean", "std"),
    [
        (lambda t: init.normal_(t, 1.0, 0.2), 1, 0.2),
        (lambda t: init.xavier_normal_(t), 0, math.sqrt(2 / 350)),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), 0, math.sqrt(2 / 150)),
        (lambda t: init.kaiming_normal_(t, a=0.5, mode="fan_out"), 0, math.sqrt(2 / 1.25 / 200)),
    ],
)
def test_normal(fill: Any, mean: float, std: float) -> None:
    lucid.manual_seed(0)
    t = lucid.zeros(*SHAPE)
    assert fill(t) is t
    _check_moments(t.numpy(), mean, std)


def test_fans_count_kernel_positions() -> None:
    lucid.manual_seed(0)
    t = lucid.zeros(64, 8, 3, 5)
    init.kaiming_normal_(t, nonlinearity="relu")
    _check_moments(t.numpy(), 0, math.sqrt(2 / (8 * 15)))
    init.kaiming_normal_(t, mode="fan_out", nonlinearity="linear")
    _check_moments(t.numpy(), 0, math.sqrt(1 / (64 * 15)))


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0, 1, -2, 2),
        (0.5, 0.02, -2, 2),
        (0, 1, 0.1, 0.15),
        (0, 1, 4, 5),
        (0, 1, -9, -6),
        (0, 1, -50, 1),
    ],
)
def test_trunc_normal(mean: float, std: float, a: float, b: float) -> None:
    lucid.manual_seed(0)
    values = init.trunc_normal_(lucid.zeros(40_000), mean, std, a, b).numpy().astype(np.float64)
    assert values.min() >= np.float32(a)
    assert values.max() <= np.float32(b)
    # The quantiles, from the density integrated on a grid.
    grid = np.linspace(max(a, mean - 10 * std), min(b, mean + 10 * std), 200_001)
    density = np.exp(-(((grid - mean) / std) ** 2) / 2 + (((grid - mean) / std) ** 2).min() / 2)
    cumulative = np.cumsum(density) / density.sum()
    for q in (0.1, 0.5, 0.9):
        share = (values <= grid[np.searchsorted(cumulative, q)]).mean()
        assert abs(share - q) < 5 * math.sqrt(q * (1 - q) / values.size)


def test_structured() -> None:
    assert init.eye_(lucid.ones(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.constant_(lucid.ones(2), 3.5).tolist() == [3.5, 3.5]
    assert init.zeros_(lucid.ones(2)).tolist() == [0, 0]
    assert init.ones_(lucid.zeros(2)).tolist() == [1, 1]
    for shape in ((5, 3), (3, 5), (4, 2, 2)):
        q = init.orthogonal_(lucid.zeros(*shape), gain=2.0).numpy().reshape(shape[0], -1)
        small = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)
    sparse = init.sparse_(lucid.zeros(10, 6), 0.35).numpy()
    assert ((sparse == 0).sum(0) == 4).all()


def test_dirac_passes_channels_on() -> None:
    x = lucid.randn(1, 4, 5, 5)
    weight = init.dirac_(lucid.zeros(4, 4, 3, 3))
    np.testing.assert_array_equal(nn.functional.conv2d(x, weight, padding=1).numpy(), x.numpy())
    weight = init.dirac_(lucid.zeros(4, 2, 3, 3), groups=2)
    y = nn.functional.conv2d(x, weight, padding=1, groups=2)
    np.testing.assert_array_equal(y.numpy(), x.numpy())


def test_calculate_gain() -> None:
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("conv2d") == 1
    assert init.calculate_gain("leaky_relu", 1.0) == 1
    with pytest.raises(ValueError, match=r"expected one of 'linear'.*got 'gelu'"):
        init.calculate_gain("gelu")
    with pytest.raises(ValueError, match="expected a number as negative slope, got 'x'"):
        init.calculate_gain("leaky_relu", "x")


def test_seed_and_generator() -> None:
    def draw() -> Any:
        return nn.Linear(3, 2).weight.tolist()

    lucid.manual_seed(4)
    first, second = draw(), draw()
    lucid.manual_seed(4)
    assert draw() == first
    assert second != first
    a = init.normal_(lucid.zeros(3), generator=np.random.default_rng(1)).tolist()
    assert a == init.normal_(lucid.zeros(3), generator=np.random.default_rng(1)).tolist()


def test_filling_is_not_recorded() -> None:
    p = nn.Parameter(np.zeros((2, 2)))
    memory = p.data
    assert init.ones_(p) is p
    assert p.is_leaf
    assert p.requires_grad
    assert p.data is memory


def test_float64_and_empty() -> None:
    t = lucid.zeros(3, 4, dtype=np.float64)
    init.uniform_(t)
    assert t.dtype == np.float64
    assert (t.numpy() != t.numpy().astype(np.float32)).any()
    assert init.kaiming_uniform_(lucid.zeros(0, 4)).shape == (0, 4)
    assert init.orthogonal_(lucid.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.ones_(np.zeros(3)), TypeError, "ones_: expected a tensor, got ndarray"),
        (lambda: init.kaiming_normal_(lucid.zeros(3)), ValueError, "at least two axes"),
        (
            lambda: init.kaiming_normal_(lucid.zeros(3, 3), mode="in"),
            ValueError,
            "expected mode 'fan_in' or 'fan_out', got 'in'",
        ),
        (lambda: init.eye_(lucid.zeros(3)), ValueError, "expected a matrix"),
        (lambda: init.dirac_(lucid.zeros(3, 3)), ValueError, "three to five axes"),
        (lambda: init.dirac_(lucid.zeros(3, 3, 3), 2), ValueError, "groups must divide 3, got 2"),
        (lambda: init.orthogonal_(lucid.zeros(3)), ValueError, "at least two axes"),
        (lambda: init.sparse_(lucid.zeros(3), 0.5), ValueError, "expected a matrix"),
        (lambda: init.trunc_normal_(lucid.zeros(3), a=2, b=1), ValueError, "expected a < b"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
