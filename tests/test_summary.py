"""lucid.summary: counts worked out by hand, and a model left as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.autograd import Tensor
from lucid.models._blocks import _MobileAttention
from lucid.models._config import AttentionSpec


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def test_counts_of_a_small_net_by_hand():
    result = lucid.summary(small_net(), (2, 3, 8, 8))
    rows = {layer.name: layer for layer in result.layers}
    # Output values times the products summed into each.
    assert rows["0"].macs == (2 * 8 * 4 * 4) * (3 * 3 * 3)
    assert rows["3.0"].macs == (2 * 8 * 4 * 4) * (1 * 3 * 3)
    assert rows["3.1"].macs == (2 * 16 * 4 * 4) * 8
    assert rows["6"].macs == (2 * 5) * 16
    assert result.total_macs == 6912 + 2304 + 4096 + 160
    assert rows["0"].params == 8 * 27
    assert rows["1"].params == 2 * 8
    assert rows["3.0"].params == 8 * 9 + 8
    assert rows["6"].params == 16 * 5 + 5
    assert result.total_params == 216 + 16 + 80 + (16 * 8 + 16) + 85
    assert result.trainable_params == result.total_params
    # Three outputs of 8 channels, the two convolutions, the pooling, no Flatten, the classifier.
    assert result.total_activations == 2 * (4 * 8 * 4 * 4 + 16 * 4 * 4 + 16 + 5)


def test_rows_are_in_order_with_shapes_and_kinds():
    layers = lucid.summary(small_net(), (2, 3, 8, 8)).layers
    assert [layer.name for layer in layers] == ["0", "1", "2", "3.0", "3.1", "4", "5", "6"]
    assert [layer.kind for layer in layers][:3] == ["Conv2d", "BatchNorm2d", "ReLU6"]
    assert layers[0].input_shape == (2, 3, 8, 8)
    assert layers[0].output_shape == (2, 8, 4, 4)
    assert layers[-1].output_shape == (2, 5)


@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_rows_add_up_at_any_depth(depth):
    result = lucid.summary(nn.Sequential(small_net(), nn.Linear(5, 2)), (1, 3, 8, 8), depth=depth)
    assert sum(layer.params for layer in result.layers) == result.total_params
    assert sum(layer.macs for layer in result.layers) == result.total_macs == 6736 + 10
    assert len(result.layers) == {1: 2, 2: 8}.get(depth, 9)


def test_depth_folds_a_container_into_one_row():
    result = lucid.summary(small_net(), (1, 3, 8, 8), depth=1)
    row = result.layers[3]
    assert (row.name, row.kind) == ("3", "Sequential")
    assert row.input_shape == (1, 8, 4, 4)
    assert row.output_shape == (1, 16, 4, 4)
    assert row.params == 80 + 144
    assert row.macs == 1152 + 2048


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_a_module_called_twice_has_its_parameters_once_and_its_work_twice():
    result = lucid.summary(Twice(), (3, 4))
    assert [layer.name for layer in result.layers] == ["layer", "layer"]
    assert [layer.params for layer in result.layers] == [16, 0]
    assert [layer.macs for layer in result.layers] == [48, 48]
    assert result.total_params == 16
    assert result.total_macs == 96


def test_a_shared_weight_is_counted_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert lucid.summary(model, (1, 4)).total_params == 16 + 4 + 4


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 2)
        self.spare = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_layer_that_is_not_called_is_shown_without_work():
    result = lucid.summary(Unused(), (1, 4))
    assert [(layer.name, layer.output_shape, layer.params) for layer in result.layers] == [
        ("used", (1, 2), 10),
        ("spare", None, 15),
    ]
    assert result.total_macs == 8
    assert "not called" in str(result)


class Product(nn.Module):
    """A module with a product and a parameter of its own beside a child."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.ones(4))
        self.inner = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.inner(x) * self.scale) @ x.transpose(0, 1)

    def macs(self, inputs: tuple[tuple[int, ...], ...], output: tuple[int, ...]) -> int:
        return output[0] * output[1] * inputs[0][1]


def test_a_module_may_count_its_own_products():
    result = lucid.summary(Product(), (3, 4))
    assert [(layer.kind, layer.params, layer.macs) for layer in result.layers] == [
        ("Product", 4, 3 * 3 * 4),
        ("Linear", 16, 3 * 4 * 4),
    ]
    assert result.total_params == 20


def test_frozen_parameters_are_told_apart():
    model = small_net()
    model[0].requires_grad_(False)
    result = lucid.summary(model, (1, 3, 8, 8))
    assert result.trainable_params == result.total_params - 216
    assert "216 of the parameters are frozen" in str(result)


def test_the_table_is_aligned_and_ends_in_the_totals():
    text = str(lucid.summary(small_net(), (1, 3, 8, 8)))
    lines = text.splitlines()
    assert lines[0] == "Sequential, input (1, 3, 8, 8)"
    assert lines[-1].split() == ["total", "541", "6,736"]
    ends = {len(line) for line in lines[1:]}
    assert len(ends) == 1


def state(model: nn.Module) -> dict[str, Any]:
    return {name: np.array(value.data) for name, value in model.state_dict().items()}


def test_the_model_comes_back_as_it_was():
    model = small_net()
    model[1].eval()
    calls: list[str] = []
    model[0].register_forward_hook(lambda *_: calls.append("mine"))
    before, modes = state(model), [m.training for m in model.modules()]
    lucid.summary(model, (2, 3, 8, 8))
    assert [m.training for m in model.modules()] == modes
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    calls.clear()
    model(lucid.zeros(2, 3, 8, 8))
    assert calls == ["mine"]


def test_the_model_comes_back_as_it_was_after_a_failure():
    model = small_net()
    with pytest.raises(ValueError, match=r"does not run on an input of shape \(1, 4, 8, 8\)"):
        lucid.summary(model, (1, 4, 8, 8))
    assert all(m.training for m in model.modules())
    assert lucid.summary(model, (1, 3, 8, 8)).total_macs == 6736


def test_several_inputs_and_integers():
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b

    result = lucid.summary(Two(), [(2, 3), (3, 4)])
    assert result.layers[0].output_shape == (2, 4)
    result = lucid.summary(nn.Embedding(10, 4), (2, 5), dtype=np.int64)
    assert result.layers[0].output_shape == (2, 5, 4)
    assert result.total_params == 40


@pytest.mark.parametrize("shape", [5, "1,3", (1, 3.5), [(1, 2), "x"], (1, None), (True, 3)])
def test_a_shape_that_is_none(shape):
    with pytest.raises(TypeError, match="input_shape must be a tuple of integers"):
        lucid.summary(small_net(), shape)


def test_a_tensor_is_no_shape():
    with pytest.raises(TypeError, match=r"got Tensor of shape \(1, 3, 8, 8\)$"):
        lucid.summary(small_net(), lucid.zeros(1, 3, 8, 8))


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"expected a lucid\.nn\.Module, got str"):
        lucid.summary("mobilenet", (1, 3, 8, 8))
    with pytest.raises(ValueError, match="negative size"):
        lucid.summary(small_net(), (-1, 3, 8, 8))
    with pytest.raises(ValueError, match="depth must be at least 1"):
        lucid.summary(small_net(), (1, 3, 8, 8), depth=0)


@pytest.mark.parametrize(("kv_stride", "keys"), [(1, 7 * 5), (2, 4 * 3), (3, 3 * 2)])
@pytest.mark.parametrize(("query_strides", "queries"), [((1, 1), 7 * 5), ((2, 3), 4 * 2)])
def test_mobile_attention_by_hand(kv_stride, keys, query_strides, queries):
    """Each query meets each key over key_dim values, and the values over value_dim."""
    heads, key_dim, value_dim = 4, 8, 6
    spec = AttentionSpec(heads, key_dim, value_dim, *query_strides, kv_stride, True, True, True)
    result = lucid.summary(_MobileAttention(16, spec), (2, 16, 7, 5))
    (own,) = (layer for layer in result.layers if layer.kind == "_MobileAttention")
    assert own.macs == 2 * heads * queries * keys * (key_dim + value_dim)
    rows = {layer.name: layer.macs for layer in result.layers}
    assert rows["query.proj"] == 2 * queries * 16 * heads * key_dim
    assert rows["key.proj"] == 2 * keys * 16 * key_dim
    assert rows["value.proj"] == 2 * keys * 16 * value_dim
