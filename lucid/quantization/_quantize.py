"""Post-training quantisation, and the model that quantisation-aware training starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lucid import nn
from lucid._check import nearest, one_of
from lucid.autograd import Tensor
from lucid.quantization._equalize import equalize as equalize_pairs
from lucid.quantization._layers import (
    QuantizedLayer,
    Quantizer,
    quantized_class,
    quantized_layers,
)
from lucid.quantization._noise import correct_biases, images_of, instead, noise_table
from lucid.quantization._observers import CALIBRATIONS, Observer
from lucid.quantization._structure import Structure, fold_batch_norms


def quantize(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    calibration: str = "mse",
    per_channel: bool = True,
    equalize: bool = False,
    bias_correction: bool = True,
    skip: Sequence[str] = (),
) -> nn.Module:
    """Return a copy of a model whose convolutions and linear layers compute with 8-bit integers.

    Batch norms are folded into the layers before them. Weights become int8, symmetric around 0;
    what a layer is given becomes uint8, in a range that is chosen from the values seen while the
    batches of ``loader`` run through the model; biases become int32 (Jacob et al. 2018,
    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference"). All else stays in floating point: products and softmax of an attention, layer
    scales, norms that cannot be folded, sums.

    The copy computes in floating point what integer arithmetic does, by ONNX's rules, and
    :func:`lucid.onnx.export` writes it with integers. Its attribute ``layer_noise`` is a table
    of what each layer loses. It can be trained further: see :func:`lucid.quantization.prepare_qat`.

    Args:
        model: any module on images; it is not changed.
        loader: batches ``(N, C, H, W)`` as the model is given them in use, or tuples that begin
            with them; some hundred images are enough. They are gone through two or three times.
        calibration: how the range of an activation is chosen: ``"minmax"`` takes all values,
            ``"percentile"`` 99.99 % on each side, ``"entropy"`` the range that tells most of the
            distribution, ``"mse"`` the one with the smallest square error.
        per_channel: whether each output channel of a weight has a scale of its own.
        equalize: whether to bring the weights of neighbouring layers into like ranges first, where
            that changes nothing of what the model computes: between layers joined by ReLU or by
            nothing. Of use without ``per_channel``.
        bias_correction: whether to take each layer's mean error off its bias.
        skip: paths of modules that stay in floating point, with all within.

    Returns:
        The quantised copy, in evaluation mode.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: if a path of ``skip`` is unknown, the loader has no batch, a value is not
            finite, there is no layer to quantise, or the model is quantised already.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> batches = [lucid.randn(4, 3, 16, 16)]
        >>> small = lucid.quantize(model, batches)
        >>> small
        Sequential(
          (0): QuantizedConv2d(
            3, 8, kernel_size=(3, 3), stride=(1, 1)
            (input_quantizer): Quantizer(scale=..., zero_point=...)
          ...
        >>> x = batches[0]
        >>> lucid.allclose(model(x), small(x), atol=0.1)
        True
    """
    who = "quantize"
    one_of(calibration, tuple(CALIBRATIONS), "calibration", who)
    batches = loader if iter(loader) is not iter(loader) else list(loader)
    model = _prepared(who, model, batches, per_channel, equalize, skip)
    _calibrate(who, model, batches, calibration)
    if bias_correction:
        correct_biases(model, images_of(batches, who))
    model.layer_noise = noise_table(model, images_of(batches, who))
    return model


def prepare_qat(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    per_channel: bool = True,
    skip: Sequence[str] = (),
) -> nn.Module:
    """Return a quantised copy of a model for quantisation-aware training.

    It is what :func:`lucid.quantize` makes, and :func:`lucid.training.fit` trains it as any model:
    in training mode the weights' scales follow the weights and the activations' ranges what is
    seen; gradients pass the rounding as if it were not there (Jacob et al. 2018, section 3).
    :func:`disable_observer` holds the ranges for the last epochs.

    Args:
        model: a trained one; it is not changed. Its batch norms are folded and so train no more:
            the learning rate is a small one, some hundredth of the training's.
        loader: batches for the ranges to begin with.
        per_channel: as in :func:`lucid.quantize`, as is ``skip``.
        skip: paths of modules that stay in floating point.

    Returns:
        The copy, in training mode.

    Raises:
        TypeError, ValueError: as :func:`lucid.quantize`.

    Example:
        >>> batch = lucid.tensor([[1.0, 0.0], [0.0, 1.0]]), lucid.tensor([0, 1])
        >>> model = quantization.prepare_qat(nn.Sequential(nn.Linear(2, 2)), [batch])
        >>> optimizer = optim.SGD(model.parameters(), lr=1.0)
        >>> for epoch in training.fit(model, [batch], [batch], optimizer, epochs=2):
        ...     if epoch.number == 1:
        ...         quantization.disable_observer(model)
        >>> epoch.validation.accuracy
        1.0
    """
    model = quantize(
        model,
        loader,
        calibration="minmax",
        per_channel=per_channel,
        bias_correction=False,
        skip=skip,
    )
    enable_observer(model)
    return model.train()


def enable_observer(model: nn.Module) -> None:
    """Have the ranges of a quantised model follow what it sees in training mode."""
    _set_observing(model, True)


def disable_observer(model: nn.Module) -> None:
    """Hold the ranges of a quantised model as they are; its weights may go on training."""
    _set_observing(model, False)


def _set_observing(model: nn.Module, observing: bool) -> None:
    for _, layer in quantized_layers(model):
        layer.choose_weight_scale()
    for module in model.modules():
        if isinstance(module, Quantizer):
            module.observing = observing


def _prepared(
    who: str,
    model: nn.Module,
    batches: Iterable[Any],
    per_channel: bool,
    equalize: bool,
    skip: Sequence[str],
) -> nn.Module:
    """Return a copy with quantised layers whose activations have no range yet."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: expected a module, got {type(model).__name__}")
    if any(quantized_layers(model)):
        raise ValueError(f"{who}: {type(model).__name__} is quantised already")
    skipped = _paths(who, model, skip)
    example = next(images_of(batches, who))[:1]
    model = copy.deepcopy(model).eval()
    fold_batch_norms(model, example)
    structure = Structure(model, example)
    if equalize:
        equalize_pairs(structure.pairs())
    chosen = {path: layer for path, layer in structure.layers.items() if path not in skipped}
    if not chosen:
        raise ValueError(
            f"{who}: {type(model).__name__} has no Conv2d or Linear to quantise"
            + (f" beside those in skip={tuple(skip)}" if skip else "")
        )
    for path, layer in chosen.items():
        kind: Any = type(layer)
        layer.__class__ = quantized_class(kind)
        layer.prepare(per_channel, output=structure.is_summand(path))
    return model


def _paths(who: str, model: nn.Module, skip: Sequence[str]) -> set[str]:
    """Return the paths of the modules that are skipped, and of all within."""
    paths = [path for path, _ in model.named_modules(remove_duplicate=False)]
    if isinstance(skip, str):
        raise TypeError(f"{who}: skip is a sequence of paths, got the string {skip!r}")
    found: set[str] = set()
    for wanted in skip:
        if wanted not in paths:
            like = nearest(wanted, paths)
            hint = f"; did you mean {like[0]!r}?" if like else ""
            raise ValueError(f"{who}: skip names no module {wanted!r}{hint}")
        found |= {path for path in paths if path == wanted or path.startswith(f"{wanted}.")}
    return found


def _calibrate(who: str, model: nn.Module, batches: Iterable[Any], calibration: str) -> None:
    """Choose the range of every activation that a quantised layer rounds, and weights' scales."""
    observers: dict[Quantizer, Observer] = {
        quantizer: Observer()
        for _, layer in quantized_layers(model)
        for quantizer in (layer.input_quantizer, layer.output_quantizer)
        if quantizer is not None
    }

    def run(see: Callable[[Observer, np.ndarray], None]) -> None:
        def watch(layer: QuantizedLayer, input: Tensor) -> Tensor:
            see(observers[layer.input_quantizer], input.data)
            output = layer.plain(input)
            if layer.output_quantizer is not None:
                see(observers[layer.output_quantizer], output.data)
            return output

        with instead(model, watch):
            for images in images_of(batches, who):
                model(images)

    run(Observer.see_range)
    for name, layer in quantized_layers(model):
        for quantizer in (layer.input_quantizer, layer.output_quantizer):
            if quantizer is not None and not observers[quantizer].is_finite:
                raise ValueError(f"{who}: {name}: values in calibration are not finite")
    if calibration != "minmax":
        run(Observer.see_histogram)
    for quantizer, observer in observers.items():
        quantizer.set_range(*observer.range(calibration))
    for _, layer in quantized_layers(model):
        layer.choose_weight_scale()
