"""The images of ``--data``: what to learn from, to choose by, and to be judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucid.cli._errors import UsageError
from lucid.cli._run import Settings
from lucid.data import DataLoader, Dataset, Subset, datasets, transforms
from lucid.data.datasets import _stratified as stratified

# Of ImageNet's pixels, as everybody uses them for photographs.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)

TEST_PART = 0.2  # of a folder that does not say itself what is for the test


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, ready for a model."""

    train: Dataset
    validation: Dataset
    test: Dataset
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    augmentation: Callable[[Any], Any]

    def counts(self) -> str:
        """Say how large the parts are."""
        return (
            f"{len(self.train)} training, {len(self.validation)} validation and "
            f"{len(self.test)} test images"
        )

    def training_batches(self, settings: Settings) -> DataLoader:
        """Return shuffled batches of one size: batch norm dislikes small last ones."""
        return DataLoader(
            self.train,
            min(settings.batch_size, len(self.train)),
            shuffle=True,
            drop_last=True,
            transform=self.augmentation if settings.augment else None,
        )


def load_splits(
    settings: Settings,
    *,
    in_channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Splits:
    """Load what ``settings.data`` names, the same parts each time.

    Args:
        settings: ``data``, ``size``, ``validation`` and ``limit`` count here.
        in_channels: what a trained model expects; by default what suits the data.
        mean: likewise, subtracted from pixels between 0 and 1.
        std: likewise, what they are divided by.

    Raises:
        UsageError: if there are no such data, or too few to hold some out.
    """
    if settings.data == "digits":
        return _digits(settings, in_channels or 1)
    if not Path(settings.data).is_dir():
        raise UsageError(f"--data: {settings.data!r} is neither `digits` nor a folder of images")
    channels = in_channels or 3
    mean = list(mean if mean is not None else PHOTO_MEAN)
    std = list(std if std is not None else PHOTO_STD)
    try:
        return _folder(settings, channels, mean, std)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"--data: {error}") from error


def _digits(settings: Settings, channels: int) -> Splits:
    train, test = datasets.digits(settings.size, channels)
    rest, validation = _hold_out(train, train.labels, settings.validation)
    return Splits(
        train=_limit(rest, settings.limit),
        validation=_limit(validation, settings.limit),
        test=_limit(test, settings.limit),
        classes=train.classes,
        in_channels=channels,
        mean=list(train.mean),
        std=list(train.std),
        augmentation=train.augmentation(),
    )


def _folder(settings: Settings, channels: int, mean: list[float], std: list[float]) -> Splits:
    root = Path(settings.data)
    size = settings.size
    steps: list[Callable[[Any], Any]] = [
        *([_grey] if channels == 1 else []),
        transforms.Resize(size, "bicubic"),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]

    def images(folder: Path) -> datasets.ImageFolder:
        return datasets.ImageFolder(folder, transforms.Compose(steps))

    def labels(dataset: datasets.ImageFolder) -> np.ndarray:
        return np.array([label for _, label in dataset.samples])

    has = {name: (root / name).is_dir() for name in ("train", "val", "test")}
    train: Dataset
    validation: Dataset
    test: Dataset
    if has["train"]:
        if not (has["test"] or has["val"]):
            raise ValueError(f"{root} has a folder train/ but neither test/ nor val/ beside it")
        whole = images(root / "train")
        test = images(root / ("test" if has["test"] else "val"))
        parts = {"test" if has["test"] else "val": test}
        if has["test"] and has["val"]:
            train, validation = whole, images(root / "val")
            parts["val"] = validation
        else:
            train, validation = _hold_out(whole, labels(whole), settings.validation)
        for name, part in parts.items():
            if part.classes != whole.classes:
                raise ValueError(f"{root / name} has other classes than {root / 'train'}")
    else:
        whole = images(root)
        rest, test = _hold_out(whole, labels(whole), TEST_PART)
        train, validation = _hold_out(rest, labels(whole)[rest.indices], settings.validation)
    return Splits(
        train=_limit(train, settings.limit),
        validation=_limit(validation, settings.limit),
        test=_limit(test, settings.limit),
        classes=whole.classes,
        in_channels=channels,
        mean=mean,
        std=std,
        augmentation=transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(size, padding=max(size // 8, 1)),
            ]
        ),
    )


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
