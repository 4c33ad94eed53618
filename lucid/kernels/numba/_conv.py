"""Convolution: which kernel computes it.

- pointwise (1×1, stride 1): a matrix product, ``_matmul``;
- depthwise (one input and one output channel a group): ``_depthwise``;
- dense without dilation: ``_dense``;
- float64, dilated dense and other grouped ones: the NumPy backend.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._dense import dense_row, scratch_size
from lucid.kernels.numba._depthwise import depthwise_row, pack_taps_row
from lucid.kernels.numba._matmul import Packed, empty, pack_row, packed_like, product_row
from lucid.kernels.numpy import _conv as reference

Array = np.ndarray
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

NO_PADDING: Padding = ((0, 0), (0, 0))
UNIT: Pair = (1, 1)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = UNIT,
    padding: Padding = NO_PADDING,
    dilation: Pair = UNIT,
    groups: int = 1,
) -> Array:
    """Return the cross-correlation of ``x`` ``(N, H, W, I)`` with ``weight``: ``(N, H', W', O)``."""
    if not _is_fast(x, weight, dilation, groups):
        return reference.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return _convolve(x, weight, None, bias, None, None, stride, padding, dilation, groups)


def conv_norm_act(
    x: Array,
    weight: Array,
    scale: Array,
    shift: Array,
    low: float | None = None,
    high: float | None = None,
    stride: Pair = UNIT,
    padding: Padding = NO_PADDING,
    dilation: Pair = UNIT,
    groups: int = 1,
) -> Array:
    """Return ``clip(conv2d(x, weight) * scale + shift, low, high)``, for inference.

    ``scale`` is multiplied into the weights, ``shift`` is where the sums start.
    """
    if not _is_fast(x, weight, dilation, groups):
        return reference.conv_norm_act(
            x, weight, scale, shift, low, high, stride, padding, dilation, groups
        )
    return _convolve(x, weight, scale, shift, low, high, stride, padding, dilation, groups)


def _is_depthwise(weight: Array, groups: int) -> bool:
    return groups == weight.shape[0] > 1 == weight.shape[1]


def _is_fast(x: Array, weight: Array, dilation: Pair, groups: int) -> bool:
    """Whether kernels of this backend compute it."""
    if x.dtype != np.float32 or weight.dtype != np.float32 or weight.size == 0:
        return False
    return _is_depthwise(weight, groups) or (groups == 1 and dilation == UNIT)


class PackedConv(NamedTuple):
    """Weights of a convolution, with factors multiplied in and a bias, as the kernels read them."""

    weight: Packed | Array  # a depthwise one's is (1 + kh·kw, C), the bias first
    kernel: Pair
    channels: int
    is_depthwise: bool


def _pack(
    weight: Array, scale: Array | None, bias: Array | None, groups: int
) -> tuple[PackedConv, tuple[int, ...], tuple[Array | None, ...]]:
    """Return room for packed weights, the row of a plan that fills it, and what the row reads."""
    o, _, kh, kw = weight.shape
    scale, bias = (
        None if array is None else np.ascontiguousarray(array, np.float32)
        for array in (scale, bias)
    )
    if _is_depthwise(weight, groups):
        weight = np.ascontiguousarray(weight)
        taps = empty((1 + kh * kw, o))
        row = pack_taps_row(weight, taps, scale, bias)
        return PackedConv(taps, (kh, kw), o, True), row, (weight, scale, bias)
    if kh * kw > 1:  # taps before channels, as they lie in the image
        weight = weight.transpose(0, 2, 3, 1)
    weight = np.ascontiguousarray(weight)
    packed = packed_like(weight.size // o, o)
    row = pack_row(weight, packed, scale, bias)
    return PackedConv(packed, (kh, kw), o, False), row, (weight, scale, bias)


def pack(
    weight: Array, scale: Array | None = None, bias: Array | None = None, groups: int = 1
) -> PackedConv:
    """Pack weights ``(O, I/groups, kh, kw)``, times ``scale``, and a bias, for many convolutions."""
    packed, row, _inputs = _pack(weight, scale, bias, groups)
    _threads.run(_threads.plan(row))
    return packed


def conv_scratch(
    packed: PackedConv,
    shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
) -> int:
    """Return the floats of scratch memory that :func:`conv_row` needs."""
    if packed.is_depthwise or _is_pointwise(packed, stride, padding):
        return 0
    return scratch_size(shape, out_shape, packed.kernel, stride, padding)


def conv_row(
    packed: PackedConv,
    x: Array,
    out: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair = UNIT,
    low: float | None = None,
    high: float | None = None,
    residual: Array | None = None,
    scratch: Array | None = None,
) -> tuple[int, ...]:
    """Return the row of a plan for ``out = clip(conv(x), low, high) + residual``.

    All arrays are C-contiguous float32 NHWC; the row holds their addresses, so they must live as
    long as the plan. A depthwise convolution adds no residual.
    """
    if packed.is_depthwise:
        taps = packed.weight
        return depthwise_row(x, taps, out, packed.kernel, stride, padding, dilation, low, high)
    if _is_pointwise(packed, stride, padding):
        return product_row(x, packed.weight, out, low, high, residual)
    return dense_row(
        x, packed.weight, out, packed.kernel, stride, padding, scratch, low, high, residual
    )


def _is_pointwise(packed: PackedConv, stride: Pair, padding: Padding) -> bool:
    return packed.kernel == stride == UNIT and padding == NO_PADDING


def _convolve(
    x: Array,
    weight: Array,
    scale: Array | None,
    bias: Array | None,
    low: float | None,
    high: float | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Array:
    out = empty(reference._output_shape(x, weight, stride, padding, dilation))
    if out.size == 0:
        return out
    packed, pack_weights, _inputs = _pack(weight, scale, bias, groups)
    size = conv_scratch(packed, x.shape, out.shape, stride, padding)
    scratch = empty((size,)) if size else None
    convolve = conv_row(
        packed, x, out, stride, padding, dilation, low, high, scratch=scratch
    )
    _threads.run(_threads.plan(pack_weights, convolve))
    return out
