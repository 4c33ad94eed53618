"""Training of convolution, batch norm and clip as one launch each way; see the NumPy backend.

Forward, each chunk of the convolution leaves the statistics of what it wrote while that is in the
cache; one more pass scales, shifts and clips. Backward, one pass sums the masked gradient, the next
writes the convolution's output gradient to memory that is kept from call to call, and the two
products of the convolution's own gradient follow.
"""

from __future__ import annotations

import numpy as np

from lucid.kernels.numba import _threads
from lucid.kernels.numba._batch_norm import Gradient, Records, affine_row, merge_row
from lucid.kernels.numba._conv import (
    forward_rows,
    input_grad_rows,
    is_fast,
    weight_grad_rows,
)
from lucid.kernels.numba._native import empty, workspace
from lucid.kernels.numpy import _conv_norm_act as reference
from lucid.kernels.numpy._conv import Padding, Pair, _output_shape

Array = np.ndarray


def _vector(array: Array | None) -> Array | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)


def conv_norm_act_train(
    x: Array,
    weight: Array,
    norm_weight: Array | None,
    norm_bias: Array | None,
    eps: float,
    low: float | None,
    high: float | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[Array, Array, Array, Array]:
    """Return ``y = clip(batch_norm(z), low, high)``, ``z = conv2d(x, weight)``, mean, variance."""
    how = stride, padding, dilation, groups
    shape = _output_shape(x, weight, stride, padding, dilation)
    if not is_fast(x, weight, dilation, groups) or 0 in shape:
        return reference.conv_norm_act_train(
            x, weight, norm_weight, norm_bias, eps, low, high, *how
        )
    workspace.start()
    norm_weight, norm_bias = _vector(norm_weight), _vector(norm_bias)
    z, y = empty(shape), empty(shape)
    channels = shape[-1]
    records = Records()
    statistics = np.empty((2, channels))
    factors = np.empty((2, channels), np.float32)
    rows, _inputs = forward_rows(x, weight, z, *how, records=records)
    epsilon = np.array([eps])
    flat = z.reshape(-1, channels)
    rows.append(merge_row(records, len(flat), statistics, factors, norm_weight, norm_bias, epsilon))
    rows.append(affine_row(flat, y, factors[0], factors[1], low, high))
    _threads.run(_threads.plan(*rows))
    return y, z, statistics[0], statistics[1]


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
    low: float | None,
    high: float | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Array | None, Array | None, Array, Array]:
    """Return the gradients of x and the weight (None if not needed), of norm weight and bias."""
    how = stride, padding, dilation, groups
    of_weight = None
    fast = is_fast(grad, weight, dilation, groups) and z.size > 0
    if fast:
        workspace.start()
        gz = workspace.empty(z.shape)
        if needs_weight:
            of_weight = weight_grad_rows(x, gz, weight.shape, *how)
            fast = of_weight is not None
    if not fast:
        return reference.conv_norm_act_train_grad(
            grad, x, weight, z, mean, variance, norm_weight, norm_bias, eps, low, high, *how,
            needs_x, needs_weight,
        )  # fmt: skip
    norm_weight, norm_bias = _vector(norm_weight), _vector(norm_bias)
    channels = z.shape[-1]
    norm = Gradient(
        grad.reshape(-1, channels),
        z.reshape(-1, channels),
        (mean, variance),
        eps,
        norm_weight,
        norm_bias,
        low,
        high,
    )
    rows = [*norm.sums, norm.whole_row(gz)]
    gx = None
    if needs_x:
        gx = empty(x.shape)
        of_x, _inputs = input_grad_rows(gz, weight, gx, *how)
        rows += of_x
    if of_weight is not None:
        rows += of_weight[0]
    _threads.run(_threads.plan(*rows))
    gweight = None if of_weight is None else of_weight[1]()
    return gx, gweight, norm.dweight, norm.dbias
