"""Evaluation mode for a while: each module gets its own mode back, whoever asks for it."""

import numpy as np
import pytest

import lucid
from lucid import nn, training, visual
from lucid.graph import evaluation


class Watched(nn.Module):
    """A classifier with frozen layers that notes the modes in which it ran."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        self.body.eval()
        self.ran_in = set()

    def forward(self, x):
        self.ran_in |= set(modes(self))
        return self.head(self.body(x))


def modes(model):
    return [module.training for module in model.modules()]


def batches(channels):
    yield lucid.zeros(2, channels, 8, 8), lucid.zeros(2, dtype=np.int64)


USERS = {
    "evaluate": lambda model, channels: training.evaluate(model, batches(channels)),
    "summary": lambda model, channels: lucid.summary(model, (1, channels, 8, 8)),
    "diagram": lambda model, channels: visual.svg(model, (1, channels, 8, 8)),
    "gradcam": lambda model, channels: visual.gradcam(
        model, np.zeros((channels, 8, 8), np.float32)
    ),
}


@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
def test_modes_come_back(use):
    model = Watched()
    before = modes(model)
    assert len(set(before)) == 2
    use(model, 3)
    assert model.ran_in == {False}
    assert modes(model) == before
    with pytest.raises(ValueError, match="expected 3 input channels"):
        use(model, 4)
    assert modes(model) == before


def test_modes_come_back_from_training_and_from_evaluation():
    model = Watched()
    before = modes(model)
    with evaluation(model) as nothing:
        assert nothing is None
        assert not any(modes(model))
    assert modes(model) == before
    model.eval()
    with evaluation(model):
        pass
    assert not any(modes(model))
