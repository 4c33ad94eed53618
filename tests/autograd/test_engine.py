"""The walk back: accumulation, buffers, hooks, grad modes, autograd.grad, long chains."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import lucid
from lucid import autograd
from lucid.autograd import _grad_mode
from tests.interrupts import interrupted_at


def leaf(*shape: int) -> lucid.Tensor:
    values = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return lucid.tensor(values, requires_grad=True)


# -- accumulation -------------------------------------------------------------------------------


def test_gradients_accumulate_over_uses_and_passes() -> None:
    x = leaf(3)
    (x * x + x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * x.data + 1)
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * x.data + 4)


def test_diamond_counts_every_path() -> None:
    x = leaf(2)
    a = x * 2
    b, c = a * 3, a * 5
    (b * c).sum().backward()  # 60 x^2
    np.testing.assert_array_equal(x.grad.data, 120 * x.data)


def test_gradients_of_two_leaves_do_not_share_memory() -> None:
    x, y = leaf(3), leaf(3)
    (x + y).sum().backward()
    x.grad.data[0] = 99
    np.testing.assert_array_equal(y.grad.data, [1, 1, 1])


def test_a_leaf_used_as_itself_does_not_take_the_users_gradient_array() -> None:
    x = leaf(3)
    given = np.array([1, 2, 3], np.float32)
    x.backward(given)
    x.backward(given)
    np.testing.assert_array_equal(given, [1, 2, 3])
    np.testing.assert_array_equal(x.grad.data, [2, 4, 6])
    assert not np.shares_memory(x.grad.data, given)


@pytest.mark.parametrize("build", [lambda x: x + 0, lambda x: x.reshape(3, 1), lambda x: x.clone()])
def test_the_users_gradient_tensor_is_never_modified(build) -> None:
    x = leaf(3)
    y = build(x)
    given = lucid.ones(*y.shape)
    y.backward(given, retain_graph=True)
    y.backward(given)
    np.testing.assert_array_equal(given.data, np.ones(y.shape))
    np.testing.assert_array_equal(x.grad.data, [2, 2, 2])
    assert not np.shares_memory(x.grad.data, given.data)


def test_gradient_that_backward_passes_on_unchanged_is_not_aliased() -> None:
    x, y, z = leaf(4), leaf(4), leaf(4)
    total = x + y + z
    total.backward(np.ones(4, np.float32))
    arrays = [t.grad.data for t in (x, y, z)]
    for i, a in enumerate(arrays):
        for b in arrays[:i]:
            assert not np.shares_memory(a, b)


def test_expanded_gradient_becomes_a_writeable_grad() -> None:
    x = leaf(2, 3)
    x.sum().backward()
    x.grad.data += 1
    np.testing.assert_array_equal(x.grad.data, np.full((2, 3), 2))


def test_gradient_dtype_follows_the_leaf() -> None:
    x = leaf(3)
    y = lucid.tensor([1.0, 2, 3], lucid.float64, requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64


# -- the seed -----------------------------------------------------------------------------------


def test_backward_needs_a_gradient_for_more_than_one_element() -> None:
    with pytest.raises(RuntimeError, match=r"single element; this tensor has shape \(3,\)"):
        (leaf(3) * 2).backward()


def test_backward_checks_the_gradients_shape() -> None:
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(3,\), got \(2,\)"):
        (leaf(3) * 2).backward(np.ones(2))


def test_backward_of_a_constant() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        lucid.ones(1).backward()


def test_backward_of_one_element_with_axes() -> None:
    x = leaf(1)
    (x * 2).reshape(1, 1).backward()
    assert x.grad.item() == 2


# -- buffers ------------------------------------------------------------------------------------


def test_second_backward_needs_retain_graph() -> None:
    x = leaf(3)
    y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_retained_graph_can_be_walked_again() -> None:
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, 4 * x.data)


def test_part_of_a_freed_graph() -> None:
    x = leaf(3)
    y = x.exp()
    y.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        (y * 2).sum().backward()


# -- hooks, retain_grad -------------------------------------------------------------------------


def test_hook_on_a_leaf_sees_and_replaces_the_gradient() -> None:
    x = leaf(2)
    seen = []
    remove = x.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10)
    (x * 3).sum().backward()
    assert seen == [[3, 3]]
    assert x.grad.tolist() == [30, 30]
    remove()
    (x * 3).sum().backward()
    assert len(seen) == 1


def test_hook_on_an_intermediate_result() -> None:
    x = leaf(2)
    y = x * 2
    y.register_hook(lambda g: g * 5)
    handle = y.register_hook(lambda g: g + 100)
    handle.remove()
    (y * 1).sum().backward()
    assert x.grad.tolist() == [10, 10]


def test_hook_sees_the_complete_gradient_once() -> None:
    x = leaf(1)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    (y * 3 + y * 4).sum().backward()
    assert seen == [7]


def test_hook_with_a_wrong_shape() -> None:
    x = leaf(2)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook: expected a gradient of shape \(2,\)"):
        (x * 3).sum().backward()


def test_hook_on_a_constant() -> None:
    with pytest.raises(RuntimeError, match="register_hook"):
        lucid.ones(2).register_hook(lambda g: None)


def test_retain_grad_keeps_the_gradient_of_an_intermediate_result() -> None:
    x = leaf(2)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == (2 * y).tolist()
    assert (x * 2).grad is None


# -- grad modes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [False, True])
def test_an_interrupt_at_any_moment_leaves_recording_as_it_was(mode: bool) -> None:
    def change() -> None:
        with lucid.set_grad_enabled(mode), lucid.set_grad_enabled(not mode):
            pass

    with lucid.set_grad_enabled(not mode):
        steps = itertools.takewhile(
            lambda step: interrupted_at(step, change, _grad_mode), itertools.count()
        )
        for step in steps:
            assert lucid.is_grad_enabled() is not mode, step
        assert step > 50


def test_no_grad_and_enable_grad_nest_and_restore() -> None:
    x = leaf(2)
    with lucid.no_grad():
        assert not (x * 2).requires_grad
        with lucid.enable_grad():
            assert (x * 2).requires_grad
        assert not lucid.is_grad_enabled()
    with pytest.raises(KeyError), lucid.no_grad():
        raise KeyError
    assert lucid.is_grad_enabled()


def test_grad_modes_as_decorators() -> None:
    x = leaf(2)

    @lucid.no_grad()
    def double(t: lucid.Tensor) -> lucid.Tensor:
        return t * 2

    @lucid.enable_grad()
    def triple(t: lucid.Tensor) -> lucid.Tensor:
        return t * 3

    assert double.__name__ == "double"
    assert not double(x).requires_grad
    with lucid.no_grad():
        assert triple(x).requires_grad
    assert lucid.is_grad_enabled()


def test_set_grad_enabled() -> None:
    x = leaf(2)
    for mode in (True, False):
        with lucid.set_grad_enabled(mode):
            assert (x * 2).requires_grad is mode


def test_grad_mode_belongs_to_the_thread() -> None:
    seen = []
    with lucid.no_grad():
        thread = threading.Thread(target=lambda: seen.append(lucid.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_leaves_the_graph_and_shares_memory() -> None:
    x = leaf(2)
    y = (x * 2).detach()
    assert y.is_leaf
    assert not y.requires_grad
    assert np.shares_memory(x.detach().data, x.data)


def test_requires_grad_only_for_floats_and_leaves() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        lucid.tensor([1, 2]).requires_grad = True
    y = leaf(2) * 2
    with pytest.raises(RuntimeError, match="only on a leaf"):
        y.requires_grad = False


def test_numpy_of_a_tensor_that_requires_grad() -> None:
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        leaf(2).numpy()


# -- autograd.grad, autograd.backward -------------------------------------------------------------


def test_grad_returns_gradients_and_leaves_grad_alone() -> None:
    x, y = leaf(2), leaf(2)
    gx, gy = autograd.grad((x * x * y).sum(), [x, y])
    np.testing.assert_array_equal(gx.data, 2 * x.data * y.data)
    np.testing.assert_array_equal(gy.data, x.data**2)
    assert x.grad is None
    assert y.grad is None


def test_grad_of_an_intermediate_result() -> None:
    x = leaf(2)
    y = x * 2
    z = y * y
    (gy,) = autograd.grad(z.sum(), y, retain_graph=True)
    np.testing.assert_array_equal(gy.data, 2 * y.data)
    gx, gz = autograd.grad(z.sum(), (x, z))
    np.testing.assert_array_equal(gx.data, 8 * x.data)
    np.testing.assert_array_equal(gz.data, [1, 1])


def test_grad_runs_only_what_leads_to_the_inputs() -> None:
    calls = []

    class Probe(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.data * 1

        @staticmethod
        def backward(ctx, grad):
            calls.append(1)
            return grad

    x, y = leaf(2), leaf(2)
    autograd.grad((Probe.apply(x) * y).sum(), y)
    assert calls == []


def test_grad_of_an_unused_input() -> None:
    x, y = leaf(2), leaf(2)
    with pytest.raises(RuntimeError, match=r"do not depend on input 1 \(shape \(2,\)\)"):
        autograd.grad((x * 2).sum(), [x, y])
    gx, gy = autograd.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert gx.tolist() == [2, 2]
    assert gy is None


def test_grad_of_an_input_without_requires_grad() -> None:
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        autograd.grad(leaf(2).sum(), lucid.ones(2))


def test_grad_of_the_output_itself() -> None:
    x = leaf(1)
    (g,) = autograd.grad(x, x)
    assert g.tolist() == [1]


def test_grad_with_several_outputs_and_seeds() -> None:
    x = leaf(2)
    (g,) = autograd.grad([x * 2, x * x], x, [lucid.tensor([1.0, 0]), lucid.tensor([0, 1.0])])
    np.testing.assert_array_equal(g.data, [2, 4])
    with pytest.raises(ValueError, match="expected 2 grad_outputs"):
        autograd.grad([x * 2, x * x], x, [lucid.ones(2)])
    with pytest.raises(TypeError, match="expected a tensor"):
        autograd.grad([1.0], x)


def test_backward_of_several_tensors() -> None:
    x = leaf(2)
    autograd.backward([(x * 2).sum(), (x * 3).sum()])
    assert x.grad.tolist() == [5, 5]
    with pytest.raises(ValueError, match="expected 2 grad_tensors"):
        autograd.backward([x * 2, x * 3], [None])


def test_second_and_third_derivatives() -> None:
    x = lucid.tensor([0.5, 2.0], lucid.float64, requires_grad=True)
    y = (x**4).sum()
    (first,) = autograd.grad(y, x, create_graph=True)
    (second,) = autograd.grad(first.sum(), x, create_graph=True)
    (third,) = autograd.grad(second.sum(), x)
    np.testing.assert_allclose(first.data, 4 * x.data**3)
    np.testing.assert_allclose(second.data, 12 * x.data**2)
    np.testing.assert_allclose(third.data, 24 * x.data)


def test_gradient_penalty_through_backward() -> None:
    x = lucid.tensor([1.0, 2.0], lucid.float64, requires_grad=True)
    w = lucid.tensor([3.0, 4.0], lucid.float64, requires_grad=True)
    (g,) = autograd.grad((x * x * w).sum(), x, create_graph=True)  # 2 x w
    (g * g).sum().backward()  # 4 x^2 w^2
    np.testing.assert_allclose(w.grad.data, 8 * x.data**2 * w.data)
    np.testing.assert_allclose(x.grad.data, 8 * x.data * w.data**2)


def test_create_graph_through_backward_records_grad() -> None:
    x = lucid.tensor(3.0, lucid.float64, requires_grad=True)
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    (second,) = autograd.grad(first, x)
    assert second.item() == pytest.approx(18)


def test_scalars_saved_by_an_operation_keep_their_history() -> None:
    """NumPy makes scalars of zero-axis arrays; a saved one must still be the output."""
    x = lucid.tensor(0.7, lucid.float64, requires_grad=True)
    (first,) = autograd.grad(x.exp(), x, create_graph=True)
    (second,) = autograd.grad(first, x)
    assert second.item() == pytest.approx(np.exp(0.7))


def test_backward_inside_a_backward() -> None:
    """A function may itself differentiate, through a part of the graph that is being walked."""

    class Square(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.data**2

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            with lucid.enable_grad():
                (g,) = autograd.grad(x * x, x, grad)
            return g

    a = leaf(3)
    Square.apply(a * 3 + 1).sum().backward()
    np.testing.assert_array_equal(a.grad.data, 6 * (a.data * 3 + 1))


# -- long chains --------------------------------------------------------------------------------


def test_long_chain_needs_no_recursion() -> None:
    x = leaf(2)
    y = x
    for _ in range(50_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    del y  # the chain of nodes is taken down without recursion too


def test_long_chain_dies_without_backward() -> None:
    x = leaf(2)
    y = x
    for _ in range(50_000):
        y = y * 1.0
    del y
    assert x.grad is None


def test_long_chain_in_place() -> None:
    x = leaf(2)
    y = x * 1
    for _ in range(20_000):
        y += 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_wide_graph() -> None:
    x = leaf(2)
    y = sum(x * i for i in range(2_000))
    y.sum().backward()
    assert x.grad.tolist() == [sum(range(2_000))] * 2
