"""Quantisation-aware training, and the digits that a trained network still reads."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import data, nn, optim, quantization, training
from tests.quantization.test_quantize import evaluated

pytest.importorskip("sklearn")


def trained():
    """A small network that reads digits, and their images as batches."""
    lucid.manual_seed(0)
    digits = data.datasets.digits()
    batches = [list(data.DataLoader(part, 100)) for part in (digits.train, digits.test)]
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    list(training.fit(model, *batches, optimizer, epochs=10))
    return model, *batches


@pytest.mark.slow
def test_digits_stay_within_half_a_point_and_training_recovers():
    model, train, test = trained()
    before = training.evaluate(model, test).accuracy
    assert before > 0.9
    small = lucid.quantize(model, train)
    assert training.evaluate(small, test).accuracy >= before - 0.005

    # Of a damaged network training with rounded weights makes a good one again.
    small = quantization.prepare_qat(model, train)
    rng = np.random.default_rng(0)
    for parameter in small.parameters():
        noise = rng.normal(size=parameter.shape).astype(np.float32)
        parameter.data[...] += 0.4 * parameter.data.std() * noise
    damaged = training.evaluate(small, test).accuracy
    optimizer = optim.AdamW(small.parameters(), lr=2e-3)
    for epoch in training.fit(small, train, test, optimizer, epochs=4):
        if epoch.number == 3:
            quantization.disable_observer(small)
    assert damaged < before - 0.02
    assert epoch.validation.accuracy >= before - 0.02


def test_ranges_follow_what_is_seen_until_they_are_held():
    model = nn.Sequential(nn.Linear(2, 2))
    x = lucid.tensor([[1.0, 0.5]])
    small = quantization.prepare_qat(model, [x])
    quantizer = small[0].input_quantizer
    first = float(quantizer.scale.numpy())
    for _ in range(700):
        small(8 * x)
    wider = float(quantizer.scale.numpy())
    assert wider == 8 * first
    quantization.disable_observer(small)
    for _ in range(10):
        small(100 * x)
    assert float(quantizer.scale.numpy()) == wider
    small.eval()(100 * x)
    assert float(quantizer.scale.numpy()) == wider


def test_gradients_reach_weights_biases_and_what_lies_before():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = lucid.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    small = quantization.prepare_qat(model, [x])
    small(x).square().sum().backward()
    model(x).square().sum().backward()
    for plain, rounded in zip(model.parameters(), small.parameters()):
        scale = np.abs(plain.grad.numpy()).max()
        np.testing.assert_allclose(rounded.grad.numpy(), plain.grad.numpy(), atol=0.1 * scale)


@pytest.mark.slow
def test_a_file_of_integers_makes_the_model_again(tmp_path):
    model, train, test = trained()
    small = lucid.quantize(model, train)
    lucid.save(quantization.integer_state(small), tmp_path / "small.safetensors")
    state = lucid.load(tmp_path / "small.safetensors")
    assert state["0.weight"].dtype == np.int8
    assert state["0.bias"].dtype == np.int32
    again = quantization.restore(model, state)
    np.testing.assert_array_equal(evaluated(again, test[0][0]), evaluated(small, test[0][0]))
    with pytest.raises(ValueError, match="none of a quantised model"):
        quantization.restore(model, model.state_dict())
    with pytest.raises(ValueError, match="the state has a layer '0'"):
        quantization.restore(nn.Sequential(nn.ReLU()), state)
