"""Convolution, batch norm and a clipping activation as one operation of training."""

from __future__ import annotations

from lucid import kernels
from lucid.autograd import Function, Tensor, grad, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.kernels.exchange import Exchange
from lucid.kernels.geometry import NO_BOUNDS, Bounds, Conv
from lucid.ops._activation import Clip
from lucid.ops._batch_norm import BatchNormTraining, check_differentiable
from lucid.ops._common import Array
from lucid.ops._conv import Conv2d
from lucid.ops._layout import from_nhwc, to_nhwc


class ConvNormAct(Function):
    """``clip(batch_norm(conv2d(x, weight)), *bounds)`` by the batch's own statistics.

    Those come out as second and third results. Of what lies between input and output the
    convolution's result is kept, and maybe where the clip lets the gradient pass.
    """

    @staticmethod
    def forward(
        ctx: Node,
        x: Tensor,
        weight: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        eps: float,
        bounds: Bounds,
        conv: Conv,
        exchange: Exchange | None = None,
    ) -> tuple[Array, Array, Array]:
        images = to_nhwc(x.data)
        y, z, mean, variance, inside = kernels.active().conv_norm_act_train(
            images, weight.data, _data(norm_weight), _data(norm_bias), eps, bounds, conv, exchange
        )
        ctx.save_for_backward(x, weight, norm_weight, norm_bias)
        ctx.images, ctx.z, ctx.mean, ctx.variance, ctx.inside = images, z, mean, variance, inside
        ctx.eps, ctx.bounds, ctx.conv, ctx.exchange = eps, bounds, conv, exchange
        ctx.mark_non_differentiable(mean, variance)
        return from_nhwc(y), mean, variance

    @staticmethod
    def backward(ctx: Node, gradient: Tensor, *_: Tensor) -> tuple[Tensor | Array | None, ...]:
        x, weight, norm_weight, norm_bias = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if is_grad_enabled():
            check_differentiable(ctx)
            return ConvNormAct._differentiable(ctx, gradient, x, weight, norm_weight, norm_bias)
        # The images of a foreign layout are a copy: made once.
        kept = ctx.z, ctx.mean, ctx.variance, _data(norm_weight), _data(norm_bias), ctx.eps
        how = ctx.bounds, ctx.conv, needs[0], needs[1], ctx.exchange
        given = ctx.images, weight.data, *kept, *how, not ctx.retained, ctx.inside
        if not ctx.retained:
            ctx.free()  # now: if the kernel is interrupted, half of z is another's
        gx, gweight, gnorm_weight, gnorm_bias = kernels.active().conv_norm_act_train_grad(
            to_nhwc(gradient.data), *given
        )
        return (
            None if gx is None else from_nhwc(gx),
            gweight,
            gnorm_weight if needs[2] else None,
            gnorm_bias if needs[3] else None,
        )

    @staticmethod
    def _differentiable(
        ctx: Node,
        gradient: Tensor,
        x: Tensor,
        weight: Tensor,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """The same gradient by way of the three operations, for second derivatives."""
        y, _, _ = BatchNormTraining.apply(
            Conv2d.apply(x, weight, None, ctx.conv), norm_weight, norm_bias, ctx.eps
        )
        if ctx.bounds != NO_BOUNDS:
            y = Clip.apply(y, *ctx.bounds)
        inputs = [x, weight, norm_weight, norm_bias]
        wanted = [t for t, needed in zip(inputs, ctx.needs_input_grad) if needed and t is not None]
        found = iter(grad(y, wanted, gradient, create_graph=True))
        return tuple(
            next(found) if needed and t is not None else None
            for t, needed in zip(inputs, ctx.needs_input_grad)
        )


def _data(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.data
