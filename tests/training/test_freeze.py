"""Frozen stages do not change in training; nor do the statistics of their batch norms."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import models, nn, optim, training


def train(model: nn.Module, steps: int = 2) -> dict[str, bool]:
    """Train, and return of each entry of the state whether it changed."""
    before = {name: value.data.copy() for name, value in model.state_dict().items()}
    batch = lucid.randn(4, 3, 32, 32), lucid.tensor([0, 1, 2, 3])
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in training.fit(model, [batch], [batch], optimizer, epochs=steps):
        pass
    after = model.state_dict()
    return {name: not np.array_equal(value, after[name].data) for name, value in before.items()}


@pytest.mark.parametrize("stages", [0, 1, 3, 6, 7])
def test_stages(stages: int) -> None:
    lucid.manual_seed(0)
    model = models.mobilenetv4_conv_small_035(num_classes=4)
    training.freeze(model, stages)
    order = ["conv0", *(f"layers.{i}" for i in range(5)), "head", "classifier"]
    frozen = tuple(f"{name}." for name in order[:stages])
    changed = train(model)
    assert {name for name, did in changed.items() if not did} == {
        name for name in changed if name.startswith(frozen)
    }
    training.unfreeze(model)
    assert all(train(model, 1).values())


def test_modules_by_name() -> None:
    model = models.mobilenetv4_conv_small_035(num_classes=4)
    training.freeze(model, ["layers.1", "head"])
    still = {name.split(".")[0] for name, did in train(model).items() if not did}
    assert still == {"layers", "head"}


def test_the_children_of_another_model_are_its_stages() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 1))
    training.freeze(model, 1)  # layers without parameters do not count
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_wrong_use() -> None:
    model = models.mobilenetv4_conv_small_035(num_classes=4)
    with pytest.raises(ValueError, match="expected 0 to 7 stages, as the last one is to be"):
        training.freeze(model, 8)
    with pytest.raises(AttributeError, match="stem"):
        training.freeze(model, ["conv0", "stem"])
    assert all(p.requires_grad for p in model.parameters())
