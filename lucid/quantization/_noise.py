"""How much each layer loses to rounding: measured, corrected where it is a bias, and shown."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import nn
from lucid.autograd import Tensor, no_grad
from lucid.autograd._tensor import wrap
from lucid.graph import evaluation
from lucid.quantization._layers import Instead, QuantizedLayer, quantized_layers
from lucid.visual._summary import table

Array = np.ndarray

_AT_ONCE = 8


@dataclass(frozen=True)
class LayerNoise:
    """What one quantised layer loses.

    Args:
        name: its path in the model.
        kind: ``"Conv2d"`` or ``"Linear"``.
        weights: how many weights it has.
        snr: the signal-to-noise ratio of its output in decibels, 10·log10 of the sum of squares of
            the output in floating point over that of the error: rounded input, weight, bias and,
            where it is rounded, output. 6 dB are one bit. Infinite without error.
    """

    name: str
    kind: str
    weights: int
    snr: float


@dataclass(frozen=True)
class NoiseTable:
    """The layers of a quantised model, those that lose most first; printing it shows them.

    Args:
        layers: sorted by their signal-to-noise ratio.

    Example:
        >>> table = quantization.NoiseTable([quantization.LayerNoise("0", "Linear", 8, 31.52)])
        >>> print(table)
        layer  kind    weights  signal-to-noise
        0      Linear        8          31.5 dB
    """

    layers: list[LayerNoise]

    def __iter__(self) -> Iterator[LayerNoise]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        return self.text()

    def text(self, limit: int | None = None) -> str:
        """Return the table, or its first rows."""
        rows = [["layer", "kind", "weights", "signal-to-noise"]]
        for layer in self.layers[:limit]:
            rows.append([layer.name, layer.kind, str(layer.weights), f"{layer.snr:.1f} dB"])
        return table(rows, left=2)


class Noise:
    """The outputs of a layer and their errors, added up over batches."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def see(self, exact: Array, rounded: Array) -> None:
        """Add those of a batch."""
        self.signal += float(np.square(exact, dtype=np.float64).sum())
        self.noise += float(np.square(rounded - exact, dtype=np.float64).sum())

    @property
    def snr(self) -> float:
        """Decibels; infinite without error, minus infinite if there is only error."""
        with np.errstate(divide="ignore"):
            return float(10 * np.log10(self.signal / self.noise)) if self.noise else math.inf


@contextlib.contextmanager
def instead(model: nn.Module, function: Instead) -> Iterator[None]:
    """Have ``function(layer, input)`` compute the outputs of a model's quantised layers."""
    layers = [layer for _, layer in quantized_layers(model)]
    try:
        for layer in layers:
            layer._instead = function
        with evaluation(model), no_grad():
            yield
    finally:
        for layer in layers:
            del layer._instead


def correct_biases(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Take the mean error of each channel off the biases, layer by layer.

    A layer is given what the corrected layers before it compute, and its output compared with that
    of the model in floating point (Nagel et al. 2019, "Data-Free Quantization Through Weight
    Equalization and Bias Correction", section 4.2 and appendix D). For some images at a time all
    layers are corrected in one run; the corrections of all of them are averaged.
    """
    sums: dict[QuantizedLayer, Array] = {}
    count = 0
    for images in parts(batches):
        for layer, error in _mean_errors(model, images).items():
            sums[layer] = sums.get(layer, 0.0) + error * len(images)
        count += len(images)
    for layer, total in sums.items():
        bias = -total / count
        if layer.bias is not None:
            bias = bias + layer.bias.data
        layer.bias = nn.Parameter(wrap(bias.astype(layer.weight.dtype)))
        layer.choose_weight_scale()


def _mean_errors(model: nn.Module, images: Tensor) -> dict[QuantizedLayer, Array]:
    """Return the mean error of each layer's channels, those of the layers before it corrected."""
    exact: list[Array] = []  # the outputs of all layers, in the order in which they run
    errors: dict[QuantizedLayer, Array] = {}

    def keep(layer: QuantizedLayer, input: Tensor) -> Tensor:
        output = layer.plain(input)
        exact.append(output.data)
        return output

    def correct(layer: QuantizedLayer, input: Tensor) -> Tensor:
        output = layer.quantized(input).data
        error = output - exact.pop(0)
        channel = error.ndim + layer.channel_axis
        others = tuple(axis for axis in range(error.ndim) if axis != channel)
        mean = error.mean(axis=others, keepdims=True)
        errors[layer] = mean.reshape(-1).astype(np.float64)
        return wrap(output - mean)

    for function in (keep, correct):
        with instead(model, function):
            model(images)
    return errors


def images_of(loader: Iterable[Any], who: str) -> Iterator[Tensor]:
    """Yield the images of batches; ValueError if there is none or a value is not finite."""
    number = 0
    for number, batch in enumerate(loader, start=1):
        first = batch[0] if isinstance(batch, (tuple, list)) else batch
        images = first if isinstance(first, Tensor) else Tensor(first)
        if not np.isfinite(images.data).all():
            raise ValueError(f"{who}: batch {number} of the loader has values that are not finite")
        yield images
    if number == 0:
        raise ValueError(f"{who}: the loader has no batch; give images as the model will see them")


def parts(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the images of batches, a few at a time: the outputs of all layers are kept of them."""
    for images in batches:
        for start in range(0, len(images), _AT_ONCE):
            yield images[start : start + _AT_ONCE]


def layer_noise(model: nn.Module, loader: Iterable[Any]) -> NoiseTable:
    """Return how much each layer of a quantised model loses, those that lose most first.

    Each layer is given what it would be given without rounding, so the loss is its own.

    Args:
        model: what :func:`lucid.quantize` returned.
        loader: batches of images, or tuples that begin with them.

    Raises:
        ValueError: if the model has no quantised layer, or the loader no batch.
    """
    names = dict(quantized_layers(model))
    if not names:
        raise ValueError(
            f"layer_noise: {type(model).__name__} has no quantised layer; give what "
            "lucid.quantize returned"
        )
    return noise_table(model, images_of(loader, "layer_noise"))


def noise_table(model: nn.Module, batches: Iterable[Tensor]) -> NoiseTable:
    """Return the table of a quantised model on images."""
    found = {layer: Noise() for _, layer in quantized_layers(model)}

    def compare(layer: QuantizedLayer, input: Tensor) -> Tensor:
        output = layer.plain(input)
        found[layer].see(output.data, layer.quantized(input).data)
        return output

    with instead(model, compare):
        for images in batches:
            model(images)
    rows = []
    for name, layer in quantized_layers(model):
        kind = "Conv2d" if isinstance(layer, nn.Conv2d) else "Linear"
        rows.append(LayerNoise(name, kind, layer.weight.numel(), found[layer].snr))
    return NoiseTable(sorted(rows, key=lambda row: row.snr))
