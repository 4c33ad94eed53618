"""The graph of a run: values, operations with their arguments, calls, multiply-adds."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.graph import items, leaves, mapped, trace


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return {"scores": [self.head(self.body(x).mean((2, 3)))]}


def test_values_and_operations():
    graph = trace(Net(), lucid.zeros(2, 3, 5, 5))
    assert [operation.name for operation in graph.operations] == [
        "Conv2d", "BatchNormInference", "Mean", "Linear",
    ]  # fmt: skip
    assert [operation.module for operation in graph.operations] == ["body.0", "body.1", "", "head"]
    (x,) = graph.inputs
    assert (x.shape, x.dtype, x.producer) == ((2, 3, 5, 5), np.float32, None)
    for before, after in zip(graph.operations, graph.operations[1:]):
        assert after.args[0] is before.outputs[0]
        assert after.args[0].producer is before
    assert graph.result == {"scores": graph.operations[-1].outputs}


def test_arguments_have_names_and_so_have_constants():
    model = Net()
    graph = trace(model, lucid.zeros(2, 3, 5, 5))
    convolution, _, _, linear = graph.operations
    assert list(linear.arguments) == ["x", "weight", "bias"]
    assert convolution.arguments["x"] is graph.inputs[0]
    assert convolution.arguments["bias"] is None
    weight = convolution.arguments["weight"]
    assert weight is model.body[0].weight
    assert graph.names[id(weight)] == "body.0.weight"
    assert graph.names[id(linear.arguments["bias"])] == "head.bias"


def test_calls_are_a_tree():
    graph = trace(Net(), lucid.zeros(2, 3, 5, 5))
    assert [call.name for call in graph.root.walk()] == ["", "body", "body.0", "body.1", "head"]
    body, head = graph.root.calls
    assert body.inputs == graph.inputs
    assert body.input_shape == (2, 3, 5, 5)
    assert body.output_shape == (2, 4, 5, 5)
    assert head.parts == [graph.operations[-1]]


def test_multiply_adds_are_those_of_products_of_what_the_model_has():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(lucid.zeros(4, 3))

        def forward(self, x):
            pixels = x @ lucid.tensor(np.eye(4))  # as in resampling
            return (pixels @ self.weight) @ (x @ self.weight).transpose(0, 1) + 1

    graph = trace(Products(), lucid.zeros(5, 4))
    assert graph.root.macs == 2 * 5 * 4 * 3 + 5 * 3 * 5
    assert lucid.summary(Products(), (5, 4)).total_macs == graph.root.macs


def test_what_operations_do_not_explain_is_an_opaque_part():
    class Sorts(nn.Module):
        def forward(self, x):
            return lucid.tensor(np.sort(x.numpy()))

    model = nn.Sequential(nn.Linear(3, 3), Sorts(), nn.Identity(), nn.ReLU())
    operations = trace(model, lucid.zeros(2, 3)).operations
    assert [operation.name for operation in operations] == ["Linear", "Sorts", "Identity", "Clip"]
    assert operations[1].kind is model[1]
    assert operations[1].args == operations[0].outputs
    assert operations[2].args == operations[1].outputs
    assert operations[3].args[0] is operations[2].outputs[0]


def test_the_model_comes_back_as_it_was():
    class Counts(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", lucid.zeros(1))

        def forward(self, x):
            assert not self.training
            self.calls += 1
            return super().forward(x)

    model = Counts()
    model.body.eval()
    trace(model, lucid.zeros(1, 3, 5, 5))
    assert [module.training for module in model.modules()] == [True, False, False, False, True]
    assert model.calls.item() == 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ValueError, match="expected 3 input channels"):
        trace(model, lucid.zeros(1, 4, 5, 5))
    assert model.training


def test_a_value_has_the_layout_of_its_tensor():
    class Turns(nn.Module):
        def forward(self, x):
            return x.transpose(0, 1)

    graph = trace(Turns(), lucid.zeros(2, 3))
    (turned,) = graph.operations[0].outputs
    assert turned.views == graph.inputs
    assert turned.nbytes == 2 * 3 * 4
    assert turned.empty().strides == (4, 12)
    assert turned.empty().shape == (3, 2)


def test_nested_values():
    Pair = collections.namedtuple("Pair", "a b")
    nested = {"x": [1, (2, 3)], "y": Pair(4, {})}
    assert list(items(nested)) == [("x.0", 1), ("x.1.0", 2), ("x.1.1", 3), ("y.0", 4)]
    assert list(items(5)) == [("", 5)]
    assert leaves([1, "a", (2.0,)], (int, float)) == [1, 2.0]
    assert mapped(lambda leaf: -leaf, nested) == {"x": [-1, (-2, -3)], "y": Pair(-4, {})}
    assert mapped(max, [1, Pair(5, 2)], [4, Pair(3, 3)]) == [4, Pair(5, 3)]
    assert isinstance(mapped(abs, Pair(1, 2)), Pair)
