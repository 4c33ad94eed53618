"""A data set of images in its parts: to learn from, to choose by, and to be judged by."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lucid import nn
from lucid.data import datasets, transforms
from lucid.data._dataset import Dataset, Subset, paths_of
from lucid.data._folders import describe_left_out, find_parts, first_of, subfolders
from lucid.data._split import hold_out
from lucid.models._checkpoints import DEFAULT

TEST_PART = 0.2  # of a folder that does not say itself what is for the test


@dataclass(frozen=True)
class Images:
    """A data set of images in its parts, ready for a model.

    Args:
        train: the images to learn from.
        validation: the images to choose the best weights by; None if the data set has none.
        test: the images to be judged by.
        classes: the names of the labels.
        in_channels: channels of an image.
        mean: what was subtracted from pixels between 0 and 1, per channel.
        std: what they were divided by then.
        augmentation: changes a batch at random, for training.
        notes: what one should know of the data, a line each.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    augmentation: Callable[[Any], Any]
    notes: list[str] = field(default_factory=list)

    def check_classes(self, classes: list[str] | None, count: int) -> None:
        """Raise ValueError unless these are the classes that weights know.

        Args:
            classes: their names; None if the weights do not name them.
            count: how many there are.
        """
        if classes is None and count != len(self.classes):
            known = f"{count} classes, which they do not name"
        elif classes is not None and classes != self.classes:
            known = f"the classes {first_of(classes)}"
        else:
            return
        raise ValueError(f"the weights know {known}, the images have {first_of(self.classes)}")


def load_images(
    source: str | os.PathLike[str],
    size: int,
    *,
    model: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    validation: float | None = None,
    limit: int | None = None,
) -> Images:
    """Load the images to train a model with, divided into parts that are the same each time.

    A folder holds a folder of pictures for each class. It may also hold such folders in ``train/``
    and in ``test/``, ``val/`` or both (``training/``, ``Valid/`` and the like work too). Without
    ``test/`` the images in ``val/`` are the test; without either a fifth of each class is. So there
    always is a test.

    Args:
        source: a folder, or ``"digits"`` for :func:`lucid.data.datasets.digits`.
        size: height and width of the images.
        model: a trained one, for which the images are prepared as its weights expect; by default
            they are prepared as suits the data.
        mean: what to subtract from pixels between 0 and 1, a number a channel, as weights to start
            from expect it; by default as suits the data.
        std: what to divide them by then.
        validation: the part of each class of the training images that is held out for validation,
            if the data have no such part; None holds nothing out.
        limit: use at most so many images of each part, evenly from the whole.

    Raises:
        ValueError: if there are no such data, they cannot be divided, or are too few to hold some
            out.
        OSError: if a folder cannot be read.

    Example:
        >>> images = data.load_images("digits", size=16, validation=0.1)
        >>> len(images.train), len(images.validation), len(images.test)
        (1295, 143, 359)
        >>> loader = data.DataLoader(images.train, 64, shuffle=True, transform=images.augmentation)
        >>> next(iter(loader))[0].shape
        (64, 1, 16, 16)
    """
    if source == "digits":
        cfg = getattr(model, "pretrained_cfg", None) or {}
        images, labels = _from_digits(
            size, getattr(model, "in_channels", 1), mean or cfg.get("mean"), std or cfg.get("std")
        )
    elif Path(source).is_dir():
        mean, std = list(mean or DEFAULT["mean"]), list(std or DEFAULT["std"])
        images, labels = _from_folder(Path(source), size, model, mean, std)
    else:
        raise ValueError(f"{str(source)!r} is neither `digits` nor a folder of images")
    train, chosen_by = images.train, images.validation
    if validation is not None and chosen_by is None:
        train, chosen_by = hold_out(train, labels, validation)
    return replace(
        images,
        train=_limit(train, limit),
        validation=None if chosen_by is None else _limit(chosen_by, limit),
        test=_limit(images.test, limit),
    )


def _limit(dataset: Dataset, limit: int | None) -> Dataset:
    """Return at most ``limit`` samples, evenly from the whole: folders are sorted by class."""
    if limit is None or len(dataset) <= limit:
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, limit).astype(np.int64))


def _from_digits(
    size: int, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Images, np.ndarray]:
    """Return the digits, and the labels of the training images."""
    train, test = (
        _normalised(part, mean or part.mean, std or part.std)
        for part in datasets.digits(size, channels)
    )
    images = Images(
        train=train,
        validation=None,
        test=test,
        classes=train.classes,
        in_channels=channels,
        mean=list(train.mean),
        std=list(train.std),
        augmentation=train.augmentation(),
    )
    return images, train.labels


def _normalised(
    digits: datasets.ImageArrays, mean: Sequence[float], std: Sequence[float]
) -> datasets.ImageArrays:
    """Return the digits normalised in another way; by numbers for colour, by their mean."""
    channels = len(digits.mean)
    if len(mean) != channels:
        mean, std = [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
    if (tuple(mean), tuple(std)) == (digits.mean, digits.std):
        return digits
    old, new = np.array([digits.mean, digits.std], np.float32), np.array([mean, std], np.float32)
    pixels = digits.images.transpose(0, 2, 3, 1) * old[1] + old[0]
    pixels = (pixels - new[0]) / new[1]
    return datasets.ImageArrays(
        pixels.transpose(0, 3, 1, 2), digits.labels, digits.classes, tuple(mean), tuple(std)
    )


def _from_folder(
    root: Path, size: int, model: nn.Module | None, mean: list[float], std: list[float]
) -> tuple[Images, np.ndarray]:
    """Return the images in a folder, and the labels of the training images."""
    if model is None:
        transform = transforms.Compose(
            [
                transforms.Resize(size, "bicubic"),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )
    else:
        transform = transforms.for_model(model)
    parts, notes = find_parts(root)
    whole = datasets.ImageFolder(parts.pop("train", root), transform)
    _check_two_classes(whole)
    others = {
        name: datasets.ImageFolder(folder, transform, classes=whole.classes)
        for name, folder in parts.items()
    }
    train: Dataset = whole
    test: Dataset
    labels = whole.labels
    validation = None
    if others:
        test = others.get("test", others.get("val", whole))
        validation = others.get("val") if "test" in others else None
    else:
        train, test = hold_out(whole, labels, TEST_PART)
        labels = labels[train.indices]
    left_out = sum((part.left_out for part in (whole, *others.values())), Counter[str]())
    if left_out:
        notes.append(f"{root}: passed over: {describe_left_out(left_out)}")
    for part in others.values():
        absent = [name for name, label in whole.class_to_idx.items() if label not in part.labels]
        if absent:
            notes.append(f"{part.root} has no pictures of {first_of(absent)}")
    shared = _in_both(train, test)
    if shared:
        notes.append(
            f"{len(shared)} of the test's {len(test)} pictures are among those to learn from too, "
            f"so the test says little of them: {first_of(shared)}"
        )
    augmentation = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(size, padding=max(size // 8, 1)),
        ]
    )
    images = Images(
        train=train,
        validation=validation,
        test=test,
        classes=whole.classes,
        in_channels=3,
        mean=mean,
        std=std,
        augmentation=augmentation,
        notes=notes,
    )
    return images, labels


def _check_two_classes(folder: datasets.ImageFolder) -> None:
    if len(folder.classes) > 1:
        return
    only = folder.root / folder.classes[0]
    inner = [entry.name for entry in subfolders(only)]
    hint = f"; if its folders are the classes ({first_of(inner)}), give {only}" if inner else ""
    raise ValueError(
        f"{folder.root} holds one class only, {only.name!r}: expected a folder of pictures for "
        f"each of at least two classes{hint}"
    )


def _in_both(train: Dataset, test: Dataset) -> list[str]:
    """Return the names of the test's files whose content is among those to learn from too."""

    def sizes(dataset: Dataset) -> list[tuple[Path, int]]:
        return [(path, path.stat().st_size) for path in paths_of(dataset) if path.is_file()]

    def digest(path: Path) -> bytes:
        try:
            return hashlib.sha1(path.read_bytes(), usedforsecurity=False).digest()
        except OSError:
            return b""  # it is found unreadable later

    first, second = sizes(train), sizes(test)
    shared = {size for _, size in first} & {size for _, size in second}
    known = {digest(path) for path, size in first if size in shared} - {b""}
    return [str(path) for path, size in second if size in shared and digest(path) in known]
