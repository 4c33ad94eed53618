"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from
Deep Networks via Gradient-based Localization").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import nn, ops
from lucid._check import is_whole
from lucid.autograd import Tensor, enable_grad, grad
from lucid.autograd._tensor import wrap
from lucid.data import transforms
from lucid.data._pillow import is_image, pillow
from lucid.graph import called, evaluation
from lucid.models import MobileNet_V4
from lucid.models._checkpoints import DEFAULT
from lucid.visual._traced import check_model

Array = np.ndarray

# The colours of the heat map, from cold to hot; in between they are interpolated.
_COLOURS = ((40, 60, 200), (0, 190, 190), (250, 220, 40), (230, 40, 20))

# In an overlay: how far the picture goes towards grey, and what was not seen towards white.
_GREYING, _PALENESS = 0.6, 0.6


@dataclass(frozen=True)
class GradCAM:
    """What :func:`gradcam` found.

    Attributes:
        image: the picture, ``(H, W, 3)`` uint8.
        heatmap: ``(H, W)`` float32 from 0 to 1: how much a place speaks for the target. All 0 if
            nothing does, and outside of what the model saw.
        region: what the model saw, ``(left, top, right, bottom)`` in pixels of the picture: the
            centre crop of a Pillow image, all of an array.
        target: the class that is explained.
        probabilities: ``(classes,)`` float32, the model's softmax.
    """

    image: Array
    heatmap: Array
    region: tuple[float, float, float, float]
    target: int
    probabilities: Array

    def top(self, k: int = 5) -> list[tuple[int, float]]:
        """Return the ``k`` likeliest classes with their probabilities, likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(int(index), float(self.probabilities[index])) for index in order]

    def overlay(self, alpha: float = 0.7) -> Any:
        """Return the picture with the heat map over it, as a Pillow image.

        The picture loses most of its own colour, so that colour means heat, and is pale where the
        model did not see it.

        Args:
            alpha: how much of the picture the hottest place hides, from 0 to 1. Cold places hide
                nothing.

        Raises:
            ValueError: if ``alpha`` is out of range.
            ImportError: if Pillow is not installed.
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"overlay: alpha must be between 0 and 1, got {alpha}")
        image_module = pillow()
        picture = self.image.astype(np.float32)
        grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
        picture += _GREYING * (grey[:, :, None] - picture)
        stops, levels = np.linspace(0, 255, len(_COLOURS)), np.arange(256)
        palette = np.stack([np.interp(levels, stops, band) for band in zip(*_COLOURS)], axis=1)
        colour = palette.astype(np.float32)[np.rint(255 * self.heatmap).astype(np.uint8)]
        picture += alpha * self.heatmap[:, :, None] * (colour - picture)
        picture += _PALENESS * ~self._seen()[:, :, None] * (255 - picture)
        return image_module.fromarray(np.rint(picture).astype(np.uint8))

    def _seen(self) -> Array:
        """Return ``(H, W)``: whether the middle of a pixel is in the region."""
        left, top, right, bottom = self.region
        y, x = (np.arange(length) + 0.5 for length in self.heatmap.shape)
        return ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))


def gradcam(
    model: nn.Module, image: Any, target: int | None = None, layer: nn.Module | str | None = None
) -> GradCAM:
    """Show which places of an image speak for a class (Selvaraju et al. 2017).

    With the maps ``A_k`` that a layer makes of the image and the logit ``y`` of the class,

        weight_k = mean over the positions of dy / dA_k
        heat = relu(sum over k of weight_k · A_k)

    enlarged bilinearly to the image and divided by its maximum. The model runs in evaluation mode
    and comes back as it was: its training flags, gradients, ``requires_grad`` and hooks.

    Args:
        model: a classifier, from ``(1, C, H, W)`` to logits ``(1, classes)``.
        image: a Pillow image, prepared by :func:`lucid.data.transforms.for_model`; or an array or
            tensor ``(C, H, W)`` or ``(1, C, H, W)`` that is ready for the model.
        target: the class to explain; by default the likeliest one.
        layer: a part of the model that makes maps, or its name in ``named_modules()``. By default
            the last stage of a :class:`~lucid.models.MobileNet_V4`, in other models the last part
            with a map of more than one position.

    Returns:
        A :class:`GradCAM`.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the layer is no part of the model or makes no maps, the model is no
            classifier, or the image has another shape.
        IndexError: if there is no such class.

    Example:
        >>> model = models.create_model("mobilenet_v4_conv_small", num_classes=3).eval()
        >>> seen = visual.gradcam(model, lucid.rand(3, 64, 64), target=1)
        >>> seen.heatmap.shape, seen.target
        ((64, 64), 1)
        >>> len(seen.top(2))
        2
    """
    check_model(model, "gradcam")
    if target is not None and not is_whole(target):
        raise TypeError(f"gradcam: target must be the index of a class, got {target!r}")
    picture, batch, region = _prepare(model, image)
    with evaluation(model):
        chosen = _find_layer(model, layer, batch)
        logits, maps, gradient, target = _differentiate(model, chosen, batch, target)
    weights = gradient.mean(axis=(1, 2))
    heat = np.maximum(np.einsum("k,khw->hw", weights, maps), 0)
    heat = _enlarge(heat, picture.shape[:2], region)
    peak = heat.max(initial=0)
    if peak > 0:
        heat /= peak
    return GradCAM(
        image=picture,
        heatmap=heat.astype(np.float32),
        region=region,
        target=target,
        probabilities=ops.softmax(wrap(logits), 0).data.astype(np.float32),
    )


# -- the image --------------------------------------------------------------------------------


def _prepare(
    model: nn.Module, image: Any
) -> tuple[Array, Tensor, tuple[float, float, float, float]]:
    """Return the picture, the batch of one for the model, and the part that the model sees."""
    if is_image(image):
        transform = transforms.for_model(model)
        steps: list[Any] = transform.transforms
        _, resize, crop, *_ = steps
        height, width = resize.output_size(image.height, image.width)
        top, left = crop.corner(height, width)
        down, across = image.height / height, image.width / width
        region = (
            left * across,
            top * down,
            (left + crop.size[1]) * across,
            (top + crop.size[0]) * down,
        )
        return np.asarray(image.convert("RGB")), transform(image)[None], region
    if not isinstance(image, (Array, Tensor)):
        raise TypeError(
            f"gradcam: expected a Pillow image, an array or a tensor, got {type(image).__name__}"
        )
    array = image.data if isinstance(image, Tensor) else image
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[0] != 1 or 0 in array.shape:
        raise ValueError(
            f"gradcam: expected one image (C, H, W) or (1, C, H, W), got shape {image.shape}"
        )
    if array.dtype.kind != "f":
        raise TypeError(f"gradcam: expected floating-point pixels, got {array.dtype}")
    _, _, height, width = array.shape
    return _as_picture(model, array[0]), wrap(array), (0.0, 0.0, width, height)


def _as_picture(model: nn.Module, pixels: Array) -> Array:
    """Return the model's input ``(C, H, W)`` as a picture ``(H, W, 3)``: grey unless C is 3."""
    if len(pixels) == 3:
        settings = {**DEFAULT, **(getattr(model, "pretrained_cfg", None) or {})}
        hwc = pixels.transpose(1, 2, 0) * np.array(settings["std"]) + np.array(settings["mean"])
    else:
        grey = pixels.mean(axis=0) - pixels.mean(axis=0).min()
        hwc = np.repeat((grey / max(grey.max(), 1e-12))[:, :, None], 3, axis=2)
    return np.rint(255 * np.clip(hwc, 0, 1)).astype(np.uint8)


def _enlarge(
    heat: Array, size: tuple[int, int], region: tuple[float, float, float, float]
) -> Array:
    """Spread ``heat`` over ``region`` of a picture by bilinear interpolation; elsewhere it is 0."""
    left, top, right, bottom = region
    rows = _interpolation(size[0], top, bottom, heat.shape[0])
    columns = _interpolation(size[1], left, right, heat.shape[1])
    return rows @ heat @ columns.T


def _interpolation(length: int, start: float, end: float, cells: int) -> Array:
    """Return ``(length, cells)``: the weights in each pixel of cells from ``start`` to ``end``."""
    middle = np.arange(length) + 0.5
    position = np.clip((middle - start) / (end - start) * cells - 0.5, 0, cells - 1)
    # A hat on each cell's middle; beyond the outermost middles the outermost cells count alone.
    matrix = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)))
    matrix[(middle < start) | (middle > end)] = 0
    return matrix


# -- the layer --------------------------------------------------------------------------------


def _find_layer(model: nn.Module, layer: nn.Module | str | None, batch: Tensor) -> nn.Module:
    if isinstance(layer, str):
        named = dict(model.named_modules())
        if layer not in named:
            raise ValueError(
                f"gradcam: the model has no part named {layer!r}; its direct parts are "
                f"{', '.join(name for name, _ in model.named_children())}"
            )
        return named[layer]
    if isinstance(layer, nn.Module):
        if not any(module is layer for module in model.modules()):
            raise ValueError(f"gradcam: the layer {type(layer).__name__} is no part of the model")
        return layer
    if layer is not None:
        raise TypeError(f"gradcam: layer must be a module or a name, got {type(layer).__name__}")
    if isinstance(model, MobileNet_V4):
        return model.layers[-1]
    return _last_with_a_map(model, batch)


def _last_with_a_map(model: nn.Module, batch: Tensor) -> nn.Module:
    found: list[nn.Module] = []

    def look(_name: str, module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        if _is_map(output) and output.shape[2] * output.shape[3] > 1:
            found.append(module)

    with called(model.named_modules(), leave=look):
        model(batch)
    if not found:
        raise ValueError("gradcam: no part of the model makes a map of more than one position")
    return found[-1]


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4


def _differentiate(
    model: nn.Module, layer: nn.Module, batch: Tensor, target: int | None
) -> tuple[Array, Array, Array, int]:
    """Return the logits ``(classes,)``, the layer's maps ``(K, h, w)``, their gradient, the class.

    The layer's output is cut off from what is before it, so that the gradient goes no further.
    """
    outputs: list[Any] = []

    def cut(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not _is_map(output):
            raise ValueError(
                f"gradcam: the layer {type(layer).__name__} makes no maps (N, K, h, w); choose "
                "another layer"
            )
        outputs.append(output.detach().requires_grad_())
        return outputs[-1].clone()  # what comes next may work in place

    with enable_grad():
        handle = layer.register_forward_hook(cut)
        try:
            logits = model(batch)
        finally:
            handle.remove()
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != 1:
            raise ValueError(
                "gradcam: expected logits (1, classes) from the model, got "
                f"{getattr(logits, 'shape', type(logits).__name__)}"
            )
        if not outputs:
            raise ValueError(f"gradcam: the layer {type(layer).__name__} was not called")
        classes = logits.shape[1]
        if target is None:
            target = int(logits.data.argmax())
        if not 0 <= target < classes:
            raise IndexError(f"gradcam: target must be from 0 to {classes - 1}, got {target}")
        (gradient,) = grad(logits[0, target], outputs[-1], allow_unused=True)
    maps = outputs[-1].data[0]
    if gradient is None:  # the logit does not depend on the layer
        gradient = ops.zeros_like(outputs[-1])
    return logits.data[0], maps, gradient.data[0], int(target)
