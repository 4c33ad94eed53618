"""What an estimator takes for images, and how they become what a network takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid import _random
from lucid._check import is_integer, short
from lucid._extras import extra
from lucid.data import DataLoader, TensorDataset
from lucid.data._dataset import check_index
from lucid.data._read_image import load_picture
from lucid.data._readable import READERS
from lucid.data.transforms import Resize, evaluation

Array = np.ndarray
Images = Array | list[Path]

# What all estimators are; scikit-learn comes with the extra `data`.
base: Any = extra("sklearn.base", "data", "lucid.sklearn needs scikit-learn")
_utils: Any = extra("sklearn.utils", "data", "lucid.sklearn needs scikit-learn")
validation: Any = extra("sklearn.utils.validation", "data", "lucid.sklearn needs scikit-learn")


def seeded(random_state: Any) -> AbstractContextManager[None]:
    """Draw lucid's numbers from an estimator's ``random_state`` meanwhile."""
    seed = int(_utils.check_random_state(random_state).randint(2**31))
    return _random.restored(np.random.default_rng(seed).bit_generator.state)


class Settings(NamedTuple):
    """How images are prepared for a network: see :func:`lucid.data.transforms.evaluation`."""

    size: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str
    crop_pct: float
    channels: int


def take(X: Any, who: str) -> Images:
    """Return images as an array ``(N, H, W, C)``, or as the paths of their files.

    Raises:
        ValueError: if it is neither, there is none, or a value is not finite.
    """
    if isinstance(X, (str, os.PathLike)):
        raise ValueError(f"{who}: expected an array of images or a list of paths, got {X!r}")
    if not isinstance(X, np.ndarray) and not hasattr(X, "__array__"):
        X = list(X) if hasattr(X, "__iter__") else X
        if isinstance(X, list) and X and all(isinstance(x, (str, os.PathLike)) for x in X):
            return [Path(path) for path in X]
    array = np.asarray(X)
    if array.ndim == 1 and array.size and all(isinstance(x, (str, os.PathLike)) for x in array):
        return [Path(path) for path in array]
    if array.ndim not in (3, 4) or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{who}: expected images (N, H, W) or (N, H, W, C), or a list of paths, got an array "
            f"of shape {array.shape} and dtype {array.dtype}"
            + (": rows of pixels need image_shape" if array.ndim == 2 else "")
        )
    if array.size == 0:
        raise ValueError(f"{who}: found an array with 0 sample(s), of shape {array.shape}")
    if array.ndim == 3:
        array = array[..., None]
    if array.shape[3] not in (1, 3):
        raise ValueError(
            f"{who}: expected 1 or 3 channels (axis 3), got {array.shape[3]} from images of shape "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{who}: the images hold NaN or infinity")
    return array


def scaled(array: Array) -> Array:
    """Return pixels as float32: those of uint8 between 0 and 1, others as they are."""
    pixels = array.astype(np.float32)
    return pixels / 255 if array.dtype == np.uint8 else pixels


def check_range(images: Images, who: str) -> None:
    """Raise ValueError unless pixels are between 0 and 1, as published weights expect them."""
    if isinstance(images, list) or images.dtype == np.uint8:
        return
    low, high = images.min(), images.max()
    if low < 0 or high > 1:
        raise ValueError(
            f"{who}: with weights, expected pixels from 0 to 1, or 0 to 255 of dtype uint8, got "
            f"{images.dtype} from {low} to {high}"
        )


def prepared(images: Array, settings: Settings) -> Array:
    """Return pixels as a network takes them: ``(N, C, size, size)`` float32, normalised."""
    pixels = scaled(images).transpose(0, 3, 1, 2)
    if pixels.shape[1] != settings.channels:  # grey as colour, or colour as grey
        pixels = np.repeat(pixels.mean(axis=1, keepdims=True), settings.channels, axis=1)
    if pixels.shape[2:] != (settings.size, settings.size):
        # Bicubic curves overshoot the range of an image.
        low, high = (side(axis=(1, 2, 3), keepdims=True) for side in (pixels.min, pixels.max))
        resize = Resize((settings.size, settings.size), settings.interpolation)
        pixels = np.clip(resize(pixels), low, high)
    mean, std = (np.array(part, np.float32)[:, None, None] for part in settings[1:3])
    return np.ascontiguousarray((pixels - mean) / std)


class Files:
    """Pictures in files, with labels if there are any.

    Args:
        paths: the files.
        transform: what a picture goes through.
        labels: their classes.
    """

    def __init__(self, paths: list[Path], transform: Any, labels: Array | None = None) -> None:
        self.labels = np.zeros(len(paths), np.int64) if labels is None else labels
        self.samples = list(zip(paths, self.labels.tolist()))
        self.transform = transform

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return one picture, transformed, and its label."""
        path, label = self.samples[check_index(index, len(self), "Files")]
        return load_picture(path, self.transform), label


def batches(images: Images, settings: Settings, batch_size: int = 64) -> DataLoader:
    """Return a loader of images in order; each batch begins with them."""
    if isinstance(images, list):
        files = Files(images, evaluation(**settings._asdict()))
        return DataLoader(files, batch_size, num_workers=READERS)
    return DataLoader(TensorDataset(prepared(images, settings)), batch_size)


class ImageEstimator:
    """An estimator of images, or of rows of pixels if it has an ``image_shape``."""

    image_shape: Sequence[int] | None

    def _images(self, X: Any, *, fitting: bool = False) -> Images:
        """Return what is given as :func:`take` does, rows of pixels in the shape of an image.

        Raises:
            ValueError: as that does; or if rows are too long or too short for the shape, or not
                as those of ``fit``.
        """
        who, shape = type(self).__name__, self.image_shape
        if shape is None:
            return take(X, who)
        is_shape = isinstance(shape, (list, tuple)) and all(map(is_integer, shape))
        if not is_shape or len(shape) not in (2, 3):
            raise ValueError(
                f"{who}: image_shape: expected (H, W) or (H, W, C), got {short(shape)}"
            )
        rows = validation.validate_data(self, X, reset=fitting)
        try:
            return take(rows.reshape(len(rows), *shape), who)
        except ValueError as error:
            raise ValueError(
                f"{who}: rows of {rows.shape[1]} pixels are no images of image_shape {shape}: "
                f"{error}"
            ) from error

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = tags.input_tags.string = self.image_shape is None
        return tags
