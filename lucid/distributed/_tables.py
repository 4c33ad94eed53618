"""What is computed of pictures, as columns of a table: features, or the likeliest classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lucid import nn
from lucid._files import Columns
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.data import imagenet_classes
from lucid.ops import softmax

Array = np.ndarray


class Table(Protocol):
    """What is computed of each picture, and the columns that hold it."""

    def network(self, model: nn.Module) -> nn.Module:
        """Return what computes a row of numbers for each image of a batch."""
        ...

    def columns(self, names: Sequence[str], rows: Array) -> Columns:
        """Return the columns for pictures of these names, ``rows`` having a row for each."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return what tells it from another table of the same model."""
        ...


class Features:
    """The pooled features of each picture, float32: columns ``file`` and ``features``."""

    def network(self, model: nn.Module) -> nn.Module:
        """Return the model without its classifier."""
        return _Headless(model)

    def columns(self, names: Sequence[str], rows: Array) -> Columns:
        """Return a row for each picture."""
        return {"file": names, "features": rows}

    def settings(self) -> dict[str, Any]:
        """Return what the table holds."""
        return {"table": "features"}


class _Headless(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        model: Any = self.model
        return model.forward_head(model.forward_features(images), pre_logits=True)


@dataclass(frozen=True)
class Guess:
    """A class that a picture may show."""

    index: int
    name: str
    probability: float


def class_names(count: int) -> list[str]:
    """Return the names of so many classes: ImageNet's of 1000, otherwise numbers."""
    return imagenet_classes() if count == 1000 else [str(index) for index in range(count)]


class Classes:
    """The likeliest classes of each picture, likeliest first.

    Columns ``file``, ``rank`` (from 1), ``index``, ``name`` and ``probability``: so many rows for
    each picture as classes are wanted.

    Args:
        top: how many classes.
        names: from the number of the model's classes to their names.
        known: the names that were given or come with the weights; a table with others is another.
    """

    def __init__(
        self,
        top: int = 5,
        names: Callable[[int], Sequence[str]] = class_names,
        known: Sequence[str] | None = None,
    ) -> None:
        self.top = top
        self._names = names
        self._known = hashlib.blake2b("\n".join(known or ()).encode(), digest_size=16).hexdigest()
        self._are_probabilities = False

    def network(self, model: nn.Module) -> nn.Module:
        """Return the model; ValueError if it has no classifier."""
        if getattr(model, "num_classes", 1) == 0:
            raise ValueError("the weights have no classifier; `lucid embed` takes them")
        # Of an ONNX file, which may end in a softmax.
        self._are_probabilities = getattr(model, "outputs", None) == ["probabilities"]
        return model

    def guesses(self, rows: Array) -> list[list[Guess]]:
        """Return the likeliest classes for each row of the network's results.

        Raises:
            ValueError: if they are not all finite.
        """
        logits = wrap(rows.astype(np.float64))
        if self._are_probabilities:
            logits = logits.clamp(min=1e-300).log()
        if not np.isfinite(logits.data).all():
            raise ValueError(
                "the model's results are not all finite numbers; are the weights whole?"
            )
        names = self._names(rows.shape[1])
        probabilities = softmax(logits, 1).data
        orders = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
        return [
            [Guess(int(index), names[index], float(row[index])) for index in order]
            for order, row in zip(orders, probabilities)
        ]

    def columns(self, names: Sequence[str], rows: Array) -> Columns:
        """Return a row for each class of each picture."""
        found = self.guesses(rows)
        flat = [guess for guesses in found for guess in guesses]
        return {
            "file": [name for name, guesses in zip(names, found) for _ in guesses],
            "rank": np.array([rank for guesses in found for rank, _ in enumerate(guesses, 1)], int),
            "index": np.array([guess.index for guess in flat], int),
            "name": [guess.name for guess in flat],
            "probability": np.array([guess.probability for guess in flat], float),
        }

    def settings(self) -> dict[str, Any]:
        """Return what the table holds."""
        return {"table": "classes", "top": self.top, "classes": self._known}
