"""Sizes, cuts, mirrors and turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import probability
from lucid.data._pillow import check_interpolation, pillow, resampling
from lucid.data._read_image import MAX_PIXELS
from lucid.data.transforms._base import (
    Array,
    Transform,
    check_floating,
    check_range,
    check_size,
    colour,
    drawn_sides,
)


class Resize(Transform):
    """Resize, smoothing where the image gets smaller, as Pillow does.

    Args:
        size: the new height and width; or one number for the shorter side, which keeps the
            proportions.
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.

    Raises:
        ValueError: if a size is below 1, or there is no such interpolation; in use, if an image is
            so long that keeping its proportions takes more than 2^26 pixels.
        ImportError: in use, if Pillow is not installed.
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = "bilinear") -> None:
        self.size: int | tuple[int, int] = (
            check_size(size, "Resize")
            if isinstance(size, Sequence)
            else check_size(size, "Resize")[0]
        )
        self.interpolation = check_interpolation(interpolation, "Resize")

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image of this height and width gets."""
        if isinstance(self.size, tuple):
            return self.size
        longer = int(self.size * max(height, width) / min(height, width))
        if longer * self.size > max(MAX_PIXELS, height * width):
            raise ValueError(
                f"Resize: an image of {height}×{width} is too long: with {self.size} pixels on the "
                f"shorter side it has {longer} on the other; cut it first"
            )
        return (longer, self.size) if height > width else (self.size, longer)

    def _pillow(self, image: Any) -> Any:
        height, width = self.output_size(image.height, image.width)
        return image.resize((width, height), resampling(self.interpolation))

    def _arrays(self, images: Array) -> Array:
        size = self.output_size(*images.shape[1:3])
        return resized(images, *size, resampling(self.interpolation))


class CenterCrop(Transform):
    """Cut out the middle. An image that is smaller gets a black border.

    Args:
        size: height and width, or one number for both.

    Raises:
        ValueError: if a size is below 1.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = check_size(size, "CenterCrop")

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Return the row and column at which the cut begins; negative in a border."""

        def offset(have: int, want: int) -> int:
            return round((have - want) / 2) if have >= want else -((want - have) // 2)

        return offset(height, self.size[0]), offset(width, self.size[1])

    def _pillow(self, image: Any) -> Any:
        top, left = self.corner(image.height, image.width)
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def _arrays(self, images: Array) -> Array:
        n, h, w, c = images.shape
        height, width = self.size
        top, left = self.corner(h, w)
        if top >= 0 and left >= 0:
            return images[:, top : top + height, left : left + width]
        result = np.zeros((n, height, width, c), images.dtype)
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        inside = images[:, rows, columns]
        y, x = max(-top, 0), max(-left, 0)
        result[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
        return result


class RandomCrop(Transform):
    """Cut out a part at random, after adding a border.

    Args:
        size: height and width of the part, or one number for both.
        padding: the width of the border on each side.
        fill: the value of the border.

    Raises:
        ValueError: if a size is below 1 or the padding negative; in use, if the image with its
            border is smaller than the part.
    """

    def __init__(self, size: int | Sequence[int], padding: int = 0, fill: float = 0) -> None:
        self.size = check_size(size, "RandomCrop")
        if padding < 0:
            raise ValueError(f"RandomCrop: padding must not be negative, got {padding}")
        self.padding = padding
        self.fill = fill

    def _room(self, height: int, width: int) -> tuple[int, int]:
        room = height + 2 * self.padding - self.size[0], width + 2 * self.padding - self.size[1]
        if min(room) < 0:
            raise ValueError(
                f"RandomCrop: an image of {height}×{width} with a border of {self.padding} is "
                f"smaller than the part of {self.size[0]}×{self.size[1]}"
            )
        return room

    def _pillow(self, image: Any) -> Any:
        from PIL import ImageOps

        rows, columns = self._room(image.height, image.width)
        image = ImageOps.expand(image, self.padding, colour(image, self.fill))
        rng = _random.generator()
        top, left = int(rng.integers(rows + 1)), int(rng.integers(columns + 1))
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def _arrays(self, images: Array) -> Array:
        n, h, w, _ = images.shape
        rows, columns = self._room(h, w)
        border = (self.padding, self.padding)
        padded = np.pad(images, ((0, 0), border, border, (0, 0)), constant_values=self.fill)
        rng = _random.generator()
        top = rng.integers(rows + 1, size=(n, 1)) + np.arange(self.size[0])
        left = rng.integers(columns + 1, size=(n, 1)) + np.arange(self.size[1])
        return padded[np.arange(n)[:, None, None], top[:, :, None], left[:, None, :]]


class RandomResizedCrop(Transform):
    """Cut out a part of random size, proportions and place, and resize it.

    The training crop of "Going Deeper with Convolutions" (Szegedy et al., 2014), as torchvision and
    timm draw it. A data set of files decodes a large JPEG at a half, a quarter or an eighth of its
    size for it, as long as the smallest part is no smaller than the result: the picture is
    smoothed by the decoder then, and several times as fast to read.

    Args:
        size: height and width of the result, or one number for both.
        scale: the range of the part's area, as a share of the image's.
        ratio: the range of its width divided by its height.
        interpolation: ``"bilinear"``, ``"bicubic"``, ``"nearest"``, or ``"random"`` for one of
            the first two each time, as in timm.

    Raises:
        ValueError: if a size is below 1, a range out of order or not above 0, or there is no such
            interpolation.
        ImportError: in use, if Pillow is not installed.

    Example:
        >>> crop = data.transforms.RandomResizedCrop(32, scale=(0.5, 1.0))
        >>> crop(lucid.rand(3, 48, 64)).shape
        (3, 32, 32)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.size = check_size(size, "RandomResizedCrop")
        self.scale = check_range(scale, "scale", "RandomResizedCrop")
        self.ratio = check_range(ratio, "ratio", "RandomResizedCrop")
        if self.scale[1] > 1:
            raise ValueError(f"RandomResizedCrop: scale must be at most 1, got {scale}")
        self.interpolation = check_random_interpolation(interpolation, "RandomResizedCrop")

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a part of an image of this size: its row, column, height and width."""
        rng = _random.generator()
        for _ in range(10):
            w, h = drawn_sides(height * width, self.scale, self.ratio)
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(height - h + 1))
                return top, int(rng.integers(width - w + 1)), h, w
        # The middle, of the nearest proportions.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return (height - h) // 2, (width - w) // 2, h, w

    def draft(self, width: int, height: int) -> tuple[int, int]:
        """Return how small an image of this size may be decoded."""
        # The shorter side of the smallest part, also if the image is to be turned.
        least = math.sqrt(self.scale[0] * width * height * min(self.ratio[0], 1 / self.ratio[1]))
        smaller = max(least / max(self.size), 1)
        return math.ceil(width / smaller), math.ceil(height / smaller)

    def _pillow(self, image: Any) -> Any:
        top, left, h, w = self.box(image.height, image.width)
        part = image.crop((left, top, left + w, top + h))
        return part.resize(self.size[::-1], drawn_resampling(self.interpolation))

    def _arrays(self, images: Array) -> Array:
        result = np.empty((len(images), *self.size, images.shape[3]), images.dtype)
        for index in range(len(images)):
            top, left, h, w = self.box(*images.shape[1:3])
            part = images[index : index + 1, top : top + h, left : left + w]
            method = drawn_resampling(self.interpolation)
            result[index] = resized(part, *self.size, method)[0]
        return result


class _Flip(Transform):
    """Mirror with a probability."""

    _axis: int  # of (N, H, W, C)
    _method: str  # Pillow's name of it

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(p, "p", type(self).__name__)

    def _pillow(self, image: Any) -> Any:
        if _random.generator().random() >= self.p:
            return image
        return image.transpose(getattr(pillow().Transpose, self._method))

    def _arrays(self, images: Array) -> Array:
        chosen = _random.generator().random(len(images)) < self.p
        result = images.copy()
        result[chosen] = np.flip(images[chosen], self._axis)
        return result


class RandomHorizontalFlip(_Flip):
    """Mirror left and right with a probability.

    Args:
        p: the probability.

    Raises:
        ValueError: if it is not between 0 and 1.
    """

    _axis, _method = 2, "FLIP_LEFT_RIGHT"


class RandomVerticalFlip(_Flip):
    """Mirror top and bottom with a probability.

    Args:
        p: the probability.

    Raises:
        ValueError: if it is not between 0 and 1.
    """

    _axis, _method = 1, "FLIP_TOP_BOTTOM"


class RandomAffine(Transform):
    """Rotate about the middle, scale and shift at random, with bilinear interpolation.

    Unlike torchvision's, shifts are not rounded to whole pixels, the angles, scales and shifts are
    drawn for each image of a batch, and there is no shear.

    Args:
        degrees: the range of the angle, ``(low, high)``, clockwise; one number means ``(-d, d)``.
        translate: the largest shifts along width and height, as parts of them.
        scale: the range of the factor.
        fill: the value outside of the image.

    Raises:
        ValueError: if a range is out of order or out of range.
        TypeError: in use, if an array does not hold floating-point numbers.
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        fill: float = 0,
    ) -> None:
        low, high = degrees if isinstance(degrees, Sequence) else (-degrees, degrees)
        if low > high:
            raise ValueError(f"RandomAffine: degrees must be a range, got {degrees}")
        if translate is not None and not all(0 <= part <= 1 for part in translate):
            raise ValueError(f"RandomAffine: translate must be between 0 and 1, got {translate}")
        if scale is not None and not 0 < scale[0] <= scale[1]:
            raise ValueError(f"RandomAffine: scale must be a range above 0, got {scale}")
        self.degrees = (float(low), float(high))
        self.translate = (translate[0], translate[1]) if translate is not None else (0.0, 0.0)
        self.scale = (scale[0], scale[1]) if scale is not None else (1.0, 1.0)
        self.fill = fill

    def _matrices(self, n: int, height: int, width: int) -> Array:
        """Return ``(n, 2, 3)``: from pixels of the result to where they come from in the image."""
        rng = _random.generator()
        angle = np.deg2rad(rng.uniform(*self.degrees, size=n))
        factor = rng.uniform(*self.scale, size=n)
        shift = rng.uniform(-1, 1, (2, n)) * [
            [self.translate[0] * width],
            [self.translate[1] * height],
        ]
        a, b = np.cos(angle) / factor, np.sin(angle) / factor
        x, y = (width - 1) / 2, (height - 1) / 2
        matrices = np.empty((n, 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = a, b
        matrices[:, 1, 0], matrices[:, 1, 1] = -b, a
        # The middle of the result, shifted, comes from the middle of the image.
        matrices[:, 0, 2] = x - a * (x + shift[0]) - b * (y + shift[1])
        matrices[:, 1, 2] = y + b * (x + shift[0]) - a * (y + shift[1])
        return matrices

    def _pillow(self, image: Any) -> Any:
        matrix = self._matrices(1, image.height, image.width)[0]
        # Pillow puts pixels at the middle of squares: (0, 0) is at (0.5, 0.5).
        matrix[:, 2] += 0.5 - matrix[:, :2].sum(axis=1) / 2
        image_module = pillow()
        return image.transform(
            image.size,
            image_module.Transform.AFFINE,
            tuple(matrix.ravel()),
            image_module.Resampling.BILINEAR,
            fillcolor=colour(image, self.fill),
        )

    def _arrays(self, images: Array) -> Array:
        check_floating(images, "RandomAffine")
        n, h, w, c = images.shape
        matrices = self._matrices(n, h, w).astype(np.float32)[:, :, :, None, None]
        columns, rows = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
        # Beyond a border of one pixel all is fill, so positions are clipped into it.
        x = np.clip(
            matrices[:, 0, 0] * columns + matrices[:, 0, 1] * rows + matrices[:, 0, 2], -1, w
        )
        y = np.clip(
            matrices[:, 1, 0] * columns + matrices[:, 1, 1] * rows + matrices[:, 1, 2], -1, h
        )
        left, top = np.minimum(np.floor(x), w - 1), np.minimum(np.floor(y), h - 1)
        right_part, lower_part = (x - left)[..., None], (y - top)[..., None]

        border = ((0, 0), (1, 1), (1, 1), (0, 0))
        pixels = np.pad(images, border, constant_values=self.fill).reshape(-1, c)
        first = (np.arange(n)[:, None, None] * (h + 2) + top.astype(np.intp) + 1) * (w + 2)
        first += left.astype(np.intp) + 1
        upper = pixels[first] * (1 - right_part) + pixels[first + 1] * right_part
        first += w + 2
        lower = pixels[first] * (1 - right_part) + pixels[first + 1] * right_part
        return (upper * (1 - lower_part) + lower * lower_part).astype(images.dtype, copy=False)


def resized(images: Array, height: int, width: int, method: Any) -> Array:
    """Return ``(N, height, width, C)`` by one of Pillow's methods, of the dtype of ``images``."""
    image_module = pillow()
    n, _, _, c = images.shape
    # Pillow's single channels: bytes, which it rounds itself, or float32.
    planes = images if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
    result = np.empty((n, height, width, c), planes.dtype)
    for index in range(n):
        for channel in range(c):
            plane = image_module.fromarray(planes[index, :, :, channel])
            result[index, :, :, channel] = plane.resize((width, height), method)
    if images.dtype.kind in "iu" and images.dtype != np.uint8:
        limits = np.iinfo(images.dtype)
        return np.clip(np.rint(result), limits.min, limits.max).astype(images.dtype)
    return result.astype(images.dtype, copy=False)


def drawn_resampling(interpolation: str) -> Any:
    """Return Pillow's constant for an interpolation; for ``"random"`` one of two."""
    if interpolation == "random":
        interpolation = ("bilinear", "bicubic")[int(_random.generator().integers(2))]
    return resampling(interpolation)


def check_random_interpolation(interpolation: str, who: str) -> str:
    """Return ``interpolation`` if there is such a one, or it is ``"random"``; else ValueError."""
    return interpolation if interpolation == "random" else check_interpolation(interpolation, who)
