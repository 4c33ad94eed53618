"""How an operation is made of a function of arrays and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.ops._common import Array, floating


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

        class Operation(Function):
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
