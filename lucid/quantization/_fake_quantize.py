"""Rounding to integers and back, in floating point: what integer arithmetic computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._function import Scale
from lucid.autograd._graph import Node

Array = np.ndarray

# Activations are uint8, weights int8 without -128, so that their range is symmetric; a bias is
# int32, as the sums that it is added to.
ACTIVATION_RANGE = 0, 255
WEIGHT_RANGE = -127, 127
BIAS_RANGE = -(2**31), 2**31 - 1

# How many steps a range of activations has, one less than uint8: see activation_scale.
STEPS = 254

# Smaller scales are not taken: the product of two is the scale of a bias, and must be a normal
# float32.
SMALLEST_SCALE = 1e-18


class FakeQuantize(Function):
    r"""``(clip(round(x / scale) + zero_point, qmin, qmax) - zero_point) * scale``.

    These are ONNX's QuantizeLinear and DequantizeLinear one after the other: halves are rounded to
    the even number. Scale and zero point are arrays, one number or, with ``axis``, one for each
    place along it. The gradient passes straight through where nothing is clipped, and is 0
    elsewhere (Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic
    Neurons"; Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3).
    """

    @staticmethod
    def forward(
        ctx: Node,
        x: Tensor,
        scale: Array,
        zero_point: Array,
        axis: int | None,
        qmin: int,
        qmax: int,
    ) -> Array:
        steps, scale, zero = _steps(x.data, scale, zero_point, axis, qmax)
        low, high = qmin - zero, qmax - zero
        if ctx.needs_input_grad[0]:
            ctx.inside = (low <= steps) & (steps <= high)
        np.clip(steps, low, high, out=steps)
        steps *= scale
        return steps.astype(x.dtype, copy=False)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Scale.apply(grad, ctx.inside.astype(grad.dtype))


def integers(
    x: Array, scale: Array, zero_point: Array, axis: int | None, qmin: int, qmax: int
) -> Array:
    """Return the integers by which :class:`FakeQuantize` rounds, of the zero point's dtype."""
    steps, _, zero = _steps(x, scale, zero_point, axis, qmax)
    return np.clip(steps + zero, qmin, qmax).astype(zero_point.dtype)


def _steps(
    x: Array, scale: Array, zero_point: Array, axis: int | None, qmax: int
) -> tuple[Array, Array, Array]:
    """Return how many steps each value is from 0, and scale and zero point along the axis."""
    # float32 has no more than 24 bits for an integer, and a bias has up to 31.
    wide = np.float64 if qmax >= 2**24 else x.dtype
    shape = [-1 if each == axis else 1 for each in range(x.ndim)] if axis is not None else ()
    scale, zero = (array.reshape(shape).astype(wide) for array in (scale, zero_point))
    steps = np.divide(x, scale, dtype=wide)
    return np.rint(steps, out=steps), scale, zero


def short_up(numbers: Any, bits: int) -> Array:
    """Return positive numbers rounded up to so many significant bits; one bit is a power of 2.

    Sums in steps of such scales are exact in float32. So every runtime rounds alike, whether it
    adds integers or floating-point numbers, and in whichever order.
    """
    fraction, exponent = np.frexp(np.asarray(numbers, np.float64))
    return np.ldexp(np.ceil(fraction * 2**bits) / 2**bits, exponent)


def activation_scale(low: float, high: float) -> tuple[Array, Array]:
    """Return scale and zero point with which uint8 holds a range, and 0.

    0 is one of the steps, so that zeros around a map stay exact (Jacob et al. 2018, section 2.1).
    The scale is a power of 2: dividing by it is exact. The zero point is even: it does not matter
    then whether a runtime adds it before it rounds halves to even, as ONNX Runtime's sum of
    integers does, or after that. So a range may have 254 steps at most, one less than uint8 has.

    Returns:
        A float32 and a uint8 array of no axes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = short_up(max(((high - low) or 1.0) / STEPS, SMALLEST_SCALE), bits=1)
    zero_point = 2 * np.ceil((-low / scale - 0.5) / 2)
    return scale.astype(np.float32), zero_point.astype(np.uint8)


def apply_fake_quantize(
    x: Any, scale: Array, zero_point: Array, axis: int | None, bounds: tuple[int, int]
) -> Tensor:
    """Return a tensor rounded to integers within bounds, times the scale."""
    return FakeQuantize.apply(x, scale, zero_point, axis, *bounds)
