"""A user's own Function."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.autograd import Function, gradcheck, once_differentiable


def leaf(values: object) -> lucid.Tensor:
    return lucid.tensor(values, lucid.float64, requires_grad=True)


class DivMod(Function):
    """Two outputs, one without gradient, and an argument that is no tensor."""

    @staticmethod
    def forward(ctx, x, step):
        ctx.step = step
        whole = np.floor(x.data / step)
        ctx.mark_non_differentiable(whole)
        return whole, x.data - whole * step

    @staticmethod
    def backward(ctx, grad_whole, grad_rest):
        return grad_rest, None


class TwoOut(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x.data * y.data, x.data + 2 * y.data

    @staticmethod
    def backward(ctx, g0, g1):
        x, y = ctx.saved_tensors
        return g0 * y + g1, g0 * x + g1 * 2


def test_several_outputs() -> None:
    x, y = leaf([1.0, 2]), leaf([3.0, 4])
    assert gradcheck(TwoOut.apply, (x, y))
    product, _ = TwoOut.apply(x, y)
    product.sum().backward()  # the other output's gradient is zero
    assert x.grad.tolist() == [3, 4]


def test_non_tensor_arguments_and_outputs_without_gradient() -> None:
    x = leaf([1.3, -2.2, 5.0])
    whole, rest = DivMod.apply(x, 0.5)
    assert not whole.requires_grad
    assert rest.requires_grad
    rest.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


def test_forward_may_return_tensors_and_is_not_recorded() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            y = x * x
            assert not y.requires_grad
            ctx.save_for_backward(x)
            return y

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 2 * x * grad

    x = leaf([1.0, -3.0])
    y = Square.apply(x)
    assert y.grad_fn.name == "Square"
    y.sum().backward()
    assert x.grad.tolist() == [2, -6]


def test_backward_may_return_arrays() -> None:
    class Twice(Function):
        @staticmethod
        def forward(ctx, x):
            return x.data * 2

        @staticmethod
        def backward(ctx, grad):
            return grad.data * 2

    x = leaf([1.0])
    Twice.apply(x).backward()
    assert x.grad.tolist() == [2]


def _with_backward(backward):
    class Bad(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x.data + y.data

    Bad.backward = staticmethod(backward)
    return Bad


@pytest.mark.parametrize(
    ("backward", "error", "message"),
    [
        (lambda ctx, g: (g, g, g), RuntimeError, "expected at most 2 gradients.*got 3"),
        (lambda ctx, g: g, RuntimeError, "no gradient for argument 1"),
        (lambda ctx, g: (g.sum(), g), RuntimeError, r"argument 0 must have shape \(2,\), got \(\)"),
        (lambda ctx, g: (g, "no"), TypeError, "gradient of argument 1, got str"),
    ],
)
def test_wrong_gradients(backward, error, message) -> None:
    with pytest.raises(error, match=message):
        _with_backward(backward).apply(leaf([1.0, 2]), leaf([3.0, 4])).sum().backward()


def test_none_is_allowed_as_a_gradient() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    _with_backward(lambda ctx, g: (g, None)).apply(x, y).backward()
    assert x.grad.tolist() == [1]
    assert y.grad is None


def test_a_forward_that_returns_something_else() -> None:
    class Bad(Function):
        @staticmethod
        def forward(ctx, x):
            return "text"

    with pytest.raises(TypeError, match=r"Bad.forward: expected a tensor, an array"):
        Bad.apply(leaf([1.0]))


def test_missing_methods() -> None:
    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x.data * 1

    class Nothing(Function):
        pass

    with pytest.raises(NotImplementedError, match="NoBackward has no gradient"):
        NoBackward.apply(leaf([1.0])).backward()
    with pytest.raises(NotImplementedError, match="forward"):
        Nothing.apply(leaf([1.0]))


def test_once_differentiable_refuses_a_second_derivative() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.data**2

        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad.data * 2 * x.data

    x = leaf([3.0])
    Square.apply(x).backward()
    assert x.grad.tolist() == [6]
    with pytest.raises(RuntimeError, match="Square has no second derivative"):
        lucid.autograd.grad(Square.apply(x), x, create_graph=True)


def test_needs_input_grad() -> None:
    seen = []

    class Probe(Function):
        @staticmethod
        def forward(ctx, x, y, z):
            return x.data + y.data

        @staticmethod
        def backward(ctx, grad):
            seen.append(ctx.needs_input_grad)
            return grad, None, None

    x = leaf([1.0])
    Probe.apply(x, lucid.tensor([1.0], lucid.float64), 3).backward()
    assert seen == [(True, False, False)]


def test_an_output_that_is_the_input_is_a_new_tensor() -> None:
    class Identity(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

    x = leaf([1.0])
    y = Identity.apply(x)
    assert y is not x
    y.backward()
    assert x.is_leaf
    assert x.grad.tolist() == [3]
