"""Convolution: which kernel computes it.

- pointwise (1×1, stride 1): a matrix product, ``_matmul``;
- depthwise (one input and one output channel a group): ``_depthwise``;
- dense without dilation: ``_dense``;
- float64, dilated dense and other grouped ones: the NumPy backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._batch_norm import Records
from lucid.kernels.numba._dense import dense_row, scratch_size
from lucid.kernels.numba._depthwise import depthwise_row, depthwise_scratch, pack_taps_row
from lucid.kernels.numba._matmul import (
    pack_row,
    pack_rows_row,
    packed_like,
    product_row,
)
from lucid.kernels.numba._native import empty, workspace
from lucid.kernels.numba._tile import ACTIVATION
from lucid.kernels.numba._weight_grad import (
    DEPTHWISE_KERNELS,
    Rows,
    dense_weight_grad,
    depthwise_weight_grad,
    product_transposed,
)
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
    """Return the cross-correlation of ``x`` ``(N, H, W, I)`` with ``weight``: NHWC too."""
    if not is_fast(x, weight, dilation, groups):
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
    if not is_fast(x, weight, dilation, groups):
        return reference.conv_norm_act(
            x, weight, scale, shift, low, high, stride, padding, dilation, groups
        )
    return _convolve(x, weight, scale, shift, low, high, stride, padding, dilation, groups)


def _is_depthwise(weight: Array, groups: int) -> bool:
    return groups == weight.shape[0] > 1 == weight.shape[1]


def is_fast(x: Array, weight: Array, dilation: Pair, groups: int) -> bool:
    """Whether kernels of this backend compute it."""
    if x.dtype != np.float32 or weight.dtype != np.float32 or weight.size == 0:
        return False
    return _is_depthwise(weight, groups) or (groups == 1 and dilation == UNIT)


class PackedConv(NamedTuple):
    """Weights of a convolution, with factors multiplied in and a bias, as the kernels read them."""

    weight: Any  # Packed; a depthwise one's is (1 + kh·kw, C), the bias first
    kernel: Pair
    channels: int
    is_depthwise: bool


def _pack(
    weight: Array,
    scale: Array | None,
    bias: Array | None,
    groups: int,
    allocate: Callable[[tuple[int, ...]], Array],
) -> tuple[PackedConv, tuple[int, ...], tuple[Array | None, ...]]:
    """Return room for packed weights, the row of a plan that fills it, and what the row reads."""
    o, _, kh, kw = weight.shape
    scale, bias = (
        None if array is None else np.ascontiguousarray(array, np.float32)
        for array in (scale, bias)
    )
    if _is_depthwise(weight, groups):
        weight = np.ascontiguousarray(weight)
        taps = allocate((1 + kh * kw, o))
        row = pack_taps_row(weight, taps, scale, bias)
        return PackedConv(taps, (kh, kw), o, True), row, (weight, scale, bias)
    if kh * kw > 1:  # taps before channels, as they lie in the image
        weight = weight.transpose(0, 2, 3, 1)
    weight = np.ascontiguousarray(weight)
    packed = packed_like(weight.size // o, o, allocate)
    row = pack_row(weight, packed, scale, bias)
    return PackedConv(packed, (kh, kw), o, False), row, (weight, scale, bias)


def pack(
    weight: Array, scale: Array | None = None, bias: Array | None = None, groups: int = 1
) -> PackedConv:
    """Pack weights ``(O, I/groups, kh, kw)``, times ``scale``, and a bias for repeated use."""
    packed, row, _inputs = _pack(weight, scale, bias, groups, empty)
    _threads.run(_threads.plan(row))
    return packed


def conv_scratch(
    packed: PackedConv,
    x: Array,
    out: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair = UNIT,
) -> int:
    """Return the floats of scratch memory that :func:`conv_row` needs, for all threads."""
    if packed.is_depthwise:
        return depthwise_scratch(x, out.shape, packed.kernel, stride, dilation)
    if _is_even(out) and is_pointwise(packed.kernel, stride, padding):
        return 0
    return scratch_size(x.shape, out.shape, packed.kernel, stride, padding)


def _is_even(out: Array) -> bool:
    """Whether all pixels of images lie the same distance apart."""
    if out.flags.c_contiguous:
        return True
    image, row, pixel, _ = out.strides
    return row == out.shape[2] * pixel and image == out.shape[1] * row


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
    records: Records | None = None,
    kind: int = 0,
) -> tuple[int, ...]:
    """Return the row of a plan for ``out = clip(conv(x), low, high) + residual``.

    All arrays are C-contiguous float32 NHWC, but ``out`` may be a view with adjacent channels, and
    so may the ``x`` of a pointwise or a depthwise convolution if its pixels lie evenly. The row
    holds their addresses, so they must live as long as the plan. A depthwise convolution adds no
    residual. ``records`` take the statistics of the channels of ``out``. ``kind`` is the number
    of an activation that is no clip, see ``_activation``; it comes before the residual.
    """
    weight, kernel = packed.weight, packed.kernel
    if packed.is_depthwise:
        row = depthwise_row(
            x, weight, out, kernel, stride, padding, dilation, scratch, low, high, records
        )
    elif _is_even(out) and is_pointwise(kernel, stride, padding):
        row = product_row(x, weight, out, low, high, residual, records)
    else:
        row = dense_row(
            x, weight, out, kernel, stride, padding, scratch, low, high, residual, records
        )
    if not kind:
        return row
    last = _threads.ARGUMENTS - 1 + ACTIVATION  # a row here has no room for threads yet
    return (*row, *[0] * (last - len(row)), kind)


def is_pointwise(kernel: Pair, stride: Pair, padding: Padding, groups: int = 1) -> bool:
    """Whether it is one matrix product."""
    return kernel == stride == UNIT and padding == NO_PADDING and groups == 1


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
    workspace.start()
    how = stride, padding, dilation, groups
    rows, _inputs = forward_rows(x, weight, out, *how, scale, bias, low, high)
    _threads.run(_threads.plan(*rows))
    return out


def forward_rows(
    x: Array,
    weight: Array,
    out: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    scale: Array | None = None,
    bias: Array | None = None,
    low: float | None = None,
    high: float | None = None,
    records: Records | None = None,
) -> tuple[list[tuple[int, ...]], Any]:
    """Return the rows of a plan that pack and convolve into ``out``, and what must live for it."""
    packed, pack_weights, inputs = _pack(weight, scale, bias, groups, workspace.empty)
    size = conv_scratch(packed, x, out, stride, padding, dilation)
    scratch = workspace.empty((size,)) if size else None
    convolve = conv_row(
        packed, x, out, stride, padding, dilation, low, high, scratch=scratch, records=records
    )
    return [pack_weights, convolve], (packed, inputs, scratch)


def conv2d_input_grad(
    grad: Array,
    weight: Array,
    input_shape: tuple[int, int, int, int],
    stride: Pair = UNIT,
    padding: Padding = NO_PADDING,
    dilation: Pair = UNIT,
    groups: int = 1,
) -> Array:
    """Return the gradient of ``x``, ``input_shape`` ``(N, H, W, I)``, given that of the output."""
    if not is_fast(grad, weight, dilation, groups) or grad.size == 0:
        return reference.conv2d_input_grad(
            grad, weight, input_shape, stride, padding, dilation, groups
        )
    workspace.start()
    gx = empty(input_shape)
    rows, _inputs = input_grad_rows(grad, weight, gx, stride, padding, dilation, groups)
    _threads.run(_threads.plan(*rows))
    return gx


def input_grad_rows(
    grad: Array,
    weight: Array,
    gx: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[list[tuple[int, ...]], Any]:
    """Return the rows of a plan that write the gradient of ``x``, and what must live for it.

    With stride 1 it is a convolution of ``grad`` with the turned weights, else one for each phase
    of the input position, see the NumPy backend; each writes to its pixels in place.
    """
    o, i, kh, kw = weight.shape
    if is_pointwise((kh, kw), stride, padding, groups):
        matrix = np.ascontiguousarray(weight).reshape(o, i)
        packed = packed_like(o, i, workspace.empty)
        return [pack_rows_row(matrix, packed), product_row(grad, packed, gx)], (matrix, packed)
    turned = weight.reshape(groups, o // groups, i, kh, kw).swapaxes(1, 2)
    turned = turned.reshape(groups * i, o // groups, kh, kw)
    vertical, horizontal = (
        reference._phases(
            gx.shape[1 + axis],
            grad.shape[1 + axis],
            weight.shape[2 + axis],
            stride[axis],
            padding[axis][0],
            dilation[axis],
        )
        for axis in (0, 1)
    )
    rows: list[tuple[int, ...]] = []
    alive = []
    for phase_h in vertical:
        for phase_w in horizontal:
            part = gx[:, phase_h.positions, phase_w.positions]
            if phase_h.taps is None or phase_w.taps is None:
                part[...] = 0
                continue
            kernel = turned[:, :, phase_h.taps, phase_w.taps][:, :, ::-1, ::-1]
            pads = phase_h.padding, phase_w.padding
            steps = phase_h.step, phase_w.step
            new, inputs = forward_rows(grad, kernel, part, UNIT, pads, steps, groups)
            rows += new
            alive.append(inputs)
    return rows, alive


def conv2d_weight_grad(
    x: Array,
    grad: Array,
    weight_shape: tuple[int, int, int, int],
    stride: Pair = UNIT,
    padding: Padding = NO_PADDING,
    dilation: Pair = UNIT,
    groups: int = 1,
) -> Array:
    """Return the gradient of the weights, ``weight_shape`` ``(O, I/groups, kh, kw)``."""
    workspace.start()
    made = weight_grad_rows(x, grad, weight_shape, stride, padding, dilation, groups)
    if made is None:
        return reference.conv2d_weight_grad(
            x, grad, weight_shape, stride, padding, dilation, groups
        )
    rows, result = made
    _threads.run(_threads.plan(*rows))
    return result()


def weight_grad_rows(
    x: Array,
    grad: Array,
    weight_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Rows | None:
    """Return the rows of a plan for the gradient of the weights, and how to get it; None if slow.

    ``grad`` need not be filled before the plan runs.
    """
    o, i, kh, kw = weight_shape
    fast = x.dtype == grad.dtype == np.float32 and x.size > 0 and grad.size > 0
    if not fast or dilation != UNIT:
        return None
    if is_pointwise((kh, kw), stride, padding, groups):
        rows, matrix = product_transposed(grad.reshape(-1, o), x.reshape(-1, i))
        return rows, lambda: matrix().reshape(weight_shape)
    if groups == 1:
        return dense_weight_grad(x, grad, (kh, kw), stride, padding)
    if groups == o and i == 1 and (kh, kw) in DEPTHWISE_KERNELS:
        return depthwise_weight_grad(x, grad, (kh, kw), stride, padding)
    return None
