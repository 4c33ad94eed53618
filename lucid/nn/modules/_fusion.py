"""Inference: convolution, batch norm and activation of a Sequential as one kernel.

One pass over the output instead of three. It happens only where nothing can tell the difference:
operations are not recorded, the layers are in evaluation mode, and none of them has hooks or is
of a class of the user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucid.autograd import Tensor
from lucid.nn.modules._activation import ReLU, ReLU6
from lucid.nn.modules._batch_norm import BatchNorm2d
from lucid.nn.modules._conv import Conv2d
from lucid.nn.modules._module import Module
from lucid.ops._batch_norm import scale_and_shift
from lucid.ops._conv import apply_conv_norm_act

# The bounds that an activation clips to.
_BOUNDS: dict[type[Module], tuple[float | None, float | None]] = {
    ReLU: (0.0, None),
    ReLU6: (0.0, 6.0),
}


def run_fused(modules: Sequence[Module], input: Any) -> Any:
    """Call ``modules`` one after the other, fusing what can be fused."""
    position = 0
    while position < len(modules):
        module = modules[position]
        following = modules[position + 1] if position + 1 < len(modules) else None
        if _is(module, Conv2d) and _is(following, BatchNorm2d) and _has_statistics(following):
            activation = modules[position + 2] if position + 2 < len(modules) else None
            kind = next((kind for kind in _BOUNDS if _is(activation, kind)), None)
            bounds = (None, None) if kind is None else _BOUNDS[kind]
            input = _conv_norm_act(module, following, bounds, input)
            position += 2 if kind is None else 3
        else:
            input = module(input)
            position += 1
    return input


def _is(module: Module | None, kind: type[Module]) -> bool:
    """Whether ``module`` does exactly what ``kind`` does, unobserved."""
    return (
        module is not None
        and type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
    )


def _has_statistics(norm: Any) -> bool:
    return not norm.training and norm.running_mean is not None


def _conv_norm_act(
    conv: Any, norm: Any, bounds: tuple[float | None, float | None], input: Any
) -> Tensor:
    dtype = conv.weight.dtype
    scale, shift = scale_and_shift(
        norm.weight, norm.bias, norm.running_mean.data, norm.running_var.data, norm.eps, dtype
    )
    if len(scale) != conv.out_channels:
        norm(conv(input))  # says what does not fit
    if conv.bias is not None:
        shift = shift + conv.bias.data * scale
    return apply_conv_norm_act(
        "Conv2d",
        input,
        conv.weight,
        scale,
        shift,
        *bounds,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
