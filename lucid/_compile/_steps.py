"""The steps of a plan that stand in the place of operations, and what a step is in words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lucid import kernels
from lucid._compile._state import same_state
from lucid.graph import Operation, Value
from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv, Epilogue
from lucid.kernels.prepared import Array, Prepared

# Names of activations that are bounds.
_CLIPS = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}


def nhwc_shape(value: Value, images: int | None = None) -> tuple[int, int, int, int]:
    """Return the shape in memory of images ``(N, C, H, W)``, or of rows ``(N, C)`` as pixels.

    Args:
        value: what has that shape.
        images: how many of them; by default all.
    """
    n, c, h, w = value.shape if value.ndim == 4 else (*value.shape, 1, 1)
    return n if images is None else images, h, w, c


def nhwc(array: Array) -> Array:
    """Return the view ``(N, H, W, C)`` of images ``(N, C, H, W)``, or of rows ``(N, C)``."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array[:, None, None]


def describe_conv(
    weight_shape: tuple[int, ...] | None, conv: Conv, bounds: Bounds = NO_BOUNDS, *also: str
) -> str:
    """Return a convolution in words, with what follows it; without a shape a linear layer."""
    text = "linear"
    if weight_shape is not None:
        is_depthwise = conv.is_depthwise(weight_shape)
        what = "conv" if conv.groups == 1 else "depthwise" if is_depthwise else "grouped"
        text = f"{what} {weight_shape[2]}×{weight_shape[3]}"
    (sh, sw), *_ = conv
    if (sh, sw) != (1, 1):
        text += f" /{sh}" if sh == sw else f" /{sh}×{sw}"
    clip = () if bounds == NO_BOUNDS else (_CLIPS.get(bounds, "clip"),)
    return " + ".join((text, *also, *clip))


@dataclass(eq=False)
class Fused(ABC):
    """A step in the place of one or more operations: the backend makes one map of others.

    Attributes:
        args: those maps.
        output: the map it makes.
        module: the path of the layer in the model.
        macs: multiply-adds.
    """

    args: list[Value]
    output: Value
    module: str
    macs: int

    @property
    def outputs(self) -> list[Value]:
        """The map it makes, as the only one."""
        return [self.output]

    @property
    @abstractmethod
    def name(self) -> str:
        """What runs, in words."""

    @abstractmethod
    def prepare(self, images: int | None = None) -> Prepared:
        """Return the backend's step, for so many images or for all."""

    def arrays(self, out: Array, *maps: Array) -> tuple[Array, ...]:
        """Return output and maps as the backend's step takes them."""
        return nhwc(out), *map(nhwc, maps)


@dataclass(eq=False)
class Convolution(Fused):
    """A convolution with what follows it, an epilogue with a shift and a residual.

    A linear layer on rows ``(N, C)`` is one as well, on images of one pixel. If it has a second
    argument, that is the residual.
    """

    weight: Array
    conv: Conv
    epilogue: Epilogue
    packed: Any = None  # the weights as the backend reads them; then it has no others

    def __post_init__(self) -> None:
        self.weight_shape, self.weight_bytes = self.weight.shape, self.weight.nbytes

    @property
    def name(self) -> str:
        if self.output.ndim == 2:
            text = describe_conv(None, self.conv, self.epilogue.bounds)
        else:
            text = describe_conv(self.weight_shape, self.conv, self.epilogue.bounds)
        if self.epilogue.activation is not None:
            text += f" + {self.epilogue.activation[0]}"
        return f"{text} + add" if len(self.args) > 1 else text

    def scale(self, factors: Array, summands: Array | float = 0.0) -> None:
        """Take a factor and a summand for each channel into the epilogue."""
        scale, shift, *_ = self.epilogue
        assert shift is not None
        if scale is None:
            scale = np.ones_like(shift)
            self.epilogue = self.epilogue._replace(scale=scale)
        scale *= factors
        shift *= factors
        shift += summands

    def pack(self, same: Convolution | None = None) -> None:
        """Bring the weights into the backend's form, or take those of another step if equal."""
        weight, shift = self.epilogue.folded(self.weight)
        self.weight, self.epilogue = np.empty(0, weight.dtype), self.epilogue._replace(scale=None)
        self.packed = kernels.active().pack_conv(weight, self.conv, shift)
        if same is not None and same_state(self.packed, same.packed):
            self.packed = same.packed

    def prepare(self, images: int | None = None) -> Prepared:
        """Return the backend's step."""
        if self.packed is None:
            self.pack()
        shape = nhwc_shape(self.args[0], images)
        return kernels.active().prepare_conv(shape, self.packed, self.conv, self.epilogue)


@dataclass(eq=False)
class Attention(Fused):
    """``softmax(scale · q·k)·v`` of maps q, k and v; the keys are columns, ``(…, E, S)``."""

    scale: float
    name = "attention"

    def prepare(self, images: int | None = None) -> Prepared:
        q, k, v = (value.shape for value in self.args)
        keys = (*k[:-2], k[-1], k[-2])
        return kernels.active().prepare_attention(q, keys, v, self.scale, self.output.dtype)

    def arrays(self, out: Array, *maps: Array) -> tuple[Array, ...]:
        q, k, v = maps
        return out, q, k.swapaxes(-1, -2), v


@dataclass(eq=False)
class Average(Fused):
    """The mean ``(N, C)`` of a map over all positions."""

    name = "mean of positions"

    def prepare(self, images: int | None = None) -> Prepared:
        shape = nhwc_shape(self.args[0], images)
        return kernels.active().prepare_average(shape, self.output.dtype)


@dataclass(eq=False)
class Affine(Fused):
    """A factor and a summand for each channel of a map: a batch norm behind no convolution."""

    scale: Array
    shift: Array
    name = "batch norm"

    def prepare(self, images: int | None = None) -> Prepared:
        shape = nhwc_shape(self.args[0], images)
        return kernels.active().prepare_affine(shape, self.scale, self.shift, -math.inf, math.inf)


Step = Operation | Fused


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
    return StepInfo(step.module, step.name, shape, step.macs)


def merged(parts: Sequence[StepInfo]) -> StepInfo:
    """Return the info of one step over all parts of a batch."""
    first = parts[0]
    if len(parts) == 1 or not first.shape:
        return first
    rows = sum(part.shape[0] for part in parts)
    return replace(first, shape=(rows, *first.shape[1:]), macs=sum(part.macs for part in parts))
