"""Changes of images, for one or for a batch, composable.

Each transform takes a Pillow image, or an array or tensor ``(C, H, W)`` or ``(N, C, H, W)``, and
returns the same kind. The random ones draw from lucid's generator, anew for each image of a
batch. Results are channels-last in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid import _random, nn
from lucid._check import is_whole
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data._pillow import (
    check_interpolation,
    convert,
    is_image,
    pillow,
    pixels,
    resampling,
    scaled,
)
from lucid.data._read_image import MAX_PIXELS
from lucid.models._checkpoints import DEFAULT

Array = np.ndarray


class _Shown:
    """Shows itself as its class with its settings."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Compose:
    """One transform after the other.

    Args:
        transforms: functions of one argument.

    Raises:
        TypeError: if one cannot be called.

    Example:
        >>> from lucid.data.transforms import CenterCrop, Compose, Normalize
        >>> transform = Compose([CenterCrop(2), Normalize(0.5, 0.25)])
        >>> transform
        Compose([CenterCrop(...), Normalize(...)])
        >>> transform(lucid.ones(1, 4, 4))
        tensor([[[2., 2.],
                 [2., 2.]]])
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        for transform in transforms:
            if not callable(transform):
                raise TypeError(f"Compose: expected functions, got {transform!r}")
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        """Return the image after all transforms."""
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def for_model(model: nn.Module) -> Compose:
    """Return the transform of Pillow images that a model's weights expect, for evaluation.

    Convert to RGB (to grey for a model of one image channel), resize the shorter side to
    ``floor(size / crop_pct)``, cut out the middle, scale to 0 … 1, normalise: what timm's
    evaluation transform does, and to the same values. Photographs from a camera may be stored
    lying on their side; :func:`lucid.data.datasets.read_image` turns them upright.

    Args:
        model: its ``pretrained_cfg`` says ``input_size``, ``crop_pct``, ``interpolation``, ``mean``
            and ``std``. Without loaded weights it is None, and they are 224×224, 0.875, bicubic
            and ImageNet's.

    Returns:
        From a Pillow image to a float32 tensor ``(C, size, size)``.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: if the model's images are not square, or have neither one channel nor three.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"for_model: expected a lucid.nn.Module, got {type(model).__name__}")
    settings = {**DEFAULT, **(getattr(model, "pretrained_cfg", None) or {})}
    channels, height, width = settings["input_size"]
    channels = getattr(model, "in_channels", channels)
    mean, std = list(settings["mean"]), list(settings["std"])
    if height != width:
        raise ValueError(
            f"for_model: expected square images, got an input_size of {height}×{width}"
        )
    if channels not in (1, 3):
        raise ValueError(
            f"for_model: pictures have one channel or three, the model expects {channels}; "
            "compose a transform of your own"
        )
    if channels == 1:  # weights for colour, adapted to grey
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return Compose(
        [
            Convert("L" if channels == 1 else "RGB"),
            Resize(math.floor(height / settings["crop_pct"]), settings["interpolation"]),
            CenterCrop(height),
            ToTensor(),
            Normalize(mean, std),
        ]
    )


class Convert(_Shown):
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


class Transform(_Shown):
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


class ToTensor(_Shown):
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
            image = pixels(image)
        if not isinstance(image, Array) or image.dtype.kind not in "fiub":
            raise TypeError(
                f"ToTensor: expected a Pillow image or a numeric array, got {type(image).__name__}"
            )
        if image.ndim not in (2, 3):
            raise ValueError(f"ToTensor: expected (H, W) or (H, W, C), got shape {image.shape}")
        hwc = image if image.ndim == 3 else image[:, :, None]
        return wrap(scaled(hwc).transpose(2, 0, 1))


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
        _check_floating(images, "Normalize")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, images.shape[-1]):
                raise ValueError(
                    f"Normalize: {name} has {len(values)} values for {images.shape[-1]} channels"
                )
        mean, std = (np.asarray(values, images.dtype) for values in (self.mean, self.std))
        result = images - mean
        result /= std
        return result


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
            _size(size, "Resize") if isinstance(size, Sequence) else _size(size, "Resize")[0]
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
        image_module, method = pillow(), resampling(self.interpolation)
        n, h, w, c = images.shape
        height, width = self.output_size(h, w)
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


class CenterCrop(Transform):
    """Cut out the middle. An image that is smaller gets a black border.

    Args:
        size: height and width, or one number for both.

    Raises:
        ValueError: if a size is below 1.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _size(size, "CenterCrop")

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
        self.size = _size(size, "RandomCrop")
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
        image = ImageOps.expand(image, self.padding, _colour(image, self.fill))
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


class RandomHorizontalFlip(Transform):
    """Mirror left and right with a probability.

    Args:
        p: the probability.

    Raises:
        ValueError: if it is not between 0 and 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: p must be between 0 and 1, got {p}")
        self.p = p

    def _pillow(self, image: Any) -> Any:
        from PIL import ImageOps

        return ImageOps.mirror(image) if _random.generator().random() < self.p else image

    def _arrays(self, images: Array) -> Array:
        chosen = _random.generator().random(len(images)) < self.p
        result = images.copy()
        result[chosen] = images[chosen, :, ::-1]
        return result


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
            fillcolor=_colour(image, self.fill),
        )

    def _arrays(self, images: Array) -> Array:
        _check_floating(images, "RandomAffine")
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


def _colour(image: Any, value: float) -> Any:
    """Return a value for all bands of a Pillow image, as Pillow takes it."""
    value = value if image.mode == "F" else int(value)
    bands = len(image.getbands())
    return value if bands == 1 else (value,) * bands


def _check_floating(images: Array, who: str) -> None:
    if images.dtype.kind != "f":
        raise TypeError(
            f"{who}: expected floating-point images, got {images.dtype}; use ToTensor first"
        )


def _size(size: Any, who: str) -> tuple[int, int]:
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
