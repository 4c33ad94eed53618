"""Gradients of every function by differences, and what no comparison with PyTorch covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid.autograd import gradcheck, gradgradcheck
from lucid.nn import functional as F  # noqa: N812
from tests.nn.cases import CASES, IMAGE, Case

CHECKED = [c for c in CASES if c.by_differences and all(0 not in shape for shape in c.shapes)]


def _inputs(case: Case) -> tuple[lucid.Tensor, ...]:
    return tuple(lucid.tensor(a, dtype=np.float64, requires_grad=True) for a in case.arrays())


@pytest.mark.parametrize("case", CHECKED, ids=str)
def test_gradient(case: Case) -> None:
    assert gradcheck(lambda *xs: case.fn(F, lucid.tensor, *xs), _inputs(case))


@pytest.mark.parametrize("case", CHECKED, ids=str)
def test_second_gradient(case: Case) -> None:
    assert gradgradcheck(lambda *xs: case.fn(F, lucid.tensor, *xs), _inputs(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays(case: Case) -> None:
    xs = [lucid.tensor(a, requires_grad=True) for a in case.arrays()]
    y = case.fn(F, lucid.tensor, *xs)
    assert y.dtype == np.float32
    y.sum().backward()
    assert all(x.grad is None or x.grad.dtype == np.float32 for x in xs)


@pytest.mark.parametrize("case", [c for c in CASES if IMAGE in c.shapes], ids=str)
def test_any_memory_layout(case: Case) -> None:
    def run(order: Any) -> list[np.ndarray]:
        xs = [lucid.tensor(order(a), requires_grad=True) for a in case.arrays()]
        y = case.fn(F, lucid.tensor, *xs)
        (y * y).sum().backward()
        return [y.detach().numpy(), *[x.grad.numpy() for x in xs if x.grad is not None]]

    def channels_last(a: np.ndarray) -> np.ndarray:
        if a.ndim != 4:
            return a
        return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    for got, expected in zip(run(channels_last), run(np.ascontiguousarray)):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


# -- edges --------------------------------------------------------------------------------------


def test_extreme_values_give_neither_nan_nor_warning() -> None:
    x = lucid.tensor([-1e30, -1000.0, -100.0, 0.0, 100.0, 1000.0], requires_grad=True)
    for name in ("relu", "relu6", "elu", "silu", "hardswish", "softplus", "logsigmoid", "sigmoid"):
        y = getattr(F, name)(x)
        y.sum().backward()
        assert np.isfinite(y.detach().numpy()).all(), name
        assert np.isfinite(x.grad.numpy()).all(), name
    assert np.isfinite(F.softmax(x, 0).detach().numpy()).all()
    losses = F.binary_cross_entropy_with_logits(x, lucid.ones(6), reduction="none")
    np.testing.assert_allclose(losses.detach().numpy()[2:], [100, np.log(2), 0, 0], atol=1e-6)


def test_softmax_of_minus_infinity() -> None:
    y = F.softmax(lucid.tensor([[-np.inf, 0.0, 0.0], [-np.inf] * 3]), 1).numpy()
    np.testing.assert_array_equal(y[0], [0, 0.5, 0.5])
    assert np.isnan(y[1]).all()


def test_relu6_has_no_gradient_at_its_bends() -> None:
    x = lucid.tensor([0.0, 6.0, 3.0], requires_grad=True)
    F.relu6(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1]


def test_integers_are_taken_as_float32() -> None:
    y = F.hardsigmoid(np.array([-3, 3]))
    assert y.dtype == np.float32
    assert y.tolist() == [0, 1]


def test_blind_row_attends_to_nothing() -> None:
    mask = np.array([[False, False], [True, False]])
    rng = np.random.default_rng(0)
    q, k, v = (lucid.tensor(rng.standard_normal((2, 3))) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).numpy()
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_allclose(y[1], v.numpy()[0], rtol=1e-6)


def test_dropout_keeps_the_mean_and_repeats_with_the_seed() -> None:
    x = lucid.ones(200, 500, requires_grad=True)
    lucid.manual_seed(3)
    y = F.dropout(x, 0.3)
    values, counts = np.unique(y.detach().numpy(), return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    # Five standard deviations of a binomial distribution.
    assert abs(counts[0] - 30_000) < 5 * np.sqrt(100_000 * 0.3 * 0.7)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    lucid.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(x, 0.3).detach().numpy(), y.detach().numpy())


def test_dropout_bounds() -> None:
    x = lucid.randn(4, 5)
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.9, training=False) is x
    np.testing.assert_array_equal(F.dropout(x, 1.0).numpy(), 0)
    with pytest.raises(ValueError, match=r"dropout: p must be between 0 and 1, got 1\.5"):
        F.dropout(x, 1.5)


def test_dropout2d_drops_channels() -> None:
    lucid.manual_seed(0)
    y = F.dropout2d(lucid.ones(8, 16, 3, 3), 0.5).numpy()
    per_channel = y.reshape(128, 9)
    assert (per_channel == per_channel[:, :1]).all()
    assert set(np.unique(y)) == {0.0, 2.0}
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(3, 4\)"):
        F.dropout2d(lucid.ones(3, 4))


def test_one_hot() -> None:
    assert F.one_hot(lucid.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(lucid.tensor([[1]]), 4).tolist() == [[[0, 1, 0, 0]]]
    assert F.one_hot(np.zeros(0, int), 3).shape == (0, 3)
    with pytest.raises(IndexError, match="integers from 0 to 1, got 0 to 2"):
        F.one_hot(lucid.tensor([0, 2]), 2)
    with pytest.raises(TypeError, match="expected integers, got float32"):
        F.one_hot(lucid.tensor([0.5]))


def test_mean_over_nothing_is_nan() -> None:
    empty = lucid.ones(0, 3)
    assert np.isnan(F.cross_entropy(empty, np.zeros(0, int)).item())
    assert np.isnan(F.mse_loss(empty, empty).item())
    assert F.cross_entropy(empty, np.zeros(0, int), reduction="sum").item() == 0
    ignored = F.cross_entropy(lucid.ones(2, 3), [-100, -100])
    assert np.isnan(ignored.item())


def test_loss_of_ignored_samples_has_no_gradient() -> None:
    x = lucid.randn(3, 4, requires_grad=True)
    F.cross_entropy(x, [1, 9, 2], ignore_index=9).backward()
    np.testing.assert_array_equal(x.grad.numpy()[1], 0)
    assert (x.grad.numpy()[[0, 2]] != 0).all()


def test_bce_at_certainty() -> None:
    x = lucid.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    loss = F.binary_cross_entropy(x, lucid.tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert loss.tolist() == [0, 0, 100, 100]
    loss.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_bce_with_constant_weights() -> None:
    rng = np.random.default_rng(0)
    x, t, w = (lucid.tensor(rng.uniform(0.1, 0.9, (2, 3)), dtype=np.float64) for _ in range(3))
    x.requires_grad = t.requires_grad = True
    for fn in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        assert gradcheck(lambda x, t, fn=fn: fn(x, t, w), (x, t))
        assert gradgradcheck(lambda x, t, fn=fn: fn(x, t, w), (x, t))


# -- bad input ----------------------------------------------------------------------------------

ONES = lucid.ones

BAD: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: F.linear(ONES(2, 3), ONES(4, 5)),
        ValueError,
        r"linear: expected 5 input features \(last axis\), got 3 from an input of shape \(2, 3\)",
    ),
    (
        lambda: F.linear(ONES(2, 3), ONES(1, 4, 3)),
        ValueError,
        r"weight of shape \(O, I\), got shape",
    ),
    (lambda: F.linear(ONES(2, 3), ONES(4, 3), ONES(3)), ValueError, r"bias of shape \(4,\)"),
    (
        lambda: F.linear(ONES(2, 3), ONES(4, 3, dtype=np.float64)),
        TypeError,
        "same dtype, got float32 and float64",
    ),
    (lambda: F.softmax(ONES(2)), TypeError, "softmax: pass the axis"),
    (lambda: F.softmax(ONES(2), 1), IndexError, "axis 1 is out of range for 1 axes"),
    (lambda: F.log_softmax(ONES(2), "x"), TypeError, "an axis must be an integer"),
    (lambda: F.gelu(ONES(2), "erf"), ValueError, "'none' or 'tanh', got 'erf'"),
    (lambda: F.hardtanh(ONES(2), 2, 1), ValueError, "expected min_val <= max_val"),
    (lambda: F.celu(ONES(2), 0), ValueError, "alpha must not be zero"),
    (lambda: F.glu(ONES(3)), ValueError, "an even size along axis 0"),
    (lambda: F.prelu(ONES(2, 3), ONES(2)), ValueError, "each of the 3 channels"),
    (lambda: F.relu("x"), TypeError, "relu: expected real numbers"),
    (lambda: F.layer_norm(ONES(2, 3), 4), ValueError, r"sizes \(4,\), got shape \(2, 3\)"),
    (lambda: F.layer_norm(ONES(2, 3), 3, ONES(4)), ValueError, r"weight of shape \(3,\)"),
    (lambda: F.group_norm(ONES(2, 3), 2), ValueError, "must divide the 3 channels"),
    (lambda: F.group_norm(ONES(3), 2), ValueError, r"shape \(N, C, \*\)"),
    (lambda: F.embedding([5], ONES(5, 2)), IndexError, "indices from 0 to 4, got 5"),
    (lambda: F.embedding([-1], ONES(5, 2)), IndexError, "indices from 0 to 4, got -1"),
    (lambda: F.embedding([0.5], ONES(5, 2)), TypeError, "expected integers, got float32"),
    (lambda: F.embedding([0], ONES(5)), ValueError, r"weight of shape \(V, D\)"),
    (lambda: F.embedding([0], ONES(5, 2), 5), IndexError, "padding_idx 5 is out of range"),
    (lambda: F.mse_loss(ONES(3), ONES(3, 1)), ValueError, r"same shape, got \(3,\) and \(3, 1\)"),
    (lambda: F.mse_loss(ONES(3), ONES(3), reduction="max"), ValueError, "reduction must be one of"),
    (
        lambda: F.mse_loss(ONES(3), ONES(3), reduction="batchmean"),
        ValueError,
        "reduction must be one of",
    ),
    (lambda: F.huber_loss(ONES(3), ONES(3), delta=0), ValueError, "delta must be positive"),
    (lambda: F.smooth_l1_loss(ONES(3), ONES(3), beta=-1), ValueError, "must not be negative"),
    (
        lambda: F.binary_cross_entropy(ONES(3) * 2, ONES(3)),
        ValueError,
        "expected probabilities from 0 to 1, got 2.0 to 2.0; for logits there is "
        "binary_cross_entropy_with_logits",
    ),
    (
        lambda: F.binary_cross_entropy(ONES(3), ONES(3) * -1),
        ValueError,
        "expected targets from 0 to 1, got -1.0 to -1.0",
    ),
    (
        lambda: F.cross_entropy(ONES(2, 3), [0, 3]),
        IndexError,
        r"classes from 0 to 2 \(or ignore_index=-100\), got 3",
    ),
    (lambda: F.cross_entropy(ONES(2, 3), [0, -1]), IndexError, "classes from 0 to 2"),
    (
        lambda: F.cross_entropy(ONES(2, 3), ONES(2, 3), ignore_index=1),
        ValueError,
        "ignore_index=1 is for classes as target, got probabilities",
    ),
    (
        lambda: F.batch_norm(ONES(4, 2), None, None, training=True, eps=0.0),
        ValueError,
        "eps must be positive in training, got 0",
    ),
    (
        lambda: F.cross_entropy(ONES(2, 3), [0, 1, 2]),
        ValueError,
        r"input of shape \(2, 3\) expected a target of shape \(2,\), got \(3,\)",
    ),
    (
        lambda: F.cross_entropy(ONES(2, 3, 4), np.zeros((2, 3), int)),
        ValueError,
        r"expected a target of shape \(2, 4\)",
    ),
    (lambda: F.cross_entropy(ONES(2, 3), [0.0, 1.0]), TypeError, "integer classes as target"),
    (lambda: F.cross_entropy(ONES(2, 3), [0, 1], ONES(2)), ValueError, r"each of the 3 classes"),
    (
        lambda: F.cross_entropy(ONES(2, 3), [0, 1], label_smoothing=1.5),
        ValueError,
        "label_smoothing must be between 0 and 1",
    ),
    (lambda: F.nll_loss(ONES(2, 3), [0, 7]), IndexError, "nll_loss: expected classes"),
    (
        lambda: F.scaled_dot_product_attention(ONES(2, 3), ONES(2, 4), ONES(2, 4)),
        ValueError,
        r"expected query \(\*, L, E\)",
    ),
    (
        lambda: F.scaled_dot_product_attention(*[ONES(2, 3)] * 3, attn_mask=ONES(3, 2)),
        ValueError,
        r"mask of shape \(3, 2\) does not fit",
    ),
    (
        lambda: F.scaled_dot_product_attention(
            *[ONES(2, 3)] * 3, attn_mask=ONES(2, 2), is_causal=True
        ),
        ValueError,
        "attn_mask or is_causal, not both",
    ),
    (
        lambda: F.scaled_dot_product_attention(*[ONES(2, 3)] * 3, attn_mask=np.ones((2, 2), int)),
        TypeError,
        "must be boolean or floating point",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[case[2] for case in BAD])
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
