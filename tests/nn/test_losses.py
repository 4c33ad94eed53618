"""Losses beside PyTorch's samples: weights, what is refused, layers that call the functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.nn import functional as F  # noqa: N812


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_weights_of_regression_losses_agree_with_pytorch(name: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t, w = rng.standard_normal((3, 4, 2)) * 2
    given = [torch.tensor(a, requires_grad=True) for a in (x, t, w)]
    expected = getattr(torch.nn.functional, name)(*given[:2], weight=given[2], reduction=reduction)
    mine = [lucid.tensor(a, dtype=np.float64, requires_grad=True) for a in (x, t, w)]
    got = getattr(F, name)(*mine[:2], weight=mine[2], reduction=reduction)
    np.testing.assert_allclose(got.detach().data, expected.detach().numpy(), rtol=1e-12)
    expected.sum().backward()
    got.sum().backward()
    for one, two in zip(mine, given):
        np.testing.assert_allclose(one.grad.data, two.grad.numpy(), rtol=1e-10)


LAYERS: list[tuple[Any, Any, int]] = [
    (nn.TripletMarginLoss(margin=0.5, p=1, swap=True), "triplet_margin_loss", 3),
    (
        nn.TripletMarginWithDistanceLoss(distance_function=nn.PairwiseDistance(1), margin=0.5),
        "triplet_margin_with_distance_loss",
        3,
    ),
    (nn.PairwiseDistance(p=1, keepdim=True), "pairwise_distance", 2),
    (nn.CosineSimilarity(dim=-1), "cosine_similarity", 2),
]


@pytest.mark.parametrize(("layer", "name", "count"), LAYERS, ids=[name for _, name, _ in LAYERS])
def test_layers_agree_with_pytorch(layer: Any, name: str, count: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((3, 5, 4)).astype(np.float32)[:count]
    theirs: dict[str, Any] = {
        "triplet_margin_loss": torch.nn.TripletMarginLoss(margin=0.5, p=1, swap=True),
        "triplet_margin_with_distance_loss": torch.nn.TripletMarginWithDistanceLoss(
            distance_function=torch.nn.PairwiseDistance(1), margin=0.5
        ),
        "pairwise_distance": torch.nn.PairwiseDistance(p=1, keepdim=True),
        "cosine_similarity": torch.nn.CosineSimilarity(dim=-1),
    }
    expected = theirs[name](*map(torch.from_numpy, arrays)).numpy()
    np.testing.assert_allclose(layer(*map(lucid.tensor, arrays)).data, expected, rtol=1e-5)


ONES = lucid.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: F.mse_loss(ONES, ONES, weight=lucid.ones(3)),
            ValueError,
            r"mse_loss: expected a weight of shape \(2, 3\), got \(3,\)",
        ),
        (
            lambda: F.triplet_margin_loss(ONES, ONES, lucid.ones(3)),
            ValueError,
            "triplet_margin_loss: expected anchor, positive and negative with as many axes",
        ),
        (lambda: F.triplet_margin_loss(ONES, ONES, ONES, 0.0), ValueError, "margin must be above"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "MultiMarginLoss: p must be 1 or 2, got 3"),
        (
            lambda: F.multilabel_margin_loss(ONES, lucid.tensor([[0, 3, -1]] * 2)),
            IndexError,
            "multilabel_margin_loss: expected classes from 0 to 2, got 3",
        ),
        (
            lambda: F.multi_margin_loss(ONES, lucid.tensor([0, 3])),
            IndexError,
            "multi_margin_loss: expected classes from 0 to 2",
        ),
        (
            lambda: F.cosine_embedding_loss(ONES, ONES, ONES),
            ValueError,
            r"cosine_embedding_loss: expected inputs \(N, D\) and a target \(N,\)",
        ),
        (
            lambda: F.gaussian_nll_loss(ONES, ONES, -ONES),
            ValueError,
            "gaussian_nll_loss: expected variances of at least 0, got -1",
        ),
        (
            lambda: F.margin_ranking_loss(ONES, ONES, lucid.ones(3)),
            ValueError,
            "margin_ranking_loss: expected inputs and a target with as many axes each",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
