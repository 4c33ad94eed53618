"""Changes drawn from a list of operations: RandAugment and TrivialAugment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import count, probability
from lucid.data._pillow import pillow
from lucid.data.transforms._base import PillowTransform, colour
from lucid.data.transforms._colour import brightness, contrast, saturation, sharpness
from lucid.data.transforms._geometry import check_random_interpolation, drawn_resampling

# -- what is done to an image ------------------------------------------------------------------


def _of_image_ops(name: str) -> Callable[[Any, float], Any]:
    """Return a function of Pillow's ImageOps that knows no strength."""

    def change(image: Any, _: float) -> Any:
        from PIL import ImageOps

        return getattr(ImageOps, name)(image)

    return change


def _posterize(image: Any, bits: float) -> Any:
    kept = 256 - 2 ** (8 - int(bits))  # with no bit the image is black
    return image.point([value & kept for value in range(256)] * len(image.getbands()))


def _solarize(image: Any, threshold: float) -> Any:
    from PIL import ImageOps

    return ImageOps.solarize(image, threshold)  # type: ignore[arg-type]  # any number


def _solarize_add(image: Any, added: float) -> Any:
    table = [min(255, value + int(added)) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def _blur(image: Any, radius: float) -> Any:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(radius))


def _affine(image: Any, matrix: tuple[float, ...], **how: Any) -> Any:
    return image.transform(image.size, pillow().Transform.AFFINE, matrix, **how)


def _rotate(image: Any, degrees: float, **how: Any) -> Any:
    return image.rotate(degrees, **how)


def _shear_x(image: Any, factor: float, **how: Any) -> Any:
    return _affine(image, (1, factor, 0, 0, 1, 0), **how)


def _shear_y(image: Any, factor: float, **how: Any) -> Any:
    return _affine(image, (1, 0, 0, factor, 1, 0), **how)


def _shift_x(image: Any, pixels: float, **how: Any) -> Any:
    return _affine(image, (1, 0, pixels, 0, 1, 0), **how)


def _shift_y(image: Any, pixels: float, **how: Any) -> Any:
    return _affine(image, (1, 0, 0, 0, 1, pixels), **how)


def _shift_x_part(image: Any, part: float, **how: Any) -> Any:
    return _shift_x(image, part * image.width, **how)


def _shift_y_part(image: Any, part: float, **how: Any) -> Any:
    return _shift_y(image, part * image.height, **how)


# These move pixels: they are told how to interpolate, and what comes in from outside.
_GEOMETRIC = (_rotate, _shear_x, _shear_y, _shift_x, _shift_y, _shift_x_part, _shift_y_part)


class _AutoAugment(PillowTransform):
    """What RandAugment and TrivialAugment share: how operations are done."""

    interpolation: str
    fill: Any

    def _changed(self, image: Any, change: Callable[..., Any], strength: float) -> Any:
        if change not in _GEOMETRIC:
            return change(image, strength)
        method = drawn_resampling(self.interpolation)
        return change(image, strength, resample=method, fillcolor=colour(image, self.fill))


# -- RandAugment -------------------------------------------------------------------------------

# From a magnitude, as a part of 10, and a function that negates every second number, to the
# strength of an operation.
_Strength = Callable[[float, Callable[[float], float]], float]


def _both_ways(most: float) -> _Strength:
    return lambda part, either: either(part * most)


def _around_one(part: float, either: Callable[[float], float]) -> float:
    return max(0.1, 1.0 + either(part * 0.9))


def _from_little(part: float, either: Callable[[float], float]) -> float:
    return part * 1.8 + 0.1


def _constant(part: float, either: Callable[[float], float]) -> float:
    return 0.0


@dataclass(frozen=True)
class _Operation:
    change: Callable[..., Any]
    strength: _Strength = _constant


# Names and strengths are timm's (timm/data/auto_augment.py). Of "…Increasing" a greater magnitude
# is a greater change, which it is not of all operations in the paper's list.
_OPERATIONS = {
    "AutoContrast": _Operation(_of_image_ops("autocontrast")),
    "Equalize": _Operation(_of_image_ops("equalize")),
    "Invert": _Operation(_of_image_ops("invert")),
    "Rotate": _Operation(_rotate, _both_ways(30)),
    "ShearX": _Operation(_shear_x, _both_ways(0.3)),
    "ShearY": _Operation(_shear_y, _both_ways(0.3)),
    "TranslateXRel": _Operation(_shift_x_part, _both_ways(0.45)),
    "TranslateYRel": _Operation(_shift_y_part, _both_ways(0.45)),
    "Posterize": _Operation(_posterize, lambda part, _: int(part * 4)),
    "PosterizeIncreasing": _Operation(_posterize, lambda part, _: 4 - int(part * 4)),
    "Solarize": _Operation(_solarize, lambda part, _: min(256, int(part * 256))),
    "SolarizeIncreasing": _Operation(_solarize, lambda part, _: 256 - min(256, int(part * 256))),
    "SolarizeAdd": _Operation(_solarize_add, lambda part, _: min(128, int(part * 110))),
    "Color": _Operation(saturation, _from_little),
    "ColorIncreasing": _Operation(saturation, _around_one),
    "Contrast": _Operation(contrast, _from_little),
    "ContrastIncreasing": _Operation(contrast, _around_one),
    "Brightness": _Operation(brightness, _from_little),
    "BrightnessIncreasing": _Operation(brightness, _around_one),
    "Sharpness": _Operation(sharpness, _from_little),
    "SharpnessIncreasing": _Operation(sharpness, _around_one),
    "Desaturate": _Operation(saturation, lambda part, _: 1 - min(0.5 + 0.5 * part, 1)),
    "GaussianBlur": _Operation(_blur, lambda part, _: min(0.1 + 1.9 * part, 2)),
}

_GROWING = ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
_PLAIN = [
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"),
    *("Color", "Contrast", "Brightness", "Sharpness"),
    *("ShearX", "ShearY", "TranslateXRel", "TranslateYRel"),
]
_INCREASING = [f"{name}Increasing" if name in _GROWING else name for name in _PLAIN]

# Timm's lists by name; with weights, operations are drawn without replacement.
_LISTS: dict[str, Sequence[str] | Mapping[str, float]] = {
    "3a": ["SolarizeIncreasing", "Desaturate", "GaussianBlur"],
    "3aw": {
        "SolarizeIncreasing": 6,
        "Desaturate": 6,
        "GaussianBlur": 6,
        "Rotate": 3,
        "ShearX": 2,
        "ShearY": 2,
        "PosterizeIncreasing": 1,
        "AutoContrast": 1,
        "ColorIncreasing": 1,
        "SharpnessIncreasing": 1,
        "ContrastIncreasing": 1,
        "BrightnessIncreasing": 1,
        "Equalize": 1,
        "Invert": 1,
    },
    "weights": {
        "Rotate": 3,
        "ShearX": 2,
        "ShearY": 2,
        "TranslateXRel": 1,
        "TranslateYRel": 1,
        "ColorIncreasing": 0.25,
        "SharpnessIncreasing": 0.25,
        "AutoContrast": 0.25,
        "SolarizeIncreasing": 0.05,
        "SolarizeAdd": 0.05,
        "ContrastIncreasing": 0.05,
        "BrightnessIncreasing": 0.05,
        "Equalize": 0.05,
        "PosterizeIncreasing": 0.05,
        "Invert": 0.05,
    },
}

# The parts of timm's strings: a name, a number, and what it is for.
_PARTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "m": ("magnitude", int),
    "n": ("num_ops", int),
    "p": ("p", float),
    "mstd": ("magnitude_std", float),
    "mmax": ("max_magnitude", int),
    "inc": ("increasing", lambda text: bool(int(text))),
}


class RandAugment(_AutoAugment):
    """A few operations drawn from a list, each done with a probability and one magnitude.

    Cubuk et al., 2019, "RandAugment: Practical automated data augmentation", with what timm adds:
    magnitudes that vary, operations that all grow with the magnitude, other lists. Operations,
    strengths and draws are timm's; the magnitude goes from 0 to 10 (torchvision's to 30).

    Args:
        num_ops: how many operations are drawn for an image.
        magnitude: how strong they are, from 0.
        magnitude_std: the standard deviation of the magnitude about that; above 100 it is drawn
            evenly between 0 and that.
        p: the probability that an operation that was drawn is done.
        increasing: whether a greater magnitude is a greater change, of each operation.
        max_magnitude: what greater magnitudes are cut to, after they are drawn; at 10 an operation
            is at the end of its usual range.
        operations: names of operations to draw from, or one of timm's lists: ``"3a"``, ``"3aw"``,
            ``"weights"``. The paper's 15, less Cutout, if left out.
        interpolation: of what moves pixels: ``"bilinear"``, ``"bicubic"``, ``"nearest"``, or
            ``"random"`` for one of the first two each time.
        fill: the colour that comes in from outside, from 0 to 255; one number, or one a channel.

    Raises:
        ValueError: if an argument is out of range, or there is no such operation or list.
        TypeError: in use, if it is no Pillow image in colour or grey.

    Example:
        >>> data.transforms.RandAugment.from_string("rand-m9-mstd0.5-inc1").magnitude_std
        0.5
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        *,
        magnitude_std: float = 0.0,
        p: float = 0.5,
        increasing: bool = False,
        max_magnitude: int = 10,
        operations: str | Sequence[str] | None = None,
        interpolation: str = "bilinear",
        fill: float | Sequence[float] = 128,
    ) -> None:
        who = "RandAugment"
        self.num_ops = count(num_ops, "num_ops", who, 0)
        self.max_magnitude = count(max_magnitude, "max_magnitude", who)
        self.magnitude = count(magnitude, "magnitude", who, 0)
        if not magnitude_std >= 0:
            raise ValueError(f"{who}: magnitude_std must be at least 0, got {magnitude_std}")
        self.magnitude_std = magnitude_std
        self.p = probability(p, "p", who)
        self.increasing = increasing
        self.operations = operations
        self.interpolation = check_random_interpolation(interpolation, who)
        self.fill = fill
        names: Sequence[str] | Mapping[str, float]
        if isinstance(operations, str):
            if operations not in _LISTS:
                raise ValueError(
                    f"{who}: operations must be one of {', '.join(_LISTS)} or names of "
                    f"operations, got {operations!r}"
                )
            names = _LISTS[operations]
        else:
            names = operations or (_INCREASING if increasing else _PLAIN)
        unknown = [name for name in names if name not in _OPERATIONS]
        if unknown:
            raise ValueError(
                f"{who}: there is no operation {unknown[0]!r}; there are {', '.join(_OPERATIONS)}"
            )
        self._drawn_from = list(names)
        weights = np.array(list(names.values())) if isinstance(names, Mapping) else None
        self._weights = None if weights is None else weights / weights.sum()

    @classmethod
    def from_string(
        cls,
        config: str,
        *,
        interpolation: str = "bilinear",
        fill: float | Sequence[float] = 128,
    ) -> RandAugment:
        """Return the RandAugment that a string of timm's means, such as ``rand-m9-mstd0.5-inc1``.

        Its parts, in any order: ``m`` magnitude (10 if left out), ``n`` number of operations, ``p``
        probability, ``mstd`` standard deviation of the magnitude, ``mmax`` highest magnitude,
        ``inc1`` increasing, ``t`` the name of a list.

        Raises:
            ValueError: if a part is unknown, or has no number; the message names it.
        """
        first, *parts = config.split("-")
        if first != "rand":
            raise ValueError(
                f"RandAugment: unknown part {first!r} of {config!r}: expected 'rand' first, as in "
                "'rand-m9-mstd0.5-inc1'"
            )
        settings: dict[str, Any] = {"magnitude": 10}
        for part in parts:
            match = re.fullmatch(r"(\D+)(\d.*)", part)
            if part.startswith("t") and part[1:] in _LISTS:
                settings["operations"] = part[1:]
                continue
            try:
                name, value = match.groups() if match else ("", "")
                argument, read = _PARTS[name]
                settings[argument] = read(value)
            except (KeyError, ValueError):
                raise ValueError(
                    f"RandAugment: unknown part {part!r} of {config!r}: expected one of "
                    f"{', '.join(_PARTS)} and a number, or t and one of {', '.join(_LISTS)}"
                ) from None
        return cls(**settings, interpolation=interpolation, fill=fill)

    def _pillow(self, image: Any) -> Any:
        rng = _random.generator()
        numbers = rng.choice(
            len(self._drawn_from), self.num_ops, replace=self._weights is None, p=self._weights
        )

        def either(value: float) -> float:
            return -value if rng.random() > 0.5 else value

        for number in numbers:
            if self.p < 1 and rng.random() > self.p:
                continue
            magnitude: float = self.magnitude
            if self.magnitude_std > 100:
                magnitude = rng.uniform(0, magnitude)
            elif self.magnitude_std > 0:
                magnitude = rng.normal(magnitude, self.magnitude_std)
            magnitude = max(0.0, min(magnitude, self.max_magnitude))
            operation = _OPERATIONS[self._drawn_from[number]]
            strength = operation.strength(magnitude / 10, either)
            image = self._changed(image, operation.change, strength)
        return image


# -- TrivialAugment ----------------------------------------------------------------------------

# The strongest and the weakest of an operation, and whether it may be negated: torchvision's.
_WIDE: list[tuple[Callable[..., Any], float, float, bool]] = [
    (lambda image, _: image, 0, 0, False),
    (_shear_x, 0, 0.99, True),
    (_shear_y, 0, 0.99, True),
    (_shift_x, 0, 32, True),
    (_shift_y, 0, 32, True),
    (_rotate, 0, 135, True),
    (brightness, 0, 0.99, True),
    (saturation, 0, 0.99, True),
    (contrast, 0, 0.99, True),
    (sharpness, 0, 0.99, True),
    (_posterize, 8, 2, False),
    (_solarize, 255, 0, False),
    (_of_image_ops("autocontrast"), 0, 0, False),
    (_of_image_ops("equalize"), 0, 0, False),
]


class TrivialAugmentWide(_AutoAugment):
    """One operation, of a strength drawn from its whole range: nothing to tune.

    Müller & Hutter, 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation",
    the wide ranges; operations and strengths are torchvision's.

    Args:
        num_magnitude_bins: how many strengths an operation has.
        interpolation: of what moves pixels: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, or
            ``"random"`` for one of the last two each time.
        fill: the colour that comes in from outside, from 0 to 255; one number, or one a channel.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: in use, if it is no Pillow image in colour or grey.
    """

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: float | Sequence[float] = 0,
    ) -> None:
        who = "TrivialAugmentWide"
        self.num_magnitude_bins = count(num_magnitude_bins, "num_magnitude_bins", who, 2)
        self.interpolation = check_random_interpolation(interpolation, who)
        self.fill = fill

    def _pillow(self, image: Any) -> Any:
        rng = _random.generator()
        change, weakest, strongest, signed = _WIDE[int(rng.integers(len(_WIDE)))]
        step = int(rng.integers(self.num_magnitude_bins)) / (self.num_magnitude_bins - 1)
        strength = weakest + step * (strongest - weakest)
        if change is _posterize:
            strength = round(strength)
        elif change in (_shift_x, _shift_y):
            strength = int(strength)
        if signed and rng.integers(2):
            strength = -strength
        if change in (brightness, saturation, contrast, sharpness):
            strength += 1
        return self._changed(image, change, strength)
