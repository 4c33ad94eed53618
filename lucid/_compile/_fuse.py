"""Passes over the operations: constants computed once, batch norm folded, neighbours fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid._compile._nesting import mapped
from lucid._compile._trace import Operation, Ref, Trace, refs
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._graph import Node
from lucid.kernels._memory import empty
from lucid.nn import Module
from lucid.ops._activation import GELU, Clip, Hardswish, SiLU, Softmax
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d, Geometry
from lucid.ops._elementwise import Add, Mul
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul
from lucid.ops._reduce import Mean
from lucid.ops._shape import Permute, Reshape

# An activation as the kernels take it: its name and its settings.
Activation = tuple[Any, ...]


@dataclass(eq=False)
class Convolution:
    """A convolution with what follows it: ``act(conv(x) + bias) + residual``.

    A linear layer on rows ``(N, C)`` is one as well, on images of one pixel.
    """

    x: Ref
    weight: np.ndarray
    bias: np.ndarray
    how: Geometry
    output: int
    activation: Activation | None = None
    residual: Ref | None = None
    module: str = ""  # the path of the layer in the model


@dataclass(eq=False)
class Attention:
    """``softmax(scale · q·k)·v``, with the keys as columns: ``k`` is ``(…, E, S)``."""

    q: Ref
    k: Ref
    v: Ref
    scale: float
    output: int
    module: str

    @property
    def args(self) -> list[Any]:
        return [self.q, self.k, self.v]

    @property
    def outputs(self) -> list[int]:
        return [self.output]


class _OfMaps:
    """A step from maps to one result."""

    x: Ref
    output: int

    @property
    def args(self) -> list[Any]:
        return [self.x]

    @property
    def outputs(self) -> list[int]:
        return [self.output]


@dataclass(eq=False)
class Average(_OfMaps):
    """The mean ``(N, C)`` of maps over all positions."""

    x: Ref
    output: int
    module: str


@dataclass(eq=False)
class Affine(_OfMaps):
    """A factor and a summand for each channel of maps: a batch norm behind no convolution."""

    x: Ref
    scale: np.ndarray
    shift: np.ndarray
    output: int
    module: str


Step = Operation | Convolution | Attention | Average | Affine

_POINTWISE: Geometry = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)


def simplify(trace: Trace) -> list[Step]:
    """Return the steps of inference that compute what ``trace`` does."""
    operations = _fuse_attention(_fold_constants(trace), trace)
    uses = _count_uses(operations, trace.result)
    steps: list[Step] = []
    made: dict[int, Convolution] = {}  # value -> the convolution that makes it
    for operation in operations:
        if isinstance(operation, Attention):
            steps.append(operation)
            continue
        convolution = _extended(operation, made, uses, trace)
        if convolution is not None:
            del made[convolution.output]
            convolution.output = operation.outputs[0]
            if convolution.residual is not None:
                # The residual may be younger than the convolution: run where the addition was.
                steps.remove(convolution)
                steps.append(convolution)
        else:
            convolution = _started(operation, trace)
            steps.append(
                convolution or _average(operation, trace) or _affine(operation, trace) or operation
            )
        if convolution is not None:
            made[convolution.output] = convolution
    return steps


def _started(operation: Operation, trace: Trace) -> Convolution | None:
    """Return a convolution or a linear layer as the beginning of a fused step."""
    if operation.kind not in (Conv2d, Linear):
        return None
    x, weight, bias, *rest = operation.args
    if not isinstance(x, Ref) or not isinstance(weight, Tensor) or isinstance(bias, Ref):
        return None
    if weight.data.size == 0:  # a map of no channels has no place in the arena
        return None
    kernel = empty(weight.shape, weight.dtype)  # given back when the backend has packed it
    kernel[...] = weight.data
    if operation.kind is Linear:
        if trace.values[x.index].ndim != 2:
            return None
        kernel = kernel.reshape(*kernel.shape, 1, 1)
    summand = np.zeros(len(kernel), kernel.dtype) if bias is None else bias.data.copy()
    how = rest[0] if rest else _POINTWISE
    return Convolution(x, kernel, summand, how, operation.outputs[0], module=operation.module)


def _average(operation: Operation, trace: Trace) -> Average | None:
    """Return the mean over all positions as a step of its own."""
    if operation.kind is not Mean or not isinstance(operation.args[0], Ref):
        return None
    x, axes = operation.args[0], operation.args[1]
    if trace.values[x.index].ndim != 4 or sorted(axes) != [2, 3]:
        return None
    return Average(x, operation.outputs[0], operation.module)


def _affine(operation: Operation, trace: Trace) -> Affine | None:
    """Return a batch norm of maps as a step of its own."""
    if operation.kind is not BatchNormInference or not isinstance(operation.args[0], Ref):
        return None
    x, weight, bias, mean, variance, eps = operation.args
    if trace.values[x.index].ndim != 4 or isinstance(weight, Ref) or isinstance(bias, Ref):
        return None
    scale, shift = scale_and_shift(weight, bias, mean, variance, eps, mean.dtype)
    return Affine(x, scale, shift, operation.outputs[0], operation.module)


def _fold_constants(trace: Trace) -> list[Operation]:
    """Run operations that depend on no input now, and put their values in their place."""
    known: dict[int, Tensor] = {}

    def settled(leaf: Any) -> Any:
        return known.get(leaf.index, leaf) if isinstance(leaf, Ref) else leaf

    operations = []
    for operation in trace.operations:
        args = mapped(settled, operation.args)
        if isinstance(operation.kind, Module) or any(refs(arg) for arg in args):
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
    trace.result = mapped(settled, trace.result)
    return operations


# -- attention ------------------------------------------------------------------------------------


def _fuse_attention(operations: list[Operation], trace: Trace) -> list[Operation | Attention]:
    """Put one step in the place of each product, softmax and product that are used only there."""
    uses = _count_uses(operations, trace.result)
    makers = {number: operation for operation in operations for number in operation.outputs}

    def only_for_this(value: Any, kind: type[Function]) -> Operation | None:
        """Return the operation of that kind that makes ``value`` if nothing else uses it."""
        if not isinstance(value, Ref) or uses[value.index] != 1 or value.index not in makers:
            return None
        maker = makers[value.index]
        return maker if maker.kind is kind else None

    gone: set[int] = set()  # ids of operations
    fused: dict[int, Attention] = {}
    for operation in operations:
        if operation.kind is not MatMul or not isinstance(operation.args[1], Ref):
            continue
        softmax = only_for_this(operation.args[0], Softmax)
        if softmax is None or softmax.args[1] != trace.values[softmax.outputs[0]].ndim - 1:
            continue
        scale, scores = 1.0, softmax.args[0]
        used = [softmax]
        scaled = only_for_this(scores, Mul)
        if scaled is not None and (factor := _factor(scaled)) is not None:
            scale, scores = factor, scaled.args[0]
            used.append(scaled)
        product = only_for_this(scores, MatMul)
        if product is None or not all(isinstance(arg, Ref) for arg in product.args):
            continue
        q, k = product.args
        if len({trace.values[ref.index].dtype for ref in (q, k, operation.args[1])}) > 1:
            continue
        gone |= {id(step) for step in (*used, product)}
        # A factor of the queries may lie before changes of their shape.
        shapes: list[Operation] = []
        value = q
        while (view := only_for_this(value, Reshape) or only_for_this(value, Permute)) is not None:
            shapes.append(view)
            value = view.args[0]
        scaled = only_for_this(value, Mul)
        if scaled is not None and (factor := _factor(scaled)) is not None:
            scale *= factor
            gone.add(id(scaled))
            q = _reshaped(scaled.args[0], shapes, trace)
        fused[id(operation)] = Attention(
            q, k, operation.args[1], scale, operation.outputs[0], operation.module
        )
    return [fused.get(id(step), step) for step in operations if id(step) not in gone]


def _factor(product: Operation) -> float | None:
    """Return the number with which a product multiplies its first argument, if it is one."""
    x, other = product.args
    if isinstance(x, Ref) and isinstance(other, Tensor) and other.data.size == 1 and other.ndim < 2:
        return float(other.data.reshape(()))
    return None


def _reshaped(source: Ref, shapes: list[Operation], trace: Trace) -> Ref:
    """Let changes of shape, the last first, start from ``source``, and return their result."""
    result = source
    for view in reversed(shapes):
        view.args[0] = result
        settings = [Tensor._wrap(trace.values[result.index]), *view.args[1:]]
        # The plan asks which of the values may share memory.
        assert not isinstance(view.kind, Module)
        value = view.kind.forward(Node(view.kind, (False,) * len(settings)), *settings)
        is_view = np.may_share_memory(value, trace.values[result.index])
        (number,) = view.outputs
        trace.values[number], trace.views[number] = value, [result.index] if is_view else []
        result = Ref(number)
    return result


def references(step: Step) -> list[Ref]:
    """Return the values that a step reads."""
    if isinstance(step, Convolution):
        return [step.x] + ([] if step.residual is None else [step.residual])
    return refs(step.args)


def _count_uses(operations: Sequence[Operation | Attention], result: Any) -> Counter[int]:
    uses = Counter(ref.index for operation in operations for ref in refs(operation.args))
    uses.update(ref.index for ref in refs(result))
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
    if kind is Mul and _is_per_channel(args[1 - position], trace.values[args[position].index]):
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


def _is_per_channel(other: Any, value: np.ndarray) -> bool:
    """Whether ``other`` is a constant with one factor for each channel of ``value``."""
    shape = (1, value.shape[1]) + (1,) * (value.ndim - 2)
    return isinstance(other, Tensor) and other.shape == shape


def _scale(convolution: Convolution, factors: np.ndarray) -> None:
    convolution.weight *= factors.reshape(-1, 1, 1, 1)
    convolution.bias *= factors


def freeze(steps: list[Step]) -> None:
    """Give constant tensors to the plan as copies, as others may change them."""
    for step in steps:
        if isinstance(step, Operation):
            step.args = mapped(_copied, step.args)


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return Tensor._wrap(leaf.data.copy(order="K"))
    return leaf.copy(order="K") if isinstance(leaf, np.ndarray) else leaf
