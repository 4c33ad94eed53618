"""Training of convolution, batch norm and clip as one launch each way; see the NumPy backend.

Forward, each chunk of the convolution leaves the statistics of what it wrote while that is in the
cache; one more pass scales, shifts and clips. Backward, one pass sums the masked gradient, the next
writes the convolution's output gradient to memory that is kept from call to call, and the two
products of the convolution's own gradient follow.
"""

from __future__ import annotations

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
    input_grad_instructions,
    is_fast,
    weight_grad_instructions,
)
from lucid.kernels.numba._fallback import accelerates
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import empty, workspace
from lucid.kernels.numpy import _conv_norm_act as reference

Array = np.ndarray


def _vector(array: Array | None) -> Array | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)


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
) -> tuple[Array, Array, Array, Array]:
    shape = conv.output_shape(x.shape, weight.shape)
    if not is_fast(x, weight, conv) or 0 in shape:
        return NotImplemented
    workspace.start()
    norm_weight, norm_bias = _vector(norm_weight), _vector(norm_bias)
    z, y = empty(shape), empty(shape)
    channels = shape[-1]
    records = Records()
    statistics = np.empty((2, channels))
    factors = np.empty((2, channels), np.float32)
    instructions, _inputs = forward_instructions(x, weight, z, conv, records=records)
    epsilon = np.array([eps])
    flat = z.reshape(-1, channels)
    merge = merge_instruction(
        records, len(flat), statistics, factors, norm_weight, norm_bias, epsilon
    )
    if exchange is None:
        _threads.launch(*instructions, merge, affine_instruction(flat, y, factors, bounds))
        return y, z, statistics[0], statistics[1]
    _threads.launch(*instructions, merge)
    mean, variance = exchange.statistics(statistics[0], statistics[1], len(flat))
    factors = factors_of(mean, variance, eps, norm_weight, norm_bias)
    _threads.launch(affine_instruction(flat, y, factors, bounds))
    return y, z, mean, variance


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
) -> tuple[Array | None, Array | None, Array, Array]:
    of_weight = None
    fast = is_fast(grad, weight, conv) and z.size > 0
    if fast:
        workspace.start()
        gz = workspace.empty(z.shape)
        if needs_weight:
            of_weight = weight_grad_instructions(x, gz, weight.shape, conv)
            fast = of_weight is not None
    if not fast:
        return NotImplemented
    norm_weight, norm_bias = _vector(norm_weight), _vector(norm_bias)
    channels = z.shape[-1]
    norm = Gradient(
        grad.reshape(-1, channels),
        z.reshape(-1, channels),
        (mean, variance),
        eps,
        norm_weight,
        norm_bias,
        bounds,
    )
    if exchange is not None:
        norm.exchange(exchange)
    instructions = [*norm.sums, norm.whole(gz)]
    gx = None
    if needs_x:
        gx = empty(x.shape)
        of_x, _inputs = input_grad_instructions(gz, weight, gx, conv)
        instructions += of_x
    if of_weight is not None:
        instructions += of_weight[0]
    _threads.launch(*instructions)
    gweight = None if of_weight is None else of_weight[1]()
    return gx, gweight, norm.dweight, norm.dbias
