"""Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import lucid
from lucid import nn


def test_sequential_calls_in_turn() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = lucid.randn(4, 2)
    np.testing.assert_array_equal(
        net(x).detach().numpy(), np.maximum(net[0](x).detach().numpy(), 0)
    )
    assert nn.Sequential()(5) == 5


def test_sequential_access() -> None:
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Identity()
    net = nn.Sequential(a, b, c)
    assert len(net) == 3
    assert list(net) == [a, b, c]
    assert net[-1] is c
    assert net["1"] is b
    assert net[np.int64(0)] is a
    assert isinstance(net[1:], nn.Sequential)
    assert [n for n, _ in net[1:].named_children()] == ["1", "2"]
    with pytest.raises(IndexError, match="Sequential: index 3 is out of range for 3 modules"):
        net[3]
    with pytest.raises(TypeError, match="expected an integer or a slice, got float"):
        net[0.5]


def test_sequential_names() -> None:
    net = nn.Sequential(OrderedDict(conv=nn.ReLU(), act=nn.Tanh()))
    assert [n for n, _ in net.named_children()] == ["conv", "act"]
    assert net.conv is net[0]
    assert net["act"] is net.act
    assert isinstance(net[:1].conv, nn.ReLU)
    with pytest.raises(TypeError, match="expected a Module at position 1, got int"):
        nn.Sequential(nn.ReLU(), 3)
    with pytest.raises(TypeError, match="expected a Module or None, got str"):
        nn.Sequential({"a": "b"})


def test_sequential_changes() -> None:
    net = nn.Sequential(nn.ReLU())
    assert net.append(nn.Tanh()) is net
    net.extend([nn.Sigmoid(), nn.GELU()])
    net.insert(1, nn.SiLU())
    assert [type(m).__name__ for m in net] == ["ReLU", "SiLU", "Tanh", "Sigmoid", "GELU"]
    del net[1]
    net[0] = nn.ELU()
    assert [n for n, _ in net.named_children()] == ["0", "1", "2", "3"]
    assert isinstance(net.pop(), nn.GELU)
    del net[1:]
    assert [type(m).__name__ for m in net] == ["ELU"]
    assert len(net + nn.Sequential(nn.ReLU())) == 2
    with pytest.raises(TypeError, match="expected a Module at position 1, got str"):
        net.extend([nn.ReLU(), "x"])
    assert len(net) == 1


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    layers += [nn.ReLU()]
    assert len(layers) == 4
    assert layers[3] in layers
    assert nn.ReLU() not in layers
    assert len(list(layers.parameters())) == 6
    assert isinstance(layers[:2], nn.ModuleList)
    assert next(iter(layers.state_dict())) == "0.weight"
    more: list[nn.Module] = [nn.Tanh()]
    assert isinstance(layers + more, nn.ModuleList)
    with pytest.raises(NotImplementedError, match="ModuleList needs a method forward"):
        layers(1)


def test_module_dict() -> None:
    layers = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Linear(1, 1)})
    layers["c"] = nn.Tanh()
    assert list(layers) == ["a", "b", "c"]
    assert list(layers.keys()) == ["a", "b", "c"]
    assert [n for n, _ in layers.items()] == ["a", "b", "c"]
    assert next(iter(layers.values())) is layers["a"]
    assert "b" in layers
    assert len(layers) == 3
    assert isinstance(layers.pop("a"), nn.ReLU)
    del layers["c"]
    layers.update([("d", nn.ReLU())])
    assert list(layers.state_dict()) == ["b.weight", "b.bias"]
    with pytest.raises(KeyError, match=r"no module 'x' \(there are: 'b', 'd'\)"):
        layers["x"]
    with pytest.raises(KeyError, match="there is an attribute of that name"):
        layers["forward"] = nn.ReLU()
    layers.clear()
    assert len(layers) == 0
    with pytest.raises(TypeError, match="expected a mapping or pairs, got int"):
        nn.ModuleDict(3)


def test_parameter_list() -> None:
    values = nn.ParameterList([nn.Parameter([1.0]), np.zeros((2, 3))])
    assert len(values) == 2
    assert [n for n, _ in values.named_parameters()] == ["0", "1"]
    assert values[-1].shape == (2, 3)
    assert values[1].requires_grad
    assert list(values) == [values[0], values[1]]
    assert "(1): Parameter containing: [float32 of size 2x3]" in repr(values)
    with pytest.raises(IndexError, match="index 2 is out of range for 2 parameters"):
        values[2]
