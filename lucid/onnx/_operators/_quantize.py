"""Integers that stand for numbers: ``x ≈ (q - zero point) · scale``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import ops
from lucid.autograd import Tensor
from lucid.onnx._operators._elementwise import DTYPES
from lucid.onnx._operators._table import (
    array,
    array_dtype,
    axis_of,
    operator,
    tensor,
    unsupported,
)
from lucid.onnx._read import Node
from lucid.quantization._fake_quantize import apply_fake_quantize


def _along(node: Node, x: Tensor, values: Any) -> np.ndarray:
    """Return one number, or one for each place on the axis, to broadcast to ``x``."""
    numbers = array(values)
    if numbers.ndim == 0 or numbers.size == 1:
        return numbers.reshape(())
    block = node.integer("block_size")
    axis = axis_of(node.integer("axis", 1), x.ndim)
    if block:
        return np.repeat(numbers, block, axis)[tuple(slice(length) for length in x.shape)]
    if numbers.ndim != 1:
        raise unsupported(node, f"a scale of shape {numbers.shape}")
    if numbers.size != x.shape[axis]:
        raise ValueError(f"{node}: expected {x.shape[axis]} scales, got {numbers.size}")
    return numbers.reshape([-1 if each == axis else 1 for each in range(x.ndim)])


def _as_many(node: Node, x: Any, *others: Any) -> int:
    return int(np.size(x))


@operator("QuantizeLinear", size=_as_many, fixed=(1, 2))
def quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    """`lucid.round` of the quotient, within the integers' range."""
    x = tensor(x)
    code = node.integer("output_dtype")
    dtype = array_dtype(zero) if zero is not None else np.dtype(DTYPES.get(code, np.uint8))
    if dtype.kind not in "iu" or (code and code not in DTYPES):
        raise unsupported(node, f"the data type {code or dtype}")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    factor = _along(node, x, scale)
    wide = np.float64 if x.dtype == np.float64 else np.float32
    quotient = ops.round(x.astype(wide) / factor.astype(wide))
    if zero is not None:
        quotient = quotient + _along(node, x, zero).astype(wide)
    return ops.clamp(quotient, float(low), float(high)).astype(dtype)


@operator("DequantizeLinear", size=_as_many, fixed=(1, 2))
def dequantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    """The difference from the zero point, times the scale."""
    x = tensor(x)
    code, kind = node.integer("output_dtype"), array_dtype(scale)
    if code and code not in DTYPES:
        raise unsupported(node, f"the data type {code}")
    dtype = np.dtype(DTYPES[code]) if code else kind
    wide = x.astype(np.int32 if x.dtype.itemsize < 4 else np.int64)
    if zero is not None:
        wide = wide - _along(node, x, zero).astype(wide.dtype)
    return (wide.astype(np.float32) * _along(node, x, scale).astype(np.float32)).astype(dtype)


# No file has this operator: the loader makes it of QuantizeLinear and DequantizeLinear.
ROUNDED = "QuantizeLinear, DequantizeLinear"


@operator(ROUNDED, size=None, fixed=(1, 2))
def fake_quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    """One after the other with the same numbers: `FakeQuantize`, which passes gradients."""
    x, factor = tensor(x), array(scale)
    place = np.zeros(factor.shape, np.uint8) if zero is None else array(zero)
    axis = axis_of(node.integer("axis", 1), x.ndim) if factor.size > 1 else None
    if axis is None:
        factor, place = factor.reshape(()), place.reshape(())
    bounds = np.iinfo(place.dtype)
    return apply_fake_quantize(x, factor, place, axis, (bounds.min, bounds.max))


@operator("DynamicQuantizeLinear", size=None)
def dynamic_quantize(node: Node, x: Any) -> Any:
    """Scale and zero point by the smallest and the largest number."""
    values = array(x)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(np.float32(0 - low) / scale), 0, 255) if scale else np.float32(0)
    places = np.rint(values / scale) + zero if scale else values * 0 + zero
    return (
        np.clip(places, 0, 255).astype(np.uint8),
        np.asarray(scale),
        np.asarray(zero, np.uint8),
    )
