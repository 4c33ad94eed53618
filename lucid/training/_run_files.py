"""What a training run leaves on disk: weights, their description, and the state to go on from.

In the run's folder ``weights.npz`` holds the best weights, ``weights.json`` says what they are, and
``state.npz`` exists while the run is unfinished. A run may also be called by the name of its
weights: its files are then ``NAME.npz`` (or ``.safetensors``), ``NAME.json``, ``NAME.state.npz``,
and the others have the same stem before their names.

Each file is replaced in one step, the state first: it alone is enough to go on, and to write the
others again. The description is in the weights and the state too, with a name of the run that no
other one has. So files of different runs are never taken for those of one. What an earlier run of
the same name left stays until the new one has weights to put in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lucid._check import is_list
from lucid._files import (
    SUFFIXES,
    HeldElsewhereError,
    atomic_path,
    hold,
    parse_json,
    read,
    read_json,
    read_metadata,
    save,
    sweep,
)
from lucid.models._checkpoints import as_metadata
from lucid.models._pretrained import IN_FOLDER
from lucid.nn import Module
from lucid.training._description import Description, new_name
from lucid.training._environment import environment
from lucid.training._run_state import RunState

# The entry of the metadata of weights and states that holds their description, as JSON.
DESCRIPTION = "lucid.description"
# The entry of a state's metadata that says which other runs' files it may replace, as JSON.
_REPLACES = "lucid.replaces"


class FinishedError(RuntimeError):
    """The run has come to its end: there is nothing to go on with."""


class RunFiles:
    """The files of one run: what a training loop of one's own keeps so that it can be resumed.

    :class:`Run` does all of this for image classifiers. Whenever the process is killed, what is on
    disk can be gone on with, and is of one run. A model, its optimiser and its schedule are written
    after each epoch::

        files = training.RunFiles("mine")
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        description = training.Description(
            training.Recipe(), ["cat", "dog", "bird"], 3, mean=[0.5] * 3, std=[0.2] * 3
        )
        state = training.RunState(model, optimizer, schedule, description)
        with files.held():
            files.begin(state)
            for epoch in training.fit(model, loader, held_out_loader, optimizer, epochs=2):
                schedule.step()
                description.add(epoch.record())
                files.write(state)

    and put back with ``description = files.read_unfinished()`` and :meth:`load_state`.

    Args:
        path: the run's folder, or the weights in it; or the name of weights, ending in ``.npz`` or
            ``.safetensors``, beside which the other files stand.

    Attributes:
        path: what the run is called by: its folder, or its weights.
        weights: the best weights.
        description: what they are, as JSON.
        state: what the run goes on from, while it is unfinished.
        recipe: how the model is trained, as TOML.
        history: what each epoch did, as CSV.
        environment: where it was trained, as JSON.
        pictures: which pictures it was given and for what, as CSV, if they are from files.
        report: a page about the run.
        report_data: the numbers on that page, as JSON.
        tensorboard: a folder of TensorBoard's event files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        if path.name == IN_FOLDER and (
            path.with_name("recipe.toml").is_file() or path.with_name("state.npz").is_file()
        ):
            path = path.parent
        self.path = path
        self._in_folder = path.suffix not in SUFFIXES or path.is_dir()
        self.weights = path / IN_FOLDER if self._in_folder else path
        self.description = self.weights.with_suffix(".json")
        self.state = self._beside("state" + self.weights.suffix)
        self.recipe = self._beside("recipe.toml")
        self.history = self._beside("history.csv")
        self.environment = self._beside("environment.json")
        self.pictures = self._beside("pictures.csv")
        self.report = self._beside("report.html")
        self.report_data = self._beside("report.json")
        self.tensorboard = self._beside("tensorboard")
        name = "run" if self._in_folder else path.stem
        self._lock = self.weights.with_name(f".lucid-{name}.lock")
        self._replaces: list[str] = []
        self.listed = b""  # what is to stand in ``pictures``

    def _beside(self, name: str) -> Path:
        """Return where a file of the run is."""
        return self.path / name if self._in_folder else self.path.with_suffix(f".{name}")

    def exist(self) -> bool:
        """Return whether any of them is there."""
        return any(path.exists() for path in (self.weights, self.description, self.state))

    def is_free(self) -> bool:
        """Return whether a new run may be called so: no file is there, in a folder none at all."""
        if not self._in_folder:
            return not self.exist()
        if not self.path.is_dir():
            return not self.path.exists()
        # What a process left that was killed before it wrote anything whole, or a lock.
        return all(path.name.startswith(".lucid-") for path in self.path.iterdir())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training into these files, and tidy up after dead ones.

        The folder is made if it is missing, and removed at the end if nothing is in it.

        Raises:
            HeldElsewhereError: if another process does so already.
            OSError: if the folder cannot be made or written to.
        """
        folder = self.weights.parent
        with contextlib.ExitStack() as held:
            if self._in_folder:
                held.callback(_remove_if_empty, folder)
            try:
                held.enter_context(_hold_in(folder, self._lock))
            except HeldElsewhereError:
                raise HeldElsewhereError(
                    f"{self.path}: another process is training into it; wait for its end"
                ) from None
            sweep(folder)
            yield

    @classmethod
    @contextlib.contextmanager
    def free(cls, path: str | os.PathLike[str]) -> Iterator[RunFiles]:
        """Hold the files of that name, numbered if such a run exists or begins elsewhere."""
        first = cls(path)
        files, number = first, 1
        while (held := _hold_if_free(files)) is None:
            number += 1
            stem, suffix = first.path.name, ""
            if not first._in_folder:
                stem, suffix = first.path.stem, first.path.suffix
            files = cls(first.path.with_name(f"{stem}-{number}{suffix}"))
        with held:
            yield files

    # -- writing ------------------------------------------------------------------------------

    def begin(self, state: RunState) -> None:
        """Write the state of a run that has not begun, unless there is an earlier run's.

        That one goes on if this run ends before its first epoch does.
        """
        found = (_run_of(self.weights), _run_of(self.description))
        self._replaces = [run for run in found if run is not None]
        if not self.state.exists():
            self.write_state(state)
        if not self._replaces:
            self._write_records(state.description)

    def write(self, state: RunState) -> None:
        """Write what an epoch changed: everything that the next one depends on comes first.

        The weights are those of the moving average, if the training keeps one.
        """
        description = state.description
        self.write_state(state)
        if description.best_epoch == len(description.history):
            self._write_weights(state)
        self.write_description(description)
        for page in (self.report, self.report_data):  # on an earlier run of this name
            page.unlink(missing_ok=True)
        self._keep_state(description)

    def write_description(self, description: Description) -> None:
        """Write what the weights are."""
        with atomic_path(self.description) as path:
            path.write_text(json.dumps(description.document(), indent=2) + "\n", encoding="utf-8")
        self._write_records(description)

    def _write_records(self, description: Description) -> None:
        """Write those files that are only looked at, if there is something new in them."""
        contents = {
            self.recipe: description.recipe.toml().encode("utf-8", "replace"),
            self.history: description.csv().encode(),
            self.environment: (json.dumps(environment(), indent=2) + "\n").encode(),
        }
        if self.listed:
            contents[self.pictures] = self.listed
        else:  # of an earlier run
            self.pictures.unlink(missing_ok=True)
        for path, content in contents.items():
            if not path.is_file() or path.read_bytes() != content:
                with atomic_path(path) as temporary:
                    temporary.write_bytes(content)

    def _write_weights(self, state: RunState) -> None:
        save(state.judged.state_dict(), self.weights, _metadata(state.description))

    def write_state(self, state: RunState) -> None:
        """Write what the run needs to go on from here."""
        description = state.description
        # Once an epoch is done, all files are this run's.
        replaces = self._replaces if len(description.history) <= 1 else []
        metadata = {**_metadata(description), _REPLACES: json.dumps(replaces)}
        save(state.state_dict(), self.state, metadata)

    def states(self) -> dict[int, Path]:
        """Return the states that are kept of earlier epochs, by the number of the epoch."""
        first = self._beside("state-")
        found = {}
        for path in self.weights.parent.glob("*.*"):
            number = path.name.removeprefix(first.name).removesuffix(self.weights.suffix)
            if number.isdecimal() and path.name == f"{first.name}{number}{self.weights.suffix}":
                found[int(number)] = path
        return dict(sorted(found.items()))

    def _keep_state(self, description: Description) -> None:
        """Keep the state as that of its epoch too, and remove those of epochs too long ago."""
        done, kept = len(description.history), description.recipe.keep_states
        if kept > 1:
            copy = self._beside(f"state-{done:04}{self.weights.suffix}")
            with atomic_path(copy) as path:
                path.unlink(missing_ok=True)
                try:
                    os.link(self.state, path)
                except OSError:  # a file system without links
                    shutil.copyfile(self.state, path)
        for number, path in self.states().items():
            if not (done - kept < number <= done and kept > 1):
                path.unlink()

    def remove_states(self) -> None:
        """Remove what a run that is finished does not need any more."""
        for path in (self.state, *self.states().values()):
            path.unlink()

    def forget(self, description: Description) -> None:
        """Remove the state of a run that ended before anything was saved: nothing is in it."""
        saved = self.saved(description)
        if saved is not None and not saved.history and not saved.batch:
            self.state.unlink()
            records = (self.recipe, self.history, self.environment, self.pictures)
            for path in () if self._replaces else records:
                path.unlink(missing_ok=True)

    # -- reading ------------------------------------------------------------------------------

    def read_description(self) -> Description:
        """Read what the weights are.

        Raises:
            FileNotFoundError: if the weights or their description are not there.
            ValueError: if the description is not what `lucid train` writes, or is of another
                run than the weights.
        """
        if not self.weights.is_file():
            if self.state.is_file():
                raise FileNotFoundError(
                    f"there are no weights {self.weights} yet: the run has not finished an epoch; "
                    f"`lucid train --resume {self.path}` goes on with it"
                )
            raise FileNotFoundError(f"there is no file {self.weights}")
        run = _run_of(self.weights)
        if run and _run_of(self.state) == run:  # the other file may not have been written yet
            return self._read_state()
        try:
            description = Description.of(read_json(self.description))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.description} is missing: it says what the weights in {self.weights} are; "
                "`lucid train` writes both (`lucid eval` needs none if it is given --data)"
            ) from None
        except ValueError as error:
            raise ValueError(
                f"{self.description} is not a description that `lucid train` wrote: {error}"
            ) from error
        if run not in ("", None, description.run):  # "": weights that do not say
            raise ValueError(
                f"{self.description} describes another run than the one that {self.weights} is "
                "of; put back the file that belongs to it"
            )
        return description

    def load_weights(self, model: Module, description: Description) -> None:
        """Load the weights that ``description`` describes.

        Raises:
            ValueError: if they cannot be read, do not fit, or are of another run.
        """
        try:
            content = read(self.weights)
            if _run_in(content.metadata) not in ("", description.run):
                raise ValueError(f"it is of another run than {self.description}")
            model.load_state_dict(content.state)
        except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
            raise ValueError(f"{self.weights}: {error}") from error

    def read_unfinished(self) -> Description:
        """Read what a run is that did not come to its end.

        Raises:
            FinishedError: if it came to its end.
            FileNotFoundError: if there is no run, or no state to go on from.
            ValueError: if its files are not what `lucid train` writes, or are of several runs.
        """
        if self.state.is_file():
            description = self._read_state()
            for path in (self.weights, self.description):
                if _run_of(path) not in (None, description.run, *self._replaces):
                    raise ValueError(
                        f"{path} and {self.state} are of different runs; put back the file that "
                        "belongs to it, or move one of them away"
                    )
            return description
        description = self.read_description()
        if description.test is not None:
            raise FinishedError(
                f"{self.path}: the run is finished; `lucid eval {self.path}` measures it"
            )
        if len(description.history) > 1:
            raise FileNotFoundError(
                f"{self.state} is missing, without which the run cannot go on after epoch "
                f"{len(description.history)}; `lucid eval {self.path}` measures what there is"
            )
        # Killed in its first epoch by an earlier version, which wrote the state last.
        return replace(description, history=[], best_epoch=None, run=new_name())

    def _read_state(self) -> Description:
        try:
            metadata = read_metadata(self.state)
            if DESCRIPTION not in metadata:
                raise ValueError("it does not say of what run it is")
            self._replaces = parse_json(metadata.get(_REPLACES, "[]"))
            if not is_list(self._replaces, lambda run: isinstance(run, str)):
                raise ValueError(f"{_REPLACES!r}: expected a list of names")
            return Description.of(parse_json(metadata[DESCRIPTION]))
        except ValueError as error:
            hint = "".join(
                f"; copy {path.name} over it to go on after epoch {number}"
                for number, path in [*self.states().items()][-1:]
            )
            raise ValueError(f"{self.state} is not the state of a run: {error}{hint}") from error

    def saved(self, description: Description) -> Description | None:
        """Return what the state of this run says, if it has one by now."""
        return self._read_state() if _run_of(self.state) == description.run else None

    def load_state(self, state: RunState) -> None:
        """Put everything back as :meth:`write` found it, and write what it did not come to.

        Raises:
            ValueError: if the file is not such a state, or the best weights are lost.
        """
        description, content = state.description, read(self.state)
        if _run_in(content.metadata) != description.run:
            raise ValueError(f"{self.state} was replaced by that of another run just now")
        try:
            state.load_state_dict(content.state)
        except ValueError as error:
            raise ValueError(f"{self.state}: {error}") from error
        if description.best_epoch is None:
            return
        if not self._hold_best(description):
            if description.best_epoch != len(description.history) or description.batch:
                raise ValueError(
                    f"{self.weights} does not hold the weights of epoch {description.best_epoch}, "
                    f"the best of the run that {self.state} goes on with; put them back"
                )
            self._write_weights(state)
        self.write_description(description)

    def _hold_best(self, description: Description) -> bool:
        if _run_of(self.weights) != description.run:
            return False
        written = Description.of(parse_json(read_metadata(self.weights)[DESCRIPTION]))
        # With a state of an earlier epoch put back, they are of one that will come again.
        return written.best_epoch == description.best_epoch or (
            written.best_epoch is not None and written.best_epoch > len(description.history)
        )


def _metadata(description: Description) -> dict[str, str]:
    document = json.dumps(description.document())
    return {**as_metadata(description.of_weights()), DESCRIPTION: document}


def _run_of(path: Path) -> str | None:
    """Return the name of the run that a file is of: "" if it does not say, None without one."""
    try:
        return _name_in(read_json(path)) if path.suffix == ".json" else _run_in(read_metadata(path))
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return ""


def _run_in(metadata: dict[str, str]) -> str:
    try:
        return _name_in(parse_json(metadata.get(DESCRIPTION, "{}")))
    except ValueError:
        return ""


def _name_in(document: Any) -> str:
    run = document.get("run", "") if isinstance(document, dict) else ""
    return run if isinstance(run, str) else ""


@contextlib.contextmanager
def _hold_in(folder: Path, lock: Path) -> Iterator[None]:
    """Hold a lock in a folder, which another process may just be removing."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(hold(lock))
            except FileNotFoundError:
                continue
            yield
            return


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _hold_if_free(files: RunFiles) -> contextlib.ExitStack | None:
    if not files.is_free():
        return None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.held())
        except HeldElsewhereError:
            return None
        if files.is_free():  # a short run may have come and gone before it was held
            return stack.pop_all()
    return None
