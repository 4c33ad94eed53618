"""Parametrized weights: PyTorch's values, states and steps; and dictionaries of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.nn.utils import parametrizations, parametrize

BUILD: dict[str, Any] = {
    "weight_norm": lambda lib: lib.nn.utils.parametrizations.weight_norm(lib.nn.Linear(4, 3)),
    "weight_norm of all": lambda lib: lib.nn.utils.parametrizations.weight_norm(
        lib.nn.Linear(4, 3), dim=None
    ),
    "spectral_norm": lambda lib: lib.nn.utils.parametrizations.spectral_norm(lib.nn.Linear(4, 3)),
}


@pytest.mark.parametrize("name", sorted(BUILD))
def test_results_and_gradients_agree_with_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = BUILD[name](lucid).double(), BUILD[name](torch).double()
    state = theirs.state_dict()
    assert sorted(ours.state_dict()) == sorted(state)
    ours.load_state_dict({key: value.numpy() for key, value in state.items()})
    x = np.random.default_rng(0).standard_normal((5, 4))
    for _ in range(2):  # the singular vectors move on
        expected, got = theirs(torch.from_numpy(x)), ours(lucid.tensor(x, dtype=np.float64))
        np.testing.assert_allclose(got.detach().data, expected.detach().numpy(), rtol=1e-9)
    expected.square().sum().backward()
    got.square().sum().backward()
    grads = {key: value.grad.numpy() for key, value in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad.data, grads[key], rtol=1e-8, atol=1e-12)


def test_what_was_computed_becomes_a_parameter() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 3))
    weight = layer.weight.detach()
    assert parametrize.is_parametrized(layer, "weight")
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    assert lucid.equal(layer.weight, weight)
    with pytest.raises(ValueError, match="expected a parametrized parameter, got 'weight'"):
        parametrize.remove_parametrizations(layer, "weight")
    with pytest.raises(ValueError, match="expected a parameter of Linear, got 'w'"):
        parametrizations.weight_norm(layer, "w")


def test_a_dictionary_of_parameters() -> None:
    held = nn.ParameterDict({"a": lucid.ones(2), "b": nn.Parameter([3.0])})
    assert [name for name, _ in held.named_parameters()] == ["a", "b"]
    held["c"] = np.zeros(1)
    assert "c" in held
    assert held.pop("a").shape == (2,)
    assert [(key, value.item()) for key, value in held.items()] == [("b", 3.0), ("c", 0.0)]
    with pytest.raises(KeyError, match="ParameterDict: no parameter 'a'"):
        held["a"]
