"""Normalisation of each sample by itself: layer, root-mean-square, group and instance norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import kernels
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._batch_norm import normalized, update_running
from lucid.ops._common import Array, floating, operand, wide
from lucid.ops._elementwise import astype, widened
from lucid.ops._pool import avg_pool2d
from lucid.ops._shape import pad

__all__ = ["group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over ``axes``, kept with size 1, in the dtype of ``x``."""
    count = math.prod([x.shape[axis] for axis in axes])
    mean: Array = kernels.active().sums(x, axes, True) / count
    return mean.astype(x.dtype, copy=False)


class Standardize(Function):
    r""":math:`(x - \bar x) / \sqrt{\mathrm{Var}[x] + \epsilon}` over some axes."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], eps: float) -> Array:
        values = wide(x.data)
        y: Array = values - _mean(values, axes)
        # A square sum for each sample would be faster through einsum, but less exact.
        inverse_std = _mean(np.square(y), axes)
        inverse_std += eps
        np.sqrt(inverse_std, out=inverse_std)
        np.divide(1, inverse_std, out=inverse_std)
        y *= inverse_std
        y = y.astype(x.dtype, copy=False)
        ctx.save_for_backward(x, y)
        ctx.inverse_std, ctx.axes, ctx.eps = inverse_std, axes, eps
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = (widened(tensor) for tensor in ctx.saved_tensors)
        dtype, grad = grad.dtype, widened(grad)
        if is_grad_enabled():
            centred = x - x.mean(ctx.axes, keepdim=True)
            inverse_std = ((centred * centred).mean(ctx.axes, keepdim=True) + ctx.eps).rsqrt()
            y = centred * inverse_std
            slope = (grad * y).mean(ctx.axes, keepdim=True)
            g = (grad - grad.mean(ctx.axes, keepdim=True) - y * slope) * inverse_std
            return astype(g, dtype)
        slopes: Array = grad.data - _mean(grad.data, ctx.axes)
        slopes -= y.data * _mean(grad.data * y.data, ctx.axes)
        slopes *= ctx.inverse_std
        return wrap(slopes.astype(dtype, copy=False))


def _standardize(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return Standardize.apply(x, axes, float(eps)) if x.data.size else x * 1.0


def _affine(
    x: Tensor, weight: Any, bias: Any, shape: tuple[int, ...], given: tuple[int, ...], who: str
) -> Tensor:
    """Return ``x * weight + bias``; both are expected in shape ``given`` and used in ``shape``."""
    for name, value in (("weight", weight), ("bias", bias)):
        if value is None:
            continue
        parameter = floating(value, who)
        if parameter.shape != given:
            raise ValueError(f"{who}: expected a {name} of shape {given}, got {parameter.shape}")
        parameter = parameter.reshape(*shape)
        x = x * parameter if name == "weight" else x + parameter
    return x


def layer_norm(
    input: Any,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    r"""Normalise over the last axes (Ba et al. 2016).

    .. math::

        y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot w + b

    Args:
        input: ``(*, normalized_shape)``, floating point.
        normalized_shape: the sizes of the last axes.
        weight: of that shape, or None for 1.
        bias: of that shape, or None for 0.
        eps: added to the (biased) variance, under the root.

    Raises:
        ValueError: if the shapes do not fit.
    """
    who = "layer_norm"
    x = floating(input, who)
    sizes, axes = _last_axes(x, normalized_shape, who)
    return _affine(_standardize(x, axes, eps), weight, bias, sizes, sizes, who)


def _last_axes(x: Tensor, shape: Any, who: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes of the last axes as a tuple, and these axes."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not sizes or x.shape[-len(sizes) :] != sizes:
        raise ValueError(
            f"{who}: expected an input whose last axes have the sizes {sizes}, got shape {x.shape}"
        )
    return sizes, tuple(range(x.ndim - len(sizes), x.ndim))


def rms_norm(
    input: Any,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: Any = None,
    eps: float | None = None,
) -> Tensor:
    r"""Return :math:`x / \sqrt{\mathrm{E}[x^2] + \epsilon} \cdot w` (Zhang & Sennrich 2019).

    Arguments and errors as in :func:`layer_norm`; ``eps=None`` means the spacing of the dtype at 1.
    """
    who = "rms_norm"
    x = floating(input, who)
    sizes, axes = _last_axes(x, normalized_shape, who)
    values = widened(x)
    eps = float(np.finfo(values.dtype).eps) if eps is None else eps
    y = values * (values.square().mean(axes, keepdim=True) + eps).rsqrt()
    if weight is not None:
        y = _affine(y, widened(floating(weight, who)), None, sizes, sizes, who)
    return astype(y, x.dtype)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each sample over groups of channels and all positions (Wu & He 2018).

    Args:
        input: ``(N, C, *)``, floating point.
        num_groups: into how many groups the channels are split.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        eps: added to the (biased) variance, under the root.

    Raises:
        ValueError: if ``num_groups`` does not divide C, or the shapes do not fit.
    """
    return _group_norm("group_norm", input, num_groups, weight, bias, eps)


def _group_norm(
    who: str, input: Any, num_groups: int | None, weight: Any, bias: Any, eps: float
) -> Tensor:
    x = floating(input, who)
    if x.ndim < 2:
        raise ValueError(f"{who}: expected an input of shape (N, C, *), got {x.shape}")
    n, channels = x.shape[:2]
    groups = channels if num_groups is None else num_groups
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{who}: num_groups must divide the {channels} channels (axis 1), got {groups}"
        )
    # Splitting the channel axis is a view in any memory layout.
    grouped = x.reshape(n, groups, channels // groups, *x.shape[2:])
    y = _standardize(grouped, tuple(range(2, grouped.ndim)), eps).reshape(*x.shape)
    return _affine(y, weight, bias, (channels,) + (1,) * (x.ndim - 2), (channels,), who)


def instance_norm(
    input: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each sample over its positions (Ulyanov et al. 2016).

    Args:
        input: ``(N, C, *)`` with at least one axis of positions, floating point.
        running_mean: ``(C,)``, moved in place towards the mean of the samples' means, or None.
        running_var: ``(C,)``, likewise with unbiased variances.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        use_input_stats: normalise by each sample's own statistics; otherwise by the running ones.
        momentum: weight of the *new* value in the running statistics.
        eps: added to the (biased) variance, under the root.

    Raises:
        ValueError: if the shapes do not fit, or there are no running statistics to use.
    """
    return instance_normalized(
        "instance_norm",
        input,
        running_mean,
        running_var,
        weight,
        bias,
        use_input_stats,
        momentum,
        eps,
    )


def instance_normalized(
    who: str,
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any,
    bias: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise in the name of ``who``; see :func:`instance_norm`."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                f"{who}: use_input_stats=False needs running_mean and running_var, got none"
            )
        return normalized(who, input, running_mean, running_var, weight, bias, False, eps)[0]
    y = _group_norm(who, input, None, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        x = wide(operand(input, who).data)
        positions, count = tuple(range(2, x.ndim)), math.prod(x.shape[2:])
        mean, variance = x.mean(positions).mean(0), x.var(positions).mean(0)
        update_running(running_mean, running_var, (mean, variance, count), momentum)
    return y


def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    r"""Divide by :math:`(k + \alpha\, m)^\beta`, m the mean square of the neighbouring channels.

    Args:
        input: ``(N, C, *)``, floating point.
        size: how many channels count, zeros beyond the first and the last.
        alpha: the mean's factor.
        beta: the exponent.
        k: the summand.
    """
    who = "local_response_norm"
    x = operand(input, who)
    if x.ndim < 3:
        raise ValueError(f"{who}: expected an input of shape (N, C, *), got shape {x.shape}")
    if x.data.size == 0:
        return x
    channels = (x * x).flatten(2).unsqueeze(1)
    padded = pad(channels, (0, 0, size // 2, (size - 1) // 2))
    mean = avg_pool2d(padded, (size, 1), 1).reshape(x.shape)
    return x / (mean * alpha + k).pow(beta)
