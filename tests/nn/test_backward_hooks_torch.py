"""Hooks of modules on the way back, and around a forward that fails: as PyTorch calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lucid  # noqa: E402
from lucid import nn  # noqa: E402


def layer(lib: Any, function: Callable[..., Any]) -> Any:
    """Return a module of either library with a forward."""

    class Layer(lib.nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    return Layer()


def arrays(value: Any) -> Any:
    """Return gradients as lists; one of zeros is none, of which either library makes the other."""
    found = (None if one is None else one.tolist() for one in value)
    return tuple(one if one is not None and any(one) else None for one in found)


def double_first(grads: Any) -> Any:
    return (None if grads[0] is None else grads[0] * 2, *grads[1:])


CASES: dict[str, Any] = {
    "two arguments": (lambda x, y: x * y, (True, True), 0),
    "one is a constant": (lambda x, y: x * y, (False, True), 0),
    "no argument is told": (lambda x, y, w=None: x * y, (False, False), 0),
    "two outputs": (lambda x, y: (x * y, x + y), (True, True), 0),
    "one output unused": (lambda x, y: (x * y, x + y), (True, True), 1),
    "an argument unused": (lambda x, y: x * 3, (True, True), 0),
}


def run(lib: Any, case: str, replace: bool, before: bool) -> Any:
    """Return what the hooks saw, and the gradients."""
    function, grads, picked = CASES[case]
    seen: list[Any] = []
    inputs = [
        lib.tensor([1.0 + i, 2.0 + i], requires_grad=wanted) for i, wanted in enumerate(grads)
    ]
    weight = lib.tensor([2.0, 2.0], requires_grad=True)
    module = layer(lib, lambda *args: function(*args) if any(grads) else args[0] * weight)

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append(("hook", arrays(grad_input), arrays(grad_output)))
        return double_first(grad_input) if replace and any(grads) else None

    def pre_hook(module: Any, grad_output: Any) -> Any:
        seen.append(("pre-hook", arrays(grad_output)))
        return double_first(grad_output) if replace else None

    module.register_full_backward_hook(hook)
    module.register_full_backward_hook(
        lambda *args: seen.append(("first", arrays(args[1]))), prepend=True
    )
    if before:
        module.register_full_backward_pre_hook(pre_hook)
    output = module(*inputs)
    output = output[picked] if isinstance(output, tuple) else output
    (output * output).sum().backward()
    return seen, arrays([one.grad for one in (*inputs, weight)])


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_as_pytorch_calls_them(case: str, replace: bool, before: bool) -> None:
    assert run(lucid, case, replace, before) == run(torch, case, replace, before)


def test_hooks_go_and_wrong_ones_are_told() -> None:
    module, seen = layer(lucid, lambda x: x * 2), []
    x = lucid.tensor([1.0], requires_grad=True)
    handle = module.register_full_backward_hook(lambda m, i, o: seen.append(m))
    module(x).sum().backward()
    handle.remove()
    module(x).sum().backward()
    with lucid.no_grad():
        module(x)
    assert seen == [module]
    module.register_full_backward_hook(lambda m, i, o: (i[0], i[0]))
    with pytest.raises(RuntimeError, match="a backward hook must return 1 gradients, got 2"):
        module(x).sum().backward()


def test_second_derivatives_go_through() -> None:
    found = []
    for lib in (lucid, torch):
        module = layer(lib, lambda x: x**3)
        module.register_full_backward_hook(lambda m, i, o: (i[0] * 2,))
        x = lib.tensor([2.0], requires_grad=True)
        (first,) = lib.autograd.grad(module(x).sum(), [x], create_graph=True)
        first.sum().backward()
        found.append((first.tolist(), x.grad.tolist()))
    assert found[0] == found[1]


def test_fused_layers_with_a_hook_run_one_by_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    seen: list[Any] = []
    model[1].register_full_backward_hook(lambda m, i, o: seen.append(i[0].shape))
    model(lucid.ones(2, 1, 5, 5)).sum().backward()
    assert seen == [(2, 2, 3, 3)]


@pytest.mark.parametrize("lib", [lucid, torch], ids=["lucid", "torch"])
@pytest.mark.parametrize("always", [False, True])
def test_a_hook_that_is_always_called(lib: Any, always: bool) -> None:
    def fail(x: Any) -> None:
        raise ArithmeticError("of its own")

    module, seen = layer(lib, fail), []
    module.register_forward_hook(lambda m, args, out: seen.append(out), always_call=always)
    with pytest.raises(ArithmeticError, match="of its own"):
        module(1)
    assert seen == ([None] if always else [])


def test_states() -> None:
    net, given = nn.Linear(2, 1), {"before": lucid.zeros(1)}
    assert net.state_dict(destination=given, prefix="net.") is given
    assert list(given) == ["before", "net.weight", "net.bias"]
    wide = {"weight": np.ones((1, 2)), "bias": np.ones(1)}
    net.load_state_dict(wide, assign=True)
    assert net.weight.dtype == np.float64
    net = nn.Sequential(nn.Sequential(nn.ReLU()))
    net.set_submodule("0.0", nn.Tanh())
    assert isinstance(net[0][0], nn.Tanh)
    with pytest.raises(AttributeError, match=r"no module '0\.1'"):
        net.set_submodule("0.1", nn.Tanh())
