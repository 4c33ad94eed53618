"""What the backends call a convolution, and what is done with its sums.

Images are NHWC arrays, weights have the logical shape ``(O, I/groups, kh, kw)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Pair = tuple[int, int]  # vertical, horizontal
Padding = tuple[Pair, Pair]  # (top, bottom), (left, right)
Shape = tuple[int, int, int, int]
Bounds = tuple[float, float]  # of a clip; infinite where there is none
Activation = tuple[Any, ...]  # ("gelu", tanh), ("silu",) or ("hardswish",)

UNIT: Pair = (1, 1)
NO_PADDING: Padding = ((0, 0), (0, 0))
NO_BOUNDS: Bounds = (-math.inf, math.inf)


class Conv(NamedTuple):
    """Where the kernels of a convolution stand, and which channels they read."""

    stride: Pair = UNIT
    padding: Padding = NO_PADDING  # negative padding cuts away
    dilation: Pair = UNIT
    groups: int = 1

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Return how many positions a kernel takes along each axis; below 1 if it does not fit."""
        (h, w), (kh, kw) = size, kernel
        (sh, sw), ((top, bottom), (left, right)), (dh, dw), _ = self
        return (
            (h + top + bottom - dh * (kh - 1) - 1) // sh + 1,
            (w + left + right - dw * (kw - 1) - 1) // sw + 1,
        )

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> Shape:
        """Return the output's shape ``(N, H', W', O)``."""
        n, h, w, _ = input_shape
        o, _, kh, kw = weight_shape
        return (n, *self.output_size((h, w), (kh, kw)), o)

    def is_pointwise(self, weight_shape: tuple[int, ...]) -> bool:
        """Whether it is one product of the rows ``(M, I)`` of those pixels that it reads."""
        return weight_shape[2] == weight_shape[3] == self.groups == 1 and self.padding == NO_PADDING

    def is_depthwise(self, weight_shape: tuple[int, ...]) -> bool:
        """Whether each of several channels has a kernel of its own, and gives one channel."""
        return self.groups == weight_shape[0] > 1 == weight_shape[1]

    def is_by_channel(self, weight_shape: tuple[int, ...]) -> bool:
        """Whether each of several channels has kernels of its own: depthwise, but maybe several."""
        return weight_shape[1] == 1 < self.groups

    def phases(
        self,
        input_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
    ) -> list[Phase]:
        """Return the convolutions of the output's gradient that make up the input's gradient.

        A convolution of stride s splits into s·s of stride 1, one for each phase of the input
        position (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional
        layer?").
        """
        vertical, horizontal = (
            list(_phases(*axis))
            for axis in zip(
                input_shape[1:3],
                output_shape[1:3],
                weight_shape[2:],
                self.stride,
                [before for before, _ in self.padding],
                self.dilation,
            )
        )
        return [
            Phase(
                (v.pixels, h.pixels),
                None if v.taps is None or h.taps is None else (v.taps, h.taps),
                Conv(UNIT, (v.padding, h.padding), (v.dilation, h.dilation), self.groups),
            )
            for v in vertical
            for h in horizontal
        ]


class Epilogue(NamedTuple):
    """What a convolution's sums go through: ``act(clip(sums * scale + shift, *bounds))``.

    There are bounds or an activation, not both.
    """

    scale: np.ndarray | None = None  # (O,)
    shift: np.ndarray | None = None  # (O,)
    bounds: Bounds = NO_BOUNDS
    activation: Activation | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the sums stay as they are."""
        is_identity = self.scale is None and self.shift is None and self.activation is None
        return is_identity and self.bounds == NO_BOUNDS

    def of(self, channels: slice) -> Epilogue:
        """Return that of some channels."""
        scale, shift = (None if row is None else row[channels] for row in self[:2])
        return self._replace(scale=scale, shift=shift)

    def folded(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return weights ``(O, …)`` with the scale multiplied in, and the shift."""
        if self.scale is None:
            return weight, self.shift
        return weight * self.scale.reshape(-1, *[1] * (weight.ndim - 1)), self.shift


def norm_scale_shift(
    mean: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    dtype: np.dtype,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the summand ``(C,)`` that batch norm by given statistics amounts to.

    They are computed in the statistics' dtype, or in ``dtype`` if that is wider.
    """
    wide = np.result_type(mean, dtype)
    scale = (1 / np.sqrt(variance + np.float64(eps))).astype(wide)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return scale.astype(dtype, copy=False), shift.astype(dtype, copy=False)


class Phase(NamedTuple):
    """The convolution that gives the gradient of some of the input's pixels.

    Its weights are those taps, flipped, with input and output channels exchanged.
    """

    pixels: tuple[slice, slice]
    taps: tuple[slice, slice] | None  # None: the gradient is 0
    conv: Conv


class _AxisPhase(NamedTuple):
    """The input positions of one phase along one axis."""

    pixels: slice
    taps: slice | None
    dilation: int
    padding: Pair


def _phases(
    size: int, output_size: int, kernel: int, stride: int, pad: int, dilation: int
) -> Iterator[_AxisPhase]:
    """Yield the phases of an axis: the residues of ``(position + pad) mod stride``.

    Input position r meets output position o through tap i where
    ``stride·o = r + pad - i·dilation``.
    """
    common = math.gcd(stride, dilation)
    every = stride // common  # taps of one phase are this far apart
    step = dilation // common  # and meet outputs this far apart
    for first in range(min(stride, size)):
        count = (size - first + stride - 1) // stride
        matching = [i for i in range(kernel) if (first + pad - i * dilation) % stride == 0]
        pixels = slice(None) if stride == 1 else slice(first, None, stride)
        if not matching:
            yield _AxisPhase(pixels, None, step, (0, 0))
            continue
        low, high = matching[0], matching[-1]
        # The j-th position of the phase meets, through tap `high`, output `start + j`; the other
        # taps meet later outputs, up to `start + j + reach`.
        start = (first + pad - high * dilation) // stride
        reach = (len(matching) - 1) * step
        after = start + count - 1 + reach - (output_size - 1)
        yield _AxisPhase(pixels, slice(low, high + 1, every), step, (-start, after))


PLAIN = Conv()  # stride 1, no padding
NOTHING = Epilogue()
