"""Figures of a classifier, compared with scikit-learn's, with formulas and with loops."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import lucid
from lucid import nn, training
from lucid.data import Subset, TensorDataset
from lucid.training import Evaluation

metrics = pytest.importorskip("sklearn.metrics")
calibration = pytest.importorskip("sklearn.calibration")


def random_case(n: int = 400, classes: int = 7, seed: int = 0) -> Evaluation:
    """Logits that know something of the labels; class 5 is never shown, class 6 never named."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 3, 4, 6], n)
    logits = generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    logits[:, 6] = -9
    return Evaluation(logits.astype(np.float32), labels, [f"class {i}" for i in range(classes)])


@pytest.fixture
def seen() -> Evaluation:
    return random_case()


# -- against scikit-learn ---------------------------------------------------------------------


def test_score(seen):
    score = seen.score
    assert score.accuracy == metrics.accuracy_score(seen.labels, seen.predictions)
    expected = metrics.log_loss(seen.labels, seen.probabilities, labels=range(7))
    assert score.loss == pytest.approx(expected, rel=1e-12)
    assert score.count == 400


def test_score_is_that_of_evaluate(seen):
    batch = lucid.tensor(seen.logits), lucid.tensor(seen.labels)
    score = training.evaluate(nn.Identity(), [batch])
    assert seen.score.correct == score.correct
    assert seen.score.loss == pytest.approx(score.loss, rel=1e-5)


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_top(seen, k):
    expected = metrics.top_k_accuracy_score(seen.labels, seen.logits, k=k, labels=range(7))
    assert seen.top(k) == pytest.approx(expected, rel=1e-12)


def test_confusion(seen):
    expected = metrics.confusion_matrix(seen.labels, seen.predictions, labels=range(7))
    np.testing.assert_array_equal(seen.confusion, expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_per_class(seen):
    expected = metrics.precision_recall_fscore_support(
        seen.labels, seen.predictions, labels=range(7), zero_division=np.nan
    )
    rows = seen.per_class()
    assert [row.name for row in rows] == list(seen.classes)
    for name, column in zip(("precision", "recall", "f1", "count"), expected):
        np.testing.assert_allclose([getattr(row, name) for row in rows], column, rtol=1e-12)
    assert math.isnan(rows[5].recall)
    assert math.isnan(rows[6].precision)
    macro = metrics.precision_recall_fscore_support(
        seen.labels, seen.predictions, labels=range(7), zero_division=np.nan, average="macro"
    )
    assert list(seen.macro().values()) == pytest.approx(macro[:3], rel=1e-12)


@pytest.mark.parametrize("bins", [5, 15])
def test_reliability(seen, bins):
    right, confident = calibration.calibration_curve(seen.is_correct, seen.confidences, n_bins=bins)
    found = [one for one in seen.reliability(bins) if one.count]
    np.testing.assert_allclose([one.accuracy for one in found], right, rtol=1e-12)
    np.testing.assert_allclose([one.confidence for one in found], confident, rtol=1e-12)
    assert sum(one.count for one in found) == 400


# -- against definitions ----------------------------------------------------------------------


def test_calibration_error(seen):
    edges = np.linspace(0, 1, 16)
    error = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (low < seen.confidences) & (seen.confidences <= high)
        if inside.any():
            gap = seen.is_correct[inside].mean() - seen.confidences[inside].mean()
            error += inside.sum() / 400 * abs(gap)
    assert seen.calibration_error() == pytest.approx(error, rel=1e-12)


def of_counts(correct: int, count: int) -> Evaluation:
    """Return an evaluation with so many correct answers."""
    labels = np.zeros(count, np.int64)
    logits = np.where(np.arange(count)[:, None] < correct, [[1.0, 0.0]], [[0.0, 1.0]])
    return Evaluation(logits, labels, ["a", "b"])


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_is_wilsons(correct, count, low, high):
    assert of_counts(correct, count).interval() == pytest.approx((low, high), abs=5e-5)
    mirrored = of_counts(count - correct, count).interval()
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_interval_ends_where_the_test_of_the_share_does():
    """A share p is in the interval if the observed one is within z standard errors of p."""
    low, high = of_counts(7, 10).interval(level=0.9)
    for p in (low, high):
        assert abs(0.7 - p) == pytest.approx(1.6448536 * math.sqrt(p * (1 - p) / 10), rel=1e-6)


def test_confused(seen):
    pairs = seen.confused(limit=100)
    counts = [pair.count for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 400 - seen.score.correct
    for pair in pairs:
        taken = (seen.labels == pair.label) & (seen.predictions == pair.prediction)
        assert pair.count == taken.sum()
        assert pair.share == pytest.approx(taken.sum() / (seen.labels == pair.label).sum())
    assert len(seen.confused(limit=3)) == 3


def test_mistakes_begin_with_the_highest_loss(seen):
    found = seen.mistakes(limit=400)
    assert len(found) == 400 - seen.score.correct
    assert not seen.is_correct[found].any()
    assert (np.diff(seen.losses[found]) <= 0).all()
    assert seen.mistakes(limit=5) == found[:5]


def test_suspects_are_those_of_confident_learning(seen):
    """The confident joint as the paper defines it, image by image."""
    p, expected = seen.probabilities, set()
    thresholds = {
        j: np.mean([p[i, j] for i in range(400) if seen.labels[i] == j]) for j in set(seen.labels)
    }
    for i in range(400):
        over = [j for j, t in thresholds.items() if p[i, j] >= t]
        if over:
            shown = max(over, key=lambda j: p[i, j])
            if shown != seen.labels[i]:
                expected.add((i, shown))
    found = seen.suspects(limit=400)
    assert {(one.index, one.suggestion) for one in found} == expected
    assert expected
    margins = [one.margin for one in found]
    assert margins == sorted(margins, reverse=True)


def test_wrong_labels_are_suspected():
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 4, 300)
    logits = generator.normal(size=(300, 4)) + 6 * np.eye(4)[truth]
    labels, wrong = truth.copy(), [10, 70, 200]
    labels[wrong] = (truth[wrong] + 1) % 4
    found = Evaluation(logits, labels, list("abcd")).suspects(limit=3)
    assert sorted(one.index for one in found) == wrong
    assert all(one.suggestion == truth[one.index] for one in found)


# -- measured on a data set -------------------------------------------------------------------


class Brightness(nn.Module):
    """Logits of a picture: how bright its left half is, and its right one."""

    def forward(self, x):
        half = x.shape[3] // 2
        return lucid.stack([x[:, 0, :, :half].sum((1, 2)), x[:, 0, :, half:].mean((1, 2))], 1)


def pictures(n: int = 20) -> TensorDataset:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(n, 1, 4, 4)).astype(np.float32)
    return TensorDataset(images, generator.integers(0, 2, n))


@pytest.mark.parametrize("batch_size", [1, 8, 20, 50])
def test_measure(batch_size):
    done = []
    model = Brightness().train()
    dataset = pictures()
    seen = Evaluation.measure(
        model,
        dataset,
        ["left", "right"],
        batch_size=batch_size,
        after_each=lambda *counts: done.append(counts),
    )
    np.testing.assert_allclose(
        seen.logits, model(lucid.tensor(dataset.arrays[0])).data, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(seen.labels, dataset.arrays[1])
    np.testing.assert_array_equal(seen.indices, np.arange(20))
    assert done[-1] == (20, 20)
    assert model.training
    assert seen.files == ()


def test_measure_of_a_part():
    dataset = pictures()
    seen = Evaluation.measure(Brightness(), Subset(dataset, [7, 3]), ["left", "right"])
    np.testing.assert_array_equal(seen.labels, dataset.arrays[1][[7, 3]])


def test_flips_are_the_mean_of_both_answers():
    dataset = pictures()
    images = dataset.arrays[0]
    both = [
        lucid.softmax(Brightness()(lucid.tensor(x)).double(), 1).data
        for x in (images, images[..., ::-1].copy())
    ]
    seen = Evaluation.measure(Brightness(), dataset, ["left", "right"], flips=True)
    np.testing.assert_allclose(seen.probabilities, np.mean(both, axis=0), rtol=1e-6)
    mirrored = TensorDataset(images[..., ::-1].copy(), dataset.arrays[1])
    again = Evaluation.measure(Brightness(), mirrored, ["left", "right"], flips=True)
    np.testing.assert_allclose(again.probabilities, seen.probabilities, rtol=1e-6)


def test_many_images_go_through_a_plan_with_the_same_result(monkeypatch):
    shapes = []

    def compile(model, shape, **more):
        shapes.append(shape)
        return lucid.compile(model, shape, **more)

    monkeypatch.setattr(training._loop, "compile", compile)
    lucid.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    dataset = pictures(130)
    one = Evaluation.measure(model, dataset, ["a", "b"], batch_size=2)
    assert [shape[0] for shape in shapes] == [2]
    other = Evaluation.measure(model, dataset, ["a", "b"], batch_size=64)
    assert len(shapes) == 1
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-4, atol=1e-5)


# -- documents and bad input ------------------------------------------------------------------


def test_the_document_is_json(seen):
    document = seen.document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["accuracy"] == seen.score.accuracy
    assert document["per_class"][6]["precision"] is None
    assert document["top5"] == seen.top(5)
    assert of_counts(1, 2).document()["top5"] is None


@pytest.mark.filterwarnings("error")
def test_weights_that_are_not_finite_have_a_document():
    logits = np.array([[np.nan, np.nan], [np.inf, 0.0], [1.0, 0.0]])
    document = Evaluation(logits, np.array([0, 1, 0]), ["a", "b"]).document()
    json.dumps(document, allow_nan=False)
    assert document["loss"] is None
    assert document["count"] == 3
    assert sum(one["count"] for one in document["reliability"]) == 1
    everything = Evaluation(logits[:2], np.array([0, 1]), ["a", "b"])
    assert everything.document()["calibration_error"] is None
    assert everything.suspects() == []


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "there is no image"),
        (np.zeros((3, 3)), np.zeros(3, int), r"expected logits \(3, 2\).* got \(3, 3\)"),
        (np.zeros((2, 2)), np.array([0, 2]), "labels must be from 0 to 1"),
        (np.zeros((2, 2)), np.array([-1, 0]), "labels must be from 0 to 1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), r"expected labels \(2,\) of integers"),
        (np.zeros((2, 2)), np.zeros((2, 1), int), r"expected labels \(2,\)"),
    ],
)
def test_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(logits, labels, ["a", "b"])


def test_bad_files():
    with pytest.raises(ValueError, match="1 names of files for 2 images"):
        Evaluation(np.zeros((2, 2)), np.zeros(2, int), ["a", "b"], files=["a.png"])


def test_a_model_of_other_classes_is_told_after_one_batch():
    done = []
    with pytest.raises(ValueError, match=r"expected logits \(5, 3\).* got \(5, 2\)"):
        Evaluation.measure(
            Brightness(), pictures(), list("abc"), batch_size=5, after_each=done.append
        )
    assert not done
    with pytest.raises(ValueError, match="there is no image"):
        Evaluation.measure(Brightness(), Subset(pictures(), []), ["a", "b"])
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        Evaluation.measure(Brightness(), pictures(), ["a", "b"], batch_size=0)
