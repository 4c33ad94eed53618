"""A data set of images in its parts: to learn from, to choose by, and to be judged by."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lucid import nn
from lucid.data import datasets, transforms
from lucid.data._dataset import ConcatDataset, Dataset, Subset, labels_of, paths_of, with_transform
from lucid.data._folders import describe_left_out, find_parts, first_of, subfolders
from lucid.data._lists import LISTS, read_list
from lucid.data._split import hold_out
from lucid.data.transforms._presets import expected, for_channels
from lucid.models._checkpoints import DEFAULT

_Pictures = datasets.ImageFolder | datasets.ImageList
_Parts = tuple[_Pictures, Mapping[str, _Pictures], list[str]]

# How pictures are prepared for a model without weights: none of a square one is cut off.
_PREPARED: dict[str, Any] = {
    "mean": DEFAULT["mean"],
    "std": DEFAULT["std"],
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "channels": 3,
}

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
        augmentation: changes a batch of training images at random; None if each image is changed
            as it is loaded, or none is.
        transform: what the validation's and test's pictures go through; None of what is in memory.
        crop_pct: the part of a resized picture's shorter side that this keeps.
        interpolation: how it resizes.
        notes: what one should know of the data, a line each.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    augmentation: Callable[[Any], Any] | None
    transform: Callable[[Any], Any] | None = None
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    notes: list[str] = field(default_factory=list)

    def together(self) -> Dataset:
        """Return the images of all parts, none changed at random."""
        parts = [self.train, self.validation, self.test]
        known = [part for part in parts if part is not None and part is not self.test]
        if self.transform is not None:
            known = [with_transform(part, self.transform) for part in known]
        return ConcatDataset([*known, self.test])

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
    augment: str = "light",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    validation: float | None = None,
    limit: int | None = None,
) -> Images:
    """Load the images to train a model with, divided into parts that are the same each time.

    A folder holds a folder of pictures for each class. It may also hold such folders in ``train/``
    and in ``test/``, ``val/`` or both (``training/``, ``Valid/`` and the like work too). A list
    (:class:`lucid.data.datasets.ImageList`) says the same in a column ``split``. Without test the
    images of val are the test; without either a fifth of each class is. So there always is a test.

    The training images are changed at random as they are loaded; the others are not.

    Args:
        source: a folder, a CSV or JSON file that lists pictures, or ``"digits"`` for
            :func:`lucid.data.datasets.digits`.
        size: height and width of the images.
        model: a trained one, for which the images are prepared as its weights expect; by default
            they are prepared as suits the data.
        mean: what to subtract from pixels between 0 and 1, a number a channel, as weights to start
            from expect it; by default as suits the data.
        std: what to divide them by then.
        augment: how training images are changed: ``"none"``, ``"light"``, ``"strong"`` or a string
            of timm's, see :func:`lucid.data.transforms.training`. The digits are turned and
            shifted instead, at ``"strong"`` with a rectangle erased; they have no other.
        validation: the part of each class of the training images that is held out for validation,
            if the data have no such part; None holds nothing out.
        limit: use at most so many images of each part, evenly from the whole.

    Raises:
        ValueError: if there are no such data, they cannot be divided, or are too few to hold some
            out; or if there is no such augmentation.
        OSError: if a folder cannot be read.

    Example:
        >>> images = data.load_images("digits", size=16, validation=0.1)
        >>> len(images.train), len(images.validation), len(images.test)
        (1295, 143, 359)
        >>> loader = data.DataLoader(images.train, 64, shuffle=True, transform=images.augmentation)
        >>> next(iter(loader))[0].shape
        (64, 1, 16, 16)
    """
    changing = None
    if source == "digits":
        cfg = getattr(model, "pretrained_cfg", None) or {}
        channels = getattr(model, "in_channels", 1)
        images = _from_digits(
            size, channels, augment, mean or cfg.get("mean"), std or cfg.get("std")
        )
    else:
        path = Path(source)
        listed = path.suffix.lower() in LISTS and path.is_file()
        if not listed and not path.is_dir():
            there = "" if path.exists() else "; there is nothing of that name"
            raise ValueError(
                f"{str(source)!r} is neither `digits` nor a folder of images, nor a file that "
                f"lists them, {' or '.join(LISTS)}{there}"
            )
        prepared = {} if model is None else expected(model)
        prepared = {**_PREPARED, **prepared, "size": size}
        prepared |= {"mean": list(mean or prepared["mean"]), "std": list(std or prepared["std"])}
        crop_pct = prepared.pop("crop_pct")
        changing = transforms.training(augment, **prepared)
        transform = transforms.evaluation(**prepared, crop_pct=crop_pct)
        fields = {key: prepared[key] for key in ("mean", "std", "interpolation")}
        fields |= {"in_channels": prepared["channels"], "crop_pct": crop_pct}
        images = _from_files(path, transform, listed, fields)
    train, chosen_by = images.train, images.validation
    if validation is not None and chosen_by is None:
        train, chosen_by = hold_out(train, labels_of(train), validation)
    if changing is not None:
        train = with_transform(train, changing)
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
    size: int,
    channels: int,
    augment: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Images:
    """Return the digits, with what changes a batch of them at random."""
    if augment not in ("none", "light", "strong"):
        raise ValueError(
            f"the digits can be augmented by none, light or strong, not by {augment!r}: save them "
            "as pictures in folders for that"
        )
    train, test = (
        _normalised(part, mean or part.mean, std or part.std)
        for part in datasets.digits(size, channels)
    )
    augmentation: Callable[[Any], Any] | None = None if augment == "none" else train.augmentation()
    if augment == "strong":
        erase = transforms.RandomErasing(0.25, value="random")
        augmentation = transforms.Compose([train.augmentation(), erase])
    return Images(
        train=train,
        validation=None,
        test=test,
        classes=train.classes,
        in_channels=channels,
        mean=list(train.mean),
        std=list(train.std),
        augmentation=augmentation,
    )


def _normalised(
    digits: datasets.ImageArrays, mean: Sequence[float], std: Sequence[float]
) -> datasets.ImageArrays:
    """Return the digits normalised in another way; by numbers for colour, by their mean."""
    channels = len(digits.mean)
    mean, std = for_channels(mean, channels), for_channels(std, channels)
    if (tuple(mean), tuple(std)) == (digits.mean, digits.std):
        return digits
    old, new = np.array([digits.mean, digits.std], np.float32), np.array([mean, std], np.float32)
    pixels = digits.images.transpose(0, 2, 3, 1) * old[1] + old[0]
    pixels = (pixels - new[0]) / new[1]
    return datasets.ImageArrays(
        pixels.transpose(0, 3, 1, 2), digits.labels, digits.classes, tuple(mean), tuple(std)
    )


def _from_files(
    source: Path, transform: Callable[[Any], Any], listed: bool, fields: dict[str, Any]
) -> Images:
    """Return the pictures of a folder or of a list, all with the transform for evaluation."""
    find = _parts_of_list if listed else _parts_of_folder
    whole, others, notes = find(source, transform)
    train: Dataset = whole
    test: Dataset
    validation = None
    if others:
        test = others.get("test", others.get("val", whole))
        validation = others.get("val") if "test" in others else None
    else:
        train, test = hold_out(whole, whole.labels, TEST_PART)
    left_out = sum((part.left_out for part in (whole, *others.values())), Counter[str]())
    if left_out:
        notes.append(f"{source}: passed over: {describe_left_out(left_out)}")
    for name, part in others.items():
        absent = [name for name, label in whole.class_to_idx.items() if label not in part.labels]
        if absent:
            place = f"{source}, split {name}," if listed else part.root
            notes.append(f"{place} has no pictures of {first_of(absent)}")
    shared = _in_both(train, test)
    if shared:
        notes.append(
            f"{len(shared)} of the test's {len(test)} pictures are among those to learn from too, "
            f"so the test says little of them: {first_of(shared)}"
        )
    return Images(
        train=train,
        validation=validation,
        test=test,
        classes=whole.classes,
        augmentation=None,
        transform=transform,
        notes=notes,
        **fields,
    )


def _parts_of_folder(root: Path, transform: Callable[[Any], Any]) -> _Parts:
    parts, notes = find_parts(root)
    whole = datasets.ImageFolder(parts.pop("train", root), transform)
    _check_two_classes(whole)
    others = {
        name: datasets.ImageFolder(folder, transform, classes=whole.classes)
        for name, folder in parts.items()
    }
    return whole, others, notes


def _parts_of_list(file: Path, transform: Callable[[Any], Any]) -> _Parts:
    splits = {entry.split for entry in read_list(file)}
    if splits <= {""}:
        splits, whole = set(), datasets.ImageList(file, transform)
    elif splits - {"train"} and "train" in splits and "" not in splits:
        whole = datasets.ImageList(file, transform, split="train")
    else:
        named = ", ".join(repr(split) for split in sorted(splits))
        raise ValueError(
            f"{file}: expected no column split, or train and test, val or both in it, got {named}"
        )
    if len(whole.classes) == 1:
        raise ValueError(
            f"{file} lists one class only, {whole.classes[0]!r}: expected at least two"
        )
    others = {
        name: datasets.ImageList(file, transform, classes=whole.classes, split=name)
        for name in sorted(splits - {"train"})
    }
    return whole, others, []


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
