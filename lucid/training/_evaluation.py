"""How a classifier does on labelled images: every figure of it, from its logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from lucid import ops
from lucid._check import count
from lucid.autograd import Tensor
from lucid.data import DataLoader, Dataset
from lucid.data._dataset import Numbered, paths_of
from lucid.data._readable import READERS
from lucid.nn import Module
from lucid.training._loop import Score, answering, finite

Array = np.ndarray


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others.

    Args:
        name: of the class.
        count: how many images are of it.
        precision: of the images taken for this class, the share that are; NaN if there are none.
        recall: of the images of this class, the share taken for it; NaN if there are none.
        f1: the harmonic mean of both; NaN if the class is neither shown nor named.
    """

    name: str
    count: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another.

    Args:
        label: the index of the class that they are of.
        prediction: the index of the class that they were taken for.
        count: how many there are.
        share: of all images of that class.
    """

    label: int
    prediction: int
    count: int
    share: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose likeliest class has a probability over ``low``, up to ``high``.

    Args:
        low: the lower bound.
        high: the upper bound.
        count: how many images there are.
        confidence: their mean probability; NaN without images.
        accuracy: the share of them named correctly; NaN without images.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong.

    Args:
        index: of the image.
        suggestion: the index of the class that it more likely shows.
        margin: how much more probable that class is than the label.
    """

    index: int
    suggestion: int
    margin: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier said of labelled images, and how well it did.

    :meth:`measure` makes one from a model and a data set.

    Args:
        logits: ``(N, classes)``, any floating-point dtype.
        labels: ``(N,)`` integers.
        classes: the names of the classes.
        indices: ``(N,)``: where each image stands in the data set; in order if left out.
        files: the names of the images' files; empty for images that come from arrays.
        flips: whether each image was seen mirrored too.

    Raises:
        ValueError: if shapes do not belong together, there is no image, or no such class.

    Example:
        >>> logits = np.log([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]])
        >>> seen = training.Evaluation(logits, np.array([0, 0, 2]), ["cat", "dog", "owl"])
        >>> print(seen.score)
        loss 0.5946, accuracy 66.67 %
        >>> seen.confusion
        array([[1, 1, 0],
               [0, 0, 0],
               [0, 0, 1]])
        >>> "{:.2f} to {:.2f}".format(*seen.interval())
        '0.21 to 0.94'
        >>> seen.per_class()[0]
        ClassScore(name='cat', count=2, precision=1.0, recall=0.5, f1=0.666...)
    """

    logits: Array
    labels: Array
    classes: Sequence[str]
    indices: Array | None = None
    files: Sequence[str] = ()
    flips: bool = False

    def __post_init__(self) -> None:
        n = len(self.labels)
        if n == 0:
            raise ValueError("Evaluation: there is no image to measure on")
        _check_logits(self.logits, n, len(self.classes))
        labels, last = self.labels, len(self.classes) - 1
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"Evaluation: expected labels ({n},) of integers, got {labels!r:.80}")
        if not 0 <= labels.min() <= labels.max() <= last:
            raise ValueError(f"Evaluation: labels must be from 0 to {last}")
        if len(self.files) not in (0, n):
            raise ValueError(f"Evaluation: {len(self.files)} names of files for {n} images")

    @classmethod
    def measure(
        cls,
        model: Module,
        dataset: Dataset,
        classes: Sequence[str],
        *,
        batch_size: int = 64,
        flips: bool = False,
        num_workers: int = READERS,
        after_each: Callable[[int, int], Any] | None = None,
    ) -> Evaluation:
        """Run a model over a data set.

        It runs in evaluation mode without recording, over many images as a compiled plan; each of
        its modules comes back in the mode it had. An image that can be read no more is left out,
        if the data set is one that :func:`lucid.data.readable` made.

        Args:
            model: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
            dataset: pairs of an image ``(C, H, W)`` and its label.
            classes: the names of the labels.
            batch_size: images in a step.
            flips: show the model each image mirrored too, and take the mean of its two answers'
                probabilities (Krizhevsky et al. 2012, section 4.1, without their crops); their
                logarithms are the logits.
            num_workers: workers that read pictures.
            after_each: called with the number of images done so far and of all.

        Raises:
            ValueError: if there is no image, or the model has another number of classes.

        Example:
            >>> model = models.create_model("mobilenetv4_conv_small", num_classes=10, in_channels=1)
            >>> test = data.load_images("digits", size=32, limit=20).test
            >>> training.Evaluation.measure(model, test, test.dataset.classes).score.count
            20
        """
        size, n = count(batch_size, "batch_size", "Evaluation"), len(dataset)
        logits: list[Array] = []
        labels: list[Array] = []
        indices: list[int] = []
        loader = DataLoader(Numbered(dataset), size, num_workers=num_workers)
        with answering(model, len(loader)) as answer:
            for places, images, wanted in loader:
                logits.append(_answers(answer, images, flips))
                _check_logits(logits[-1], len(places), len(classes))
                labels.append(wanted.data)
                indices += places.tolist()
                if after_each is not None:
                    after_each(indices[-1] + 1, n)
        if not indices:
            raise ValueError("Evaluation: there is no image to measure on")
        paths = paths_of(dataset)
        return cls(
            np.concatenate(logits),
            np.concatenate(labels),
            classes,
            np.array(indices),
            [str(paths[index]) for index in indices] if paths else (),
            flips,
        )

    def place(self, row: int) -> int:
        """Return where an image of this evaluation stands in the data set."""
        return row if self.indices is None else int(self.indices[row])

    # -- image by image -----------------------------------------------------------------------

    @cached_property
    def log_probabilities(self) -> Array:
        """``(N, classes)`` float64: the logarithms of :attr:`probabilities`."""
        logits = self.logits.astype(np.float64)
        with np.errstate(invalid="ignore"):  # weights that are not finite have such logits
            logits = logits - logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    @cached_property
    def probabilities(self) -> Array:
        """``(N, classes)`` float64: the softmax of the logits."""
        return np.exp(self.log_probabilities)

    @cached_property
    def predictions(self) -> Array:
        """``(N,)``: the likeliest class of each image."""
        return self.logits.argmax(axis=1)

    @cached_property
    def confidences(self) -> Array:
        """``(N,)``: the probability of the likeliest class of each image."""
        return self.probabilities.max(axis=1)

    @cached_property
    def losses(self) -> Array:
        """``(N,)``: the cross-entropy of each image."""
        return -self.log_probabilities[np.arange(len(self.labels)), self.labels]

    @cached_property
    def is_correct(self) -> Array:
        """``(N,)`` bool: whether the likeliest class is the label."""
        return self.predictions == self.labels

    def mistakes(self, limit: int = 12) -> list[int]:
        """Return the images that were named wrongly, those with the highest loss first."""
        wrong = np.flatnonzero(~self.is_correct)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:limit].tolist()

    def suspects(self, limit: int = 12) -> list[Suspect]:
        """Return the images that are most likely labelled wrong, the likeliest first.

        Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating
        Uncertainty in Dataset Labels", equations 1 and 2): an image shows a class if the
        probability of that class is at least the mean that it has over the images with that label;
        of several such classes it shows the likeliest. An image is suspect if it shows another
        class than its label. The model must not have been trained on these images.
        """
        thresholds = np.full(len(self.classes), np.inf)
        for label in np.unique(self.labels):
            thresholds[label] = self.probabilities[self.labels == label, label].mean()
        confident = np.where(self.probabilities >= thresholds, self.probabilities, -1.0)
        shown = confident.argmax(axis=1)
        everyone = np.arange(len(self.labels))
        margins = confident[everyone, shown] - self.probabilities[everyone, self.labels]
        found = np.flatnonzero((confident.max(axis=1) >= 0) & (shown != self.labels))
        found = found[np.argsort(-margins[found], kind="stable")][:limit]
        return [Suspect(int(i), int(shown[i]), float(margins[i])) for i in found]

    # -- all of them --------------------------------------------------------------------------

    @property
    def score(self) -> Score:
        """The mean loss, and how many images were named correctly."""
        return Score(float(self.losses.mean()), int(self.is_correct.sum()), len(self.labels))

    def top(self, k: int) -> float:
        """Return the share of the images whose label is among the ``k`` likeliest classes."""
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, :k]
        return float((order == self.labels[:, None]).any(axis=1).mean())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that holds the true accuracy at a level of confidence.

        Wilson's score interval (Wilson 1927, "Probable Inference, the Law of Succession, and
        Statistical Inference"), which is right for few images and for none or all correct too.
        """
        n, share = self.score.count, self.score.accuracy
        z = NormalDist().inv_cdf((1 + level) / 2)
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    @cached_property
    def confusion(self) -> Array:
        """``(classes, classes)``: how many images of a row's class were taken for a column's."""
        size = len(self.classes)
        places = self.labels.astype(np.int64) * size + self.predictions
        return np.bincount(places, minlength=size * size).reshape(size, size)

    def confused(self, limit: int = 10) -> list[Confusion]:
        """Return the classes that are most often taken for another, the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        totals = self.confusion.sum(axis=1)
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        pairs = zip(*(axis.tolist() for axis in np.unravel_index(order, wrong.shape)))
        return [
            Confusion(label, prediction, int(number), float(number / totals[label]))
            for label, prediction in pairs
            if (number := wrong[label, prediction])
        ]

    def per_class(self) -> list[ClassScore]:
        """Return precision, recall and F1 of each class."""
        right, shown = np.diag(self.confusion), self.confusion.sum(axis=1)
        named = self.confusion.sum(axis=0)
        with np.errstate(invalid="ignore"):
            columns = right / named, right / shown, 2 * right / (named + shown)
        return [
            ClassScore(*row)
            for row in zip(self.classes, shown.tolist(), *(column.tolist() for column in columns))
        ]

    def macro(self) -> dict[str, float]:
        """Return the means of ``precision``, ``recall`` and ``f1`` over the classes having them."""
        scores = [(one.precision, one.recall, one.f1) for one in self.per_class()]
        return dict(zip(("precision", "recall", "f1"), np.nanmean(scores, axis=0).tolist()))

    def reliability(self, bins: int = 15) -> list[ReliabilityBin]:
        """Return how often the model is right by how sure it is, in bins of equal width."""
        edges = np.linspace(0, 1, bins + 1)
        # Images that have no probabilities, from weights that are not finite, are in no bin.
        place = np.searchsorted(edges[1:-1], self.confidences)
        place[np.isnan(self.confidences)] = bins
        counts = np.bincount(place, minlength=bins)[:bins]
        with np.errstate(invalid="ignore"):
            confidence, accuracy = (
                np.bincount(place, weights=weights, minlength=bins)[:bins] / counts
                for weights in (self.confidences, self.is_correct)
            )
        columns = (edges[:-1], edges[1:], counts, confidence, accuracy)
        return [ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns))]

    def calibration_error(self, bins: int = 15) -> float:
        """Return the expected calibration error: how far the probabilities are off, from 0 to 1.

        The mean over all images of the difference between accuracy and mean probability in their
        bin (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3). NaN if no
        image has probabilities that are finite.
        """
        found = [one for one in self.reliability(bins) if one.count]
        gaps = sum(one.count * abs(one.accuracy - one.confidence) for one in found)
        return gaps / sum(one.count for one in found) if found else math.nan

    def document(self) -> dict[str, Any]:
        """Return all figures as JSON has them; None for those that there are not."""
        score = self.score
        document = {
            **asdict(score),
            "flips": self.flips,
            "accuracy": score.accuracy,
            "accuracy_interval": list(self.interval()),
            "top5": self.top(5) if len(self.classes) > 5 else None,
            "macro": self.macro(),
            "calibration_error": self.calibration_error(),
            "mean_confidence": float(self.confidences.mean()),
            "classes": list(self.classes),
            "per_class": [asdict(one) for one in self.per_class()],
            "confused": [asdict(one) for one in self.confused()],
            "reliability": [asdict(one) for one in self.reliability()],
            "confusion": self.confusion.tolist(),
        }
        return without_nan(document)


def without_nan(value: Any) -> Any:
    """Return nested lists and dictionaries with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(entry) for entry in value]
    return finite(value) if isinstance(value, float) else value


def _check_logits(logits: Array, n: int, classes: int) -> None:
    if logits.shape != (n, classes):
        raise ValueError(
            f"Evaluation: expected logits ({n}, {classes}) of {n} images and {classes} classes, "
            f"got {logits.shape}"
        )


def _answers(run: Callable[[Tensor], Tensor], images: Tensor, flips: bool) -> Array:
    """Return the logits of a batch; with flips, the logarithm of the mean probabilities."""
    logits = run(images)
    if not flips:
        return logits.data
    both = [ops.softmax(seen.double(), 1).data for seen in (logits, run(ops.flip(images, 3)))]
    return np.log(np.maximum(np.mean(both, axis=0), np.finfo(np.float64).tiny))
