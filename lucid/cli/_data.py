"""The images of ``--data``: what to learn from, to choose by, and to be judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucid.cli._errors import UsageError
from lucid.cli._run import Settings
from lucid.data import Dataset, Subset, datasets, transforms
from lucid.data.datasets import stratified

# Of ImageNet's pixels, as everybody uses them for photographs.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)

TEST_PART = 0.2  # of a folder that does not say itself what is for the test


@dataclass(frozen=True)
class Images:
    """A data set, ready for a model.

    Attributes:
        learn: the images to learn from.
        labels: their labels.
        validation: the images to choose by, if the data set says which.
        test: the images to be judged by.
        classes: the names of the labels.
        in_channels: channels of an image.
        mean: what was subtracted from pixels between 0 and 1, per channel.
        std: what they were divided by then.
        augmentation: changes a batch at random.
    """

    learn: Dataset
    labels: np.ndarray
    validation: Dataset | None
    test: Dataset
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    augmentation: Callable[[Any], Any]

    def split(self, settings: Settings) -> tuple[Dataset, Dataset]:
        """Return what to learn from and what to choose by, held out from it if need be."""
        train, validation = self.learn, self.validation
        if validation is None:
            train, validation = _hold_out(train, self.labels, settings.validation)
        return _limit(train, settings.limit), _limit(validation, settings.limit)


def load_images(
    settings: Settings,
    *,
    in_channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Images:
    """Load what ``settings.data`` names; the parts are the same each time.

    Args:
        settings: ``data``, ``size`` and ``limit`` count here.
        in_channels: what a trained model expects; by default what suits the data.
        mean: likewise, subtracted from pixels between 0 and 1.
        std: likewise, what they are divided by.

    Raises:
        UsageError: if there are no such data, or too few to hold some out.
    """
    if settings.data == "digits":
        return _digits(settings, in_channels or 1)
    root = Path(settings.data)
    if not root.is_dir():
        raise UsageError(f"--data: {settings.data!r} is neither `digits` nor a folder of images")
    try:
        return _folder(
            root,
            settings,
            in_channels or 3,
            list(mean if mean is not None else PHOTO_MEAN),
            list(std if std is not None else PHOTO_STD),
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"--data: {error}") from error


def _digits(settings: Settings, channels: int) -> Images:
    train, test = datasets.digits(settings.size, channels)
    return Images(
        learn=train,
        labels=train.labels,
        validation=None,
        test=_limit(test, settings.limit),
        classes=train.classes,
        in_channels=channels,
        mean=list(train.mean),
        std=list(train.std),
        augmentation=train.augmentation(),
    )


def _folder(
    root: Path, settings: Settings, channels: int, mean: list[float], std: list[float]
) -> Images:
    """Load ``root/CLASS/…``, or ``root/train/CLASS/…`` with test/, val/ or both beside train/.

    Without test/ the images in val/ are the test, so that there always is one.
    """
    transform = transforms.Compose(
        [
            *([_grey] if channels == 1 else []),
            transforms.Resize(settings.size, "bicubic"),
            transforms.CenterCrop(settings.size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    parts = {
        name: datasets.ImageFolder(root / name, transform)
        for name in ("train", "val", "test")
        if (root / name).is_dir()
    }
    learn: Dataset
    test: Dataset
    if "train" not in parts:
        whole = datasets.ImageFolder(root, transform)
        labels = _labels(whole)
        learn, test = _hold_out(whole, labels, TEST_PART)
        labels, validation = labels[learn.indices], None
    else:
        if len(parts) == 1:
            raise ValueError(f"{root} has a folder train/ but neither test/ nor val/ beside it")
        for name, part in parts.items():
            if part.classes != parts["train"].classes:
                raise ValueError(f"{root / name} has other classes than {root / 'train'}")
        learn = whole = parts["train"]
        labels = _labels(whole)
        test = parts["test"] if "test" in parts else parts["val"]
        validation = parts.get("val") if "test" in parts else None
    return Images(
        learn=learn,
        labels=labels,
        validation=validation,
        test=_limit(test, settings.limit),
        classes=whole.classes,
        in_channels=channels,
        mean=mean,
        std=std,
        augmentation=transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(settings.size, padding=max(settings.size // 8, 1)),
            ]
        ),
    )


def _labels(folder: datasets.ImageFolder) -> np.ndarray:
    return np.array([label for _, label in folder.samples])


def _grey(image: Any) -> Any:
    return image.convert("L")


def _hold_out(dataset: Dataset, labels: np.ndarray, part: float) -> tuple[Subset, Subset]:
    """Return the rest and ``part`` of the samples of each class, always the same ones."""
    held_out = stratified(labels, part)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if not len(held_out) or not len(rest):
        raise UsageError(
            f"--data: {len(labels)} images in {len(np.unique(labels))} classes are too few to "
            f"hold out {part:g} of each class"
        )
    return Subset(dataset, rest), Subset(dataset, held_out)


def _limit(dataset: Dataset, limit: int | None) -> Dataset:
    """Return at most ``limit`` samples, evenly from the whole: folders are sorted by class."""
    if limit is None or len(dataset) <= limit:
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, limit).astype(np.int64))
