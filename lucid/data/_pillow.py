"""Pillow's images: their modes and pixels. The one place that imports Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._extras import extra
from lucid.kernels._memory import empty

Array = np.ndarray

_SAMPLE_FORMAT = 339  # the TIFF tag; 1 are unsigned integers

RESAMPLING = ("nearest", "bilinear", "bicubic")


def pillow() -> Any:
    """Return the module ``PIL.Image``; an ImportError names the extra."""
    return extra("PIL.Image", "data", "images need Pillow")


def resampling(interpolation: str) -> Any:
    """Return Pillow's constant for the name of an interpolation."""
    return getattr(pillow().Resampling, interpolation.upper())


def check_interpolation(interpolation: str, who: str) -> str:
    """Return ``interpolation`` if there is such a one, and raise ValueError if not."""
    if interpolation not in RESAMPLING:
        raise ValueError(
            f"{who}: interpolation must be one of {', '.join(RESAMPLING)}, got {interpolation!r}"
        )
    return interpolation


def is_image(value: Any) -> bool:
    """Return whether ``value`` is a Pillow image; imports nothing."""
    return hasattr(value, "getbands") and hasattr(value, "convert")


# -- pixels ------------------------------------------------------------------------------------


def convert(image: Any, mode: str) -> Any:
    """Return a Pillow image in another mode; see :class:`lucid.data.transforms.Convert`."""
    if mode.startswith(("I", "F")):
        return image.convert(mode)
    if image.mode.startswith(("I", "F")):
        image = pillow().fromarray(np.rint(255 * pixels(image)).astype(np.uint8))
    elif image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif image.mode.endswith("a"):  # multiplied by its transparency
        image = image.convert(image.mode.replace("a", "A"))
    is_transparent = "transparency" in image.info or image.getbands()[-1] == "A"
    if is_transparent and not mode.endswith(("A", "a")) and mode != "P":
        image = image.convert("RGBA")
        white = pillow().new("RGBA", image.size, "white")
        image = pillow().alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def _lab_to_rgb(image: Any) -> Any:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")


def pixels(image: Any) -> Array:
    """Return the pixels of a Pillow image without a palette as float32 from 0 to 1.

    :class:`lucid.data.transforms.Convert` says what is white in which mode.
    """
    array = np.asarray(image)
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind == "u":
        return scaled(array)
    tags = getattr(image, "tag_v2", {})
    if array.dtype == np.int32 and _SAMPLE_FORMAT in tags and tags[_SAMPLE_FORMAT] in (1, (1,)):
        array = array.view(np.uint32)  # for which Pillow has no mode
    finite = array if array.dtype.kind in "iu" else array[np.isfinite(array)]
    if not finite.size:
        raise ValueError("none of its pixels is a finite number")
    low, high = float(finite.min()), float(finite.max())
    whites = (255, 65535) if array.dtype.kind in "iu" else (1, 255, 65535)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    if white is None:
        result = (array.astype(np.float64) - low) / ((high - low) or 1)
    else:
        result = array / np.float64(white)
    return np.clip(np.nan_to_num(result, nan=0.0), 0, 1).astype(np.float32)


def scaled(array: Array) -> Array:
    """Return unsigned integers of 8 or 16 bits as float32 from 0 to 1, other numbers as they are.

    The result is an array of its own, in C order.
    """
    result = empty(array.shape)
    result[...] = array
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        result /= np.float32(2 ** (8 * array.dtype.itemsize) - 1)
    return result
