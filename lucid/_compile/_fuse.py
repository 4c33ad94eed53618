"""Passes over the operations: constants computed once, batch norm folded, neighbours fused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid._compile._trace import Operation, Ref, Trace, frozen
from lucid.autograd import Tensor, no_grad
from lucid.autograd._graph import Node
from lucid.nn import Module
from lucid.ops._activation import GELU, Clip, Hardswish, SiLU
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d, Geometry
from lucid.ops._elementwise import Add, Mul

# An activation as the kernels take it: its name and its settings.
Activation = tuple[Any, ...]


@dataclass(eq=False)
class Convolution:
    """A convolution with what follows it: ``act(conv(x) + bias) + residual``."""

    x: Ref
    weight: np.ndarray
    bias: np.ndarray
    how: Geometry
    output: int
    activation: Activation | None = None
    residual: Ref | None = None


Step = Operation | Convolution


def simplify(trace: Trace) -> list[Step]:
    """Return the steps of inference that compute what ``trace`` does."""
    operations = _fold_constants(trace)
    uses = _count_uses(operations, trace.result)
    steps: list[Step] = []
    made: dict[int, Convolution] = {}  # value -> the convolution that makes it
    for operation in operations:
        convolution = _extended(operation, made, uses, trace)
        if convolution is not None:
            del made[convolution.output]
            convolution.output = operation.outputs[0]
            if convolution.residual is not None:
                # The residual may be younger than the convolution: run where the addition was.
                steps.remove(convolution)
                steps.append(convolution)
        elif operation.kind is Conv2d and isinstance(operation.args[0], Ref):
            x, weight, bias, how = operation.args
            summand = np.zeros(len(weight), weight.dtype) if bias is None else bias.data.copy()
            convolution = Convolution(x, weight.data.copy(), summand, how, operation.outputs[0])
            steps.append(convolution)
        else:
            steps.append(operation)
            continue
        made[convolution.output] = convolution
    return steps


def _fold_constants(trace: Trace) -> list[Operation]:
    """Run operations that depend on no input now, and put their values in their place."""
    known: dict[int, Tensor] = {}

    def settled(value: Any) -> Any:
        if isinstance(value, Ref):
            return known.get(value.index, value)
        if isinstance(value, (list, tuple)):
            return type(value)([settled(item) for item in value]) if value else value
        return value

    operations = []
    for operation in trace.operations:
        args = [settled(arg) for arg in operation.args]
        if isinstance(operation.kind, Module) or any(_refs(arg) for arg in args):
            operations.append(
                Operation(
                    operation.kind, args, operation.outputs, operation.module, operation.structure
                )
            )
            continue
        with no_grad():
            results = operation.kind.forward(Node(operation.kind, (False,) * len(args)), *args)
        for number, result in zip(
            operation.outputs, results if isinstance(results, tuple) else (results,)
        ):
            known[number] = Tensor._wrap(result.data if isinstance(result, Tensor) else result)
    trace.result = settled(trace.result)
    return operations


def _refs(value: Any) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [ref for item in value for ref in _refs(item)]
    return []


def references(step: Step) -> list[Ref]:
    """Return the values that a step reads."""
    if isinstance(step, Convolution):
        return [step.x] + ([] if step.residual is None else [step.residual])
    return _refs(step.args)


def _count_uses(operations: list[Operation], result: Any) -> Counter[int]:
    uses = Counter(ref.index for operation in operations for ref in _refs(operation.args))
    uses.update(ref.index for ref in _refs(result))
    return uses


def _extended(
    operation: Operation, made: dict[int, Convolution], uses: Counter[int], trace: Trace
) -> Convolution | None:
    """Take ``operation`` into the convolution that makes its argument, and return that one.

    None if there is no such convolution, if others use its value too, or if it cannot be done.
    """
    for position, arg in enumerate(operation.args[:2]):
        if isinstance(arg, Ref) and arg.index in made and uses[arg.index] == 1:
            convolution = made[arg.index]
            if convolution.residual is None and _take(convolution, operation, position, trace):
                return convolution
    return None


def _take(convolution: Convolution, operation: Operation, position: int, trace: Trace) -> bool:
    kind, args = operation.kind, operation.args
    if kind is Add and _is_residual(args[1 - position], args[position], trace):
        convolution.residual = args[1 - position]
        return True
    if convolution.activation is not None:
        return False
    if kind is BatchNormInference:
        if position != 0:
            return False
        _, weight, bias, mean, variance, eps = args
        scale, shift = scale_and_shift(weight, bias, mean, variance, eps, mean.dtype)
        _scale(convolution, scale)
        convolution.bias += shift
        return True
    if kind is Mul and _is_per_channel(args[1 - position], convolution):
        _scale(convolution, args[1 - position].data.reshape(-1))
        return True
    activation = _activation(kind, args)
    if activation is not None:
        convolution.activation = activation
        return True
    return False


def _activation(kind: Any, args: list[Any]) -> Activation | None:
    if kind is Clip:
        return ("clip", args[1], args[2])
    if kind is GELU:
        return ("gelu", *args[1:])
    if kind is SiLU:
        return ("silu",)
    if kind is Hardswish:
        return ("hardswish",)
    return None


def _is_residual(other: Any, value: Ref, trace: Trace) -> bool:
    """Whether ``other`` is a computed map of the same shape and dtype."""
    if not isinstance(other, Ref) or other == value:
        return False
    a, b = trace.values[other.index], trace.values[value.index]
    return a.shape == b.shape and a.dtype == b.dtype


def _is_per_channel(other: Any, convolution: Convolution) -> bool:
    return isinstance(other, Tensor) and other.shape == (1, len(convolution.bias), 1, 1)


def _scale(convolution: Convolution, factors: np.ndarray) -> None:
    convolution.weight *= factors.reshape(-1, 1, 1, 1)
    convolution.bias *= factors


def freeze(steps: list[Step]) -> None:
    """Give opaque modules and constant tensors to the plan as copies, independent of the model."""
    for step in steps:
        if isinstance(step, Operation):
            if isinstance(step.kind, Module):
                step.kind = frozen(step.kind)
            else:
                step.args = [_copied(arg) for arg in step.args]


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor._wrap(value.data.copy(order="K"))
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, (list, tuple)):
        return type(value)([_copied(item) for item in value]) if value else value
    return value
