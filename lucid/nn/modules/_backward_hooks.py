"""Hooks that a module calls while backward goes through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node

# What a hook is called with and may replace, and whether it comes before the module's backward.
BackwardHook = tuple[Callable[..., Any], bool]
Gradients = tuple[Tensor | None, ...]


class Passing(Function):
    """Tensors as they are; their gradients go through a function."""

    @staticmethod
    def forward(ctx: Node, watch: Callable[[Gradients], Gradients], *tensors: Tensor) -> Any:
        ctx.watch = watch
        return tensors

    @staticmethod
    def backward(ctx: Node, *grads: Tensor) -> Gradients:
        return None, *ctx.watch(grads)


class BackwardHooks:
    """The hooks of one call of a module: from the gradients of its outputs to those of its inputs.

    Args:
        module: the module.
        hooks: what it has; those that are added later are for later calls.
    """

    def __init__(self, module: Any, hooks: list[BackwardHook]) -> None:
        self.module = module
        self.hooks = hooks
        self.number = 0  # of arguments by place
        self.places: list[int] = []  # of those that require grad
        self.grad_output: Gradients | None = None  # between the outputs and the inputs

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments by place, of which backward tells."""
        found = list(args)
        self.number = len(args)
        self.places = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        if self.places:
            passed = Passing.apply(self._leave, *(args[place] for place in self.places))
            for place, tensor in zip(self.places, passed):
                found[place] = tensor
        return tuple(found)

    def outputs(self, output: Any) -> Any:
        """Return a tensor or a tuple of tensors, of which backward tells; others as they are."""
        found = output if isinstance(output, tuple) else (output,)
        if not all(isinstance(one, Tensor) for one in found):
            return output
        passed = Passing.apply(self._enter, *found)
        return passed if isinstance(output, tuple) else passed[0]

    def _enter(self, grads: Gradients) -> Gradients:
        for hook, is_before in self.hooks:
            if is_before:
                grads = self._replaced(hook(self.module, grads), grads)
        self.grad_output = grads
        if not self.places:
            self._call((None,) * self.number)
        return grads

    def _leave(self, grads: Gradients) -> Gradients:
        if self.grad_output is None:  # a second derivative, which came by what backward saved
            return grads
        known = dict(zip(self.places, grads))
        found = self._call(tuple(known.get(place) for place in range(self.number)))
        return tuple(found[place] for place in self.places)

    def _call(self, grads: Gradients) -> Gradients:
        for hook, is_before in self.hooks:
            if not is_before:
                grads = self._replaced(hook(self.module, grads, self.grad_output), grads)
        self.grad_output = None
        return grads

    def _replaced(self, result: Any, grads: Gradients) -> Gradients:
        if result is None:
            return grads
        result = result if isinstance(result, tuple) else (result,)
        if len(result) != len(grads):
            raise RuntimeError(
                f"{type(self.module).__name__}: a backward hook must return {len(grads)} "
                f"gradients, got {len(result)}"
            )
        return result
