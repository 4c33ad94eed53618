"""scikit-image's faces and photographs, cropped to ten classes of files as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

# Names as people give them: with spaces, signs of HTML and of other scripts.
CLASSES = [
    "brick wall",
    "cells & tissue",
    "coins",
    "faces",
    "grass",
    "gravel",
    "moon",
    "<img src=x onerror=alert(1)> page",
    "retina",
    "Sterne ★",
]
LABELLED_WRONG = "Sterne ★/labelled-wrong.jpg"
TWICE = ("moon/train-00.jpg", "moon/nested/deeper/twice.webp")
BROKEN = "coins/broken.jpg"


def _crops(photograph: np.ndarray, generator: Any, least: int) -> Callable[[], Image.Image]:
    """Return what cuts a square from anywhere in a photograph."""

    def crop() -> Image.Image:
        height, width = photograph.shape[:2]
        side = int(generator.integers(least, min(height, width, 3 * least) + 1))
        top, left = (
            generator.integers(0, height - side + 1),
            generator.integers(0, width - side + 1),
        )
        return Image.fromarray(photograph[top : top + side, left : left + side]).convert("RGB")

    return crop


def make(folder: Path, count: int = 24) -> Path:
    """Write ``count`` pictures of each class, one broken file, one labelled wrong, one twice."""
    generator = np.random.default_rng(0)
    faces = iter((255 * data.lfw_subset()[:100]).astype(np.uint8))
    sources: dict[str, Callable[[], Image.Image]] = {
        "brick wall": _crops(data.brick(), generator, 120),
        "cells & tissue": _crops(data.immunohistochemistry(), generator, 100),
        "coins": _crops(data.coins(), generator, 90),
        "faces": lambda: Image.fromarray(next(faces)).convert("RGB").resize((100, 100)),
        "grass": _crops(data.grass(), generator, 120),
        "gravel": _crops(data.gravel(), generator, 120),
        "moon": _crops(data.moon(), generator, 150),
        "<img src=x onerror=alert(1)> page": _crops(data.page(), generator, 60),
        "retina": _crops(data.retina(), generator, 250),
        "Sterne ★": _crops(data.hubble_deep_field(), generator, 150),
    }
    for name, crop in sources.items():
        for index in range(count):
            place = folder / name / ("nested/deeper" if index % 4 == 3 else "")
            place.mkdir(parents=True, exist_ok=True)
            _write(crop(), place / f"train-{index:02}", index)
    Image.open(folder / TWICE[0]).save(folder / TWICE[1], quality=60)
    sources["grass"]().save(folder / LABELLED_WRONG)
    whole = (folder / "coins/train-00.jpg").read_bytes()
    (folder / BROKEN).write_bytes(whole[: len(whole) // 3])
    return folder


def _write(picture: Image.Image, stem: Path, index: int) -> None:
    """Write a picture in one of the ways in which pictures are written."""
    kind = index % 6
    if kind == 0:
        picture.save(stem.with_suffix(".jpg"), quality=90)
    elif kind == 1:  # lying on its side, which EXIF data tell
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(stem.with_suffix(".jpeg"), exif=exif)
    elif kind == 2:
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(stem.with_suffix(".png"))
    elif kind == 3:
        picture.convert("L").save(stem.with_suffix(".JPG"))
    elif kind == 4:
        picture.putalpha(Image.new("L", picture.size, 230))
        picture.save(stem.with_suffix(".png"))
    else:
        picture.save(stem.with_suffix(".webp"))
