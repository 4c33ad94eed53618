"""Convolution, batch norm and what comes after of a Sequential as one operation.

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

import numpy as np

from lucid import kernels
from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed
from lucid.autograd._tensor import array_of, wrap
from lucid.kernels.geometry import NO_BOUNDS, Activation, Bounds, Epilogue, norm_scale_shift
from lucid.nn._untouched import Untouched
from lucid.nn.modules._activation import GELU, Hardswish, ReLU, ReLU6, SiLU
from lucid.nn.modules._batch_norm import BatchNorm2d, SyncBatchNorm
from lucid.nn.modules._conv import Conv2d
from lucid.nn.modules._layer_scale import LayerScale
from lucid.nn.modules._module import Module
from lucid.ops._conv import checked
from lucid.ops._conv_norm_act import ConvNormAct as Training
from lucid.ops._layout import from_nhwc

# The bounds that an activation clips to.
_BOUNDS: dict[type[Module], Bounds] = {ReLU: (0.0, math.inf), ReLU6: (0.0, 6.0)}
# What it does in inference as the backend's kernels name it, by its class and the settings.
_ACTIVATIONS: dict[tuple[Any, ...], Activation] = {
    (SiLU,): ("silu",),
    (Hardswish,): ("hardswish",),
    (GELU, "none"): ("gelu", False),
    (GELU, "tanh"): ("gelu", True),
}
_IN_TRAINING = {*_BOUNDS, LayerScale}
_AFTER = {*_IN_TRAINING, *(kind for kind, *_ in _ACTIVATIONS)}
_NORMS = BatchNorm2d, SyncBatchNorm


def steps(modules: Iterable[Module], alone: bool) -> list[Callable[[Any], Any]]:
    """Return what to call: modules, some as one; if ``alone`` also those that need no other."""
    found: list[Callable[[Any], Any]] = []
    waiting = list(modules)[::-1]
    while waiting:
        step: Any = waiting.pop()
        if type(step) is Conv2d and (alone or (waiting and type(waiting[-1]) in _NORMS)):
            norm: Any = waiting.pop() if waiting and type(waiting[-1]) in _NORMS else None
            ends = _AFTER if alone else _IN_TRAINING
            after = waiting.pop() if waiting and type(waiting[-1]) in ends else None
            step = ConvNormAct(step, norm, after)
        elif alone and type(step) in _NORMS:
            step = Norm(step)
        found.append(step)
    return found


class ConvNormAct:
    """A convolution, perhaps batch norm, an activation or a factor: in one where that can be.

    In inference the weights, with the batch norm in them, are kept in the form that the backend
    wants, as long as nobody asks a parameter or a statistic for its array.
    """

    __slots__ = ("after", "conv", "fitting", "geometry", "kept", "norm")

    def __init__(self, conv: Conv2d, norm: BatchNorm2d | None, after: Module | None) -> None:
        self.conv = conv
        self.norm = norm
        self.after = after
        self.kept: KeptLayer | None = None
        self.fitting: Any = None  # what the last input of training and its layers were like
        self.geometry: Any = None  # and the convolution's geometry

    def __call__(self, input: Any) -> Any:
        """Return what the layers return, called one after the other."""
        after, within = self.after, self._within()
        output = self._function(input, within)(input, within)
        return output if after is None or within else after(output)

    def _within(self) -> Any:
        """Return what comes at the end, if it is of a kind that can be part of the operation."""
        after: Any = self.after
        kind = type(after)
        if kind is GELU and after.approximate not in ("none", "tanh"):
            return None  # it says so
        return after if kind in _AFTER and is_plain(after, kind) else None

    def _agree(self, after: Any) -> bool:
        """Whether the layers take their own tensors and eps: else one of them says why not."""
        (weight, *rows), (eps, *_) = self._state(after)
        bias, mean, variance, *_, gamma = rows
        given = [row for row in rows if row is not None]
        return (
            isinstance(weight, Tensor)
            and all(isinstance(row, Tensor) and row.shape == weight.shape[:1] for row in given)
            and all(row is None or row.dtype == weight.dtype for row in (bias, gamma))
            and (mean is None) == (variance is None)
            and (gamma is None) == (type(after) is not LayerScale)
            and (self.norm is None or _is_eps(eps))
        )

    def _apart(self, input: Any, after: Any) -> Any:
        output = self.conv(input) if self.norm is None else self.norm(self.conv(input))
        return output if after is None else after(output)

    def _function(self, input: Any, after: Any) -> Callable[[Any, Any], Any]:
        """Return what to call with the input and with what comes at the end."""
        conv, norm = self.conv, self.norm
        if not is_plain(conv, Conv2d) or conv.padding_mode != "zeros":
            return self._apart
        is_training = conv.training
        if norm is not None:
            if type(norm) not in _NORMS or not is_plain(norm, type(norm)):
                return self._apart
            if norm.num_features != conv.out_channels:
                return self._apart  # the batch norm says so
            is_training = norm.training or norm.running_mean is None
        shape: tuple[int, ...] = getattr(input, "shape", ())
        if not is_training:
            # An image without the batch axis, which BatchNorm2d refuses.
            alone = len(shape) == 3 and type(norm) is not BatchNorm2d
            return self._apart if alone or is_grad_enabled() or is_observed() else self._infer
        # One image may have one value a channel, which batch norm refuses.
        several = len(shape) == 4 and shape[0] > 1
        is_whole = norm is not None and conv.bias is None and several and not is_observed()
        return self._train if is_whole and self._agree(after) else self._apart

    def _train(self, input: Any, after: Any) -> Tensor:
        conv, norm = self.conv, self.norm
        assert norm is not None
        weight, settings, exchange = conv.weight, conv._settings, norm._exchange()
        fitting = input.shape, input.dtype, weight.shape, weight.dtype, settings
        if not isinstance(input, Tensor) or fitting != self.fitting:
            input, _, _, self.geometry = checked("Conv2d", 2, input, weight, None, *settings)
            self.fitting = fitting if _is_constant(settings) else None
        factor: Tensor | None = norm.weight
        summand: Tensor | None = norm.bias
        bounds = _BOUNDS.get(type(after), NO_BOUNDS)
        if type(after) is LayerScale:  # on rows of channels it costs nothing
            gamma = after.gamma
            factor = gamma if factor is None else factor * gamma
            summand = None if summand is None else summand * gamma
        of_norm = factor, summand, float(norm.eps)
        y, mean, variance = Training.apply(input, weight, *of_norm, bounds, self.geometry, exchange)
        if norm.training:
            n, _, h, w = y.shape
            rows = n * h * w if exchange is None else exchange.rows
            norm._take_statistics((mean.data, variance.data, rows))
        return y if _activation(after) is None else after(y)

    def _state(self, after: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the tensors and the settings that the output depends on, beside the input."""
        conv, norm, bounds = self.conv, self.norm, _BOUNDS.get(type(after), NO_BOUNDS)
        eps: Any = None
        of_norm: tuple[Any, ...] = None, None, None, None
        if norm is not None:
            eps, of_norm = norm.eps, (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        gamma = after.gamma if type(after) is LayerScale else None
        settings = eps, bounds, _activation(after), *conv._settings
        return (conv.weight, conv.bias, *of_norm, gamma), settings

    def held(self) -> KeptLayer | None:
        """Return what is kept, if that computes in inference all that the layers would now."""
        kept, within = self.kept, self._within()
        if kept is None or kept.run is None or within is not self.after:
            return None
        is_kept = self._function(None, within) == self._infer and kept.holds(*self._state(within))
        return kept if is_kept else None

    def _infer(self, input: Any, after: Any) -> Any:
        tensors, settings = self._state(after)
        kept = self.kept
        if kept is None or not kept.holds(tensors, settings):
            self.kept = None  # its memory is free before there is more
            if not self._agree(after):
                return self._apart(input, after)
            kept = KeptLayer(tensors, settings)
            if kept.untouched and _is_constant(settings):
                self.kept = kept
        return kept(input)


class Norm:
    """A batch norm behind no convolution: in a row of kept layers a factor and a summand."""

    __slots__ = ("is_used", "kept", "norm")

    def __init__(self, norm: BatchNorm2d) -> None:
        self.norm = norm
        self.is_used = False  # at the first call its neighbours in a row are not kept yet
        self.kept: KeptNorm | None = None

    def __call__(self, input: Any) -> Any:
        self.is_used = True
        return self.norm(input)

    def held(self) -> KeptNorm | None:
        """Return what is kept, if that computes in inference all that the norm would now."""
        norm: Any = self.norm
        kind = type(norm)
        if not self.is_used or kind not in _NORMS or not is_plain(norm, kind) or norm.training:
            return None
        mean, variance = norm.running_mean, norm.running_var
        if not isinstance(mean, Tensor) or variance is None or not _is_eps(norm.eps):
            return None
        tensors = mean, variance, norm.weight, norm.bias
        if self.kept is None or not self.kept.holds(tensors, (norm.eps,)):
            self.kept = None
            like = ((norm.num_features,), mean.dtype)
            given = [tensor for tensor in tensors if tensor is not None]
            if all(isinstance(row, Tensor) and (row.shape, row.dtype) == like for row in given):
                kept = KeptNorm(tensors, (norm.eps,))
                self.kept = kept if kept.untouched else None
        return self.kept


class _Kept:
    """What is kept of layers, as long as nobody touches their tensors or settings."""

    run: Callable[[Any], Any] | None = None  # the backend's function of images

    def __init__(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        self.tensors, self.settings, self.backend = tensors, settings, kernels.active()
        self.untouched = Untouched(tensor for tensor in tensors if tensor is not None)

    def holds(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> bool:
        """Whether it computes what such layers compute now."""
        return (
            bool(self.untouched)
            and all(map(operator.is_, tensors, self.tensors))
            and settings == self.settings
            and kernels.active() is self.backend
        )


class KeptNorm(_Kept):
    """A batch norm in inference, as the backend wants it for many inputs.

    Args:
        tensors: mean, variance, weight and bias.
        settings: its eps.
    """

    def __init__(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        super().__init__(tensors, settings)
        mean, variance, weight, bias = (
            None if tensor is None else array_of(tensor) for tensor in tensors
        )
        assert mean is not None
        assert variance is not None
        with np.errstate(all="ignore"):
            rows = norm_scale_shift(mean, variance, weight, bias, settings[0], mean.dtype)
        self.run = self.backend.keep_affine(*rows)

    def made(self, dtype: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the output's shape ``(N, H, W, C)``, or None if the input is not to be so."""
        mean = self.tensors[0]
        # In half precision the layer computes in wider numbers, with factors that are not rounded.
        is_its = (*shape[3:], dtype) == (*mean.shape, mean.dtype)
        return shape if is_its and dtype != np.float16 else None


class KeptLayer(_Kept):
    """A convolution with batch norm and activation, as the backend wants it for many inputs.

    Args:
        tensors: weight and bias of the convolution, mean, variance, weight and bias of the norm,
            and the factor behind it.
        settings: the norm's eps, the bounds, the activation, and the convolution's stride, padding,
            dilation and groups.
    """

    def __init__(self, tensors: tuple[Any, ...], settings: tuple[Any, ...]) -> None:
        super().__init__(tensors, settings)
        self.conv: Any = None  # the convolution's geometry
        self.fitting: Any = None  # shape and dtype of the last input

    def __call__(self, input: Any) -> Tensor:
        """Return the layers' output for images ``(N, I, H, W)``."""
        if isinstance(input, Tensor) and (input.shape, input.dtype) == self.fitting:
            assert self.run is not None
            return run_kept(self.run, input)
        x, weight, _, self.conv = checked(
            "Conv2d", 2, input, self.tensors[0], None, *self.settings[3:]
        )
        if self.run is None:
            with np.errstate(all="ignore"):
                self.run = self.backend.keep_conv(array_of(weight), self.conv, self._epilogue())
        self.fitting = x.shape, x.dtype
        return self(x)

    def made(self, dtype: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the output's shape ``(N, H', W', O)``, or None if the input is not to be so."""
        weight = self.tensors[0]
        if shape[3] != weight.shape[1] * self.conv.groups or dtype != weight.dtype:
            return None
        made: tuple[int, ...] = self.conv.output_shape(shape, weight.shape)
        return None if min(made) < 1 else made

    def _epilogue(self) -> Epilogue:
        eps, bounds, activation, *_ = self.settings
        weight, bias, mean, variance, factor, summand, gamma = (
            None if tensor is None else array_of(tensor) for tensor in self.tensors
        )
        assert weight is not None
        scale, shift = None, bias
        if mean is not None and variance is not None:
            scale, shift = norm_scale_shift(mean, variance, factor, summand, eps, weight.dtype)
            shift = shift if bias is None else shift + bias * scale
        if gamma is not None:
            scale = gamma if scale is None else scale * gamma
            shift = None if shift is None else shift * gamma
        return Epilogue(scale, shift, bounds, activation)


def run_kept(run: Callable[[Any], Any], images: Tensor) -> Tensor:
    """Call a backend's function of images ``(N, H, W, C)``."""
    with np.errstate(all="ignore"):  # infinities and NaN arise silently, as in an operation
        return wrap(from_nhwc(run(images.data.transpose(0, 2, 3, 1))))


def _activation(after: Any) -> Activation | None:
    """Return what comes at the end as the kernels name it; clips and factors are none."""
    settings = (after.approximate,) if type(after) is GELU else ()
    return _ACTIVATIONS.get((type(after), *settings))


def _is_eps(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _is_constant(settings: tuple[Any, ...]) -> bool:
    """Whether settings stay equal to themselves: no list, say, that somebody may change."""
    try:
        return hash(settings) is not None
    except TypeError:
        return False


def is_plain(module: Module, kind: type[Module]) -> bool:
    """Whether ``module`` does exactly what ``kind`` does, unobserved."""
    return (
        type(module) is kind
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and "forward" not in module.__dict__
    )
