"""Clipping gradients, parameters as one vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.nn import utils


def _parameters() -> list[nn.Parameter]:
    a, b, c = nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros((1, 1))), nn.Parameter(np.zeros(3))
    a.grad, b.grad = lucid.tensor([3.0, -4.0]), lucid.tensor([[12.0]])
    return [a, b, c]


@pytest.mark.parametrize(
    ("norm_type", "norm"),
    [(2.0, 13.0), (math.inf, 12.0), (1.0, 19.0), (3.0, (27 + 64 + 1728) ** (1 / 3))],
)
def test_clip_grad_norm(norm_type: float, norm: float) -> None:
    parameters = _parameters()
    total = utils.clip_grad_norm_(iter(parameters), norm / 2, norm_type)
    assert total.item() == pytest.approx(norm, rel=1e-6)
    np.testing.assert_allclose(parameters[0].grad.numpy(), [1.5, -2], rtol=1e-5)
    np.testing.assert_allclose(parameters[1].grad.numpy(), [[6]], rtol=1e-5)
    assert parameters[2].grad is None


def test_clip_grad_norm_leaves_small_gradients() -> None:
    parameters = _parameters()
    utils.clip_grad_norm_(parameters, 20.0)
    assert parameters[0].grad.tolist() == [3, -4]
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    assert utils.clip_grad_norm_(parameters[0], 1.0).item() == pytest.approx(5)


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_clip_grad_norm_of_extremes(size: float) -> None:
    p = nn.Parameter(np.zeros(3))
    p.grad = lucid.tensor([size, size, size])
    assert utils.clip_grad_norm_(p, size).item() == pytest.approx(size * math.sqrt(3), rel=1e-6)


def test_clip_grad_norm_of_many() -> None:
    p = nn.Parameter(np.zeros(1_280_000, np.float32))
    p.grad = lucid.full((1_280_000,), 0.45)
    norm = float(np.float32(0.45)) * math.sqrt(1_280_000)
    assert utils.clip_grad_norm_(p, 1000.0).item() == pytest.approx(norm, rel=2e-6)


def test_clip_grad_norm_not_finite() -> None:
    parameters = _parameters()
    parameters[0].grad = lucid.tensor([np.nan, 1.0])
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan"):
        utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[1].grad.tolist() == [[12]]
    assert np.isnan(utils.clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(parameters[1].grad.numpy()).all()


def test_clip_grad_value() -> None:
    parameters = _parameters()
    utils.clip_grad_value_(parameters, 3.5)
    assert parameters[0].grad.tolist() == [3, -3.5]
    assert parameters[1].grad.tolist() == [[3.5]]


def test_vector_there_and_back() -> None:
    layer = nn.Linear(3, 2)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (8,)
    other = nn.Linear(3, 2)
    utils.vector_to_parameters(vector, other.parameters())
    np.testing.assert_array_equal(other.weight.data, layer.weight.data)
    np.testing.assert_array_equal(other.bias.data, layer.bias.data)
    vector.sum().backward()
    assert layer.bias.grad.tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"expected a vector of shape \(8,\), got \(7,\)"):
        utils.vector_to_parameters(np.zeros(7), other.parameters())
    np.testing.assert_array_equal(other.bias.data, layer.bias.data)


def test_skip_init() -> None:
    """What is drawn stays 0, what is set is set, and the generator does not move."""
    start = lucid.manual_seed(3).bit_generator.state
    network = utils.skip_init(
        nn.Sequential, nn.Linear(2, 3), utils.skip_init(nn.Conv2d, 3, 4, kernel_size=1, groups=1)
    )
    drawn, skipped = network[0].weight, network[1].weight
    assert drawn.detach().numpy().all()
    assert skipped.shape == (4, 3, 1, 1)
    assert not skipped.detach().numpy().any()
    state = lucid.manual_seed(3).bit_generator.state
    assert state == start
    for build in (
        lambda: nn.Embedding(3, 2),
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
        lambda: nn.init.trunc_normal_(lucid.zeros(3)),
        lambda: nn.init.orthogonal_(lucid.zeros(3, 3)),
        lambda: nn.init.sparse_(lucid.zeros(3, 3), 0.5),
    ):
        utils.skip_init(build)
    norm = utils.skip_init(nn.BatchNorm2d, 2)
    assert lucid._random.generator().bit_generator.state == state
    assert norm.weight.tolist() == norm.running_var.tolist() == [1, 1]
    with pytest.raises(TypeError, match="nothing"):
        utils.skip_init(_fails)
    assert nn.Linear(2, 2).weight.detach().numpy().all()


def _fails() -> nn.Module:
    raise TypeError("nothing")
