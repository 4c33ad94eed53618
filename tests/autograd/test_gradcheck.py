"""gradcheck itself: it must find rules that are slightly wrong."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.autograd import Function, gradcheck, gradgradcheck


def make(factor: float):
    """Return a square whose gradient is off by a factor."""

    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.data**2

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * x * (2 * factor)

    return Square.apply


@pytest.fixture
def x() -> lucid.Tensor:
    return lucid.tensor([[0.5, -1.5], [2.0, 3.0]], lucid.float64, requires_grad=True)


def test_right_rule(x: lucid.Tensor) -> None:
    assert gradcheck(make(1.0), x)
    assert gradgradcheck(make(1.0), x)


@pytest.mark.parametrize("factor", [0.99, 1.01, -1.0, 0.0])
def test_slightly_wrong_rule(x: lucid.Tensor, factor: float) -> None:
    with pytest.raises(AssertionError, match=r"output 0, input 0: 4 of 16 elements differ"):
        gradcheck(make(factor), x)
    assert gradcheck(make(factor), x, raise_exception=False) is False


def test_nan_is_a_mismatch(x: lucid.Tensor) -> None:
    with pytest.raises(AssertionError, match="the tape gives nan"):
        gradcheck(make(float("nan")), x)


def test_wrong_in_one_element(x: lucid.Tensor) -> None:
    class Last(Function):
        @staticmethod
        def forward(ctx, x):
            return x.data * 2

        @staticmethod
        def backward(ctx, grad):
            wrong = grad.data * 2
            wrong[1, 1] *= 1.01
            return wrong

    with pytest.raises(
        AssertionError, match=r"1 of 16 .*input element \(1, 1\), output element \(1, 1\)"
    ):
        gradcheck(Last.apply, x)


def test_missing_sum_over_broadcast(x: lucid.Tensor) -> None:
    class Add(Function):
        @staticmethod
        def forward(ctx, a, b):
            return a.data + b.data

        @staticmethod
        def backward(ctx, grad):
            return grad, grad[0]  # should be the sum over rows

    row = lucid.tensor([1.0, 2.0], lucid.float64, requires_grad=True)
    with pytest.raises(AssertionError, match="input 1"):
        gradcheck(Add.apply, (x, row))


def test_wrong_second_derivative(x: lucid.Tensor) -> None:
    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.data**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (x.detach() ** 2 * 3)  # cut off: no second derivative

    assert gradcheck(Cube.apply, x)
    with pytest.raises(AssertionError):
        gradgradcheck(Cube.apply, x)


def test_inputs_come_back_unchanged(x: lucid.Tensor) -> None:
    before, array = x.data.copy(), x.data
    gradcheck(lambda t: t * t, x)
    assert x.data is array
    np.testing.assert_array_equal(x.data, before)
    assert x.grad is None


def test_other_arguments_are_passed_on(x: lucid.Tensor) -> None:
    assert gradcheck(lambda t, n, c: t**n + c, (x, 3, lucid.ones(2)))


def test_refuses_inputs_it_cannot_check(x: lucid.Tensor) -> None:
    with pytest.raises(ValueError, match="at least one input must require grad"):
        gradcheck(lambda t: t, lucid.ones(2))
    with pytest.raises(ValueError, match="must be float64, got float32"):
        gradcheck(lambda t: t * 2, lucid.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="no floating-point tensor"):
        gradcheck(lambda t: t > 0, x)


def test_no_elements() -> None:
    nothing = lucid.zeros(0, 3, dtype=lucid.float64, requires_grad=True)
    assert gradcheck(lambda t: t.sum(0), nothing)
