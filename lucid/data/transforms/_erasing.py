"""Rectangles of an image that are taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucid import _random
from lucid._check import is_number, probability
from lucid.data.transforms._base import Array, Transform, check_floating, check_range, drawn_sides


class RandomErasing(Transform):
    """Replace a rectangle of random size and place, in an array or tensor.

    Zhong et al., 2017, "Random Erasing Data Augmentation", as torchvision and timm draw it. Use it
    after Normalize, where 0 is the mean colour and noise has the pixels' spread. Each image of a
    batch has a rectangle of its own.

    Args:
        p: the probability that an image loses one.
        scale: the range of its area, as a share of the image's.
        ratio: the range of its height divided by its width.
        value: what takes its place: a number, one for each channel, or ``"random"`` for noise with
            mean 0 and standard deviation 1 (timm's mode ``pixel``).

    Raises:
        ValueError: if an argument is out of range.
        TypeError: in use, if it is no array or tensor of floating-point numbers.

    Example:
        >>> erase = data.transforms.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))
        >>> float(erase(lucid.ones(1, 8, 8)).sum())
        48.0
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0,
    ) -> None:
        self.p = probability(p, "p", "RandomErasing")
        self.scale = check_range(scale, "scale", "RandomErasing")
        self.ratio = check_range(ratio, "ratio", "RandomErasing")
        if self.scale[1] > 1:
            raise ValueError(f"RandomErasing: scale must be at most 1, got {scale}")
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if value != "random" and not all(map(is_number, numbers)):
            raise ValueError(
                f"RandomErasing: value must be a number, one for each channel or 'random', "
                f"got {value!r}"
            )
        self.value = value

    def _arrays(self, images: Array) -> Array:
        check_floating(images, "RandomErasing")
        rng = _random.generator()
        result = images.copy()
        for image in result:
            if rng.random() <= self.p:
                self._erase(image, rng)
        return result

    def _erase(self, image: Array, rng: Any) -> None:
        height, width, channels = image.shape
        for _ in range(10):
            h, w = drawn_sides(height * width, self.scale, self.ratio)
            if h < height and w < width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                image[top : top + h, left : left + w] = (
                    rng.standard_normal((h, w, channels)) if self.value == "random" else self.value
                )
                return
