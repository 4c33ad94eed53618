"""Pairs of images that become one, with labels that say how much of which."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data.transforms._base import Array, Shown


class _Mix(Shown):
    """What MixUp and CutMix share: the draw, and the labels."""

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None) -> None:
        who = type(self).__name__
        if not alpha > 0:
            raise ValueError(f"{who}: alpha must be above 0, got {alpha}")
        if num_classes is not None:
            count(num_classes, "num_classes", who)
        self.alpha = float(alpha)
        self.num_classes = num_classes

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Return the mixed images, and labels ``(N, classes)`` that add up to 1 each.

        Args:
            images: ``(N, C, H, W)``, floating-point numbers.
            labels: integers ``(N,)``, or shares ``(N, classes)``.

        Raises:
            ValueError: if shapes do not fit each other, or a label is out of range.
            TypeError: if images are no floating-point numbers.
        """
        if isinstance(images, Tensor) or isinstance(labels, Tensor):
            arrays = [x.data if isinstance(x, Tensor) else x for x in (images, labels)]
            mixed, shares = self(*arrays)
            return wrap(mixed), wrap(shares)
        who = type(self).__name__
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or images.dtype.kind != "f":
            raise TypeError(
                f"{who}: expected floating-point images (N, C, H, W), got shape {images.shape} and "
                f"dtype {images.dtype}"
            )
        if len(labels) != len(images):
            raise ValueError(f"{who}: got {len(images)} images and {len(labels)} labels")
        shares = self._shares(labels)
        mixed, part = self._mixed(images, float(_random.generator().beta(self.alpha, self.alpha)))
        # The pairs are the first and the last, the second and the last but one, and so on.
        return mixed, np.float32(part) * shares + np.float32(1 - part) * shares[::-1]

    def _mixed(self, images: Array, part: float) -> tuple[Array, float]:
        """Return the mixed images, and the part that comes from the first of each pair."""
        raise NotImplementedError

    def _shares(self, labels: Array) -> Array:
        who = type(self).__name__
        if labels.ndim == 2:
            return labels.astype(np.float32, copy=False)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{who}: expected labels (N,) of integers or (N, classes), got shape "
                f"{labels.shape} and dtype {labels.dtype}"
            )
        if self.num_classes is None:
            raise ValueError(f"{who}: num_classes must be given for labels that are integers")
        if labels.size and not (labels.min() >= 0 and labels.max() < self.num_classes):
            raise ValueError(
                f"{who}: labels must be from 0 to {self.num_classes - 1}, got {labels.min()} to "
                f"{labels.max()}"
            )
        return np.eye(self.num_classes, dtype=np.float32)[labels]


class MixUp(_Mix):
    """Add pairs of images of a batch, a part of the one to the rest of the other.

    Zhang et al., 2017, "mixup: Beyond Empirical Risk Minimization". One part is drawn for the
    batch, from Beta(alpha, alpha). Each image is paired with that at the same place from the end,
    as in timm; torchvision pairs neighbours.

    Args:
        alpha: how even the parts are: below 1 mostly one image, above mostly both.
        num_classes: how many there are; needed for labels that are integers.

    Raises:
        ValueError: if ``alpha`` is not above 0.

    Example:
        >>> mix = data.transforms.MixUp(alpha=0.8, num_classes=3)
        >>> images, labels = mix(lucid.rand(4, 1, 8, 8), lucid.tensor([0, 2, 1, 1]))
        >>> images.shape, labels.shape
        ((4, 1, 8, 8), (4, 3))
    """

    def _mixed(self, images: Array, part: float) -> tuple[Array, float]:
        kind = images.dtype.type
        result = images * kind(part)
        result += images[::-1] * kind(1 - part)
        return result, part


class CutMix(_Mix):
    """Replace a rectangle of each image of a batch by that of another image.

    Yun et al., 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features". One rectangle is drawn for the batch: its area from Beta(alpha, alpha), its middle
    anywhere; what lies outside of the image is cut off, and the labels tell the area that is left.
    Rectangle and pairs are timm's: each image and that at the same place from the end.

    Args:
        alpha: how even the parts are: below 1 mostly one image, above mostly both.
        num_classes: how many there are; needed for labels that are integers.

    Raises:
        ValueError: if ``alpha`` is not above 0.

    Example:
        >>> mix = data.transforms.CutMix(num_classes=2)
        >>> images, labels = mix(lucid.rand(4, 1, 8, 8), lucid.tensor([0, 1, 1, 0]))
        >>> images.shape, labels.shape
        ((4, 1, 8, 8), (4, 2))
    """

    def _mixed(self, images: Array, part: float) -> tuple[Array, float]:
        rng = _random.generator()
        height, width = images.shape[2:]
        side = math.sqrt(1 - part)
        h, w = int(height * side), int(width * side)
        y, x = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = max(y - h // 2, 0), min(y + (h + 1) // 2, height)
        left, right = max(x - w // 2, 0), min(x + (w + 1) // 2, width)
        result = images.copy("K")
        result[:, :, top:bottom, left:right] = images[::-1, :, top:bottom, left:right]
        return result, 1 - (bottom - top) * (right - left) / (height * width)
