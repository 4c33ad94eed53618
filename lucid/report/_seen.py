"""What a model sees in the parts of a data set, and pictures that look the same to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import no_grad
from lucid.data import DataLoader, Dataset
from lucid.data._dataset import Numbered
from lucid.data._readable import READERS
from lucid.graph import evaluation
from lucid.models import MobileNet_V4
from lucid.report._pictures import Tolerant
from lucid.training import Evaluation

Array = np.ndarray

# Larger parts are drawn from evenly: their features have to fit into memory, and take time.
MOST = 2000

_ROWS = 512  # images that are compared with all others at once


class Seen(NamedTuple):
    """What a model sees in images.

    Args:
        evaluation: what it takes them for.
        features: ``(N, F)`` float32: the pooled features that it decides by.
    """

    evaluation: Evaluation
    features: Array


def look(
    model: MobileNet_V4,
    dataset: Dataset,
    classes: list[str],
    after_each: Callable[[int], Any],
    batch_size: int = 64,
) -> Seen | None:
    """Return what a model sees in at most ``MOST`` images of a part; None if none can be read.

    ``after_each`` is called with the number of images in each batch.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), MOST)).astype(np.int64)
    loader = DataLoader(
        Numbered(Tolerant(dataset)), batch_size, sampler=chosen.tolist(), num_workers=READERS
    )
    features: list[Array] = []
    logits: list[Array] = []
    labels: list[Array] = []
    indices: list[Array] = []
    with evaluation(model), no_grad():
        for places, images, wanted in loader:
            seen = model.forward_head(model.forward_features(images), pre_logits=True)
            features.append(seen.data)
            logits.append(model.classifier(seen).data)
            labels.append(wanted.data)
            indices.append(places.data)
            after_each(len(places))
    if not indices:
        return None
    answers = Evaluation(
        np.concatenate(logits), np.concatenate(labels), classes, np.concatenate(indices)
    )
    return Seen(answers, np.concatenate(features))


class Alike(NamedTuple):
    """Two pictures of different parts, by their rows in what was seen of these.

    Args:
        part: of the one.
        row: of the one.
        other_part: of the other.
        other_row: of the other.
        similarity: the cosine of their features, up to 1.
    """

    part: str
    row: int
    other_part: str
    other_row: int
    similarity: float


def find_alike(parts: dict[str, Seen], least: float) -> list[Alike]:
    """Return pictures with the one in another part that is most like each, the most alike first.

    Pictures are compared by the cosine of their features (those that `lucid embed` writes), of
    which the mean of all is subtracted before.

    Args:
        parts: by their names. A picture is compared with those of the parts before its own.
        least: pairs that are less alike are left out.
    """
    mean = np.concatenate([seen.features for seen in parts.values()]).mean(axis=0)
    found: list[Alike] = []
    known: list[tuple[str, int]] = []  # the pictures of the parts before
    known_features = np.zeros((0, len(mean)), np.float32)
    for name, seen in parts.items():
        features = seen.features - mean
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        for start in range(0, len(features) if known else 0, _ROWS):
            similarities = features[start : start + _ROWS] @ known_features.T
            best = similarities.argmax(axis=1)
            for row in np.flatnonzero(similarities.max(axis=1) >= least).tolist():
                similarity = min(float(similarities[row, best[row]]), 1.0)
                other_part, other_row = known[best[row]]
                found.append(Alike(name, start + row, other_part, other_row, similarity))
        known += [(name, row) for row in range(len(features))]
        known_features = np.concatenate([known_features, features])
    return sorted(found, key=lambda pair: -pair.similarity)
