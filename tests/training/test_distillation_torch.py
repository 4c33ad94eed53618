"""Distillation: the loss against PyTorch's formula, and what the teacher sees."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import nn, training

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.mark.parametrize("kind", ["labels", "shares"])
@pytest.mark.parametrize(("hot", "weight"), [(1.0, 0.5), (2.0, 0.25), (4.0, 1.0), (3.0, 0.0)])
def test_the_loss(hot: float, weight: float, kind: str) -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 6, 5)) * 3
    labels = generator.integers(5, size=6)
    if kind == "shares":
        labels = generator.dirichlet(np.ones(5), size=6).astype(np.float32)
    logits = torch.tensor(student, requires_grad=True)
    distance = F.kl_div(
        F.log_softmax(logits / hot, 1), F.softmax(torch.tensor(teacher) / hot, 1),
        reduction="batchmean",
    )  # fmt: skip
    target = torch.tensor(labels)
    plain = F.cross_entropy(
        logits, target.double() if kind == "shares" else target, label_smoothing=0.1
    )
    expected = (1 - weight) * plain + weight * hot**2 * distance
    expected.backward()

    mine = lucid.tensor(student, dtype=np.float64, requires_grad=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    loss = training.DistillationLoss(hot, weight, criterion)(
        mine, lucid.tensor(labels), lucid.tensor(teacher, dtype=np.float64)
    )
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-10)
    np.testing.assert_allclose(mine.grad.data, logits.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_the_logarithms_of_probabilities_are_as_good_as_logits() -> None:
    generator = np.random.default_rng(0)
    student, teacher = (lucid.tensor(x, dtype=np.float64) for x in generator.normal(size=(2, 6, 5)))
    labels = lucid.tensor(generator.integers(5, size=6))
    loss = training.DistillationLoss(3.0)
    stored = teacher.softmax(1).log()
    np.testing.assert_allclose(
        loss(student, labels, teacher).item(), loss(student, labels, stored).item(), rtol=1e-12
    )


def test_a_student_learns_from_a_teacher_alone() -> None:
    lucid.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    student = nn.Linear(2, 3)
    images = lucid.randn(64, 2)
    batches = training.Taught([(images, lucid.zeros(64, dtype=np.int64))], teacher)
    assert len(batches) == 1
    optimizer = lucid.optim.AdamW(student.parameters(), lr=0.1, weight_decay=0)
    loss = training.DistillationLoss(2.0, 1.0)
    for _ in range(150):
        score = training.train_epoch(student, batches, optimizer, criterion=loss)
    assert score.loss < 1e-4
    assert teacher.training  # as before; it answered in evaluation mode
    assert all(p.grad is None for p in teacher.parameters())


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        training.DistillationLoss(0)
    with pytest.raises(ValueError, match="weight must be between 0 and 1, got 2"):
        training.DistillationLoss(1.0, 2)
    loss = training.DistillationLoss()
    with pytest.raises(ValueError, match=r"the teacher's logits of shape \(1, 3\), got \(1, 2\)"):
        loss(lucid.zeros(1, 3), lucid.tensor([0]), lucid.zeros(1, 2))
    with pytest.raises(TypeError, match="list_iterator has no length"):
        len(training.Taught(iter([]), nn.Identity()))
