"""Convolution, batch norm and activation of a Sequential as one operation.

Fewer passes over the output: in inference batch norm is multiplied into the weights, in training
the batch's statistics are taken while the convolution's result is in the cache, and the gradient
needs neither the normalised map nor the activation's output. It happens only where nothing can
tell the difference: none of the layers has hooks or is of a class of the user's own, and nobody
observes the single operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import observing
from lucid.kernels.geometry import NO_BOUNDS, Bounds
from lucid.nn.modules._activation import ReLU, ReLU6
from lucid.nn.modules._batch_norm import BatchNorm2d
from lucid.nn.modules._conv import Conv2d
from lucid.nn.modules._module import Module
from lucid.ops._batch_norm import scale_and_shift
from lucid.ops._conv import apply_conv_norm_act
from lucid.ops._conv_norm_act import apply_conv_norm_act_train

# The bounds that an activation clips to.
_BOUNDS: dict[type[Module], Bounds] = {
    ReLU: (0.0, math.inf),
    ReLU6: (0.0, 6.0),
}


def run_fused(modules: Sequence[Module], input: Any) -> Any:
    """Call ``modules`` one after the other, fusing what can be fused."""
    position = 0
    while position < len(modules):
        module = modules[position]
        following = modules[position + 1] if position + 1 < len(modules) else None
        fused = _fused(module, following, input)
        if fused is None:
            input = module(input)
            position += 1
            continue
        activation = modules[position + 2] if position + 2 < len(modules) else None
        kind = next((kind for kind in _BOUNDS if _is(activation, kind)), None)
        input = fused(module, following, NO_BOUNDS if kind is None else _BOUNDS[kind], input)
        position += 2 if kind is None else 3
    return input


def _fused(conv: Any, norm: Any, input: Any) -> Any:
    """Return the function for a convolution and its batch norm, or None if they stay apart."""
    if not _is(conv, Conv2d) or not _is(norm, BatchNorm2d):
        return None
    if norm.num_features != conv.out_channels:
        return None  # the batch norm says so
    if norm.training or norm.running_mean is None:
        # One image may have one value a channel, which batch norm refuses.
        several = len(getattr(input, "shape", ())) == 4 and input.shape[0] > 1
        plain = conv.bias is None and observing.observer is None
        return _train if plain and several else None
    return None if is_grad_enabled() else _infer


def _is(module: Module | None, kind: type[Module]) -> bool:
    """Whether ``module`` does exactly what ``kind`` does, unobserved."""
    return (
        module is not None
        and type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
    )


def _train(conv: Any, norm: Any, bounds: Bounds, input: Any) -> Tensor:
    y, mean, variance = apply_conv_norm_act_train(
        "Conv2d",
        input,
        conv.weight,
        norm.weight,
        norm.bias,
        norm.eps,
        bounds,
        *conv._settings,
    )
    if norm.training:
        n, _, h, w = y.shape
        norm._take_statistics(mean.data, variance.data, n * h * w)
    return y


def _infer(conv: Any, norm: Any, bounds: Bounds, input: Any) -> Tensor:
    dtype = conv.weight.dtype
    scale, shift = scale_and_shift(
        norm.weight, norm.bias, norm.running_mean.data, norm.running_var.data, norm.eps, dtype
    )
    if conv.bias is not None:
        shift = shift + conv.bias.data * scale
    return apply_conv_norm_act(
        "Conv2d",
        input,
        conv.weight,
        scale,
        shift,
        bounds,
        *conv._settings,
    )
