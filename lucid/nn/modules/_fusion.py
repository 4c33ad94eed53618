"""Convolution, batch norm and activation of a Sequential as one operation.

Fewer passes over the output: in inference batch norm is multiplied into the weights, in training
the batch's statistics are taken while the convolution's result is in the cache, and the gradient
needs neither the normalised map nor the activation's output. It happens only where nothing can
tell the difference: none of the layers has hooks or is of a class of the user's own, and nobody
observes the single operations.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

from lucid import kernels
from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed
from lucid.autograd._tensor import array_of, wrap
from lucid.kernels.geometry import NO_BOUNDS, Bounds, Epilogue, norm_scale_shift
from lucid.nn._untouched import Untouched
from lucid.nn.modules._activation import ReLU, ReLU6
from lucid.nn.modules._batch_norm import BatchNorm2d, SyncBatchNorm
from lucid.nn.modules._conv import Conv2d
from lucid.nn.modules._module import Module
from lucid.ops._conv import checked
from lucid.ops._conv_norm_act import ConvNormAct as Training
from lucid.ops._layout import from_nhwc

# The bounds that an activation clips to.
_BOUNDS: dict[type[Module], Bounds] = {ReLU: (0.0, math.inf), ReLU6: (0.0, 6.0)}
_NORMS = BatchNorm2d, SyncBatchNorm


def steps(modules: Iterable[Module]) -> list[Callable[[Any], Any]]:
    """Return what to call one after the other: the modules, of which some are called as one."""
    found: list[Callable[[Any], Any]] = []
    waiting = list(modules)[::-1]
    while waiting:
        step: Any = waiting.pop()
        if type(step) is Conv2d and waiting and type(waiting[-1]) in _NORMS:
            norm: Any = waiting.pop()
            act = waiting.pop() if waiting and type(waiting[-1]) in _BOUNDS else None
            step = ConvNormAct(step, norm, act)
        found.append(step)
    return found


class ConvNormAct:
    """A convolution, its batch norm and perhaps a clip: one operation, wherever that can be.

    In inference the weights, with the batch norm in them, are kept in the form that the backend
    wants, as long as nobody asks a parameter or a statistic for its array.
    """

    __slots__ = ("act", "bounds", "conv", "fitting", "geometry", "kept", "norm")

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, act: Module | None) -> None:
        self.conv = conv
        self.norm = norm
        self.act = act
        self.bounds = NO_BOUNDS if act is None else _BOUNDS[type(act)]
        self.kept: _Kept | None = None
        self.fitting: Any = None  # what the last input of training and its layers were like
        self.geometry: Any = None  # and the convolution's geometry

    def __call__(self, input: Any) -> Any:
        """Return what the layers return, called one after the other."""
        act = self.act
        run = self._fused(input)
        if run is None:
            output = self.norm(self.conv(input))
        elif act is None or _is_plain(act, type(act)):
            return run(input, self.bounds)
        else:
            output = run(input, NO_BOUNDS)
        return output if act is None else act(output)

    def _fused(self, input: Any) -> Callable[[Any, Bounds], Tensor] | None:
        """Return the function for convolution and batch norm, or None if they stay apart."""
        conv, norm = self.conv, self.norm
        if not (_is_plain(conv, Conv2d) and type(norm) in _NORMS and _is_plain(norm, type(norm))):
            return None
        if norm.num_features != conv.out_channels:
            return None  # the batch norm says so
        if conv.padding_mode != "zeros":
            return None
        if norm.training or norm.running_mean is None:
            # One image may have one value a channel, which batch norm refuses.
            several = len(getattr(input, "shape", ())) == 4 and input.shape[0] > 1
            return self._train if several and conv.bias is None and not is_observed() else None
        return None if is_grad_enabled() else self._infer

    def _train(self, input: Any, bounds: Bounds) -> Tensor:
        conv, norm = self.conv, self.norm
        weight, settings, exchange = conv.weight, conv._settings, norm._exchange()
        fitting = input.shape, input.dtype, weight.shape, weight.dtype, settings
        if not isinstance(input, Tensor) or fitting != self.fitting:
            input, _, _, self.geometry = checked("Conv2d", 2, input, weight, None, *settings)
            self.fitting = fitting if _is_constant(settings) else None
        of_norm = norm.weight, norm.bias, float(norm.eps)
        y, mean, variance = Training.apply(input, weight, *of_norm, bounds, self.geometry, exchange)
        if norm.training:
            n, _, h, w = y.shape
            rows = n * h * w if exchange is None else exchange.rows
            norm._take_statistics((mean.data, variance.data, rows))
        return y

    def _infer(self, input: Any, bounds: Bounds) -> Tensor:
        conv, norm = self.conv, self.norm
        of_norm = norm.running_mean, norm.running_var, norm.weight, norm.bias
        tensors, settings = (conv.weight, conv.bias, *of_norm), (norm.eps, bounds, *conv._settings)
        kept = self.kept
        if kept is None or not kept.holds(tensors, settings):
            self.kept = None  # its memory is free before there is more
            kept = _Kept(tensors, settings)
            if kept.untouched and _is_constant(settings):
                self.kept = kept
        return kept(input)


class _Kept:
    """A convolution with batch norm and clip, as the backend wants it for many inputs.

    Args:
        tensors: weight and bias of the convolution, mean, variance, weight and bias of the norm.
        settings: the norm's eps, the bounds, and the convolution's stride, padding, dilation and
            groups.
    """

    def __init__(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        self.tensors, self.settings, self.backend = tensors, settings, kernels.active()
        self.untouched = Untouched(tensor for tensor in tensors if tensor is not None)
        self.run: Callable[[Any], Any] | None = None
        self.fitting: Any = None  # shape and dtype of the last input

    def holds(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> bool:
        """Whether it computes what such layers compute now."""
        return (
            bool(self.untouched)
            and all(map(operator.is_, tensors, self.tensors))
            and settings == self.settings
            and kernels.active() is self.backend
        )

    def __call__(self, input: Any) -> Tensor:
        """Return the layers' output for images ``(N, I, H, W)``."""
        if isinstance(input, Tensor) and (input.shape, input.dtype) == self.fitting:
            assert self.run is not None
            return wrap(from_nhwc(self.run(input.data.transpose(0, 2, 3, 1))))
        x, weight, _, conv = checked("Conv2d", 2, input, self.tensors[0], None, *self.settings[2:])
        if self.run is None:
            self.run = self.backend.keep_conv(array_of(weight), conv, self._epilogue())
        self.fitting = x.shape, x.dtype
        return self(x)

    def _epilogue(self) -> Epilogue:
        eps, bounds, *_ = self.settings
        weight, bias, mean, variance, factor, summand = (
            None if tensor is None else array_of(tensor) for tensor in self.tensors
        )
        assert weight is not None
        assert mean is not None
        assert variance is not None
        scale, shift = norm_scale_shift(mean, variance, factor, summand, eps, weight.dtype)
        if bias is not None:
            shift = shift + bias * scale
        return Epilogue(scale, shift, bounds)


def _is_constant(settings: tuple[Any, ...]) -> bool:
    """Whether settings stay equal to themselves: no list, say, that somebody may change."""
    try:
        return hash(settings) is not None
    except TypeError:
        return False


def _is_plain(module: Module, kind: type[Module]) -> bool:
    """Whether ``module`` does exactly what ``kind`` does, unobserved."""
    return (
        type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and "forward" not in module.__dict__
    )
