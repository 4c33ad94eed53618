"""The base class: registration, walking, state, hooks, modes, printing."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn


class Block(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.full(width, 2.0))
        self.fc = nn.Linear(width, width)
        self.register_buffer("offset", lucid.ones(width))
        self.register_buffer("cache", lucid.zeros(1), persistent=False)
        self.register_parameter("nothing", None)

    def forward(self, x: Any) -> Any:
        return self.fc(x) * self.scale + self.offset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(3, 2, bias=False))
        self.alias = self.rest[1]
        self.note = "plain"

    def forward(self, x: Any) -> Any:
        return self.rest(self.first(x))


# -- parameters ---------------------------------------------------------------------------------


def test_parameter() -> None:
    p = nn.Parameter([[1.0, 2.0]])
    assert isinstance(p, lucid.Tensor)
    assert p.requires_grad
    assert p.is_leaf
    assert p.dtype == np.float32
    assert repr(p).startswith("Parameter containing:\ntensor([[1.")
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="only floating-point tensors can require grad"):
        nn.Parameter(lucid.tensor([1, 2]))


def test_parameter_shares_a_tensor_and_copies_an_array() -> None:
    tensor, array = lucid.zeros(2), np.zeros(2, np.float32)
    shared, copied = nn.Parameter(tensor), nn.Parameter(array)
    tensor[0] = 5.0
    array[0] = 5.0
    assert shared.tolist() == [5, 0]
    assert copied.tolist() == [0, 0]


def test_parameter_survives_deepcopy_as_a_parameter() -> None:
    p = nn.Parameter([1.0])
    q = copy.deepcopy(p)
    assert type(q) is nn.Parameter
    assert q.requires_grad
    q.data[0] = 7
    assert p.tolist() == [1]


# -- registration -------------------------------------------------------------------------------


def test_names_and_order() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "first.scale",
        "first.fc.weight",
        "first.fc.bias",
        "rest.1.weight",
    ]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)][-1] == "alias.weight"
    assert [n for n, _ in net.named_parameters("net", recurse=False)] == []
    assert [n for n, _ in net.first.named_parameters("x", recurse=False)] == ["x.scale"]
    assert [n for n, _ in net.named_buffers()] == ["first.offset", "first.cache"]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "first",
        "first.fc",
        "rest",
        "rest.0",
        "rest.1",
    ]
    assert [n for n, _ in net.named_children()] == ["first", "rest", "alias"]
    assert list(net.children()) == [net.first, net.rest, net.alias]
    assert len(list(net.modules())) == 6
    assert len(list(net.parameters())) == 4
    assert len(list(net.buffers())) == 2


def test_assignment_registers_and_deletion_forgets() -> None:
    net = Net()
    net.first.scale = nn.Parameter(np.zeros(3))
    assert next(n for n, _ in net.first.named_parameters()) == "scale"
    net.first.offset = lucid.zeros(3)
    assert dict(net.named_buffers())["first.offset"].tolist() == [0, 0, 0]
    net.first.offset = None
    assert "first.offset" not in net.state_dict()
    del net.first.scale
    assert not hasattr(net.first, "scale")
    assert "first.scale" not in net.state_dict()
    net.first.fc = nn.Identity()
    assert [n for n, _ in net.first.named_parameters()] == []


def test_a_parameter_can_become_a_module() -> None:
    block = Block()
    block.scale = nn.Identity()
    assert [n for n, _ in block.named_children()] == ["fc", "scale"]
    assert "scale" not in dict(block.named_parameters())


def test_wrong_assignments() -> None:
    block = Block()
    with pytest.raises(TypeError, match=r"Block\.scale is a parameter: expected a Parameter"):
        block.scale = lucid.zeros(3)
    with pytest.raises(
        TypeError, match=r"Block\.fc is a module: expected a Module or None, got in"
    ):
        block.fc = 3
    with pytest.raises(TypeError, match=r"Block\.offset is a buffer: .* got ndarray"):
        block.offset = np.zeros(3)
    with pytest.raises(TypeError, match="expected a Tensor or None, got list"):
        block.register_buffer("more", [1, 2])
    with pytest.raises(TypeError, match="expected a Parameter or None, got Tensor"):
        block.register_parameter("more", lucid.zeros(1))
    with pytest.raises(TypeError, match="expected a Module or None, got function"):
        block.add_module("more", lambda x: x)
    with pytest.raises(KeyError, match=r"without a dot, got 'a\.b'"):
        block.add_module("a.b", nn.Identity())
    with pytest.raises(KeyError, match="non-empty"):
        block.register_buffer("", None)
    with pytest.raises(TypeError, match="must be a string, got int"):
        block.add_module(0, nn.Identity())
    with pytest.raises(KeyError, match="there is an attribute of that name"):
        block.register_buffer("forward", None)
    assert list(block.state_dict()) == ["scale", "offset", "fc.weight", "fc.bias"]


def test_missing_super_init() -> None:
    class Forgot(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(1, 1)

    class Empty(nn.Module):
        def __init__(self) -> None:
            self.size = 3

        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(AttributeError, match=r"Forgot: call super\(\).__init__\(\) before .*'fc'"):
        Forgot()
    with pytest.raises(AttributeError, match=r"Empty: super\(\).__init__\(\) was not called"):
        Empty()(1)
    with pytest.raises(AttributeError, match="before super"):
        Empty().register_buffer("x", None)
    with pytest.raises(AttributeError, match="was not called"):
        list(Empty().parameters())


def test_missing_attribute_and_forward() -> None:
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nope'"):
        Net().nope  # noqa: B018
    with pytest.raises(NotImplementedError, match=r"Module needs a method forward"):
        nn.Module()(1)


def test_get_by_path() -> None:
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("rest.1") is net.alias
    assert net.get_parameter("first.fc.bias") is net.first.fc.bias
    assert net.get_buffer("first.cache") is net.first.cache
    with pytest.raises(AttributeError, match=r"no module 'rest.2': at rest there is no '2' .*'1'"):
        net.get_submodule("rest.2")
    with pytest.raises(AttributeError, match=r"no parameter 'first.offset' \(Block has: 'scale'"):
        net.get_parameter("first.offset")
    with pytest.raises(AttributeError, match=r"no buffer 'first\.scale'"):
        net.get_buffer("first.scale")


# -- state --------------------------------------------------------------------------------------


def test_state_dict() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "first.scale",
        "first.offset",
        "first.fc.weight",
        "first.fc.bias",
        "rest.1.weight",
        "alias.weight",
    ]
    assert all(type(t) is lucid.Tensor and not t.requires_grad for t in state.values())
    assert np.shares_memory(state["first.scale"].numpy(), net.first.scale.data)
    assert net.state_dict(keep_vars=True)["first.scale"] is net.first.scale
    assert next(iter(net.state_dict(prefix="m."))) == "m.first.scale"


def test_assigned_values_are_not_copied() -> None:
    layer, pair = nn.Linear(2, 3), np.zeros((2, 3), np.float32)
    state = {"weight": np.ones((3, 2)), "bias": pair[0]}
    with lucid.no_grad():
        before = layer.weight + 0  # what was computed stays
    layer.load_state_dict(state, assign=True)
    assert layer.weight.data is state["weight"]
    assert not np.shares_memory(layer.bias.data, pair)
    with lucid.no_grad():
        layer.weight += 1
    assert (state["weight"] == 2).all()
    assert (before.data != 2).any()
    frozen = np.ones((3, 2), np.float32)
    frozen.flags.writeable = False
    layer.load_state_dict({"weight": frozen, "bias": np.ones(3, np.float32)}, assign=True)
    with lucid.no_grad():
        layer.weight += 1
    assert (frozen == 1).all()
    both = np.ones((2, 2), np.float32)
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    layers.load_state_dict({"0.weight": both, "1.weight": both}, assign=True)
    assert not np.shares_memory(layers[0].weight.data, layers[1].weight.data)


def test_a_value_assigned_before_backward_is_noticed() -> None:
    layer = nn.Linear(2, 3)
    y = layer(lucid.ones(1, 2, requires_grad=True)).sum()
    layer.load_state_dict({"weight": np.ones((3, 2)), "bias": np.ones(3)}, assign=True)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_load_state_dict() -> None:
    lucid.manual_seed(0)
    a, b = Net(), Net()
    result = b.load_state_dict(a.state_dict())
    assert result == ([], [])
    x = lucid.randn(2, 3)
    np.testing.assert_array_equal(a(x).detach().numpy(), b(x).detach().numpy())
    weight = b.first.fc.weight
    b.load_state_dict({k: v.numpy().astype(np.float64) for k, v in a.state_dict().items()})
    assert b.first.fc.weight is weight
    assert weight.dtype == np.float32
    assert weight.requires_grad
    assert not np.shares_memory(weight.data, a.first.fc.weight.data)


def test_failed_load_lists_everything_and_changes_nothing() -> None:
    net = Net()
    before = copy.deepcopy(net.state_dict())
    state: dict[str, Any] = {k: v.numpy() + 1 for k, v in net.state_dict().items()}
    del state["first.scale"]
    state["first.fc.weight"] = np.zeros((3, 4))
    state["first.fc.bias"] = "no numbers"
    state["extra"] = np.zeros(1)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    assert "Net.load_state_dict: nothing was loaded" in message
    assert "missing: first.scale" in message
    assert "unexpected: extra" in message
    assert "first.fc.weight: expected shape (3, 3), got (3, 4)" in message
    assert "first.fc.bias: expected real numbers, integers or booleans, got str" in message
    with pytest.raises(RuntimeError, match="does not fit"):
        net.load_state_dict(state, strict=False)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy())
    with pytest.raises(TypeError, match="expected a mapping from names to arrays, got list"):
        net.load_state_dict([1])


def test_load_without_strict() -> None:
    net = Net()
    result = net.load_state_dict({"first.offset": np.zeros(3), "x": 1}, strict=False)
    assert net.first.offset.tolist() == [0, 0, 0]
    assert "first.scale" in result.missing_keys
    assert result.unexpected_keys == ["x"]


def test_a_load_is_seen_by_a_graph_that_needs_the_old_value() -> None:
    layer = nn.Linear(2, 2)
    y = layer(lucid.ones(1, 2, requires_grad=True))
    layer.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


# -- hooks --------------------------------------------------------------------------------------


def test_hooks_see_and_replace() -> None:
    layer, calls = nn.Identity(), []
    pre = layer.register_forward_pre_hook(lambda m, args: calls.append(("pre", args)))
    post = layer.register_forward_hook(lambda m, args, y: calls.append((m, args, y)))
    assert layer(3) == 3
    assert calls == [("pre", (3,)), (layer, (3,), 3)]
    pre.remove()
    post.remove()
    post.remove()
    layer(4)
    assert len(calls) == 2
    layer.register_forward_pre_hook(lambda m, args: args[0] + 1)
    layer.register_forward_hook(lambda m, args, y: y * 10)
    assert layer(1) == 20


def test_hooks_order_and_kwargs() -> None:
    class Named(nn.Module):
        def forward(self, x: Any, factor: Any = 1) -> Any:
            return x * factor

    layer, order = Named(), []
    layer.register_forward_hook(lambda *a: order.append("second"))
    layer.register_forward_hook(lambda *a: order.append("first"), prepend=True)
    with layer.register_forward_hook(lambda m, a, kw, y: order.append(kw), with_kwargs=True):
        assert layer(2, factor=3) == 6
    assert order == ["first", "second", {"factor": 3}]
    handle = layer.register_forward_pre_hook(lambda m, a, kw: (a, {"factor": 5}), with_kwargs=True)
    assert layer(2) == 10
    handle.remove()
    layer.register_forward_pre_hook(lambda m, a, kw: 3, with_kwargs=True)
    with pytest.raises(TypeError, match=r"expected None or a tuple \(args, kwargs\), got int"):
        layer(2)


def test_a_hook_may_remove_itself() -> None:
    layer, calls = nn.Identity(), []

    def once(*args: Any) -> None:
        calls.append(args)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer(1)
    layer(1)
    assert len(calls) == 1


# -- all of it ----------------------------------------------------------------------------------


def test_train_and_eval() -> None:
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.rest.train()
    assert not net.training
    assert net.rest[0].training
    with pytest.raises(TypeError, match="expected True or False, got 'no'"):
        net.train("no")


class StaysInEvaluation(nn.Module):
    """A batch norm that keeps its statistics whatever the mode of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def train(self, mode: bool = True) -> StaysInEvaluation:
        super().train(mode)
        self.norm.eval()
        return self


def test_a_module_below_may_have_a_mode_of_its_own() -> None:
    net = nn.Sequential(nn.Sequential(StaysInEvaluation(), nn.Dropout()))
    assert net.train() is net
    inner, dropout = net[0]
    assert inner.training
    assert dropout.training
    assert not inner.norm.training
    net.eval()
    assert not any(module.training for module in net.modules())


def test_zero_grad_and_requires_grad() -> None:
    net = Net()
    net(lucid.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net
    assert not net(lucid.ones(1, 3)).requires_grad


def test_apply_goes_children_first() -> None:
    seen: list[str] = []
    net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Identity())
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["ReLU", "Sequential", "Identity", "Sequential"]


def test_dtypes() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net(lucid.ones(3, 2)).sum().backward()
    weight = net[0].weight
    assert net.double() is net
    assert net[0].weight is weight
    assert weight.dtype == np.float64
    assert weight.grad.dtype == np.float64
    assert net[1].running_mean.dtype == np.float64
    assert net[1].num_batches_tracked.dtype == np.int64
    assert net(lucid.ones(3, 2, dtype=np.float64)).dtype == np.float64
    assert net.half()[0].weight.dtype == np.float16
    assert net.float()[0].weight.dtype == np.float32
    with pytest.raises(TypeError, match=r"expected a floating-point dtype, got .*int32"):
        net.to(np.int32)


def test_deepcopy_is_independent() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    twin.first.scale.data[...] = 0
    assert net.first.scale.tolist() == [2, 2, 2]
    assert twin.rest[1] is twin.alias
    assert list(twin.state_dict()) == list(net.state_dict())
    twin.extra = nn.Linear(1, 1)
    assert "extra.weight" not in net.state_dict()


def test_a_model_dies_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        net = Net()
        ref = weakref.ref(net)
        net(lucid.ones(1, 3)).sum().backward()
        del net
        assert ref() is None
    finally:
        gc.enable()


def test_repr() -> None:
    assert repr(nn.Identity()) == "Identity()"
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Block(\n"
        "    (fc): Linear(in_features=3, out_features=3, bias=True)\n"
        "  )\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=3, out_features=2, bias=False)\n"
        "  )\n"
        "  (alias): Linear(in_features=3, out_features=2, bias=False)\n"
        ")"
    )


def test_a_state_without_counts_of_batches_is_whole():
    """As files of other tools are, and those from before PyTorch counted."""
    source, target = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    source(lucid.randn(2, 3, 4, 4))
    state = {name: t for name, t in source.state_dict().items() if "num_batches" not in name}
    assert target.load_state_dict(state) == ([], [])
    np.testing.assert_array_equal(target.running_mean.data, source.running_mean.data)
    assert target.num_batches_tracked.item() == 0
