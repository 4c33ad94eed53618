"""Training of convolution, batch norm and clip as one launch each way; see the NumPy backend.

Forward, each chunk of the convolution leaves the statistics of what it wrote while that is in the
cache; one more pass scales, shifts and clips. Backward, one pass sums the masked gradient, the next
writes the convolution's output gradient, over the output itself if nobody needs that any more: to
other memory takes a training step of conv_small 2.5 % longer. The two products of the convolution's
own gradient follow.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lucid.kernels.exchange import Exchange
from lucid.kernels.geometry import Bounds, Conv
from lucid.kernels.numba._batch_norm import (
    Gradient,
    Records,
    affine_instruction,
    factors_of,
    merge_instruction,
)
from lucid.kernels.numba._conv import (
    forward_instructions,
    has_weight_grad,
    input_grad_instructions,
    is_fast,
    weight_grad_instructions,
)
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _recorded, _threads
from lucid.kernels.numba.machine._native import Instruction, empty, workspace
from lucid.kernels.numpy import _conv_norm_act as reference

Array = np.ndarray


def _vector(array: Array | None) -> Array | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)


@functools.lru_cache(maxsize=64)
def _epsilon(eps: float) -> Array:
    return np.array([eps])


def _convolve(
    x: Array,
    weight: Array,
    norm_weight: Array | None,
    norm_bias: Array | None,
    eps: Array,
    z: Array,
    y: Array,
    statistics: Array,
    bounds: Bounds,
    conv: Conv,
) -> tuple[list[Instruction], Instruction, Array]:
    """Return the instructions up to the statistics, the one that follows, and its factors."""
    channels = z.shape[-1]
    records = Records()
    factors = workspace.empty((2, channels))
    instructions, _ = forward_instructions(x, weight, z, conv, records=records)
    flat = z.reshape(-1, channels)
    of_norm = norm_weight, norm_bias, eps
    merge = merge_instruction(records, len(flat), statistics, factors, *of_norm)
    return [*instructions, merge], affine_instruction(flat, y, factors, bounds), factors


def _forward(*given: Any) -> list[Instruction]:
    convolve, scale, _ = _convolve(*given)
    return [*convolve, scale]


@accelerates(reference.conv_norm_act_train)
def conv_norm_act_train(
    x: Array,
    weight: Array,
    norm_weight: Array | None,
    norm_bias: Array | None,
    eps: float,
    bounds: Bounds,
    conv: Conv,
    exchange: Exchange | None = None,
) -> tuple[Array, Array, Array, Array, Array | None]:
    shape = conv.output_shape(x.shape, weight.shape)
    if not is_fast(x, weight, conv) or 0 in shape:
        return NotImplemented
    weight = np.ascontiguousarray(weight)
    norm_weight, norm_bias = _vector(norm_weight), _vector(norm_bias)
    z, y = empty(shape), empty(shape)
    statistics = np.empty((2, shape[-1]))
    given = x, weight, norm_weight, norm_bias, _epsilon(eps), z, y, statistics
    if exchange is None:
        _recorded.launch(_forward, given, bounds, conv)
        return y, z, statistics[0], statistics[1], None
    workspace.start()
    convolve, scale, factors = _convolve(*given, bounds, conv)
    _threads.launch(*convolve)
    rows = z.size // shape[-1]
    mean, variance = exchange.statistics(statistics[0], statistics[1], rows)
    factors[...] = factors_of(mean, variance, eps, norm_weight, norm_bias)
    _threads.launch(scale)
    return y, z, mean, variance, None


def _gradient(
    grad: Array,
    x: Array,
    weight: Array,
    z: Array,
    mean: Array,
    variance: Array,
    eps: Array,
    norm_weight: Array | None,
    norm_bias: Array | None,
    gx: Array | None,
    gweight: Array | None,
    of_norm: Array,
    bounds: Bounds,
    conv: Conv,
    spends_z: bool,
) -> tuple[Gradient, list[Instruction]]:
    """Return batch norm's gradient, and the instructions that follow its sums."""
    channels = z.shape[-1]
    gz = z if spends_z else workspace.empty(z.shape)
    norm = Gradient(
        grad.reshape(-1, channels),
        z.reshape(-1, channels),
        mean,
        variance,
        eps,
        of_norm,
        norm_weight,
        norm_bias,
        bounds,
    )
    instructions = [norm.whole(gz)]
    if gx is not None:
        instructions += input_grad_instructions(gz, weight, gx, conv)
    if gweight is not None:
        instructions += weight_grad_instructions(x, gz, gweight, conv)
    return norm, instructions


def _backward(*given: Any) -> list[Instruction]:
    norm, instructions = _gradient(*given)
    return [*norm.sums, *instructions]


@accelerates(reference.conv_norm_act_train_grad)
def conv_norm_act_train_grad(
    grad: Array,
    x: Array,
    weight: Array,
    z: Array,
    mean: Array,
    variance: Array,
    norm_weight: Array | None,
    norm_bias: Array | None,
    eps: float,
    bounds: Bounds,
    conv: Conv,
    needs_x: bool,
    needs_weight: bool,
    exchange: Exchange | None = None,
    spends_z: bool = False,
    inside: Array | None = None,
) -> tuple[Array | None, Array | None, Array, Array]:
    if not is_fast(grad, weight, conv) or z.size == 0:
        return NotImplemented
    if needs_weight and not has_weight_grad(x, weight.shape, conv):
        return NotImplemented
    weight = np.ascontiguousarray(weight)
    mean, variance = (np.ascontiguousarray(array, np.float64) for array in (mean, variance))
    gx = empty(x.shape) if needs_x else None
    gweight = empty(weight.shape) if needs_weight else None
    of_norm = np.empty((2, z.shape[-1]), np.float32)
    given = (
        grad, x, weight, z, mean, variance, _epsilon(eps), _vector(norm_weight),
        _vector(norm_bias), gx, gweight, of_norm,
    )  # fmt: skip
    if exchange is None:
        _recorded.launch(_backward, given, bounds, conv, spends_z)
    else:
        workspace.start()
        norm, instructions = _gradient(*given, bounds, conv, spends_z)
        norm.exchange(exchange)
        _threads.launch(*instructions)
    return gx, gweight, of_norm[0], of_norm[1]
