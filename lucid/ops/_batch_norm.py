"""Batch normalisation (Ioffe & Szegedy 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import kernels
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import mark_changed, wrap
from lucid.kernels.exchange import Exchange
from lucid.kernels.geometry import norm_scale_shift
from lucid.ops._common import Array, operand, wide
from lucid.ops._elementwise import astype, widened
from lucid.ops._layout import from_nhwc, to_nhwc
from lucid.ops._sync_batch_norm import OverRanks

__all__ = ["batch_norm"]

Statistics = tuple[Array, Array, int]  # mean and variance of a batch, and its values a channel


def _rows(x: Array) -> Array:
    """Return ``(N, C, *)`` as rows ``(M, C)``, channels last.

    Those of float16 are in float32.
    """
    if x.ndim == 4:
        return wide(to_nhwc(x)).reshape(-1, x.shape[1])
    return wide(np.ascontiguousarray(np.moveaxis(x, 1, -1))).reshape(-1, x.shape[1])


def _unrows(rows: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    rows = rows.astype(dtype, copy=False)
    if len(shape) == 4:
        n, c, h, w = shape
        return from_nhwc(rows.reshape(n, h, w, c))
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _channel_axes(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim))


class BatchNormTraining(Function):
    """Normalise by the batch's own statistics; they come out as second and third results."""

    @staticmethod
    def forward(
        ctx: Node,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        exchange: Exchange | None = None,
    ) -> tuple[Array, Array, Array]:
        rows = _rows(x.data)
        if len(rows):
            mean, variance = kernels.active().batch_norm_stats(rows)
        else:  # others may have some
            mean = variance = np.zeros(rows.shape[1])
        if exchange is not None:
            mean, variance = exchange.statistics(mean, variance, len(rows))
        scale, shift = scale_and_shift(weight, bias, mean, variance, eps, rows.dtype)
        y = kernels.active().scale_shift(rows, scale, shift)
        ctx.save_for_backward(x, weight)
        ctx.mean = mean.astype(rows.dtype)
        ctx.inverse_std = _inverse_std(variance, eps, rows.dtype)
        ctx.eps, ctx.exchange = eps, exchange
        ctx.mark_non_differentiable(mean, variance)
        return _unrows(y, x.shape, x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Node, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if is_grad_enabled():
            check_differentiable(ctx)
            return BatchNormTraining._differentiable(ctx, grad, x, weight)
        gx, dweight, dbias = kernels.active().batch_norm_grad(
            _rows(grad.data),
            _rows(x.data),
            ctx.mean,
            ctx.inverse_std,
            None if weight is None else wide(weight.data),
            ctx.exchange,
        )
        return (
            wrap(_unrows(gx, x.shape, x.dtype)),
            wrap(dweight.astype(x.dtype, copy=False)),
            wrap(dbias.astype(x.dtype, copy=False)),
        )

    @staticmethod
    def _differentiable(
        ctx: Node, grad: Tensor, x: Tensor, weight: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The same gradient in tensor operations, for second derivatives."""
        axes = _channel_axes(x.ndim)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        dtype = x.dtype
        grad, x = widened(grad), widened(x)
        centred = x - x.mean(axes, keepdim=True)
        inverse_std = ((centred * centred).mean(axes, keepdim=True) + ctx.eps) ** -0.5
        normal = centred * inverse_std
        dweight, dbias = (grad * normal).sum(axes), grad.sum(axes)
        scaled = grad if weight is None else grad * widened(weight).reshape(shape)
        gx = inverse_std * (
            scaled
            - scaled.mean(axes, keepdim=True)
            - normal * (scaled * normal).mean(axes, keepdim=True)
        )
        return astype(gx, dtype), astype(dweight, dtype), astype(dbias, dtype)


def check_differentiable(ctx: Node) -> None:
    """Raise RuntimeError where the gradient of the gradient would need the other ranks."""
    if ctx.exchange is not None:
        raise RuntimeError(
            "SyncBatchNorm: there are no second derivatives over several ranks; "
            "leave out create_graph=True"
        )


def _inverse_std(variance: Array, eps: float, dtype: np.dtype) -> Array:
    return (1 / np.sqrt(variance + np.float64(eps))).astype(dtype)


def scale_and_shift(
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Array,
    variance: Array,
    eps: float,
    dtype: np.dtype,
) -> tuple[Array, Array]:
    """Return :func:`norm_scale_shift` of tensors."""
    return norm_scale_shift(
        mean,
        variance,
        None if weight is None else weight.data,
        None if bias is None else bias.data,
        eps,
        dtype,
    )


class BatchNormInference(Function):
    """Normalise by given statistics: one factor and one summand a channel."""

    @staticmethod
    def forward(
        ctx: Node,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Array,
        variance: Array,
        eps: float,
    ) -> Array:
        rows = _rows(x.data)
        scale, shift = scale_and_shift(weight, bias, mean, variance, eps, rows.dtype)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        if any(ctx.needs_input_grad):  # a later training step changes the statistics
            ctx.mean, ctx.inverse_std = mean.copy(), _inverse_std(variance, eps, rows.dtype)
        return _unrows(kernels.active().scale_shift(rows, scale, shift), x.shape, x.dtype)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        axes = _channel_axes(grad.ndim)
        shape = (1, -1) + (1,) * (grad.ndim - 2)
        factor = wrap(ctx.inverse_std)
        dtype, grad = grad.dtype, widened(grad)
        normal = None
        if ctx.needs_input_grad[1]:
            mean = wrap(ctx.mean.astype(grad.dtype))
            normal = (widened(x) - mean.reshape(shape)) * factor.reshape(shape)
        if weight is not None:
            factor = factor * widened(weight)
        return (
            astype(grad * factor.reshape(shape), dtype) if ctx.needs_input_grad[0] else None,
            None if normal is None else astype((grad * normal).sum(axes), dtype),
            astype(grad.sum(axes), dtype) if ctx.needs_input_grad[2] else None,
        )


def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""Normalise each channel over the batch and all positions (Ioffe & Szegedy 2015).

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \cdot w + b

    In training the statistics are the batch's, with the biased variance (divided by M, the
    number of values a channel); the running ones are then updated in place,
    ``running = (1 - momentum) * running + momentum * batch``, with the unbiased variance
    (divided by M - 1). Otherwise the running statistics are used.

    Args:
        input: ``(N, C)``, ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, D, H, W)``, floating point.
        running_mean: ``(C,)``; None in training keeps no statistics, None otherwise means the
            batch's are used all the same.
        running_var: likewise.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        training: use and update with the batch's statistics.
        momentum: weight of the *new* value in the running statistics, as in PyTorch.
        eps: added to the variance, under the root; in training positive.

    Returns:
        A tensor of the input's shape.

    Raises:
        ValueError: if shapes do not fit, or in training there is one value a channel only.
        TypeError: if the input is not floating point.
    """
    y, batch = normalized(
        "batch_norm", input, running_mean, running_var, weight, bias, training, eps
    )
    if training and batch is not None and running_mean is not None and running_var is not None:
        update_running(running_mean, running_var, batch, momentum)
    return y


def normalized(
    who: str,
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    eps: float,
    exchange: OverRanks | None = None,
) -> tuple[Tensor, Statistics | None]:
    """Check the arguments in the name of ``who`` and normalise, in training over all ranks.

    Returns:
        The result, and the batch's statistics if it was by them and there are any.
    """
    x = operand(input, who)
    if x.ndim not in (2, 3, 4, 5):
        raise ValueError(
            f"{who}: expected an input of shape (N, C), (N, C, L) or (N, C, H, W), got {x.shape}"
        )
    if x.dtype.kind != "f":
        raise TypeError(f"{who}: expected a floating-point input, got {x.dtype}")
    channels = x.shape[1]
    for name, value in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if value is not None and value.shape != (channels,):
            if value.ndim == 1:
                raise ValueError(
                    f"{who}: expected {value.shape[0]} channels (axis 1), as {name} has, got "
                    f"{channels} from an input of shape {x.shape}"
                )
            raise ValueError(f"{who}: expected {name} of shape ({channels},), got {value.shape}")
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{who}: give both running_mean and running_var, or neither")
    if training or running_mean is None or running_var is None:
        if not eps > 0:
            raise ValueError(f"{who}: eps must be positive in training, got {eps}")
        if exchange is not None and training and channels:
            y, mean, variance = BatchNormTraining.apply(x, weight, bias, float(eps), exchange)
            return y, (mean.data, variance.data, exchange.rows)
        count = x.data.size // channels if channels else 0
        if count <= 1 and x.data.size:
            raise ValueError(
                f"{who}: in training there must be more than one value a channel, got an input of "
                f"shape {x.shape}; use a larger batch or eval()"
            )
        if not x.data.size:
            return _empty(x, weight, bias), None
        y, mean, variance = BatchNormTraining.apply(x, weight, bias, float(eps))
        return y, (mean.data, variance.data, count)
    y = BatchNormInference.apply(x, weight, bias, running_mean.data, running_var.data, float(eps))
    return y, None


def _empty(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """An empty batch has no statistics; its result is empty, with gradients of zero."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = x * 1.0 if weight is None else x * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def update_running(
    running_mean: Tensor, running_var: Tensor, batch: Statistics, momentum: float
) -> None:
    """Move the running statistics towards the batch's."""
    mean, variance, count = batch
    with np.errstate(all="ignore"):  # infinities arise silently, as in an operation
        unbiased = variance * (count / (count - 1))
        for running, new in ((running_mean, mean), (running_var, unbiased)):
            running.data *= 1 - momentum
            running.data += (momentum * new).astype(running.dtype)
            mark_changed(running)
