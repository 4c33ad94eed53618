"""What the weights of a run are."""

from __future__ import annotations

import csv
import io
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from lucid._check import Check, check_entries, is_integer, is_list, is_number
from lucid._version import __version__
from lucid.training._recipe import SIZE, Recipe, checks

_DESCRIPTION: dict[str, Check] = {
    "run": ("the name of a run", lambda v: isinstance(v, str)),
    "classes": (
        "a list of names, each once",
        lambda v: v and is_list(v, lambda x: isinstance(x, str)) and len(set(v)) == len(v),
    ),
    "in_channels": ("1 or 3", lambda v: is_integer(v) and v in (1, 3)),
    "mean": ("a list of numbers", lambda v: is_list(v, lambda x: is_number(x, -1e6, 1e6))),
    "std": (
        "a list of numbers from 1e-6 to 1e6",
        lambda v: is_list(v, lambda x: is_number(x, 1e-6, 1e6)),
    ),
    "history": ("a list with an object an epoch", lambda v: isinstance(v, list)),
    "pictures": ("a text", lambda v: isinstance(v, str)),
    "batch": ("an integer of at least 0", lambda v: is_integer(v, 0)),
    "best_epoch": (
        "a positive integer, or null",
        lambda v: v is None or is_integer(v, 1, math.inf),
    ),
    "test": ("an object, or null", lambda v: v is None or isinstance(v, dict)),
}
_RECORD: dict[str, Check] = {
    "epoch": ("a positive integer", lambda v: is_integer(v, 1)),
    "train_loss": ("a number, or null", lambda v: v is None or is_number(v)),
    "train_accuracy": ("a number in [0, 1]", lambda v: is_number(v, 0, 1)),
    "validation_loss": ("a number, or null", lambda v: v is None or is_number(v)),
    "validation_accuracy": ("a number in [0, 1]", lambda v: is_number(v, 0, 1)),
    "seconds": ("a number of at least 0", lambda v: is_number(v, 0)),
}


def new_name() -> str:
    """Return a name for a run that no other one has."""
    return os.urandom(8).hex()


@dataclass
class Description:
    """What the weights of a run are: all that is needed to use them again, or to go on.

    Args:
        recipe: how the model is trained.
        classes: the names of the classes.
        in_channels: channels of an image, 1 or 3.
        mean: what was subtracted from pixels between 0 and 1, per channel.
        std: what they were divided by then.
        history: what each epoch did: ``epoch``, ``train_loss``, ``train_accuracy``,
            ``validation_loss``, ``validation_accuracy`` and ``seconds``.
        best_epoch: whose weights are kept; None before the first epoch.
        test: the score of the best weights on the test images; None before the end.
        run: a name of the run that no other one has.
        batch: how many batches are done of the epoch that follows those of the history.
        pictures: tells whether the pictures are those that the run began with; empty if they are
            not from files.
    """

    recipe: Recipe
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    test: dict[str, Any] | None = None
    run: str = field(default_factory=new_name)
    batch: int = 0
    pictures: str = ""

    def of_weights(self) -> dict[str, Any]:
        """Return what the weights are and expect, as their file itself says it."""
        size, bn_eps = self.recipe.size or SIZE, self.recipe.bn_eps
        return {
            "architecture": self.recipe.model,
            "classes": self.classes,
            "input_size": (self.in_channels, size, size),
            "crop_pct": 1.0,  # the images were resized and cropped to one size
            "interpolation": "bicubic",
            "mean": tuple(self.mean),
            "std": tuple(self.std),
            **({} if bn_eps is None else {"bn_eps": bn_eps}),
        }

    def add(self, record: dict[str, Any]) -> bool:
        """Note what an epoch did, and return whether it was the best so far.

        The validation loss decides: on few images the accuracy is too coarse. None, for a loss
        that is no finite number, is worse than any number.
        """
        self.history.append(record)
        self.batch = 0
        if self.best_epoch is None or _rank(record) < _rank(self.history[self.best_epoch - 1]):
            self.best_epoch = record["epoch"]
        return self.best_epoch == record["epoch"]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        entries = asdict(self)
        return {
            "format": 1,
            "lucid": __version__,
            "num_classes": len(self.classes),
            "settings": entries.pop("recipe"),
            **entries,
        }

    def csv(self) -> str:
        """Return the history as a table: a line an epoch, empty for a loss not finite."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*_RECORD], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.history)
        return text.getvalue()

    @classmethod
    def of(cls, document: Any) -> Description:
        """Return what a document describes.

        Raises:
            ValueError: naming the entry that is missing or cannot be.
        """
        if isinstance(document, dict):
            document = {
                "run": "",
                "batch": 0,
                "pictures": "",
                **document,
            }  # earlier versions had none
        check_entries(document, {**_DESCRIPTION, "settings": ("an object", lambda v: True)})
        settings = document["settings"]
        if isinstance(settings, dict):  # earlier versions had fewer
            settings = {**asdict(Recipe()), **settings}
        check_entries(settings, checks(), "settings")
        recipe = Recipe(**{key: settings[key] for key in checks()})
        description = cls(recipe, **{key: document[key] for key in _DESCRIPTION})
        for key in ("mean", "std"):
            if len(document[key]) != description.in_channels:
                raise ValueError(
                    f"{key!r}: expected {description.in_channels} numbers, one for each of "
                    f"'in_channels', got {len(document[key])}"
                )
        for index, record in enumerate(description.history):
            check_entries(record, _RECORD, f"history[{index}]")
            if record["epoch"] != index + 1:
                raise ValueError(f"'history[{index}].epoch': expected {index + 1}")
        if (description.best_epoch or 0) > len(description.history) or (
            (description.best_epoch is None) != (not description.history)
        ):
            raise ValueError(
                f"'best_epoch': expected one of 'history', got {description.best_epoch}"
            )
        return description


def _rank(record: dict[str, Any]) -> tuple[bool, float]:
    loss = record["validation_loss"]
    return loss is None, loss or 0.0
