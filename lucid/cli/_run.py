"""What a training run leaves on disk: weights, their description, and the state to go on from.

``NAME.npz`` (or ``.safetensors``) holds the best weights, ``NAME.json`` says what they are, and
``NAME.state.npz`` exists while the run is unfinished. Each is replaced in one step, the state
first: it alone is enough to go on, and to write the other two again.

The description is in all three, with a name of the run that no other one has. So files of
different runs are never taken for those of one. What an earlier run of the same name left stays
until the new one has weights to put in its place.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid import _random, models
from lucid._check import Check, check_entries, is_integer, is_number
from lucid._files import (
    SUFFIXES,
    HeldElsewhereError,
    atomic_path,
    hold,
    parse_json,
    read,
    read_json,
    read_metadata,
    sweep,
)
from lucid.cli._errors import CommandError, UsageError, one_line
from lucid.cli._output import check_writable
from lucid.models._checkpoints import as_metadata
from lucid.nn import Module
from lucid.optim import Optimizer
from lucid.optim.lr_scheduler import LRScheduler

# The entry of the metadata of weights and states that holds their description, as JSON.
DESCRIPTION = "lucid.description"
# The entry of a state's metadata that says which other runs' files it may replace, as JSON.
_REPLACES = "lucid.replaces"


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


_SMALLEST = math.ulp(0.0)  # the least number over 0
_BELOW_ONE = math.nextafter(1.0, 0.0)

SETTINGS: dict[str, Check] = {
    "model": ("a name that `lucid models` lists", lambda v: v in models.list_models()),
    "data": ("`digits` or a folder", lambda v: isinstance(v, str) and v != ""),
    "epochs": ("an integer from 1 to 1,000,000", lambda v: is_integer(v, 1, 10**6)),
    "batch_size": ("an integer from 1 to 1,000,000", lambda v: is_integer(v, 1, 10**6)),
    "lr": ("a number over 0", lambda v: is_number(v, _SMALLEST)),
    "optimizer": ("'adamw' or 'sgd'", lambda v: v in ("adamw", "sgd")),
    "weight_decay": ("a number of at least 0", lambda v: is_number(v, 0)),
    "label_smoothing": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
    "warmup": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
    "size": ("an integer from 1 to 4096", lambda v: is_integer(v, 1, 4096)),
    "augment": ("true or false", lambda v: isinstance(v, bool)),
    "validation": ("a number between 0 and 1", lambda v: is_number(v, _SMALLEST, _BELOW_ONE)),
    "limit": (
        "an integer of at least 1, or null",
        lambda v: v is None or is_integer(v, 1, math.inf),
    ),
    "seed": ("an integer of at least 0", lambda v: is_integer(v, 0, math.inf)),
    "max_unreadable": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
}


def _is_list(value: Any, is_right: Any) -> bool:
    return isinstance(value, list) and all(map(is_right, value))


_DESCRIPTION: dict[str, Check] = {
    "run": ("the name of a run", lambda v: isinstance(v, str)),
    "classes": (
        "a list of names, each once",
        lambda v: v and _is_list(v, lambda x: isinstance(x, str)) and len(set(v)) == len(v),
    ),
    "in_channels": ("1 or 3", lambda v: is_integer(v) and v in (1, 3)),
    "mean": ("a list of numbers", lambda v: _is_list(v, lambda x: is_number(x, -1e6, 1e6))),
    "std": (
        "a list of numbers from 1e-6 to 1e6",
        lambda v: _is_list(v, lambda x: is_number(x, 1e-6, 1e6)),
    ),
    "history": ("a list with an object an epoch", lambda v: isinstance(v, list)),
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


def _new_run() -> str:
    return os.urandom(8).hex()


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
    run: str = field(default_factory=_new_run)

    def of_weights(self) -> dict[str, Any]:
        """Return what the weights are and expect, as their file itself says it."""
        size = self.settings.size
        return {
            "architecture": self.settings.model,
            "classes": self.classes,
            "input_size": (self.in_channels, size, size),
            "crop_pct": 1.0,  # the images were resized and cropped to one size
            "interpolation": "bicubic",
            "mean": tuple(self.mean),
            "std": tuple(self.std),
        }

    def add(self, record: dict[str, Any]) -> bool:
        """Note what an epoch did, and return whether it was the best so far.

        The validation loss decides: on few images the accuracy is too coarse. None, for a loss
        that is no finite number, is worse than any number.
        """
        self.history.append(record)
        if self.best_epoch is None or _rank(record) < _rank(self.history[self.best_epoch - 1]):
            self.best_epoch = record["epoch"]
        return self.best_epoch == record["epoch"]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "format": 1,
            "lucid": lucid.__version__,
            "num_classes": len(self.classes),
            **asdict(self),
        }

    @classmethod
    def of(cls, document: Any) -> Description:
        """Return what a document describes.

        Raises:
            ValueError: naming the entry that is missing or cannot be.
        """
        if isinstance(document, dict):
            document = {"run": "", **document}  # earlier versions gave no name
        check_entries(document, {**_DESCRIPTION, "settings": ("an object", lambda v: True)})
        settings = document["settings"]
        if isinstance(settings, dict):  # earlier versions had fewer
            settings = {**asdict(Settings()), **settings}
        check_entries(settings, SETTINGS, "settings")
        settings = {key: settings[key] for key in SETTINGS}
        description = cls(Settings(**settings), **{key: document[key] for key in _DESCRIPTION})
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


def check_weights(path: Path) -> None:
    """Raise UsageError if what is at ``path`` cannot be weights: a folder, or another file."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the weights in it")
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected weights ending in {' or '.join(SUFFIXES)}, got {path}")


class RunFiles:
    """The files of one run, named after its weights."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.description = weights.with_suffix(".json")
        self.state = weights.with_suffix(".state" + weights.suffix)
        self._lock = weights.with_name(f".lucid-{weights.stem}.lock")
        self._replaces: list[str] = []

    def exist(self) -> bool:
        """Return whether any of them is there."""
        return any(path.exists() for path in (self.weights, self.description, self.state))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training into these files, and tidy up after dead ones.

        Raises:
            UsageError: if another process does so already.
        """
        try:
            with hold(self._lock):
                sweep(self.weights.parent)
                yield
        except HeldElsewhereError:
            raise UsageError(
                f"{self.weights}: another process is training into it; wait for its end, or give "
                "another --output"
            ) from None

    # -- writing ------------------------------------------------------------------------------

    def begin(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        """Write the state of a run that has not begun, unless there is an earlier run's.

        That one goes on if this run ends before its first epoch does.
        """
        found = (_run_of(self.weights), _run_of(self.description))
        self._replaces = [run for run in found if run is not None]
        if not self.state.exists():
            self._write_state(model, optimizer, scheduler, description)

    def write(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        """Write what an epoch changed: everything that the next one depends on comes first."""
        self._write_state(model, optimizer, scheduler, description)
        if description.best_epoch == len(description.history):
            self._write_weights(model.state_dict(), description)
        self.write_description(description)

    def write_description(self, description: Description) -> None:
        """Write what the weights are."""
        with atomic_path(self.description) as path:
            path.write_text(json.dumps(description.document(), indent=2) + "\n", encoding="utf-8")

    def _write_weights(self, state: dict[str, Any], description: Description) -> None:
        lucid.save(state, self.weights, _metadata(description))

    def _write_state(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random": _random.generator().bit_generator.state,
        }
        # Once an epoch is done, all files are this run's.
        replaces = self._replaces if len(description.history) <= 1 else []
        lucid.save(state, self.state, {**_metadata(description), _REPLACES: json.dumps(replaces)})

    def forget(self, description: Description) -> None:
        """Remove the state of a run that ended before its first epoch did: nothing is in it."""
        saved = self.saved(description)
        if saved is not None and not saved.history:
            self.state.unlink()

    # -- reading ------------------------------------------------------------------------------

    def read_description(self) -> Description:
        """Read what the weights are.

        Raises:
            UsageError: if the weights or their description are not there.
            CommandError: if the description is not what `lucid train` writes, or is of another
                run than the weights.
        """
        if not self.weights.is_file():
            if self.state.is_file():
                raise UsageError(
                    f"there are no weights {self.weights} yet: the run has not finished an epoch; "
                    f"`lucid train --resume {self.weights}` goes on with it"
                )
            raise UsageError(f"there is no file {self.weights}")
        run = _run_of(self.weights)
        if run and _run_of(self.state) == run:  # the other file may not have been written yet
            return self._read_state()
        try:
            description = Description.of(read_json(self.description))
        except FileNotFoundError:
            raise UsageError(
                f"{self.description} is missing: it says what the weights in {self.weights} are; "
                "`lucid train` writes both (`lucid eval` needs none if it is given --data)"
            ) from None
        except ValueError as error:
            raise CommandError(
                f"{self.description} is not a description that `lucid train` wrote: {error}"
            ) from error
        if run not in ("", None, description.run):  # "": weights that do not say
            raise CommandError(
                f"{self.description} describes another run than the one that {self.weights} is "
                "of; put back the file that belongs to it"
            )
        return description

    def load_weights(self, model: Module, description: Description) -> None:
        """Load the weights that ``description`` describes.

        Raises:
            CommandError: if they cannot be read, do not fit, or are of another run.
        """
        try:
            content = read(self.weights)
            if _run_in(content.metadata) not in ("", description.run):
                raise ValueError(f"it is of another run than {self.description}")
            model.load_state_dict(content.state)
        except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
            raise CommandError(f"{self.weights}: {error}") from error

    def read_unfinished(self) -> Description:
        """Read what a run is that did not come to its end.

        Raises:
            UsageError: if there is no run, or it is finished.
            CommandError: if its files are not what `lucid train` writes, or are of several runs.
        """
        if self.state.is_file():
            description = self._read_state()
            for path in (self.weights, self.description):
                if _run_of(path) not in (None, description.run, *self._replaces):
                    raise CommandError(
                        f"{path} and {self.state} are of different runs; put back the file that "
                        "belongs to it, or move one of them away"
                    )
            return description
        description = self.read_description()
        if description.test is not None:
            raise UsageError(
                f"{self.weights}: the run is finished; `lucid eval {self.weights}` measures it"
            )
        if len(description.history) > 1:
            raise UsageError(
                f"{self.state} is missing, without which the run cannot go on after epoch "
                f"{len(description.history)}; `lucid eval {self.weights}` measures what there is"
            )
        # Killed in its first epoch by an earlier version, which wrote the state last.
        return replace(description, history=[], best_epoch=None, run=_new_run())

    def _read_state(self) -> Description:
        try:
            metadata = read_metadata(self.state)
            if DESCRIPTION not in metadata:
                raise ValueError("it does not say of what run it is")
            self._replaces = parse_json(metadata.get(_REPLACES, "[]"))
            if not _is_list(self._replaces, lambda run: isinstance(run, str)):
                raise ValueError(f"{_REPLACES!r}: expected a list of names")
            return Description.of(parse_json(metadata[DESCRIPTION]))
        except ValueError as error:
            raise CommandError(f"{self.state} is not the state of a run: {error}") from error

    def saved(self, description: Description) -> Description | None:
        """Return what the state of this run says, if it has one by now."""
        return self._read_state() if _run_of(self.state) == description.run else None

    def load_state(
        self, model: Module, optimizer: Optimizer, scheduler: LRScheduler, description: Description
    ) -> None:
        """Put everything back as :meth:`write` found it, and write what it did not come to.

        Raises:
            CommandError: if the file is not such a state, or the best weights are lost.
        """
        content = read(self.state)
        if _run_in(content.metadata) != description.run:
            raise CommandError(f"{self.state} was replaced by that of another run just now")
        parts: dict[str, Any] = {
            "model": model.load_state_dict,
            "optimizer": optimizer.load_state_dict,
            "scheduler": scheduler.load_state_dict,
            "random": _load_random,
        }
        for key, load in parts.items():
            try:
                if not isinstance(content.state.get(key), dict):
                    raise TypeError("expected a mapping")
                load(content.state[key])
            except Exception as error:  # what a wrong part leads to depends on where it is
                raise CommandError(
                    f"{self.state}: {key!r} does not fit: {one_line(error)}"
                ) from error
        if description.best_epoch is None:
            return
        if not self._hold_best(description):
            if description.best_epoch != len(description.history):
                raise CommandError(
                    f"{self.weights} does not hold the weights of epoch {description.best_epoch}, "
                    f"the best of the run that {self.state} goes on with; put them back"
                )
            self._write_weights(content.state["model"], description)
        self.write_description(description)

    def _hold_best(self, description: Description) -> bool:
        if _run_of(self.weights) != description.run:
            return False
        written = Description.of(parse_json(read_metadata(self.weights)[DESCRIPTION]))
        return written.best_epoch == description.best_epoch


def _metadata(description: Description) -> dict[str, str]:
    document = json.dumps(description.document())
    return {**as_metadata(description.of_weights()), DESCRIPTION: document}


def _run_of(path: Path) -> str | None:
    """Return the name of the run that a file is of: "" if it does not say, None without one."""
    try:
        if path.suffix != ".json":
            return _run_in(read_metadata(path))
        document = read_json(path)
        run = document.get("run", "") if isinstance(document, dict) else ""
        return run if isinstance(run, str) else ""
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return ""


def _run_in(metadata: dict[str, str]) -> str:
    try:
        document = parse_json(metadata.get(DESCRIPTION, "{}"))
    except ValueError:
        return ""
    run = document.get("run", "") if isinstance(document, dict) else ""
    return run if isinstance(run, str) else ""


def _load_random(state: dict[str, Any]) -> None:
    np.random.default_rng().bit_generator.state = state  # raises without changing ours
    _random.generator().bit_generator.state = state


@contextlib.contextmanager
def free_run(weights: Path) -> Iterator[RunFiles]:
    """Hold the files of ``weights``, numbered if a run of that name exists or begins elsewhere."""
    candidate, number = weights, 1
    while True:
        files = RunFiles(check_writable(candidate, "--output"))
        held = None if files.exist() else _hold_if_free(files)
        if held is not None:
            with held:
                yield files
            return
        number += 1
        candidate = weights.with_stem(f"{weights.stem}-{number}")


def _hold_if_free(files: RunFiles) -> contextlib.ExitStack | None:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.held())
        except UsageError:
            return None
        if not files.exist():  # a short run may have come and gone before it was held
            return stack.pop_all()
    return None
