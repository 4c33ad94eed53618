"""Convolution: which kernel computes it.

- pointwise (1×1, stride 1): a matrix product, ``_product``;
- depthwise (one input and one output channel a group): ``_depthwise``;
- dense without dilation: ``_dense``;
- float64, dilated dense and other grouped ones: the NumPy backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from lucid.kernels.geometry import NO_BOUNDS, NOTHING, PLAIN, UNIT, Bounds, Conv, Epilogue, Shape
from lucid.kernels.numba._batch_norm import Records
from lucid.kernels.numba._dense import dense_instruction, scratch_size
from lucid.kernels.numba._depthwise import (
    depthwise_instruction,
    depthwise_scratch,
    pack_taps_instruction,
)
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba._product import product_instruction
from lucid.kernels.numba._weight_grad import (
    DEPTHWISE_KERNELS,
    clear,
    dense_weight_grad,
    depthwise_weight_grad,
    product_transposed,
)
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import Instruction, empty, kernel, workspace
from lucid.kernels.numba.machine._packing import pack_instruction, packed_like
from lucid.kernels.numpy import _conv as reference

Array = np.ndarray


def is_fast(x: Array, weight: Array, conv: Conv) -> bool:
    """Whether kernels of this backend compute it."""
    if x.dtype != np.float32 or weight.dtype != np.float32 or weight.size == 0:
        return False
    return conv.is_depthwise(weight.shape) or (conv.groups == 1 and conv.dilation == UNIT)


def is_product(weight_shape: tuple[int, ...], conv: Conv) -> bool:
    """Whether it is one product of all the pixels as they lie."""
    return conv.stride == UNIT and conv.is_pointwise(weight_shape)


# -- the convolution --------------------------------------------------------------------------


@accelerates(reference.conv2d)
def conv2d(x: Array, weight: Array, conv: Conv = PLAIN, epilogue: Epilogue = NOTHING) -> Array:
    if not is_fast(x, weight, conv) or epilogue.activation is not None:
        return NotImplemented
    out = empty(conv.output_shape(x.shape, weight.shape))
    if out.size == 0:
        return out
    workspace.start()
    instructions, _inputs = forward_instructions(x, weight, out, conv, epilogue)
    _threads.launch(*instructions)
    return out


class PackedConv(NamedTuple):
    """A convolution's weights, with factors multiplied in and a bias, as the kernels read them."""

    weight: Any  # Packed; a depthwise one's is (1 + kh·kw, C), the bias first
    shape: Shape  # (O, I/groups, kh, kw)
    conv: Conv


def _pack(
    weight: Array,
    conv: Conv,
    scale: Array | None,
    bias: Array | None,
    allocate: Callable[[tuple[int, ...]], Array],
) -> tuple[PackedConv, Instruction, tuple[Array | None, ...]]:
    """Return room for packed weights, the instruction that fills it, and what it reads."""
    shape = o, _, kh, kw = cast("Shape", weight.shape)
    scale, bias = (
        None if array is None else np.ascontiguousarray(array, np.float32)
        for array in (scale, bias)
    )
    if conv.is_depthwise(shape):
        taps = allocate((1 + kh * kw, o))
        instruction = pack_taps_instruction(weight, taps, scale, bias)
        return PackedConv(taps, shape, conv), instruction, (weight, scale, bias)
    packed = packed_like(weight.size // o, o, allocate)
    instruction = pack_instruction(weight, packed, scale, bias)
    return PackedConv(packed, shape, conv), instruction, (weight, scale, bias)


def pack(weight: Array, conv: Conv = PLAIN, bias: Array | None = None) -> PackedConv:
    """Pack weights ``(O, I/groups, kh, kw)`` and a bias for repeated use."""
    packed, instruction, _inputs = _pack(weight, conv, None, bias, empty)
    _threads.launch(instruction)
    return packed


def conv_scratch(packed: PackedConv, x: Array, out: Array) -> int:
    """Return the floats of scratch memory that :func:`conv_instruction` needs, for all threads."""
    _, shape, conv = packed
    if conv.is_depthwise(shape):
        return depthwise_scratch(x, out.shape, shape[2:], conv)
    if _is_even(out) and is_product(shape, conv):
        return 0
    return scratch_size(x.shape, out.shape, shape[2:], conv)


def _is_even(out: Array) -> bool:
    """Whether all pixels of images lie the same distance apart."""
    if out.flags.c_contiguous:
        return True
    image, row, pixel, _ = out.strides
    return row == out.shape[2] * pixel and image == out.shape[1] * row


def is_spaced(x: Array) -> bool:
    """Whether the pixels of images ``x`` are contiguous, and may have even gaps between them."""
    return x.strides[3] == x.itemsize <= x.strides[2] // x.shape[3] and _is_even(x)


def conv_instruction(
    packed: PackedConv,
    x: Array,
    out: Array,
    bounds: Bounds = NO_BOUNDS,
    residual: Array | None = None,
    scratch: Array | None = None,
    records: Records | None = None,
    kind: int = 0,
) -> Instruction:
    """Return the instruction for ``out = clip(conv(x), *bounds) + residual``.

    All arrays are C-contiguous float32 NHWC, but ``out`` may be a view with adjacent channels, and
    so may the ``x`` of a pointwise or a depthwise convolution if its pixels lie evenly. The
    instruction holds their addresses, so they must live as long. A depthwise convolution adds no
    residual. ``records`` take the statistics of the channels of ``out``. ``kind`` is the number
    of an activation that is no clip, see ``_activation``; it comes before the residual.
    """
    weight, shape, conv = packed
    if conv.is_depthwise(shape):
        return depthwise_instruction(
            x, weight, out, shape[2:], conv, scratch, bounds, records, kind
        )
    if _is_even(out) and is_product(shape, conv):
        return product_instruction(x, weight, out, bounds, residual, records, kind)
    return dense_instruction(
        x, weight, out, shape[2:], conv, scratch, bounds, residual, records, kind
    )


def forward_instructions(
    x: Array,
    weight: Array,
    out: Array,
    conv: Conv,
    epilogue: Epilogue = NOTHING,
    records: Records | None = None,
) -> tuple[list[Instruction], Any]:
    """Return the instructions that pack and convolve into ``out``, and what must live for it.

    The scale is multiplied into the weights, the shift is where the sums start.
    """
    scale, shift, bounds, _ = epilogue
    packed, pack_weights, inputs = _pack(weight, conv, scale, shift, workspace.empty)
    size = conv_scratch(packed, x, out)
    scratch = workspace.empty((size,)) if size else None
    convolve = conv_instruction(packed, x, out, bounds, scratch=scratch, records=records)
    return [pack_weights, convolve], (packed, inputs, scratch)


# -- its gradients ----------------------------------------------------------------------------


@accelerates(reference.conv2d_input_grad)
def conv2d_input_grad(grad: Array, weight: Array, input_shape: Shape, conv: Conv = PLAIN) -> Array:
    if not is_fast(grad, weight, conv) or grad.size == 0:
        return NotImplemented
    workspace.start()
    gx = empty(input_shape)
    _threads.launch(*input_grad_instructions(grad, weight, gx, conv))
    return gx


@kernel
def clear_pixels(chunk, thread, out, image, rows, row, pixels, pixel, channels):
    """Write zeros to some pixels of an image."""
    for i in range(rows):
        for j in range(pixels):
            clear(out + chunk * image + i * row + j * pixel, channels)


def _clear_instruction(out: Array) -> Instruction:
    images, rows, pixels, channels = out.shape
    image, row, pixel, _ = out.strides
    return clear_pixels.pack(
        images, out=out, image=image, rows=rows, row=row, pixels=pixels, pixel=pixel,
        channels=channels,
    )  # fmt: skip


def input_grad_instructions(grad: Array, weight: Array, gx: Array, conv: Conv) -> list[Instruction]:
    """Return the instructions that write the gradient of ``x``; no array is read before they run.

    Each phase of a convolution writes to its pixels in place.
    """
    turned = reference.turned_weights(weight, conv.groups)  # a view
    instructions: list[Instruction] = []
    for phase in conv.phases(gx.shape, weight.shape, grad.shape):
        part = gx[:, phase.pixels[0], phase.pixels[1]]
        if phase.taps is None:
            instructions.append(_clear_instruction(part))
            continue
        taps = reference.phase_weights(turned, phase.taps)
        instructions += forward_instructions(grad, taps, part, phase.conv)[0]
    return instructions


@accelerates(reference.conv2d_weight_grad)
def conv2d_weight_grad(x: Array, grad: Array, weight_shape: Shape, conv: Conv = PLAIN) -> Array:
    fast = grad.dtype == np.float32 and grad.size > 0
    if not fast or not has_weight_grad(x, weight_shape, conv):
        return NotImplemented
    workspace.start()
    gweight = empty(weight_shape)
    _threads.launch(*weight_grad_instructions(x, grad, gweight, conv))
    return gweight


def has_weight_grad(x: Array, weight_shape: tuple[int, ...], conv: Conv) -> bool:
    """Whether kernels of this backend compute the gradient of the weights."""
    o, i, *size = weight_shape
    if x.dtype != np.float32 or x.size == 0 or conv.dilation != UNIT:
        return False
    is_depthwise = conv.groups == o and i == 1 and tuple(size) in DEPTHWISE_KERNELS
    return conv.groups == 1 or is_depthwise


def weight_grad_instructions(
    x: Array, grad: Array, gweight: Array, conv: Conv
) -> list[Instruction]:
    """Return the instructions that write the gradient of the weights ``(O, I/groups, kh, kw)``."""
    o, i, *_ = gweight.shape
    if is_product(gweight.shape, conv):
        a, b = grad.reshape(-1, o), x.reshape(-1, i)
        return product_transposed(a, b, gweight.reshape(o, i))
    if conv.groups == 1:
        return dense_weight_grad(x, grad, gweight, conv)
    return depthwise_weight_grad(x, grad, gweight, conv)
