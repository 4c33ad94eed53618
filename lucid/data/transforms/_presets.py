"""From a picture to what a model takes: for evaluation, and for training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lucid import nn
from lucid.data.transforms._auto_augment import RandAugment
from lucid.data.transforms._colour import ColorJitter
from lucid.data.transforms._compose import Compose
from lucid.data.transforms._erasing import RandomErasing
from lucid.data.transforms._geometry import (
    CenterCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)
from lucid.data.transforms._values import Convert, Normalize, ToTensor
from lucid.models._checkpoints import DEFAULT


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
    settings = expected(model)
    return evaluation(settings.pop("size"), **settings)


def expected(model: nn.Module) -> dict[str, Any]:
    """Return what :func:`for_model` prepares images by, as arguments of :func:`evaluation`."""
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
    mean, std = for_channels(mean, channels), for_channels(std, channels)
    same = {key: settings[key] for key in ("interpolation", "crop_pct")}
    return {"size": height, "mean": mean, "std": std, **same, "channels": channels}


def for_channels(values: Sequence[float], channels: int) -> list[float]:
    """Return a value for each channel: those of weights for colour become one for grey."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def evaluation(
    size: int = 224,
    mean: Sequence[float] = DEFAULT["mean"],
    std: Sequence[float] = DEFAULT["std"],
    interpolation: str = "bicubic",
    crop_pct: float = 0.875,
    channels: int = 3,
) -> Compose:
    """Return a transform of Pillow images that changes nothing at random: the middle, resized.

    Args:
        size: height and width of the result.
        mean: what is subtracted from pixels between 0 and 1, for each channel or all.
        std: what they are divided by then.
        interpolation: ``"bicubic"``, ``"bilinear"`` or ``"nearest"``.
        crop_pct: the part of the resized image's shorter side that is kept.
        channels: 3 for colour, 1 for grey.

    Returns:
        From a Pillow image to a float32 tensor ``(C, size, size)``.

    Raises:
        ValueError: if an argument is out of range.
    """
    return Compose(
        [
            Convert("L" if channels == 1 else "RGB"),
            Resize(math.floor(size / crop_pct), interpolation),
            CenterCrop(size),
            ToTensor(),
            Normalize(mean, std),
        ]
    )


def training(
    preset: str = "light",
    size: int = 224,
    mean: Sequence[float] = DEFAULT["mean"],
    std: Sequence[float] = DEFAULT["std"],
    interpolation: str = "bicubic",
    channels: int = 3,
) -> Compose:
    """Return a transform of Pillow images for training, by the name of what it varies.

    ========== ===================================================================================
    ``none``   nothing: the middle, resized to ``size``
    ``light``  crops of 35 % to 100 % of the area, mirrored, brightness, contrast and saturation by
               up to 20 %: for fine-tuning and small sets
    ``strong`` crops of 8 % to 100 %, mirrored, ``rand-m9-mstd0.5-inc1``, and a rectangle of noise
               in a quarter of the images: for long training on many images
    ``rand-…`` as timm does by that string (:meth:`RandAugment.from_string`): crops of 8 % to
               100 %, mirrored, RandAugment
    ========== ===================================================================================

    Args:
        preset: a name of the table.
        size: height and width of the result.
        mean: what is subtracted from pixels between 0 and 1, for each channel or all.
        std: what they are divided by then.
        interpolation: how parts are resized: ``"bicubic"``, ``"bilinear"``, ``"nearest"`` or
            ``"random"``.
        channels: 3 for colour, 1 for grey.

    Returns:
        From a Pillow image to a float32 tensor ``(C, size, size)``.

    Raises:
        ValueError: if there is no such preset; of a string of timm's the message names the part.

    Example:
        >>> from PIL import Image
        >>> transform = data.transforms.training("rand-m9-mstd0.5-inc1", size=32)
        >>> transform(Image.new("RGB", (64, 48))).shape
        (3, 32, 32)
    """
    if preset == "none":
        return evaluation(size, mean, std, interpolation, 1.0, channels)
    least = 0.35 if preset == "light" else 0.08
    change: Callable[[Any], Any]
    if preset == "light":
        change = ColorJitter(0.2, 0.2, 0.2)
    elif preset == "strong" or preset.startswith("rand"):
        config = "rand-m9-mstd0.5-inc1" if preset == "strong" else preset
        fill = [min(255, round(255 * value)) for value in mean]
        change = RandAugment.from_string(config, interpolation=interpolation, fill=fill)
    else:
        raise ValueError(
            "training: expected none, light, strong or a string such as rand-m9-mstd0.5-inc1, "
            f"got {preset!r}"
        )
    return Compose(
        [
            Convert("RGB"),
            RandomResizedCrop(size, (least, 1.0), interpolation=interpolation),
            RandomHorizontalFlip(),
            change,
            Convert("L" if channels == 1 else "RGB"),
            ToTensor(),
            Normalize(mean, std),
            *([RandomErasing(0.25, value="random")] if preset == "strong" else []),
        ]
    )
