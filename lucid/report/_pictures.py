"""Pictures of a report: read, explained, and small enough to stand in the page itself."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import numpy as np

from lucid import _random, nn
from lucid.autograd import Tensor
from lucid.data import DataLoader, Dataset, Images, Subset
from lucid.data._dataset import Numbered, paths_of
from lucid.data._fetch import PassedOverError
from lucid.data._pillow import pillow
from lucid.data._read_image import read_image
from lucid.report._html import Markup, tag
from lucid.training import Recipe
from lucid.training._from_recipe import build_mix
from lucid.visual import gradcam

Array = np.ndarray

_SIDE = 200  # of a picture in the page, at most; a phone shows two side by side
_TINY = 64  # smaller pictures are kept as they are, and enlarged in the page

# What fails for one picture, and leaves the others as they are.
UNREADABLE = (ValueError, OSError, MemoryError)


def embedded(image: Any, name: str) -> Markup:
    """Return a Pillow image as an element of the page, with what it shows in words."""
    image = image.convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    tiny = max(image.size) <= _TINY
    file = io.BytesIO()
    image.save(file, "PNG" if tiny else "JPEG", **({} if tiny else {"quality": 82}))
    kind = "png" if tiny else "jpeg"
    address = f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
    size = {"width": image.width, "height": image.height}
    return tag("img", src=address, alt=name, class_="tiny" if tiny else None, **size)


def as_picture(pixels: Array, images: Images) -> Any:
    """Return what a model is given ``(C, H, W)`` as a Pillow image."""
    mean, std = (np.asarray(values, np.float32) for values in (images.mean, images.std))
    hwc = np.clip(pixels.transpose(1, 2, 0) * std + mean, 0, 1)
    hwc = np.rint(255 * hwc).astype(np.uint8)
    return pillow().fromarray(hwc[:, :, 0] if hwc.shape[2] == 1 else hwc)


def _untold(message: str) -> None:
    """Do not tell it: the picture is missing, which is seen."""


class Tolerant(Subset):
    """A data set some of whose pictures may be unreadable: a loader leaves them out."""

    batch = None  # one by one

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset, range(len(dataset)))

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        try:
            return super().__getitem__(index)
        except UNREADABLE as error:
            raise PassedOverError(str(error), _untold) from error


class Shown:
    """The pictures of one part of a data set, by their index."""

    def __init__(self, dataset: Dataset, images: Images) -> None:
        self._dataset = dataset
        self._images = images
        self._paths = paths_of(dataset)

    def path(self, index: int) -> str | None:
        """Return the file of a picture; None if it comes from an array."""
        return str(self._paths[index]) if self._paths else None

    def name(self, index: int) -> str:
        """Return its file without the folder that all are in; its number if it has none."""
        if not self._paths:
            return f"image {index}"
        return os.path.relpath(self._paths[index], os.path.commonpath(self._paths))

    def picture(self, index: int) -> Any:
        """Return it as a Pillow image; raises one of UNREADABLE if it cannot be read."""
        if self._paths:
            return read_image(self._paths[index])
        return as_picture(self._pixels(index), self._images)

    def heat(self, model: nn.Module, index: int, target: int) -> Any:
        """Return the picture with what speaks for a class laid over it."""
        image = self.picture(index) if self._paths else self._pixels(index)
        return gradcam(model, image, target).overlay()

    def _pixels(self, index: int) -> Array:
        pixels = self._dataset[index][0]
        return pixels.data if isinstance(pixels, Tensor) else np.asarray(pixels)


def augmented_pictures(
    images: Images, recipe: Recipe, pictures: int = 6, times: int = 4
) -> list[list[Any]]:
    """Return some training pictures, each as several times as the model may see it.

    lucid's generator is left as it is.
    """
    pictures = min(pictures, len(images.train))
    indices = np.linspace(0, len(images.train) - 1, pictures).astype(np.int64)
    # Neighbours are other pictures, as those that are mixed are in a batch.
    chosen = Subset(Tolerant(images.train), np.tile(indices, times))
    mix = build_mix(recipe, len(images.classes))
    with _random.seeded(0):
        for places, batch, labels in DataLoader(Numbered(chosen), len(chosen)):
            if images.augmentation is not None:
                batch = images.augmentation(batch)
            if mix is not None:
                batch, *_ = mix(batch, labels)
            shown: list[list[Any]] = [[] for _ in range(pictures)]
            for place, pixels in zip(places.tolist(), batch.data):
                shown[place % pictures].append(as_picture(pixels, images))
            return [row for row in shown if row]
    return []
