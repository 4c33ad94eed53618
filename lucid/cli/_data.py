"""The images of ``--data``: what to learn from, to choose by, and to be judged by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lucid import nn
from lucid.autograd import Tensor
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._reading import Progress, Unreadable, each
from lucid.cli._run import Settings
from lucid.data import DataLoader, Dataset, Subset, datasets, default_collate, transforms
from lucid.data._pictures import describe_left_out
from lucid.data.datasets import first_of, stratified, subfolders

# Of ImageNet's pixels, as everybody uses them for photographs.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)

TEST_PART = 0.2  # of a folder that does not say itself what is for the test

# What folders of the parts may be called, in capitals or not.
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


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
        notes: what the user should know of the data.
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
    notes: list[str] = field(default_factory=list)

    def split(self, settings: Settings) -> tuple[Dataset, Dataset]:
        """Return what to learn from and what to choose by, held out from it if need be."""
        train, validation = self.learn, self.validation
        if validation is None:
            train, validation = _hold_out(train, self.labels, settings.validation)
        return _limit(train, settings.limit), _limit(validation, settings.limit)


def load_images(settings: Settings, model: nn.Module | None = None) -> Images:
    """Load what ``settings.data`` names; the parts are the same each time.

    Args:
        settings: ``data``, ``size`` and ``limit`` count here.
        model: a trained one, for which the images are prepared; by default as suits the data.

    Raises:
        UsageError: if there are no such data, or too few to hold some out.
    """
    if settings.data == "digits":
        return _digits(settings, getattr(model, "in_channels", 1))
    root = Path(settings.data)
    if not root.is_dir():
        raise UsageError(f"--data: {settings.data!r} is neither `digits` nor a folder of images")
    try:
        return _folder(root, settings, model)
    except (ValueError, OSError) as error:
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


def _folder(root: Path, settings: Settings, model: nn.Module | None) -> Images:
    """Load ``root/CLASS/…``, or ``root/train/CLASS/…`` with test/, val/ or both beside train/.

    Without test/ the images in val/ are the test, so that there always is one.
    """
    if model is None:
        transform = transforms.Compose(
            [
                transforms.Resize(settings.size, "bicubic"),
                transforms.CenterCrop(settings.size),
                transforms.ToTensor(),
                transforms.Normalize(PHOTO_MEAN, PHOTO_STD),
            ]
        )
    else:
        transform = transforms.for_model(model)
    parts, notes = _find_parts(root)
    whole = datasets.ImageFolder(parts.pop("train", root), transform)
    _check_two_classes(whole)
    others = {
        name: datasets.ImageFolder(folder, transform, classes=whole.classes)
        for name, folder in parts.items()
    }
    learn: Dataset = whole
    test: Dataset
    labels = np.array([label for _, label in whole.samples])
    validation = None
    if others:
        test = others.get("test", others.get("val", whole))
        validation = others.get("val") if "test" in others else None
    else:
        learn, test = _hold_out(whole, labels, TEST_PART)
        labels = labels[learn.indices]
    left_out = sum((part.left_out for part in (whole, *others.values())), Counter[str]())
    if left_out:
        notes.append(f"{root}: passed over: {describe_left_out(left_out)}")
    for part in others.values():
        found = {label for _, label in part.samples}
        absent = [name for name, label in whole.class_to_idx.items() if label not in found]
        if absent:
            notes.append(f"{part.root} has no pictures of {first_of(absent)}")
    twice = _twice(learn, test)
    if twice:
        notes.append(
            f"{len(twice)} of the test's {len(test)} pictures are among those to learn from too, "
            f"so the test says little of them: {first_of(twice)}"
        )
    return Images(
        learn=learn,
        labels=labels,
        validation=validation,
        test=_limit(test, settings.limit),
        classes=whole.classes,
        in_channels=3,
        mean=list(PHOTO_MEAN),
        std=list(PHOTO_STD),
        augmentation=transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(settings.size, padding=max(settings.size // 8, 1)),
            ]
        ),
        notes=notes,
    )


def _find_parts(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of train, val and test, if ``root`` is divided so, and notes on others.

    A folder such as train/ that holds pictures and no folders is a class of that name.
    """
    folders = subfolders(root)
    named = [(_PARTS.get(folder.name.casefold()), folder) for folder in folders]
    if not any(part and subfolders(folder) for part, folder in named):
        return {}, []
    parts: dict[str, Path] = {}
    for part, folder in named:
        if part in parts:
            raise ValueError(
                f"{root} has both {parts[part].name}/ and {folder.name}/; keep one of them, or put "
                "their pictures together"
            )
        if part is not None:
            parts[part] = folder
    others = [folder.name for part, folder in named if part is None]
    if "train" not in parts:
        if others:
            return {}, []
        raise ValueError(f"{root} has a folder {folders[0].name}/ but no train/ beside it")
    if len(parts) == 1:
        raise ValueError(
            f"{root} has a folder {parts['train'].name}/ but neither test/ nor val/ beside it"
        )
    if others:
        return parts, [f"{root}: passed over beside the parts: {first_of(others)}"]
    return parts, []


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


def _samples(dataset: Any) -> list[tuple[Path, int]]:
    """Return the path and the label of each sample of an image folder or a subset of one."""
    if isinstance(dataset, Subset):
        samples = _samples(dataset.dataset)
        return [samples[index] for index in dataset.indices]
    samples = dataset.samples
    return samples


def _twice(learn: Dataset, test: Dataset) -> list[str]:
    """Return the names of the test's files whose content is among those to learn from too."""

    def sizes(dataset: Dataset) -> list[tuple[Path, int]]:
        paths = [path for path, _ in _samples(dataset)]
        return [(path, path.stat().st_size) for path in paths if path.is_file()]

    def digest(path: Path) -> bytes:
        try:
            return hashlib.sha1(path.read_bytes(), usedforsecurity=False).digest()
        except OSError:
            return b""  # it is found unreadable later

    first, second = sizes(learn), sizes(test)
    shared = {size for _, size in first} & {size for _, size in second}
    known = {digest(path) for path, size in first if size in shared} - {b""}
    return [str(path) for path, size in second if size in shared and digest(path) in known]


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


# -- pictures that cannot be read -------------------------------------------------------------


class Readable(Subset):
    """Those samples of a data set whose pictures can be read.

    A picture that can be read no more when its turn comes is named and left out of its batch.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], unreadable: Unreadable) -> None:
        super().__init__(dataset, indices)
        self._unreadable = unreadable

    def batch(self, indices: np.ndarray) -> Any:
        """Return images and labels; None if no picture can be read."""
        samples = []
        for _, sample in each(self.__getitem__, [int(index) for index in indices]):
            if isinstance(sample, Exception):
                self._unreadable.add(str(sample))
            else:
                samples.append(sample)
        return default_collate(samples) if samples else None


def readable(parts: Sequence[Dataset], unreadable: Unreadable) -> list[Dataset]:
    """Read all pictures of the parts once, name those that cannot be read, and leave them out.

    What does not come from files is returned as it is.

    Raises:
        CommandError: if too many cannot be read, or all of a part.
    """
    if not _is_of_files(parts[0]):
        return list(parts)
    total = sum(map(len, parts))
    messages: list[str] = []
    good: list[list[int]] = []
    with Progress(total, "checking") as progress:
        for part in parts:
            good.append([])
            for index, outcome in each(_Probe(part), range(len(part))):
                progress.step()
                if isinstance(outcome, Exception):
                    messages.append(str(outcome))
                else:
                    good[-1].append(index)
    unreadable.report(messages, total)
    if not all(good):
        raise CommandError("a part of the data has no picture that can be read")
    return [Readable(part, chosen, unreadable) for part, chosen in zip(parts, good)]


@dataclass(frozen=True)
class _Probe:
    """Reads a sample and keeps nothing of it."""

    dataset: Dataset

    def __call__(self, index: int) -> None:
        self.dataset[index]


def _is_of_files(dataset: Any) -> bool:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, datasets.ImageFolder)


@dataclass(frozen=True)
class Batches:
    """The batches of a loader, without those of which too little can be read.

    Attributes:
        loader: gives images and labels, or None.
        augmentation: changes the images of each batch.
        least: batches with fewer images are passed over.
    """

    loader: DataLoader
    augmentation: Callable[[Any], Any] | None = None
    least: int = 1

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            if batch is None or len(batch[1]) < self.least:
                continue
            images, labels = batch
            yield (images if self.augmentation is None else self.augmentation(images)), labels
