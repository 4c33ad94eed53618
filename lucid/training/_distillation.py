"""Learning from another model's answers."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import is_number, one_line, probability, short
from lucid.autograd import Tensor, no_grad
from lucid.data import Dataset
from lucid.data._dataset import paths_of
from lucid.data._readable import each, probe
from lucid.graph import evaluation
from lucid.nn import CrossEntropyLoss, Module
from lucid.nn.functional import kl_div, log_softmax
from lucid.training._loop import Batch, Batches


class DistillationLoss(Module):
    r"""The loss of a student that learns from labels and from a teacher's logits.

    .. math:: (1 - w)\,\mathrm{CE}(s, y)
        + w\,T^2\,\mathrm{KL}(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(s / T))

    for logits :math:`s` of the student and :math:`t` of the teacher, both means over the batch
    (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). :math:`T^2` keeps the
    gradient's size whatever the temperature. In PyTorch the second term is ``T * T *
    kl_div(log_softmax(s / T, 1), log_softmax(t / T, 1), reduction="batchmean", log_target=True)``.

    Args:
        temperature: :math:`T`, above 0. A higher one shows more of what the teacher thinks of the
            classes that it does not name.
        weight: :math:`w`, the teacher's share, from 0 to 1.
        criterion: the loss of logits and labels; cross-entropy if left out.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> loss = training.DistillationLoss(temperature=2.0, weight=1.0)
        >>> logits, labels = lucid.tensor([[2.0, 0.0]]), lucid.tensor([1])
        >>> loss(logits, labels, logits).item()
        0.0
        >>> round(loss(logits, labels, lucid.zeros(1, 2)).item(), 4)
        0.4805
    """

    def __init__(
        self,
        temperature: float = 2.0,
        weight: float = 0.5,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not is_number(temperature, 1e-6):
            raise ValueError(
                f"DistillationLoss: temperature must be above 0, got {short(temperature)}"
            )
        self.temperature = temperature
        self.weight = probability(weight, "weight", "DistillationLoss")
        self.criterion = criterion or CrossEntropyLoss()

    def forward(self, logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: the student's, ``(N, classes)``.
            labels: ``(N,)`` or ``(N, classes)``.
            teacher: its logits, ``(N, classes)``, or the logarithms of its probabilities.

        Raises:
            ValueError: if the teacher knows another number of classes.
        """
        if teacher.shape != logits.shape:
            raise ValueError(
                f"DistillationLoss: expected the teacher's logits of shape {logits.shape}, got "
                f"{teacher.shape}"
            )
        hot = self.temperature
        distance = kl_div(
            log_softmax(logits / hot, 1),
            log_softmax(teacher.detach() / hot, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * self.criterion(logits, labels) + self.weight * hot**2 * distance


@dataclass(frozen=True)
class Taught:
    """Batches with a teacher's logits behind images and labels, as :class:`DistillationLoss` wants.

    The teacher sees the images as the student does, after all random changes ("consistent
    teaching", Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
    consistent").

    Args:
        batches: pairs of images and labels.
        teacher: from images to logits; runs in evaluation mode without recording.

    Example:
        >>> batch = lucid.tensor([[1.0, 0.0]]), lucid.tensor([0])
        >>> for images, labels, logits in training.Taught([batch], nn.Identity()):
        ...     print(logits.tolist())
        [[1.0, 0.0]]
        >>> len(training.Taught([batch], nn.Identity()))
        1
    """

    batches: Batches
    teacher: Module

    def __len__(self) -> int:
        """Return the number of batches."""
        batches: Any = self.batches
        if not isinstance(batches, Sized):
            raise TypeError(f"Taught: {type(batches).__name__} has no length")
        return len(batches)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels, *_ in self.batches:
            with evaluation(self.teacher), no_grad():
                logits = self.teacher(images)
            yield images, labels, logits


class Answered:
    """A dataset of pictures with the logarithms of a teacher's probabilities behind each label.

    The probabilities are read from what ``lucid predict photos/ --weights TEACHER --top N --csv
    FILE`` wrote, with ``N`` classes or more. Of classes that are not in the file, as ``N`` was
    smaller, each has the same part of what is left.

    Args:
        dataset: pictures from files, with labels.
        file: the CSV file; it names the pictures by their paths.
        classes: the names of the classes, in the order of the labels.

    Raises:
        ValueError: if it cannot be read, is no such file, names other classes, or lacks a picture.
    """

    def __init__(
        self, dataset: Dataset, file: str | os.PathLike[str], classes: Sequence[str]
    ) -> None:
        self.dataset = dataset
        answers = _read_answers(file, classes)
        paths = [path.resolve() for path in paths_of(dataset)]
        if not paths:
            raise _lacks(file, "pictures from files")
        for path in paths:
            if path not in answers:
                raise _lacks(file, path)
        self.log_probabilities = np.stack([answers[path] for path in paths])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return an image, its label and the teacher's answer."""
        return *self.dataset[index], Tensor(self.log_probabilities[index])


def check_answers(dataset: Dataset, file: str | os.PathLike[str], classes: Sequence[str]) -> None:
    """Raise ValueError as :class:`Answered` does, before any picture is read.

    But those without an answer are: the teacher has none of what cannot be read.
    """
    answers = _read_answers(file, classes)
    paths = [path.resolve() for path in paths_of(dataset)]
    unanswered = [index for index, path in enumerate(paths) if path not in answers]
    for index, outcome in each(partial(probe, dataset), unanswered):
        if not isinstance(outcome, Exception):
            raise _lacks(file, paths[index])
    if len(unanswered) == len(paths):
        raise _lacks(file, "pictures from files")


def _lacks(file: str | os.PathLike[str], what: object) -> ValueError:
    return ValueError(f"teacher: {file} has no answers for {what}")


def _read_answers(file: str | os.PathLike[str], classes: Sequence[str]) -> dict[Path, np.ndarray]:
    known = {name: index for index, name in enumerate(classes)}
    given: dict[str, dict[str, float]] = defaultdict(dict)
    for line, path, name, chance in _rows(file):
        if name not in known:
            raise ValueError(
                f"teacher: {file} names the class {name!r}, expected those of the images"
            )
        if not 0 <= chance <= 1:
            raise ValueError(
                f"teacher: {file}, line {line}: expected a probability from 0 to 1, got {chance}"
            )
        given[path][name] = chance
    answers = {}
    for path, shares in given.items():
        total = sum(shares.values())
        if total > 1.001:  # more than rounding does
            raise ValueError(f"teacher: {file}: the probabilities of {path} add up to {total:.4g}")
        rest = max(1 - total, 0.0) / max(len(classes) - len(shares), 1)
        chances = np.full(len(classes), rest)
        chances[[known[name] for name in shares]] = list(shares.values())
        answers[Path(path).resolve()] = np.log(np.maximum(chances, 1e-12)).astype(np.float32)
    return answers


def _rows(file: str | os.PathLike[str]) -> Iterator[tuple[int, str, str, float]]:
    """Yield the number of each line, and its picture, class and probability."""
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            for row in reader:
                yield reader.line_num, row["file"], row["name"], float(row["probability"])
    except OSError as error:
        raise ValueError(f"teacher: {one_line(error)}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"teacher: {file} is not what `lucid predict --csv` writes: {error!r}"
        ) from error


class OtherImages(Module):
    """A model that is given images normalised in another way than its own.

    Args:
        model: the model.
        scale: what pixels as they are given are multiplied by, ``(C,)``.
        shift: what is added then.
    """

    def __init__(self, model: Module, scale: np.ndarray, shift: np.ndarray) -> None:
        super().__init__()
        self.model = model
        self.scale, self.shift = (
            Tensor(x.astype(np.float32).reshape(-1, 1, 1)) for x in (scale, shift)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's logits of the images."""
        return self.model(images * self.scale + self.shift)
