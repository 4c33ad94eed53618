"""How an operation is made of a function of arrays and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating, operands, sum_to, wanted


class Elementwise(Function):
    """An operation of one tensor, element by element."""


class Unary(Protocol):
    """An operation of one tensor."""

    def __call__(self, input: Any) -> Tensor: ...


class Binary(Protocol):
    """An operation of two tensors, arrays or numbers."""

    def __call__(self, input: Any, other: Any) -> Tensor: ...


def unary(
    gradient: Callable[..., Tensor],
    *,
    keep: Literal["input", "output", "nothing"],
    taken: Callable[[Any, str], Tensor] = floating,
) -> Callable[[Callable[[Array], Array]], Unary]:
    """Make an operation of a function of arrays: the decorated one, which names and documents it.

    Args:
        gradient: the gradient with respect to the input, in tensor operations, given that with
            respect to the output and what is kept.
        keep: what the gradient needs.
        taken: how the argument becomes a tensor, given the operation's name for messages.
    """

    def decorate(function: Callable[[Array], Array]) -> Unary:
        who = function.__name__

        class Operation(Elementwise):
            @staticmethod
            def forward(ctx: Node, x: Tensor) -> Array:
                y = function(x.data)
                if keep != "nothing":
                    ctx.save_for_backward(x if keep == "input" else y)
                return y

            @staticmethod
            def backward(ctx: Node, grad: Tensor) -> Tensor:
                return gradient(grad, *ctx.saved_tensors)

        Operation.__name__ = Operation.__qualname__ = who.capitalize()

        def operation(input: Any) -> Tensor:
            return Operation.apply(taken(input, who))

        operation.__module__ = function.__module__
        return named_as(operation, who, function.__doc__)

    return decorate


F = TypeVar("F", bound=Callable[..., Any])


def named_as(operation: F, name: str, doc: str | None) -> F:
    """Give a function that was made here the name and the docstring it is known by."""
    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


def numpys(
    function: Callable[..., Any], doc: str, gradient: Callable[..., Tensor], name: str = ""
) -> Unary:
    """Make an operation of a function of NumPy's, whose gradient needs the input."""

    def compute(x: Array) -> Array:
        return function(x)

    named_as(compute, name or function.__name__, doc)
    compute.__module__ = gradient.__module__
    return unary(gradient, keep="input")(compute)


def elementwise_pair(
    function: Callable[[Array, Array], Array],
    doc: str,
    gradient_a: Callable[[Tensor, Tensor, Tensor], Tensor],
    gradient_b: Callable[[Tensor, Tensor, Tensor], Tensor],
    name: str = "",
    *,
    whole: bool = False,
) -> Binary:
    """Make an operation of a function of two arrays.

    Args:
        function: the function.
        doc: what the operation returns.
        gradient_a: the gradient in the first one, given that of the result and both.
        gradient_b: the gradient in the second one.
        name: the operation's name, if not the function's.
        whole: keep integers, which are else taken as float32.
    """
    who = name or function.__name__

    class Operation(Function):
        @staticmethod
        def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
            ctx.save_for_backward(a, b)
            return function(a.data, b.data)

        @staticmethod
        def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
            a, b = ctx.saved_tensors
            return wanted(
                ctx,
                lambda: sum_to(gradient_a(grad, a, b), a.shape),
                lambda: sum_to(gradient_b(grad, a, b), b.shape),
            )

    Operation.__name__ = Operation.__qualname__ = who.capitalize()

    def operation(input: Any, other: Any) -> Tensor:
        a, b = operands(input, other, who)
        return (
            Operation.apply(a, b) if whole else Operation.apply(floating(a, who), floating(b, who))
        )

    operation.__module__ = gradient_a.__module__
    return named_as(operation, who, doc)
