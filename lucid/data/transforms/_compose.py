"""Transforms made of others: one after the other, maybe, or one of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid import _random
from lucid._check import probability
from lucid.data.transforms._base import Shown
from lucid.data.transforms._values import Convert, Normalize, ToTensor


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
        before: Any = None
        for transform in self.transforms:
            # What ToTensor makes is seen by nobody yet, so its memory serves the result.
            if type(transform) is Normalize and type(before) is ToTensor:
                image = transform.in_place(image)
            else:
                image = transform(image)
            before = transform
        return image

    @property
    def draft(self) -> Callable[[int, int], tuple[int, int]] | None:
        """How small a JPEG may be decoded, as the first transform says; None for not at all."""
        first = next((step for step in self.transforms if not isinstance(step, Convert)), None)
        return getattr(first, "draft", None)

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class RandomApply(Shown):
    """Do one transform after the other with a probability, or nothing.

    Args:
        transforms: functions, of an image or of a batch's images and labels.
        p: the probability.

    Raises:
        ValueError: if it is not between 0 and 1.

    Example:
        >>> mirror = data.transforms.RandomHorizontalFlip(p=1.0)
        >>> data.transforms.RandomApply([mirror], p=0.0)(lucid.tensor([[[1.0, 2.0]]]))
        tensor([[[1., 2.]]])
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: float = 0.5) -> None:
        self.transforms = list(transforms)
        self.p = probability(p, "p", "RandomApply")

    def __call__(self, *inputs: Any) -> Any:
        """Return what was given, maybe transformed."""
        chosen = _random.generator().random() < self.p
        for transform in self.transforms if chosen else ():
            result = transform(*inputs)
            inputs = result if isinstance(result, tuple) else (result,)
        return inputs if len(inputs) > 1 else inputs[0]


class RandomChoice(Shown):
    """Do one transform of several.

    Args:
        transforms: functions, of an image or of a batch's images and labels.
        p: the probability of each, relative to the others; equal if left out.

    Raises:
        ValueError: if there is none, or not as many probabilities.

    Example:
        >>> from lucid.data.transforms import CutMix, MixUp, RandomChoice
        >>> mix = RandomChoice([MixUp(alpha=0.2, num_classes=2), CutMix(num_classes=2)])
        >>> mix(lucid.rand(2, 1, 8, 8), lucid.tensor([0, 1]))[1].shape
        (2, 2)
    """

    def __init__(
        self, transforms: Sequence[Callable[..., Any]], p: Sequence[float] | None = None
    ) -> None:
        self.transforms = list(transforms)
        weights = np.ones(len(self.transforms)) if p is None else np.asarray(p, np.float64)
        if not len(weights) or weights.shape != (len(transforms),) or not weights.sum() > 0:
            raise ValueError(
                f"RandomChoice: expected at least one transform and a probability for each, got "
                f"{len(self.transforms)} and p={p!r}"
            )
        self.p = (weights / weights.sum()).tolist()

    def __call__(self, *inputs: Any) -> Any:
        """Return what one of the transforms makes of an image or a batch."""
        number = int(_random.generator().choice(len(self.transforms), p=self.p))
        return self.transforms[number](*inputs)
