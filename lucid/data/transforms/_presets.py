"""Transforms from a picture to what a model takes: for evaluation, and for training."""

from __future__ import annotations

import math

from lucid import nn
from lucid.data.transforms._base import Compose
from lucid.data.transforms._geometry import CenterCrop, Resize
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
