"""The files of a run: what each kill leaves can be resumed, and nothing is mixed or lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lucid
from lucid import nn, optim
from lucid._files import read, read_metadata
from lucid.training import Description, HeldElsewhereError, Recipe, RunFiles, RunState

# The entry of a file's metadata that says of what run it is.
DESCRIPTION = "lucid.description"

KINDS = ("weights", "description", "state")


class KilledError(BaseException):
    """Ends everything, as a kill does."""


class Run(NamedTuple):
    """A run of a tiny model, whose only weight is the number of the epoch."""

    files: RunFiles
    model: nn.Module
    optimizer: optim.Optimizer
    scheduler: Any
    description: Description

    @property
    def state(self) -> RunState:
        return RunState(self.model, self.optimizer, self.scheduler, self.description)

    def train(self, epoch: int, loss: float | None, weight: int | None = None) -> None:
        self.model.weight.data[...] = weight or epoch
        self.description.add(record(epoch, loss))
        self.files.write(self.state)

    def begin(self) -> None:
        self.files.begin(self.state)

    def load(self) -> None:
        self.files.load_state(self.state)


def record(epoch: int, loss: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "validation_loss": loss,
        "validation_accuracy": 0.5,
        "seconds": 1.0,
    }


def new_run(weights: Path, **recipe: Any) -> Run:
    description = Description(Recipe(**recipe), ["a", "b"], 1, [0.5], [0.5])
    return run_of(RunFiles(weights), description)


def run_of(files: RunFiles, description: Description) -> Run:
    model = nn.Linear(1, 1, bias=False)
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    return Run(files, model, optimizer, scheduler, description)


def resume(weights: Path) -> Run:
    files = RunFiles(weights)
    run = run_of(files, files.read_unfinished())
    run.load()
    return run


def evaluated(weights: Path) -> tuple[str, float]:
    """Return the run and the weight that `lucid eval` would find."""
    files = RunFiles(weights)
    description = files.read_description()
    model = nn.Linear(1, 1, bias=False)
    files.load_weights(model, description)
    return description.run, model.weight.item()


@pytest.fixture(params=[".npz", ".safetensors"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"run{request.param}"


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a function that lets so many files be written, and then kills."""
    replace = os.replace
    left = [10**9]

    def counted(*paths: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        replace(*paths)

    monkeypatch.setattr(os, "replace", counted)
    yield lambda count: left.__setitem__(0, count)
    left[0] = 10**9


def write_until(run: Run, losses: list[float | None]) -> None:
    run.begin()
    for epoch, loss in enumerate(losses, start=1):
        run.train(epoch, loss)


# -- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", ["none", "finished", "unfinished", "foreign"])
@pytest.mark.parametrize("written", range(20))
def test_every_prefix_of_what_is_written_can_be_resumed(
    weights: Path, earlier: str, written: int, killed_at: Any
) -> None:
    losses: list[float | None] = [3.0, 2.0, 4.0, 1.0]
    old = new_run(weights)
    if earlier == "foreign":
        lucid.save({"weight": np.full((1, 1), 9, np.float32)}, weights)
    elif earlier != "none":
        write_until(old, [5.0])
        old.train(2, 1.0, weight=9)
    if earlier == "finished":
        old.description.test = {}
        old.files.write_description(old.description)
        old.files.state.unlink()

    run = new_run(weights)
    killed_at(written)
    with contextlib.suppress(KilledError):
        write_until(run, losses)
    killed_at(10**9)

    # What can be evaluated are whole weights of one of the two runs.
    if weights.is_file() and earlier != "foreign":
        assert evaluated(weights) in [
            *[(run.description.run, best) for best in (1, 2, 4)],
            *([(old.description.run, 9)] if earlier != "none" else []),
        ]
    if not RunFiles(weights).state.is_file():
        assert written == 0
        return
    found = resume(weights)
    if found.description.run != run.description.run:  # of the earlier run: nothing was lost
        assert earlier == "unfinished"
        assert written == 0
        assert evaluated(weights) == (old.description.run, 9)
        return
    # After resuming, all files are of this run, and the weights are the best ones.
    done = len(found.description.history)
    for epoch in range(done + 1, 5):
        found.train(epoch, losses[epoch - 1])
    assert evaluated(weights) == (run.description.run, 4)
    document = json.loads(found.files.description.read_text())
    assert [r["validation_loss"] for r in document["history"]] == losses
    assert document["best_epoch"] == 4


def test_resuming_writes_what_a_kill_kept_from_being_written(weights: Path, killed_at: Any) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    killed_at(1)  # the state alone
    with pytest.raises(KilledError):
        run.train(2, 1.0)
    killed_at(10**9)
    assert evaluated(weights) == (run.description.run, 1)
    resume(weights)
    assert evaluated(weights) == (run.description.run, 2)
    assert json.loads(run.files.description.read_text())["best_epoch"] == 2


def test_within_an_epoch_the_model_is_not_taken_for_the_best(weights: Path) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    run.description.batch = 5
    run.model.weight.data[...] = 77
    run.files.write_state(run.state)
    again = resume(weights)
    assert (again.description.batch, again.model.weight.item()) == (5, 77)
    assert evaluated(weights) == (run.description.run, 1)
    weights.unlink()
    with pytest.raises(ValueError, match="does not hold the weights of epoch 1, the best of"):
        resume(weights)


def test_what_was_saved_within_the_first_epoch_stays(weights: Path) -> None:
    run = new_run(weights)
    run.begin()
    run.description.batch = 5
    run.files.write_state(run.state)
    run.files.forget(run.description)
    assert resume(weights).description.batch == 5


def test_a_rolling_set_of_states(weights: Path) -> None:
    run = new_run(weights, keep_states=2)
    write_until(run, [3.0, 4.0, 2.0, 5.0])
    assert [*run.files.states()] == [3, 4]
    (weights.parent / f"{weights.stem}.state-x{weights.suffix}").write_bytes(b"of another kind")
    run.files.state.write_bytes(b"damaged")
    copy = run.files.states()[3]
    with pytest.raises(
        ValueError, match=f"is not the state of a run: .*; copy {weights.stem}.state-0004.* over it"
    ):
        resume(weights)
    run.files.state.write_bytes(copy.read_bytes())
    again = resume(weights)
    assert [r["validation_loss"] for r in again.description.history] == [3.0, 4.0, 2.0]
    assert again.model.weight.item() == 3
    again.train(4, 5.0)
    assert [*run.files.states()] == [3, 4]
    assert evaluated(weights) == (run.description.run, 3)
    run.files.remove_states()
    assert not run.files.states()
    assert not run.files.state.exists()


def test_weights_of_an_epoch_that_will_come_again_stay(weights: Path) -> None:
    run = new_run(weights, keep_states=3)
    write_until(run, [3.0, 4.0, 2.0])
    run.files.state.write_bytes(run.files.states()[2].read_bytes())
    again = resume(weights)
    assert again.description.best_epoch == 1
    again.train(3, 2.0)
    assert evaluated(weights) == (run.description.run, 3)


def test_before_its_first_epoch_there_is_nothing_to_evaluate(weights: Path) -> None:
    run = new_run(weights)
    run.begin()
    with pytest.raises(FileNotFoundError, match="has not finished an epoch; `lucid train --resume"):
        run.files.read_description()
    assert resume(weights).description == run.description
    run.files.forget(run.description)
    assert not run.files.exist()


def test_a_run_that_an_earlier_version_left_without_a_state_begins_again(weights: Path) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    run.files.state.unlink()
    again = RunFiles(weights).read_unfinished()
    assert again.history == []
    assert again.recipe == run.description.recipe
    run.train(2, 2.0)
    run.files.state.unlink()
    with pytest.raises(
        FileNotFoundError, match="is missing, without which the run cannot go on after"
    ):
        RunFiles(weights).read_unfinished()


# -- files of several runs --------------------------------------------------------------------


def test_all_files_bear_the_name_of_the_run(weights: Path) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    names = [json.loads(run.files.description.read_text())["run"]]
    for path in (run.files.weights, run.files.state):
        names.append(json.loads(read_metadata(path)[DESCRIPTION])["run"])
    assert set(names) == {run.description.run}
    assert new_run(weights).description.run != run.description.run


def mix(a: Run, b: Run, swapped: tuple[str, ...]) -> None:
    for kind in swapped:
        getattr(a.files, kind).write_bytes(getattr(b.files, kind).read_bytes())


@pytest.mark.parametrize("swapped", [c for n in (1, 2) for c in itertools.combinations(KINDS, n)])
def test_a_mixture_is_not_resumed(tmp_path: Path, swapped: tuple[str, ...]) -> None:
    a, b = new_run(tmp_path / "a.npz"), new_run(tmp_path / "b.npz")
    write_until(a, [3.0, 2.0])
    write_until(b, [3.0, 2.0])
    mix(a, b, swapped)
    with pytest.raises(ValueError, match="are of different runs; put back the file that belongs"):
        RunFiles(tmp_path / "a.npz").read_unfinished()


@pytest.mark.parametrize("swapped", ["weights", "description"])
def test_a_mixture_is_not_evaluated(tmp_path: Path, swapped: str) -> None:
    a, b = new_run(tmp_path / "a.npz"), new_run(tmp_path / "b.npz")
    write_until(a, [3.0, 2.0])
    write_until(b, [3.0, 2.0])
    a.files.state.unlink()
    mix(a, b, (swapped,))
    with pytest.raises(ValueError, match=r"a\.json describes another run than the one that"):
        RunFiles(tmp_path / "a.npz").read_description()


def test_weights_that_changed_since_the_description_was_read(tmp_path: Path) -> None:
    a, b = new_run(tmp_path / "a.npz"), new_run(tmp_path / "b.npz")
    for run in (a, b):
        write_until(run, [3.0])
    description = a.files.read_description()
    a.files.weights.write_bytes(b.files.weights.read_bytes())
    with pytest.raises(ValueError, match=r"a\.npz: it is of another run than .*a\.json"):
        a.files.load_weights(a.model, description)


def test_lost_weights_are_not_taken_for_the_best(weights: Path) -> None:
    run = new_run(weights)
    write_until(run, [3.0, 4.0])
    weights.unlink()
    with pytest.raises(ValueError, match="does not hold the weights of epoch 1, the best of"):
        resume(weights)


# -- several processes ------------------------------------------------------------------------


def test_one_process_at_a_time(weights: Path) -> None:
    message = "another process is training into it"
    with RunFiles(weights).held(), pytest.raises(HeldElsewhereError, match=message):
        RunFiles(weights).held().__enter__()
    with RunFiles(weights).held():
        pass
    assert os.listdir(weights.parent) == []


def test_free_names_are_taken_once(weights: Path) -> None:
    with (
        RunFiles.free(weights) as first,
        RunFiles.free(weights) as second,
        RunFiles.free(weights) as third,
    ):
        assert [files.weights.stem for files in (first, second, third)] == ["run", "run-2", "run-3"]
        second.description.write_text("{}")
    with RunFiles.free(weights) as first, RunFiles.free(weights) as third:
        assert [files.weights.stem for files in (first, third)] == ["run", "run-3"]


def test_an_error_in_a_held_run_is_not_swallowed(weights: Path) -> None:
    with pytest.raises(HeldElsewhereError, match="of mine"), RunFiles.free(weights):
        raise HeldElsewhereError("of mine")


# -- what is best -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([None, 5.0], 2),
        ([None, None, 5.0, None], 3),
        ([5.0, None], 1),
        ([None, None], 1),
        ([2.0, 2.0, 1.0], 3),
        ([0.0, None, -1.0], 3),
    ],
)
def test_a_loss_that_is_no_number_is_never_best_against_a_number(
    losses: list[float | None], best: int
) -> None:
    description = new_run(Path("x.npz")).description
    for epoch, loss in enumerate(losses, start=1):
        description.add(record(epoch, loss))
    assert description.best_epoch == best


# -- descriptions and states of strangers -----------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("settings.epochs", 10**400, "'settings.epochs': expected an integer from 1 to 1,000,000"),
        ("settings.size", 10**9, "'settings.size': expected an integer from 1 to 4096"),
        ("settings.lr", float("nan"), "'settings.lr': expected a number over 0, got nan"),
        ("settings.lr", 1e308, "'settings.lr': expected a number over 0, got 1e"),
        ("settings.batch_size", True, "'settings.batch_size': expected an integer"),
        ("settings.model", ["x"], "'settings.model': expected a name that `lucid models` lists"),
        ("settings", 3, "settings: expected an object, got 3"),
        ("classes", "ab", "'classes': expected a list of names, each once, got 'ab'"),
        ("classes", ["a", "a"], "'classes': expected a list of names, each once"),
        ("classes", [], "'classes': expected a list of names"),
        ("in_channels", 10**9, "'in_channels': expected 1 or 3"),
        ("mean", [0.5, 0.5], "'mean': expected 1 numbers, .* got 2"),
        ("mean", [10**400], "'mean': expected a list of numbers"),
        ("std", [1e-300], "'std': expected a list of numbers from 1e-6 to 1e6"),
        ("history", {}, "'history': expected a list with an object an epoch"),
        ("history", [3], r"history\[0\]: expected an object, got 3"),
        ("history", [record(2, 1.0)], r"'history\[0\].epoch': expected 1"),
        ("history", [{**record(1, 1.0), "train_loss": "x"}], r"'history\[0\].train_loss'"),
        ("batch", -1, "'batch': expected an integer of at least 0, got -1"),
        ("best_epoch", 3, "'best_epoch': expected one of 'history', got 3"),
        ("best_epoch", None, "'best_epoch': expected one of 'history', got None"),
        ("test", 3, "'test': expected an object, or null, got 3"),
    ],
)
def test_a_description_is_checked_entry_by_entry(
    tmp_path: Path, where: str, value: Any, message: str
) -> None:
    run = new_run(tmp_path / "a.npz")
    write_until(run, [3.0])
    run.files.state.unlink()
    document = json.loads(run.files.description.read_text())
    part = document
    *above, key = where.split(".")
    for name in above:
        part = part[name]
    part[key] = value
    run.files.description.write_text(json.dumps(document))
    with pytest.raises(
        ValueError, match=rf"a\.json is not a description that `lucid train` wrote: .*{message}"
    ):
        run.files.read_description()


def test_a_description_without_its_entries(tmp_path: Path) -> None:
    run = new_run(tmp_path / "a.npz")
    write_until(run, [3.0])
    run.files.state.unlink()
    document = json.loads(run.files.description.read_text())
    for key in ("classes", "settings", "history"):
        rest = {name: value for name, value in document.items() if name != key}
        run.files.description.write_text(json.dumps(rest))
        with pytest.raises(ValueError, match=f"'{key}' is missing"):
            run.files.read_description()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("model", {}),
        ("model", {"weight": "x"}),
        ("optimizer", [1]),
        ("optimizer", {"state": {}}),
        ("scheduler", {"last_epoch": "x"}),
        ("random", {}),
        ("random", {"bit_generator": "MT19937"}),
        ("random", {"bit_generator": "PCG64", "state": {"state": -1, "inc": "x"}}),
    ],
)
def test_a_wrong_part_of_a_state_is_named(weights: Path, key: str, value: Any) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    content = read(run.files.state)
    for state in (
        {**content.state, key: value},
        {name: part for name, part in content.state.items() if name != key},
    ):
        lucid.save(state, run.files.state, content.metadata)
        with pytest.raises(ValueError, match=f"{run.files.state.name}: '{key}' does not fit: ."):
            resume(weights)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100])
def test_a_damaged_state_is_named(weights: Path, content: bytes) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    run.files.state.write_bytes(content)
    with pytest.raises(ValueError, match=f"{run.files.state.name} is not the state of a run: "):
        resume(weights)


def test_a_state_of_something_else_is_named(weights: Path) -> None:
    run = new_run(weights)
    write_until(run, [3.0])
    lucid.save({"x": np.ones(1)}, run.files.state)
    with pytest.raises(ValueError, match="is not the state of a run: it does not say of what"):
        resume(weights)
