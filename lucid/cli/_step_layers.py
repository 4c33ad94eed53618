"""What each operation of a training step takes, forward and backward, as it runs in the step.

Hooks on layers would keep them from being fused. So the clock stands around what all of them go
through: the call of a module, which tells where an operation runs, and the operation itself.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lucid._compile._steps import describe_conv
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.nn import Module
from lucid.ops._conv import Conv2d
from lucid.ops._conv_norm_act import ConvNormAct
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul


@dataclass(eq=False)
class Ran:
    """One operation of a step.

    Attributes:
        name: the path of the innermost module that ran it; None behind the model.
        kind: what it is, in words.
        shape: of its first output.
        macs: multiply-adds of its forward.
        products: how often it multiplies as much: forward, and for each gradient that is wanted.
        forward, backward: seconds.
    """

    name: str | None
    kind: str
    shape: tuple[int, ...]
    macs: int
    products: int
    forward: float
    backward: float = 0.0


@contextlib.contextmanager
def clocked(model: Module) -> Iterator[list[list[Ran]]]:
    """Give a list to which each call of ``model`` adds the list of the operations it begins.

    Operations within others, forward or backward, are theirs.
    """
    names = {id(module): name for name, module in model.named_modules()}
    steps: list[list[Ran]] = []
    here: list[str | None] = [None]
    outermost = [True]

    def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        outermost[0] = False
        start = time.perf_counter()
        try:
            return function(*args), time.perf_counter() - start
        finally:
            outermost[0] = True

    def call(module: Module, *args: Any, **kwargs: Any) -> Any:
        if module is model:
            steps.append([])
        here.append(names.get(id(module), here[-1]))
        try:
            return originals[0](module, *args, **kwargs)
        finally:
            here.pop()

    def apply(cls: type[Function], *args: Any) -> Any:
        run = originals[1].__func__
        if not outermost[0] or not steps:
            return run(cls, *args)
        result, seconds = timed(run, cls, *args)
        output: Tensor = result[0] if isinstance(result, tuple) else result
        ran = Ran(
            here[-1], _describe(cls, args), output.shape, *_products(cls, args, output), seconds
        )
        steps[-1].append(ran)
        if output._node is not None:
            output._node.ran = ran
        return result

    def call_backward(node: Node, gradients: Any) -> Any:
        if not outermost[0]:
            return originals[2](node, gradients)
        ran = getattr(node, "ran", None)  # now: a node may free itself
        result, seconds = timed(originals[2], node, gradients)
        if ran is not None:
            ran.backward += seconds
        return result

    places: list[tuple[Any, str, Any]] = [
        (Module, "__call__", call),
        (Function, "apply", classmethod(apply)),
        (Node, "call_backward", call_backward),
    ]
    originals: list[Any] = [vars(owner)[name] for owner, name, _ in places]
    try:
        for owner, name, wrapper in places:
            setattr(owner, name, wrapper)
        yield steps
    finally:
        for (owner, name, _), original in zip(places, originals):
            setattr(owner, name, original)


def _describe(kind: type[Function], args: tuple[Any, ...]) -> str:
    if kind is ConvNormAct:
        _, weight, _, _, _, bounds, conv, *_ = args
        return describe_conv(weight.shape, conv, bounds, "norm")
    if kind is Conv2d:
        return describe_conv(args[1].shape, args[3])
    # "BatchNormTraining" -> "batch norm training"
    return "".join(f" {c.lower()}" if c.isupper() else c for c in kind.__name__).strip()


def _products(kind: type[Function], args: tuple[Any, ...], output: Tensor) -> tuple[int, int]:
    """Return the multiply-adds of an operation, and how often a step does as many."""
    if kind not in (ConvNormAct, Conv2d, Linear, MatMul):
        return 0, 0
    x, other = args[:2]
    summands = x.shape[-1] if kind in (Linear, MatMul) else math.prod(other.shape[1:])
    return math.prod(output.shape) * summands, 1 + x.requires_grad + other.requires_grad
