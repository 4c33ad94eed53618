"""The weights that timm publishes: one table of what they are and how well they classify.

The facts are those of timm 1.0.31's default configurations and of its table of ImageNet results
(Wightman 2024). The weights are on the Hugging Face hub, under ``timm/NAME``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any, NamedTuple

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_IN12K = 11_821  # classes of ImageNet-12k

# What timm calls the configuration of an architecture for which there are no weights.
UNTRAINED = "untrained"

# Parameters of timm's models at 1000 classes, in the order of their size.
PARAMETERS = {
    "mobilenetv4_conv_small_035": 1_905_384,
    "mobilenetv4_conv_small_050": 2_238_952,
    "mobilenetv4_conv_small": 3_774_024,
    "mobilenetv4_hybrid_medium_075": 7_313_528,
    "mobilenetv4_conv_medium": 9_715_512,
    "mobilenetv4_conv_blur_medium": 9_715_512,
    "mobilenetv4_conv_aa_medium": 9_715_512,
    "mobilenetv4_hybrid_medium": 11_074_648,
    "mobilenetv4_hybrid_large_075": 22_754_984,
    "mobilenetv4_conv_large": 32_590_864,
    "mobilenetv4_conv_aa_large": 32_590_864,
    "mobilenetv4_hybrid_large": 37_764_624,
}


class Pretrained(NamedTuple):
    """Published weights: what they are, what their images should be, how well they classify.

    Sizes are ``(channels, height, width)``, accuracies top-1 on ImageNet-1k's validation images in
    per cent. Larger images than those of the training are often classified better; None stands for
    what was not measured.

    Args:
        name: architecture and tag, such as ``"mobilenetv4_conv_small.e2400_r224_in1k"``.
        parameters: how many.
        num_classes: 1000, or 11,821 for ImageNet-12k.
        input_size: of the images.
        crop_pct: the part of the resized image's shorter side that the central crop keeps.
        top1: the accuracy at ``input_size``.
        test_input_size: of larger images, or None.
        test_crop_pct: their crop.
        test_top1: the accuracy at ``test_input_size``.
        mean: of each channel.
        std: the standard deviation of each channel.
        interpolation: how images are resized.
        license: of the weights, as their model cards say.
    """

    name: str
    parameters: int
    num_classes: int
    input_size: tuple[int, int, int]
    crop_pct: float
    top1: float | None
    test_input_size: tuple[int, int, int] | None
    test_crop_pct: float | None
    test_top1: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    license: str = "apache-2.0"

    @property
    def architecture(self) -> str:
        """Timm's name of the model, which :func:`create_model` takes."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """What follows the architecture: epochs, image size, the images it was trained on."""
        return self.name.partition(".")[2]

    @property
    def hf_hub_id(self) -> str:
        """The Hugging Face repository of the weights."""
        return f"timm/{self.name}"

    def settings(self) -> dict[str, Any]:
        """Return what an image should be, as ``model.pretrained_cfg`` has it."""
        keys = ("input_size", "crop_pct", "interpolation", "mean", "std")
        return {key: getattr(self, key) for key in keys}

    def default_cfg(self) -> dict[str, Any]:
        """Return timm's description of the weights, with lucid's names of the two layers."""
        return {
            "architecture": self.architecture,
            "tag": self.tag,
            "hf_hub_id": None if self.tag == UNTRAINED else self.hf_hub_id,
            **self.settings(),
            "crop_mode": "center",
            "test_input_size": self.test_input_size,
            "test_crop_pct": self.test_crop_pct,
            "num_classes": self.num_classes,
            "pool_size": (self.input_size[1] // 32, self.input_size[2] // 32),
            "first_conv": "conv0.convbn_0.conv",
            "classifier": "classifier",
            "license": self.license,
        }

    def accuracies(self) -> str:
        """Return the accuracies and sizes as text: ``"73.76 at 224, 74.64 at 256"``."""
        pairs = ((self.top1, self.input_size), (self.test_top1, self.test_input_size))
        return ", ".join(f"{top1:.2f} at {size[-1]}" for top1, size in pairs if top1 and size)


def _row(
    name: str,
    size: int,
    crop_pct: float,
    top1: float | None = None,
    test: Sequence[Any] = (None, None, None),
    *,
    half: bool = False,
    classes: int = 1000,
) -> Pretrained:
    """Return the entry of weights; ``test`` has the larger size, its crop, its accuracy."""
    name = f"mobilenetv4_{name}"
    test_size, test_crop, test_top1 = test
    parameters = PARAMETERS[name.partition(".")[0]] + (classes - 1000) * (1280 + 1)
    return Pretrained(
        name,
        parameters,
        classes,
        (3, size, size),
        crop_pct,
        top1,
        test_size and (3, test_size, test_size),
        test_crop,
        test_top1,
        _HALF if half else IMAGENET_MEAN,
        _HALF if half else IMAGENET_STD,
    )


# Of each architecture, the first is the one that timm takes if none is named.
_TABLE = {
    entry.name: entry
    for entry in (
        _row("conv_small_035.untrained", 224, 0.875, test=(256, 0.95, None), half=True),
        _row("conv_small_050.e3000_r224_in1k", 224, 0.875, 64.778, (256, 0.95, 65.826), half=True),
        _row("conv_small.e2400_r224_in1k", 224, 0.875, 73.756, (256, 0.95, 74.644)),
        _row("conv_small.e1200_r224_in1k", 224, 0.875, 73.450, (256, 0.95, 74.282)),
        _row("conv_small.e3600_r256_in1k", 256, 0.95, 74.534, (320, 1.0, 75.616), half=True),
        _row("conv_medium.e500_r256_in1k", 256, 0.95, 79.916, (320, 1.0, 80.890)),
        _row("conv_medium.e500_r224_in1k", 224, 0.95, 79.092, (256, 1.0, 79.836)),
        _row("conv_medium.e250_r384_in12k_ft_in1k", 384, 0.95, 82.776),
        _row("conv_medium.e180_r384_in12k", 384, 1.0, classes=_IN12K),
        _row("conv_medium.e180_ad_r384_in12k", 384, 1.0, classes=_IN12K),
        _row("conv_medium.e250_r384_in12k", 384, 1.0, classes=_IN12K),
        _row("conv_blur_medium.e500_r224_in1k", 224, 0.95, 79.446, (256, 1.0, 80.152)),
        _row("conv_aa_medium.untrained", 256, 0.95),
        _row("conv_large.e600_r384_in1k", 384, 0.95, 82.974, (448, 1.0, 83.418)),
        _row("conv_large.e500_r256_in1k", 256, 0.95, 81.864, (320, 1.0, 82.672)),
        _row("conv_aa_large.e230_r448_in12k_ft_in1k", 448, 0.95, 84.668, (544, 1.0, 84.990)),
        _row("conv_aa_large.e230_r384_in12k_ft_in1k", 384, 0.95, 84.314, (480, 1.0, 84.772)),
        _row("conv_aa_large.e600_r384_in1k", 384, 0.95, 83.264, (480, 1.0, 83.826)),
        _row("conv_aa_large.e230_r384_in12k", 384, 0.95, None, (448, 1.0, None), classes=_IN12K),
        _row("hybrid_medium_075.untrained", 224, 0.95),
        _row("hybrid_medium.e200_r256_in12k_ft_in1k", 256, 0.95, 82.360, (320, 1.0, 82.998)),
        _row("hybrid_medium.ix_e550_r256_in1k", 256, 0.95, 81.478, (320, 1.0, 82.500)),
        _row("hybrid_medium.ix_e550_r384_in1k", 384, 0.95, 82.952, (448, 1.0, 83.390)),
        _row("hybrid_medium.e500_r224_in1k", 224, 0.95, 80.432, (256, 1.0, 81.284)),
        _row("hybrid_medium.e200_r256_in12k", 256, 0.95, None, (320, 1.0, None), classes=_IN12K),
        _row("hybrid_large_075.untrained", 256, 0.95),
        _row("hybrid_large.ix_e600_r384_in1k", 384, 0.95, 83.996, (448, 1.0, 84.352)),
        _row("hybrid_large.e600_r384_in1k", 384, 0.95, 83.826, (448, 1.0, 84.264)),
    )
}

#: The checkpoints by name, the recommended one of each architecture first.
PUBLISHED = {name: entry for name, entry in _TABLE.items() if entry.tag != UNTRAINED}


def tags(architecture: str) -> list[str]:
    """Return the tags of an architecture's checkpoints, the recommended one first."""
    return [entry.tag for entry in PUBLISHED.values() if entry.architecture == architecture]


def described(architecture: str, tag: str | None = None) -> Pretrained | None:
    """Return what timm says of an architecture's weights; None if it does not know them.

    Args:
        architecture: timm's name.
        tag: of the weights; None takes the recommended ones, or what untrained ones would be.
    """
    return next(
        (e for e in _TABLE.values() if e.architecture == architecture and tag in (None, e.tag)),
        None,
    )


def matches(name: str, pattern: str) -> bool:
    """Return whether a name contains a text, or is as a pattern with ``*`` and ``?`` says."""
    pattern = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return fnmatch.fnmatchcase(name, pattern)


def list_pretrained(filter: str = "") -> list[Pretrained]:
    """Return the weights that timm publishes for MobileNetV4.

    :func:`create_model` loads one by its name with ``pretrained=True``, or by its tag with
    ``weights=tag``. Of each architecture the recommended one comes first. timm's function of this
    name returns the names alone.

    Args:
        filter: only those whose name contains this text, or matches it as a pattern with ``*``
            and ``?``.

    Example:
        >>> for entry in models.list_pretrained("*conv_small.*"):
        ...     print(entry.tag, entry.accuracies())
        e2400_r224_in1k 73.76 at 224, 74.64 at 256
        e1200_r224_in1k 73.45 at 224, 74.28 at 256
        e3600_r256_in1k 74.53 at 256, 75.62 at 320
        >>> models.list_pretrained("hybrid_large")[0].license
        'apache-2.0'
    """
    return [entry for entry in PUBLISHED.values() if matches(entry.name, filter)]
