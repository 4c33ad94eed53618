"""Training of convolution, batch norm and clip in one: what is between them is kept once."""

from __future__ import annotations

import numpy as np

from lucid.kernels.numpy._activation import clip, clip_grad
from lucid.kernels.numpy._batch_norm import batch_norm_grad, batch_norm_stats, scale_shift
from lucid.kernels.numpy._conv import (
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
)

Array = np.ndarray


def _bounds(low, high):
    return -np.inf if low is None else low, np.inf if high is None else high


def _factors(mean, variance, weight, bias, eps, dtype):
    scale = 1 / np.sqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return scale.astype(dtype), shift.astype(dtype)


def conv_norm_act_train(
    x, weight, norm_weight, norm_bias, eps, low, high, stride, padding, dilation, groups
):
    z = conv2d(x, weight, None, stride, padding, dilation, groups)
    rows = z.reshape(-1, z.shape[-1])
    mean, variance = batch_norm_stats(rows)
    y = scale_shift(rows, *_factors(mean, variance, norm_weight, norm_bias, eps, z.dtype))
    if low is not None or high is not None:
        y = clip(y, *_bounds(low, high))
    return y.reshape(z.shape), z, mean, variance


def conv_norm_act_train_grad(
    grad,
    x,
    weight,
    z,
    mean,
    variance,
    norm_weight,
    norm_bias,
    eps,
    low,
    high,
    stride,
    padding,
    dilation,
    groups,
    needs_x,
    needs_weight,
):
    how = stride, padding, dilation, groups
    rows = z.reshape(-1, z.shape[-1])
    g = grad.reshape(rows.shape)
    if low is not None or high is not None:
        y = scale_shift(rows, *_factors(mean, variance, norm_weight, norm_bias, eps, z.dtype))
        g = clip_grad(g, y, *_bounds(low, high))
    inverse = (1 / np.sqrt(variance + eps)).astype(z.dtype)
    gz, gw, gb = batch_norm_grad(g, rows, mean.astype(z.dtype), inverse, norm_weight)
    gz = gz.reshape(z.shape)
    return (
        conv2d_input_grad(gz, weight, x.shape, *how) if needs_x else None,
        conv2d_weight_grad(x, gz, weight.shape, *how) if needs_weight else None,
        gw,
        gb,
    )
