"""From an image to the numbers of a tensor."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._pillow import convert, is_image, pixels, scaled
from lucid.data.transforms._base import Array, Shown, Transform, check_floating
from lucid.kernels._memory import empty


class Convert(Shown):
    """A Pillow image in another mode, such as ``"RGB"`` or ``"L"`` (grey).

    As ``image.convert(mode)``, except that what is transparent becomes white if the new mode has
    no transparency, and that more than 8 bits are scaled, which Pillow cuts off. 16 bits are
    divided by 257. 32-bit integers and floating-point numbers have no highest value. There, white
    is the least of 1 (for floating point), 255 and 65,535 that no pixel exceeds. If a pixel exceeds
    all of them or is negative, black is the lowest pixel and white the highest.

    Args:
        mode: the mode, in Pillow's name for it.

    Raises:
        TypeError: in use, if it is no Pillow image.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        """Return the image in that mode."""
        if not is_image(image):
            raise TypeError(f"Convert: expected a Pillow image, got {type(image).__name__}")
        return convert(image, self.mode)


class ToTensor(Shown):
    """A Pillow image, or an array ``(H, W)`` or ``(H, W, C)``, as a float32 tensor ``(C, H, W)``.

    Pillow images are scaled to 0 … 1, those of more than 8 bits as :class:`Convert` does. Of
    arrays, bytes are scaled from 0 … 255 and unsigned integers of 16 bits from 0 … 65,535 (which
    torchvision leaves as they are); booleans become 0 and 1; other numbers stay as they are.

    Raises:
        TypeError: if it is neither.
        ValueError: if the image has a mode without such a form (palettes, for example), or the
            array another number of axes.

    Example:
        >>> data.transforms.ToTensor()(np.array([[0, 51], [102, 255]], np.uint8))
        tensor([[[0. , 0.2],
                 [0.4, 1. ]]])
        >>> data.transforms.ToTensor()(np.zeros((4, 5, 3), np.uint8)).shape
        (3, 4, 5)
    """

    def __call__(self, image: Any) -> Tensor:
        """Return the tensor."""
        if is_image(image):
            if image.mode.partition(";")[0] not in ("1", "L", "LA", "RGB", "RGBA", "I", "F"):
                raise ValueError(
                    f'ToTensor: an image of mode {image.mode!r} must be converted: convert("RGB")'
                )
            array = pixels(image)
        elif not isinstance(image, Array) or image.dtype.kind not in "fiub":
            raise TypeError(
                f"ToTensor: expected a Pillow image or a numeric array, got {type(image).__name__}"
            )
        elif image.ndim not in (2, 3):
            raise ValueError(f"ToTensor: expected (H, W) or (H, W, C), got shape {image.shape}")
        else:
            array = scaled(image)
        hwc = array if array.ndim == 3 else array[:, :, None]
        return wrap(hwc.transpose(2, 0, 1))


class Normalize(Transform):
    """Subtract the mean of each channel and divide by its standard deviation.

    Args:
        mean: one number per channel, or one for all.
        std: one number per channel, or one for all; not 0.

    Raises:
        ValueError: if a number of ``std`` is not above 0; in use, if the image has another number
            of channels.
        TypeError: in use, if the image does not hold floating-point numbers.

    Example:
        >>> pixels = lucid.tensor([[[[0.0, 1.0]]]])
        >>> data.transforms.Normalize(mean=0.5, std=0.25)(pixels)
        tensor([[[[-2.,  2.]]]])
        >>> data.transforms.Normalize([0.5, 0.4, 0.3], 0.25)
        Normalize(mean=(0.5, 0.4, 0.3), std=(0.25,))
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = tuple(np.atleast_1d(mean).astype(float).tolist())
        self.std = tuple(np.atleast_1d(std).astype(float).tolist())
        if not all(value > 0 for value in self.std):
            raise ValueError(f"Normalize: std must be above 0, got {std}")

    def _arrays(self, images: Array) -> Array:
        return self._normalized(images, empty(images.shape, images.dtype))

    def in_place(self, image: Tensor) -> Tensor:
        """Normalise a tensor ``(C, H, W)`` that is channels-last in memory, and no one else's."""
        images = image.data.transpose(1, 2, 0)[None]
        self._normalized(images, images)
        return image

    def _normalized(self, images: Array, result: Array) -> Array:
        check_floating(images, "Normalize")
        n, h, w, c = images.shape
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, c):
                raise ValueError(f"Normalize: {name} has {len(values)} values for {c} channels")
        # Whole rows at once: NumPy is slow along an axis of three.
        rows = result.reshape(n, h, w * c)
        np.subtract(images.reshape(rows.shape), _row(self.mean, w, c, images.dtype), out=rows)
        rows /= _row(self.std, w, c, images.dtype)
        return result


@functools.lru_cache(16)
def _row(values: tuple[float, ...], width: int, channels: int, dtype: np.dtype[Any]) -> Array:
    """Return values of channels, or one for all, for each pixel of a row."""
    return np.tile(np.broadcast_to(np.asarray(values, dtype), channels), width)
