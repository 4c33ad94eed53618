"""What a step of a plan is, in words and numbers: for whoever wants to see its time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lucid._compile._fuse import Affine, Attention, Average, Convolution, Step
from lucid.graph import Operation

_KINDS = {Attention: "attention", Average: "mean of positions", Affine: "batch norm"}
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


def describe(step: Step) -> StepInfo:
    """Return what ``step`` is, from the shapes of the traced run."""
    shape = step.outputs[0].shape if step.outputs else ()
    if isinstance(step, Convolution):
        kind = _fused(step, len(shape))
    else:
        kind = step.name if isinstance(step, Operation) else _KINDS[type(step)]
    return StepInfo(step.module, kind, shape, step.macs)


def _fused(step: Convolution, axes: int) -> str:
    stride, groups = step.conv.stride, step.conv.groups
    _, _, kh, kw = shape = step.weight.shape
    is_depthwise = step.conv.is_depthwise(shape)
    what = "conv" if groups == 1 else "depthwise" if is_depthwise else "grouped"
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
