"""Layers with int8 weights and uint8 inputs, computed in floating point."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid import nn
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn.modules._layer import WeightedLayer
from lucid.ops._axes import batched
from lucid.ops._common import operand
from lucid.ops._conv import convolve
from lucid.ops._linear import apply_linear
from lucid.quantization._fake_quantize import (
    ACTIVATION_RANGE,
    BIAS_RANGE,
    SMALLEST_SCALE,
    WEIGHT_RANGE,
    activation_scale,
    apply_fake_quantize,
    short_up,
)

Array = np.ndarray
Instead = Callable[["QuantizedLayer", Tensor], Tensor]

# A bias takes at most half of the int32 numbers: the other half is for the sums.
_BIAS_LIMIT = 2**30

# Significant bits of a weight's scale. They widen the steps by 5 % on average, and leave 20 of
# float32's 24 bits to the sums of products.
_WEIGHT_BITS = 4

# How much a batch moves an observed range, as in PyTorch's MovingAverageMinMaxObserver.
_MOMENTUM = 0.01


class Quantizer(nn.Module):
    """Rounds an activation to uint8 and back.

    Attributes:
        scale: float32 of no axes, the distance of two steps.
        zero_point: uint8 of no axes, the step that 0 has.
        observing: whether the range follows what is seen in training mode, as a moving average of
            the batches' extremes (Jacob et al. 2018, section 3.1).
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.observing = False
        self._range = 0.0, 0.0
        self.register_buffer("scale", wrap(np.ones((), np.float32)))
        self.register_buffer("zero_point", wrap(np.zeros((), np.uint8)))

    def set_range(self, low: float, high: float) -> None:
        """Have the steps span the values from ``low`` to ``high``, and 0."""
        self._range = low, high
        scale, zero_point = activation_scale(low, high)
        self.scale, self.zero_point = wrap(scale), wrap(zero_point)

    def forward(self, input: Any) -> Tensor:
        """Return the input's values at the nearest steps."""
        x = operand(input, "Quantizer")
        if self.observing and self.training and x.data.size:
            seen = float(x.data.min()), float(x.data.max())
            self.set_range(*(old + _MOMENTUM * (new - old) for old, new in zip(self._range, seen)))
        return apply_fake_quantize(x, self.scale.data, self.zero_point.data, None, ACTIVATION_RANGE)

    def extra_repr(self) -> str:
        """Return scale and zero point."""
        return f"scale={float(self.scale.data):.4g}, zero_point={int(self.zero_point.data)}"


class QuantizedLayer(WeightedLayer):
    """What quantised layers share: an int8 weight, an int32 bias, a uint8 input.

    The parameters stay in floating point and are rounded in each call, so that they can be trained.

    Attributes:
        input_quantizer: rounds what the layer is given.
        output_quantizer: rounds what it returns; None if whoever reads that rounds it or wants it
            in floating point.
        weight_scale: float32 ``(O,)``, one scale for each output channel, or of no axes.
    """

    input_quantizer: Quantizer
    output_quantizer: Quantizer | None
    weight_scale: Tensor
    channel_axis: int  # of the output, from behind
    _instead: Instead | None = None  # computes the output, while a model is measured

    def prepare(self, per_channel: bool, output: bool) -> None:
        """Add what the quantised form has beside a layer's own attributes."""
        self.input_quantizer = Quantizer()
        self.add_module("output_quantizer", Quantizer() if output else None)
        shape = self.weight.shape[:1] if per_channel else ()
        self.register_buffer("weight_scale", wrap(np.ones(shape, np.float32)))
        self.train(self.training)

    def choose_weight_scale(self) -> None:
        """Have the int8 numbers span the weights, symmetrically.

        A bias is stored in steps of the input's scale times the weight's. Where the weights of a
        channel are tiny, it would not fit into int32: that channel gets larger steps.
        """
        largest = np.abs(self.weight.data).reshape(len(self.weight), -1).max(axis=1, initial=0.0)
        scale = largest / WEIGHT_RANGE[1]
        if self.bias is not None:
            steps = float(self.input_quantizer.scale.data) * _BIAS_LIMIT
            scale = np.maximum(scale, np.abs(self.bias.data) / steps)
        scale = short_up(np.maximum(scale, SMALLEST_SCALE), _WEIGHT_BITS)
        if not self.weight_scale.shape:
            scale = scale.max()
        self.weight_scale = wrap(np.asarray(scale, np.float32))

    @property
    def bias_scale(self) -> Array:
        """The steps of the sums, and so of the bias."""
        return np.asarray(self.input_quantizer.scale.data * self.weight_scale.data)

    def rounded(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias with the values that the integers stand for."""
        scale = self.weight_scale.data
        axis = 0 if scale.ndim else None
        weight = apply_fake_quantize(
            self.weight, scale, np.zeros(scale.shape, np.int8), axis, WEIGHT_RANGE
        )
        if self.bias is None:
            return weight, None
        zeros = np.zeros(scale.shape, np.int32)
        return weight, apply_fake_quantize(self.bias, self.bias_scale, zeros, axis, BIAS_RANGE)

    def forward(self, input: Any) -> Tensor:
        """Return what integer arithmetic computes."""
        x = operand(input, type(self).__name__)
        if self._instead is not None:
            return self._instead(self, x)
        if self.training and self.input_quantizer.observing:
            self.choose_weight_scale()
        return self.quantized(x)

    def quantized(self, input: Tensor) -> Tensor:
        """Return the output with everything rounded."""
        output = self._compute(self.input_quantizer(input), *self.rounded())
        return output if self.output_quantizer is None else self.output_quantizer(output)

    def plain(self, input: Tensor) -> Tensor:
        """Return the output with nothing rounded."""
        return self._compute(input, self.weight, self.bias)

    def _compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError


class QuantizedConv2d(QuantizedLayer, nn.Conv2d):
    """A convolution with an int8 weight and a uint8 input; see :func:`lucid.quantize`."""

    channel_axis = -3

    def _compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return batched(convolve, "Conv2d", 2, input, weight, bias, *self._settings)


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """A linear map with an int8 weight and a uint8 input; see :func:`lucid.quantize`."""

    channel_axis = -1

    def _compute(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return apply_linear("Linear", input, weight, bias)


_FORMS: dict[type[WeightedLayer], type[QuantizedLayer]] = {
    nn.Conv2d: QuantizedConv2d,
    nn.Linear: QuantizedLinear,
}


@functools.cache
def quantized_class(kind: type[WeightedLayer]) -> type[QuantizedLayer]:
    """Return the quantised form of a class of layers.

    That of a user's own class comes after it in the order of bases: what its ``forward`` does
    before ``super().forward`` remains, such as an uneven padding.
    """
    plain = next(each for each in _FORMS if issubclass(kind, each))
    if kind is plain:
        return _FORMS[plain]
    return type(f"Quantized{kind.__name__}", (kind, _FORMS[plain]), {"__doc__": kind.__doc__})


def is_quantizable(module: nn.Module) -> bool:
    """Return whether a module is of a class that has a quantised form."""
    plain = getattr(module, "padding_mode", "zeros") == "zeros"
    return plain and isinstance(module, tuple(_FORMS)) and not isinstance(module, QuantizedLayer)


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantizedLayer]]:
    """Yield the paths of the quantised layers, and the layers."""
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLayer):
            yield name, module
