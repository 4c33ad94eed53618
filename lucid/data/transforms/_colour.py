"""Brightness, contrast, saturation and hue of Pillow's images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import _random
from lucid.data._pillow import pillow
from lucid.data.transforms._base import PillowTransform

_BYTES = np.arange(256, dtype=np.float32)


class ColorJitter(PillowTransform):
    """Change brightness, contrast, saturation and hue at random, in an order drawn each time.

    Values and draws are torchvision's for Pillow images.

    Args:
        brightness: the range of the factor, ``(low, high)``; a number ``b`` means
            ``(max(0, 1 - b), 1 + b)``. 0 leaves it.
        contrast: as ``brightness``.
        saturation: as ``brightness``.
        hue: the range of the shift, as a part of the circle, within ±0.5; a number ``h`` means
            ``(-h, h)``. Grey images have none.

    Raises:
        ValueError: if a range is out of order or out of range.
        TypeError: in use, if it is no Pillow image in colour or grey.

    Example:
        >>> data.transforms.ColorJitter(brightness=0.2, hue=0.1)
        ColorJitter(brightness=(0.8, 1.2), contrast=None, saturation=None, hue=(-0.1, 0.1))
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        self.brightness = _range(brightness, "brightness")
        self.contrast = _range(contrast, "contrast")
        self.saturation = _range(saturation, "saturation")
        self.hue = _range(hue, "hue")

    def _pillow(self, image: Any) -> Any:
        rng = _random.generator()
        order = rng.permutation(len(_CHANGES))
        limits = [getattr(self, name) for name in _CHANGES]
        values = [None if each is None else rng.uniform(*each) for each in limits]
        changes = list(_CHANGES.values())
        for number in order:
            if values[number] is not None:
                image = changes[number](image, values[number])
        return image


def _range(value: Any, name: str) -> tuple[float, float] | None:
    """Return the range that an argument of ColorJitter means; None if nothing is to change."""
    middle, lowest, highest = (0.0, -0.5, 0.5) if name == "hue" else (1.0, 0.0, np.inf)
    if isinstance(value, Sequence):
        limits = tuple(map(float, value))
    else:  # less than no brightness is none
        limits = (middle - (value if name == "hue" else min(value, middle)), middle + value)
    if len(limits) != 2 or not lowest <= limits[0] <= limits[1] <= highest:
        within = " within -0.5 and 0.5" if name == "hue" else ""
        raise ValueError(
            f"ColorJitter: {name} must be a number of at least 0, or a range{within}, got {value!r}"
        )
    return None if limits == (middle, middle) else (limits[0], limits[1])


def brightness(image: Any, factor: float) -> Any:
    """Return an image with so much times the brightness, as ``ImageEnhance.Brightness``."""
    return _away_from(image, 0, factor)


def contrast(image: Any, factor: float) -> Any:
    """Return an image with so much times the contrast, as ``ImageEnhance.Contrast``."""
    grey = np.asarray(image.convert("L"))
    return _away_from(image, int(grey.sum() / grey.size + 0.5), factor)


def _away_from(image: Any, level: int, factor: float) -> Any:
    """Blend with an even grey as ``Image.blend`` does; by a table, which takes half of the time."""
    table = np.float32(level) + np.float32(factor) * (_BYTES - np.float32(level))
    values = np.clip(table, 0, 255).astype(np.uint8).tolist() * len(image.getbands())
    # What ``image.point(values)`` does after rounding each value, which takes as long as the rest.
    image.load()
    return image._new(image.im.point(values, None))


def saturation(image: Any, factor: float) -> Any:
    """Return an image with so much times the saturation, as ``ImageEnhance.Color``."""
    return pillow().blend(image.convert("L").convert(image.mode), image, factor)


def sharpness(image: Any, factor: float) -> Any:
    """Return an image with so much times the sharpness, as ``ImageEnhance.Sharpness``."""
    from PIL import ImageEnhance

    return ImageEnhance.Sharpness(image).enhance(factor)


def hue(image: Any, shift: float) -> Any:
    """Return an image with its hue shifted by a part of the circle."""
    if image.mode == "L":
        return image
    h, s, v = image.convert("HSV").split()
    table = (np.arange(256) + int(shift * 255)) % 256
    return pillow().merge("HSV", (h.point(table.tolist()), s, v)).convert(image.mode)


_CHANGES = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
