"""What a training run leaves on disk: weights, their description, and the state to go on from.

``NAME.npz`` (or ``.safetensors``) holds the best weights, ``NAME.json`` says what they are, and
``NAME.state.npz`` exists while the run is unfinished. Each is replaced in one step.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lucid
from lucid import _random
from lucid._files import SUFFIXES, atomic_path
from lucid.cli._errors import CommandError, UsageError
from lucid.nn import Module
from lucid.optim import Optimizer
from lucid.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Settings:
    """How a model is trained; the defaults are those of the command line."""

    model: str = "mobilenet_v4_conv_small"
    data: str = "digits"
    epochs: int = 15
    batch_size: int = 64
    lr: float = 3e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.1
    size: int = 48
    augment: bool = True
    validation: float = 0.1
    limit: int | None = None
    seed: int = 0
    max_unreadable: float = 0.25


@dataclass
class Description:
    """What the weights are: all that is needed to use them again."""

    settings: Settings
    classes: list[str]
    in_channels: int
    mean: list[float]
    std: list[float]
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    test: dict[str, Any] | None = None

    def add(self, record: dict[str, Any]) -> bool:
        """Note what an epoch did, and return whether it was the best so far.

        The validation loss decides: on few images the accuracy is too coarse.
        """
        self.history.append(record)
        best = self.best_epoch
        if best is None or record["validation_loss"] < self.history[best - 1]["validation_loss"]:
            self.best_epoch = record["epoch"]
        return self.best_epoch == record["epoch"]


class RunFiles:
    """The files of one run, named after its weights."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.description = weights.with_suffix(".json")
        self.state = weights.with_suffix(".state" + weights.suffix)

    def exist(self) -> bool:
        """Return whether any of them is there."""
        return any(path.exists() for path in (self.weights, self.description, self.state))

    def write_description(self, description: Description) -> None:
        """Write what the weights are."""
        document = {
            "format": 1,
            "lucid": lucid.__version__,
            "num_classes": len(description.classes),
            **asdict(description),
        }
        with atomic_path(self.description) as path:
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def read_description(self) -> Description:
        """Read what the weights are.

        Raises:
            UsageError: if the weights or their description are not there.
            CommandError: if the description is not what `lucid train` writes.
        """
        if not self.weights.is_file():
            raise UsageError(f"there is no file {self.weights}")
        try:
            document = json.loads(self.description.read_text(encoding="utf-8"))
            settings = Settings(**document["settings"])
            keys = ("classes", "in_channels", "mean", "std", "history", "best_epoch", "test")
            return Description(settings, **{key: document[key] for key in keys})
        except FileNotFoundError:
            raise UsageError(
                f"{self.description} is missing: it says what the weights in {self.weights} are; "
                "`lucid train` writes both"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise CommandError(
                f"{self.description} is not a description that `lucid train` wrote "
                f"({type(error).__name__}: {error})"
            ) from error

    def save_state(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        """Write everything that the next epoch depends on."""
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random": _random.generator().bit_generator.state,
            "history": description.history,
            "best_epoch": description.best_epoch,
        }
        lucid.save(state, self.state)

    def load_state(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        """Put everything back as :meth:`save_state` found it.

        Raises:
            CommandError: if the file is not such a state.
        """
        state = lucid.load(self.state)
        try:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            _random.generator().bit_generator.state = state["random"]
            description.history = state["history"]
            description.best_epoch = state["best_epoch"]
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise CommandError(f"{self.state} does not fit this run: {error}") from error


def prepare_output(weights: Path) -> RunFiles:
    """Check that weights can be written to a path, making its folder, and return the run's files.

    Raises:
        UsageError: if the path is a folder, its suffix is unknown, or its folder cannot be made
            or written to.
    """
    if weights.is_dir():
        raise UsageError(f"{weights} is a folder; name a file in it, such as {weights / 'run.npz'}")
    if weights.suffix not in SUFFIXES:
        raise UsageError(f"{weights}: expected a name ending in {' or '.join(SUFFIXES)}")
    try:
        weights.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=weights.parent):
            pass
    except OSError as error:
        raise UsageError(f"{weights}: cannot write there: {error.strerror}") from error
    return RunFiles(weights)


def free_path(weights: Path) -> Path:
    """Return ``weights``, numbered if a run of that name exists."""
    candidate, number = weights, 1
    while RunFiles(candidate).exist():
        number += 1
        candidate = weights.with_stem(f"{weights.stem}-{number}")
    return candidate
