"""When leaves get their gradients, and their hooks, beside PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")


def _order(library: Any, seed: int) -> tuple[list[str], list[list[float]]]:
    """Build a random graph over some leaves; return the order of all hooks, and gradients."""
    rng = np.random.default_rng(seed)
    leaves = [
        library.tensor([0.5, 1.0 + i], dtype=library.float64, requires_grad=True) for i in range(6)
    ]
    order: list[str] = []
    for i, leaf in enumerate(leaves):
        leaf.register_hook(lambda grad, i=i: order.append(f"gradient {i}"))
        leaf.register_post_accumulate_grad_hook(
            lambda p, i=i: order.append(f"leaf {i}: {p.grad.tolist()}")
        )
    # An operation takes at most one leaf: which of two comes first is PyTorch's own affair.
    values = [leaf.sin() for leaf in leaves[:2]]
    for _ in range(12):
        operands = [values[rng.integers(len(values))], [*values, *leaves][rng.integers(8)]]
        operands = operands[:: rng.choice([1, -1])]
        values.append((operands[0] * operands[1]).sin() if rng.integers(2) else sum(operands))
    for _ in range(2):  # the second adds to what is there
        (values[-1] + values[-2] * values[-3]).sum().backward(retain_graph=True)
    return order, [leaf.grad.tolist() if leaf.grad is not None else [0.0, 0.0] for leaf in leaves]


@pytest.mark.parametrize("seed", range(20))
def test_order_of_hooks(seed: int) -> None:
    ours, theirs = _order(lucid, seed), _order(torch, seed)
    assert [line.split(":")[0] for line in ours[0]] == [line.split(":")[0] for line in theirs[0]]
    np.testing.assert_allclose(np.array(ours[1]), np.array(theirs[1]), rtol=1e-9)


def _events(library: Any) -> list[Any]:
    events: list[Any] = []
    x = library.tensor([1.0, 2.0], requires_grad=True)
    first = x.register_post_accumulate_grad_hook(lambda p: events.append(p is x))
    x.register_post_accumulate_grad_hook(lambda p: events.append(p.grad.tolist()))
    (x * x).sum().backward()
    (x * 3).sum().backward()  # after it was added to what was there
    first.remove()
    x.sum().backward()
    x.backward(library.tensor([1.0, 1.0]))  # the leaf itself

    def drop(p: Any) -> None:
        p.grad = None

    x.register_post_accumulate_grad_hook(drop)
    x.sum().backward()
    events.append(x.grad)
    library.autograd.grad((x * x).sum(), [x])  # adds to no leaf
    return events


def test_post_accumulate_hooks() -> None:
    assert _events(lucid) == _events(torch)


@pytest.mark.parametrize("library", [lucid, torch], ids=["lucid", "torch"])
def test_post_accumulate_hooks_are_of_leaves(library: Any) -> None:
    x = library.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"non-leaf|only leaves"):
        (x * x).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match=r"doesn't require|does not require"):
        library.tensor([1.0]).register_post_accumulate_grad_hook(print)


def test_a_leaf_is_done_while_backward_goes_on() -> None:
    """Its gradient is there before earlier operations run, and only after its last use."""
    early, late, both = (lucid.tensor([1.0, 2.0], requires_grad=True) for _ in range(3))
    y = early * both
    y.register_hook(lambda _: seen.append((late.grad is not None, both.grad is not None)))
    seen: list[tuple[bool, bool]] = []
    (y * late * both).sum().backward()
    assert seen == [(True, False)]
    assert both.grad is not None
    assert both.grad.tolist() == [2.0, 16.0]  # twice the product
