"""The loop behind `lucid train`, on a problem of two dimensions."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import lucid
from lucid import Tensor, nn, optim, training
from lucid.data import DataLoader, TensorDataset


def halves(count: int = 200) -> TensorDataset:
    """Points labelled by the side of a line they are on."""
    points = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    return TensorDataset(points, (points.sum(axis=1) > 0).astype(np.int64))


@pytest.fixture
def model():
    lucid.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def test_fit_learns_and_yields_every_epoch(model):
    loader = DataLoader(halves(), 20, shuffle=True)
    held_out = DataLoader(halves(50), 20)
    steps = []
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    epochs = list(
        training.fit(model, loader, held_out, optimizer, epochs=8, after_step=steps.append)
    )
    assert [epoch.number for epoch in epochs] == list(range(1, 9))
    assert epochs[-1].train.count == 200
    assert epochs[-1].validation.count == 50
    assert epochs[-1].validation.accuracy > 0.9
    assert epochs[-1].train.loss < epochs[0].train.loss
    assert len(steps) == 80
    assert [score.count for score in steps[:3]] == [20, 40, 60]


def test_fit_goes_on_after_start(model):
    loader = DataLoader(halves(), 20)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    epochs = training.fit(model, loader, loader, optimizer, epochs=5, start=3)
    assert [epoch.number for epoch in epochs] == [4, 5]


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_evaluate_weighs_batches_by_their_size(model, batch_size):
    data = halves(50)
    model.eval()
    with lucid.no_grad():
        logits = model(lucid.tensor(data.arrays[0])).numpy().astype(np.float64)
    labels = data.arrays[1]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    model.train()
    score = training.evaluate(model, DataLoader(data, batch_size))
    assert score.loss == pytest.approx(-np.log(shares[np.arange(50), labels]).mean(), rel=1e-5)
    assert score.correct == int((logits.argmax(axis=1) == labels).sum())
    assert score.count == 50
    assert score.accuracy == score.correct / 50
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def modes(model):
    return [module.training for module in model.modules()]


def test_layers_frozen_with_eval_stay_so(model):
    model.train()
    model[0].eval()
    before = modes(model)
    assert len(set(before)) == 2
    data = halves(8)
    training.evaluate(model, DataLoader(data, 4))
    assert modes(model) == before
    with pytest.raises(ValueError, match="expected"):
        training.evaluate(model, DataLoader(TensorDataset(np.ones((4, 3)), np.zeros(4, int)), 2))
    assert modes(model) == before
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    list(training.fit(model, DataLoader(data, 4), DataLoader(data, 4), optimizer, epochs=2))
    assert modes(model) == before


def test_evaluate_restores_the_mode_after_an_error(model):
    with pytest.raises(ValueError, match="3"):
        training.evaluate(model, DataLoader(TensorDataset(np.ones((4, 3)), np.zeros(4, int)), 2))
    assert model.training


def test_a_loss_that_is_no_number_stops_before_the_step(model):
    before = [parameter.data.copy() for parameter in model.parameters()]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(training.DivergedError, match=r"the loss became nan: .*; try a lower"):
        training.train_epoch(
            model,
            DataLoader(halves(), 20),
            optimizer,
            criterion=lambda logits, labels: logits.sum() * float("nan"),
        )
    for parameter, value in zip(model.parameters(), before):
        np.testing.assert_array_equal(parameter.data, value)


def test_no_images_score_nothing(model):
    score = training.evaluate(model, [])
    assert (score.loss, score.accuracy, score.count) == (0.0, 0.0, 0)


def test_warmup_then_cosine():
    factors = [training.warmup_cosine(step, total=100, warmup=10) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert training.warmup_cosine(100, 100, 10) == pytest.approx(0)
    assert training.warmup_cosine(0, 10, 0) == 1


def weights(model):
    return [parameter.data.copy() for parameter in model.parameters()]


def assert_close(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.fixture
def smooth():
    """Layers that treat each sample alone, in float64."""
    lucid.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 2)).double()


def batches_of(data, size):
    points, labels = lucid.tensor(data.arrays[0], dtype=np.float64), lucid.tensor(data.arrays[1])
    return [(points[i : i + size], labels[i : i + size]) for i in range(0, len(data), size)]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize(("size", "accumulate", "large"), [(5, 4, 20), (7, 3, 21)])
def test_accumulated_batches_are_one_large_batch(smooth, size, accumulate, large, clip):
    start = {name: value.clone() for name, value in smooth.state_dict().items()}
    data, results = halves(50), []  # the last step has fewer images, and its last batch too
    for batches, count in ((batches_of(data, size), accumulate), (batches_of(data, large), 1)):
        smooth.load_state_dict(start)
        optimizer = optim.AdamW(smooth.parameters(), lr=0.01)
        scores = []
        score = training.train_epoch(
            smooth, batches, optimizer, criterion=nn.CrossEntropyLoss(),
            accumulate=count, clip_grad=clip, after_step=scores.append,
        )  # fmt: skip
        assert [s.count for s in scores] == [large, 2 * large, 50]
        results.append((weights(smooth), score))
    assert_close(results[0][0], results[1][0])
    assert results[0][1].loss == pytest.approx(results[1][1].loss)


def test_long_gradients_are_scaled_down(smooth):
    before = weights(smooth)
    optimizer = optim.SGD(smooth.parameters(), lr=1.0)
    batches = batches_of(halves(20), 20)
    training.train_epoch(
        smooth, batches, optimizer, criterion=nn.CrossEntropyLoss(), clip_grad=1e-3
    )
    moved = math.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(weights(smooth), before)))
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_soft_labels_count_by_their_largest_share():
    logits = lucid.tensor([[2.0, 0.0], [0.0, 2.0]])
    shares = lucid.tensor([[0.7, 0.3], [0.6, 0.4]])
    score = training.evaluate(nn.Identity(), [(logits, shares)])
    assert (score.correct, score.count) == (1, 2)
    log = logits.log_softmax(1).numpy()
    assert score.loss == pytest.approx(-(log * shares.numpy()).sum() / 2)


def test_validation_scores_the_average(smooth):
    averaged = optim.swa_utils.AveragedModel(smooth)
    steps = []
    loader = batches_of(halves(40), 20)
    optimizer = optim.SGD(smooth.parameters(), lr=0.5)
    for epoch in training.fit(
        smooth, loader, loader, optimizer, epochs=3, averaged=averaged,
        after_step=lambda _: steps.append(weights(smooth)),
    ):  # fmt: skip
        assert epoch.validation == training.evaluate(averaged, loader)
        assert epoch.validation != training.evaluate(smooth, loader)
    assert_close(weights(averaged), [sum(step[i] for step in steps) / 6 for i in range(4)])


def test_class_weights():
    labels = [0] * 6 + [2] * 3 + [1]
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(training.class_weights(labels, 3).numpy(), expected, rtol=1e-6)
    assert training.class_weights([1], 3).tolist()[::2] == [0, 0]
    with pytest.raises(ValueError, match="expected labels from 0 to 1, got 0 to 2"):
        training.class_weights([0, 2], 2)
    with pytest.raises(ValueError, match=r"expected integers of shape \(N,\)"):
        training.class_weights([0.5], 2)


# -- a loss that is no number -----------------------------------------------------------------


class Broken(nn.Module):
    """Divides by zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


def diverge(model: nn.Module, images: Tensor, labels: Tensor) -> training.DivergedError:
    optimizer = optim.SGD([lucid.nn.Parameter(lucid.zeros(1))], lr=0.1)
    with np.errstate(all="ignore"), pytest.raises(training.DivergedError) as error:
        training.train_epoch(model, [(images, labels)], optimizer, criterion=nn.functional.mse_loss)
    return error.value


def test_the_first_layer_whose_output_is_not_finite_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Broken()), nn.Softmax(1))
    x, y = lucid.ones(2, 2), lucid.zeros(2, 2)
    error = diverge(model, x, y)
    assert error.layer == "1.1"
    assert str(error).startswith(
        "the loss became nan: 1.1 (Broken) is the first layer whose output"
    )
    assert str(error).endswith("; try a lower learning rate")
    model[0].weight.data[0, 0] = np.inf
    error = diverge(model, x, y)
    assert error.layer == "0"
    assert "0 (Linear) is the first layer whose output is not finite, nor is its weight;" in str(
        error
    )
    assert not any(module._forward_hooks for module in model.modules())


def test_what_else_a_loss_may_come_from() -> None:
    model = nn.Linear(2, 2)
    bad = lucid.tensor([[1.0, float("nan")], [0.0, 0.0]])
    assert "the images are not finite numbers themselves" in str(diverge(model, bad, bad))
    error = diverge(model, lucid.ones(2, 2), bad)
    assert error.layer is None
    assert "so the labels or the loss are to blame" in str(error)


# -- many batches go through a plan -----------------------------------------------------------


@pytest.fixture
def plans(monkeypatch):
    """Return the list of the plans that are made."""
    made = []

    def compile(*args, **kwargs):
        made.append(lucid.compile(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(training._loop, "compile", compile)
    return made


def asked(monkeypatch, plan):
    """Return a list of the shapes that plans are called with."""
    calls, call = [], type(plan).__call__

    def noted(self, x):
        calls.append(x.shape)
        return call(self, x)

    monkeypatch.setattr(type(plan), "__call__", noted)
    return calls


class Told(nn.Module):
    """A model around another, with something of its own."""

    def __init__(self, inner, **more):
        super().__init__()
        self.inner = inner
        vars(self).update(more)

    def forward(self, x):
        return self.inner(x)


class Counting(Told):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def unnumbered(batches):
    """Yield the batches, which the model itself answers then, as nobody knows how many come."""
    yield from batches


def scores(model, batch_size=2, count=128):
    """Return the score over whole batches, and that of the model itself."""
    data = halves(count)
    score = training.evaluate(model, DataLoader(data, batch_size))
    return score, training.evaluate(model, unnumbered(DataLoader(data, batch_size)))


def test_many_batches_are_scored_by_a_plan(model, plans, monkeypatch):
    model.train()
    model[0].eval()
    before = modes(model)
    assert scores(model, count=126)[0].count == 126
    assert not plans
    calls = asked(monkeypatch, lucid.compile(model, (2, 2)))
    score, itself = scores(model, count=129)  # the last is half a batch: the model's
    assert len(plans) == 1
    assert calls == [(2, 2)] * 64
    assert score.loss == pytest.approx(itself.loss, rel=1e-5)
    assert (score.correct, score.count) == (itself.correct, 129)
    assert modes(model) == before
    assert plans[0].arena_bytes == 0, "its memory is given back"


def test_a_plan_is_of_the_weights_of_the_epoch(model, plans):
    loader, held_out = DataLoader(halves(), 20), DataLoader(halves(128), 2)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for epoch in training.fit(model, loader, held_out, optimizer, epochs=3):
        itself = training.evaluate(model, unnumbered(held_out))
        assert epoch.validation.loss == pytest.approx(itself.loss, rel=1e-5)
        losses.append(itself.loss)
    assert len(plans) == 3
    assert losses[0] > 1.01 * losses[1] > 1.02 * losses[2]


def test_averages_are_scored_by_a_plan(model, plans):
    averaged = optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    score, itself = scores(averaged)
    assert len(plans) == 1
    assert score.loss == pytest.approx(itself.loss, rel=1e-5)
    assert averaged.n_averaged.item() == 1


def test_hooks_and_counters_see_each_batch(model):
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    score, itself = scores(model)
    assert len(calls) == 128
    assert score == itself
    counting = Counting(nn.Linear(2, 2))
    score, itself = scores(counting)
    assert counting.calls == 128
    assert score == itself


def test_a_model_that_cannot_be_compiled_answers_itself(model, monkeypatch):
    score, itself = scores(Told(model, lock=threading.Lock()))
    assert score == itself

    def compile(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(training._loop, "compile", compile)
    score, itself = scores(model)
    assert score == itself


def test_images_of_another_dtype_are_the_models_own():
    batch = lucid.tensor(np.array([[0.0, 9.0], [9.0, 0.0]])), lucid.tensor([1, 1])
    assert batch[0].dtype == np.float32
    double = batch[0].double(), batch[1]
    assert training.evaluate(nn.Identity(), [double] * 64).accuracy == 0.5
    assert training.evaluate(nn.Identity(), [batch] + [double] * 63).accuracy == 0.5


def test_weights_that_are_no_numbers_have_no_loss(model, plans):
    with lucid.no_grad():
        model[0].weight.fill_(float("nan"))
    score, _ = scores(model)
    assert len(plans) == 1
    assert math.isnan(score.loss)
