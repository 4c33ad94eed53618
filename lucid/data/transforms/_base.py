"""What a transform of images is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import is_whole
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._pillow import is_image

Array = np.ndarray


class Shown:
    """Shows itself as its class with its settings."""

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_"
        )
        return f"{type(self).__name__}({settings})"


class Transform(Shown):
    """The base of the transforms of images: what is given decides which method does the work.

    A subclass has ``_pillow``, from Pillow image to Pillow image, and ``_arrays``, from
    ``(N, H, W, C)`` to ``(N, H', W', C)``.
    """

    def __call__(self, image: Any) -> Any:
        """Return the changed image or batch, of the kind that was given.

        Raises:
            TypeError: if it is no image, array or tensor.
            ValueError: if an array does not have three or four axes.
        """
        if is_image(image):
            return self._pillow(image)
        if isinstance(image, Tensor):
            return wrap(self(image.data))
        who = type(self).__name__
        if not isinstance(image, Array):
            raise TypeError(
                f"{who}: expected a Pillow image, an array or a tensor, got {type(image).__name__}"
            )
        if image.ndim not in (3, 4):
            raise ValueError(
                f"{who}: expected an image (C, H, W) or a batch (N, C, H, W), got shape "
                f"{image.shape}"
            )
        batch = image if image.ndim == 4 else image[None]
        result = self._arrays(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)))
        result = result.transpose(0, 3, 1, 2)
        return result if image.ndim == 4 else result[0]

    def _pillow(self, image: Any) -> Any:
        raise TypeError(f"{type(self).__name__}: expected an array or a tensor; use ToTensor first")

    def _arrays(self, images: Array) -> Array:
        raise NotImplementedError


class PillowTransform(Shown):
    """The base of the transforms that Pillow's images alone have."""

    def __call__(self, image: Any) -> Any:
        """Return the changed image.

        Raises:
            TypeError: if it is no Pillow image in colour or grey.
        """
        if not is_image(image) or image.mode not in ("RGB", "L"):
            given = f"one of mode {image.mode!r}" if is_image(image) else type(image).__name__
            raise TypeError(
                f"{type(self).__name__}: expected a Pillow image of mode 'RGB' or 'L', got "
                f"{given}; use it before ToTensor"
            )
        return self._pillow(image)

    def _pillow(self, image: Any) -> Any:
        raise NotImplementedError


def colour(image: Any, value: float | Sequence[float]) -> Any:
    """Return a value for all bands of a Pillow image, or one for each, as Pillow takes it."""
    bands = len(image.getbands())
    values = [float(part) for part in value] if isinstance(value, Sequence) else [value] * bands
    if len(values) != bands:
        values = [sum(values) / len(values)] * bands
    if image.mode != "F":
        values = [int(part) for part in values]
    return values[0] if bands == 1 else tuple(values)


def check_floating(images: Array, who: str) -> None:
    if images.dtype.kind != "f":
        raise TypeError(
            f"{who}: expected floating-point images, got {images.dtype}; use ToTensor first"
        )


def check_size(size: Any, who: str) -> tuple[int, int]:
    """Return height and width, checked."""
    sizes = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sizes) != 2:
        raise ValueError(f"{who}: size must be one number or (height, width), got {size!r}")
    for value in sizes:
        if not is_whole(value):
            raise TypeError(f"{who}: size must be integers, got {size!r}")
        if value < 1:
            raise ValueError(f"{who}: size must be at least 1, got {size!r}")
    return int(sizes[0]), int(sizes[1])


def check_range(values: Any, name: str, who: str) -> tuple[float, float]:
    """Return ``(low, high)`` with 0 < low <= high; ValueError if it is none."""
    if not isinstance(values, Sequence) or len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ValueError(f"{who}: {name} must be a range above 0, got {values!r}")
    return float(values[0]), float(values[1])


def drawn_sides(area: int, scale: Sequence[float], ratio: Sequence[float]) -> tuple[int, int]:
    """Draw the sides of a rectangle: a share of an area, and how long one is by the other."""
    rng = _random.generator()
    part = rng.uniform(scale[0], scale[1]) * area
    quotient = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(part * quotient)), round(math.sqrt(part / quotient))
