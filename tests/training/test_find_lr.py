"""The range test of the learning rate, on losses whose best rate is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lucid
from lucid import nn, optim, training


def parabola(curvature: float) -> tuple[nn.Linear, list, object]:
    """A model of one weight w, with the loss c·w²/2: plain descent diverges from 2/c on."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 1.0
    batches = [(lucid.ones(1, 1), lucid.tensor([0]))]
    return model, batches, lambda logits, labels: 0.5 * curvature * (logits * logits).sum()


@pytest.mark.parametrize("curvature", [0.1, 10.0])
def test_the_suggestion_is_below_the_rate_that_diverges(curvature: float) -> None:
    model, batches, loss = parabola(curvature)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    curve = training.find_lr(
        model, batches, optimizer, criterion=loss, low=1e-6, high=1e4, steps=200
    )
    ratios = np.divide(curve.lrs[1:], curve.lrs[:-1])
    np.testing.assert_allclose(ratios, 10 ** (10 / 199))
    assert 0.01 / curvature < curve.suggestion < 2 / curvature
    assert curve.lrs[-1] > 2 / curvature  # it went on until the loss rose
    assert curve.losses[-1] > 4 * min(curve.losses)
    assert len(curve.lrs) == len(curve.losses) < 200
    assert curve.csv().startswith("lr,loss\n1e-06,")
    assert "suggested learning rate: " in str(curve)


def test_nothing_changes() -> None:
    lucid.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model[1].eval()
    batch = lucid.randn(8, 2), lucid.tensor([0, 1] * 4)
    optimizer = optim.AdamW(training.decay_groups(model, 0.1, lr=0.01, layer_decay=0.5))
    training.train_epoch(model, [batch], optimizer, criterion=nn.CrossEntropyLoss())
    weights = {name: value.data.copy() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    lucid.manual_seed(4)
    training.find_lr(model, [batch], optimizer, steps=5)
    drawn = lucid.randn(3)
    lucid.manual_seed(4)
    np.testing.assert_array_equal(drawn.data, lucid.randn(3).data)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, model.state_dict()[name].data)
    again = optimizer.state_dict()
    assert again["param_groups"] == state["param_groups"]
    for number, entry in state["state"].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(value, again["state"][number][name])
    assert [module.training for module in model] == [True, False, True, True]


def test_groups_keep_the_ratio_of_their_rates() -> None:
    model, batches, loss = parabola(1.0)
    other = nn.Parameter([1.0])
    optimizer = optim.SGD(
        [{"params": [model.weight], "lr": 0.2}, {"params": [other], "lr": 0.1}], lr=1.0
    )
    seen = []

    def noted(logits: lucid.Tensor, labels: lucid.Tensor) -> lucid.Tensor:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return loss(logits, labels) + (other * other).sum()

    curve = training.find_lr(model, batches, optimizer, criterion=noted, high=0.1, steps=4)
    np.testing.assert_allclose(seen, [[lr, lr / 2] for lr in curve.lrs])


def test_a_step_is_what_it_is_in_the_training() -> None:
    """Of several batches, and with gradients cut: the weight is that of plain steps by hand."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data[:] = 1.0
    seen = []

    def loss(logits: lucid.Tensor, labels: lucid.Tensor) -> lucid.Tensor:
        seen.append(model.weight.item())
        return logits.sum()  # of which the gradient is the image

    batches = [(lucid.full((1, 1), x), lucid.tensor([0])) for x in (1.0, 3.0, 8.0)]
    curve = training.find_lr(
        model,
        batches,
        optim.SGD(model.parameters(), lr=1.0),
        criterion=loss,
        low=0.01,
        high=0.04,
        steps=3,
        accumulate=2,
        clip_grad=4.0,
    )
    assert curve.lrs == pytest.approx([0.01, 0.02, 0.04])
    first = 1 - 0.01 * 2  # the mean of 1 and 3
    second = first - 0.02 * 4  # that of 8 and 1, cut
    assert seen == pytest.approx([1, 1, first, first, second, second])
    smoothed = [(1 + 3) / 2, (0.95 * 2 + first * (8 + 1) / 2) / 1.95]
    assert curve.losses[:2] == pytest.approx(smoothed)


def test_a_loss_that_is_no_number_ends_it() -> None:
    model, batches, _ = parabola(1.0)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    losses = iter([1.0, 0.5, float("nan")])
    curve = training.find_lr(
        model, batches, optimizer, criterion=lambda logits, _: logits.sum() * 0 + next(losses)
    )
    assert len(curve.losses) == 2
    with pytest.raises(ValueError, match="no loss was finite, not even at 1e-06"):
        training.find_lr(
            model, batches, optimizer, criterion=lambda logits, _: logits.sum() * float("nan")
        )


def test_wrong_use() -> None:
    model, batches, _ = parabola(1.0)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"0 < low < high, got low=1, high=0\.5"):
        training.find_lr(model, batches, optimizer, low=1, high=0.5)
    with pytest.raises(ValueError, match="there are no batches"):
        training.find_lr(model, [], optimizer)
    with pytest.raises(ValueError, match="find_lr: accumulate must be at least 1, got 0"):
        training.find_lr(model, batches, optimizer, accumulate=0)
