"""What a step of a plan is, in words and numbers: for whoever wants to see its time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lucid._compile._fuse import Affine, Attention, Average, Convolution, Step
from lucid._compile._trace import Ref, Trace
from lucid.nn import Module
from lucid.ops._linear import Linear
from lucid.ops._matmul import MatMul

# Names of activations that are bounds.
_CLIPS = {("clip", 0.0, 6.0): "relu6", ("clip", 0.0, math.inf): "relu"}


@dataclass(frozen=True)
class StepInfo:
    """One step of a plan.

    Attributes:
        name: the path of its layer in the model; the model itself is ``""``.
        kind: what runs, such as ``"depthwise 5×5 /2 + relu6"`` or ``"Softmax"``.
        shape: the logical shape of its (first) output.
        macs: multiply-adds, of products only: convolutions, linear maps, matrix products.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    macs: int


def describe(step: Step, traced: Trace) -> StepInfo:
    """Return what ``step`` is, from the shapes of the traced run."""
    if isinstance(step, Convolution):
        shape = traced.values[step.output].shape
        macs = math.prod(shape) * math.prod(step.weight.shape[1:])
        return StepInfo(step.module, _fused(step, len(shape)), shape, macs)
    shape = traced.values[step.outputs[0]].shape if step.outputs else ()
    if isinstance(step, Attention):
        queries, keys = traced.values[step.q.index].shape, traced.values[step.k.index].shape
        macs = math.prod(shape[:-1]) * keys[-1] * (queries[-1] + shape[-1])
        return StepInfo(step.module, "attention", shape, macs)
    if isinstance(step, Average):
        return StepInfo(step.module, "mean of positions", shape, 0)
    if isinstance(step, Affine):
        return StepInfo(step.module, "batch norm", shape, 0)
    if isinstance(step.kind, Module):
        return StepInfo(step.module, type(step.kind).__name__, shape, 0)
    macs = 0
    if step.kind is Linear or step.kind is MatMul:
        x = step.args[0]  # its last axis is summed over
        rows = traced.values[x.index].shape if isinstance(x, Ref) else x.shape
        macs = math.prod(shape) * rows[-1]
    return StepInfo(step.module, step.kind.__name__, shape, macs)


def _fused(step: Convolution, axes: int) -> str:
    stride, _, _, groups = step.how
    out, width, kh, kw = step.weight.shape
    what = "conv" if groups == 1 else "depthwise" if groups == out and width == 1 else "grouped"
    text = "linear" if axes == 2 else f"{what} {kh}×{kw}"
    if stride != (1, 1):
        text += f" /{stride[0]}" if stride[0] == stride[1] else f" /{stride[0]}×{stride[1]}"
    if step.activation is not None:
        text += f" + {_CLIPS.get(step.activation, step.activation[0])}"
    return text if step.residual is None else f"{text} + add"


def merged(parts: Sequence[StepInfo]) -> StepInfo:
    """Return the info of one step over all parts of a batch."""
    first = parts[0]
    if len(parts) == 1 or not first.shape:
        return first
    rows = sum(part.shape[0] for part in parts)
    return replace(first, shape=(rows, *first.shape[1:]), macs=sum(part.macs for part in parts))
