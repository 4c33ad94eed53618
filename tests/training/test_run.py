"""Runs from Python: begun, interrupted, gone on with, finished."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data, nn, training
from lucid._files import read
from lucid.training import Recipe, Run

pytest.importorskip("sklearn")
pytest.importorskip("PIL.Image")

QUICK = Recipe(epochs=2, batch_size=20, lr=3e-3, size=32, limit=40)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_to_the_end(run: Run) -> training.Score:
    with run:
        run.prepare()
        for _ in run.fit():
            pass
        return run.finish()


def test_a_run_interrupted_and_gone_on_with_ends_as_one_that_was_not() -> None:
    whole = run_to_the_end(Run.create("whole.npz", QUICK))
    with Run.create("parts.npz", QUICK) as run:
        run.prepare()
        first = next(run.fit())
        assert (first.number, run.done) == (1, 1)
    assert Path("parts.state.npz").is_file()
    resumed = Run.resume("parts.npz")
    assert (resumed.recipe, resumed.done) == (QUICK, 1)
    assert run_to_the_end(resumed) == whole
    first_weights, second_weights = lucid.load("whole.npz"), lucid.load("parts.npz")
    for name, value in first_weights.items():
        np.testing.assert_array_equal(value.data, second_weights[name].data, err_msg=name)
    assert sorted(path.name for path in Path().iterdir()) == [
        f"{name}.{end}"
        for name in ("parts", "whole")
        for end in ("environment.json", "history.csv", "json", "npz", "recipe.toml")
    ]
    with pytest.raises(training.FinishedError, match="the run is finished"):
        Run.resume("parts.npz")


def test_a_new_run_without_an_epoch_leaves_nothing() -> None:
    with Run.create("a.npz", QUICK) as run:
        with pytest.raises(RuntimeError, match=r"call prepare\(\) first"):
            next(run.fit())
        run.prepare()
        assert run.steps == 2
    assert not list(Path().iterdir())


def test_names_that_are_there() -> None:
    Path("deep").mkdir()
    Path("deep/a.npz").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"deep.a\.npz is there already"):
        Run.create("deep/a.npz", QUICK)
    with Run.create("deep/a.npz", QUICK, numbered=True) as run:
        assert run.files.weights == Path("deep/a-2.npz")
        with pytest.raises(training.HeldElsewhereError, match="another process is training into"):
            Run.create("deep/a-2.npz", QUICK)
    with Run.create("deep/a.npz", QUICK, overwrite=True):
        assert Path("deep/a.npz").read_bytes() == b"precious"
    for name, message in (
        ("deep", "deep is a folder with other files in it; name another"),
        ("a.pt", "ending in .safetensors or .npz"),
    ):
        with pytest.raises(ValueError, match=message):
            Run.create(name, QUICK, overwrite=True)
    for name, message in (
        ("none.npz", r"there is no file none\.npz"),
        ("none", "there is no file none"),
        ("deep", "there is no run in the folder deep"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            Run.resume(name)


def test_a_folder_holds_a_run() -> None:
    with Run.create("runs/a", QUICK) as run:
        with pytest.raises(training.HeldElsewhereError, match=r"runs.a: another process is"):
            Run.create("runs/a", QUICK)
        run.prepare()
        next(run.fit())
    names = {"recipe.toml", "state.npz", "weights.json", "weights.npz"}
    names |= {"environment.json", "history.csv"}
    assert {path.name for path in Path("runs/a").iterdir()} == names
    with pytest.raises(FileExistsError, match=r"runs.a is there already"):
        Run.create("runs/a", QUICK)
    with Run.create("runs/a", QUICK, numbered=True) as run:
        assert run.files.path == Path("runs/a-2")
    Path("elsewhere").mkdir()
    Path("runs/a").rename("elsewhere/b")
    assert not list(Path("runs").iterdir())
    score = run_to_the_end(Run.resume("elsewhere/b/weights.npz"))  # the weights name it too
    assert {path.name for path in Path("elsewhere/b").iterdir()} == names - {"state.npz"}
    assert score == run_to_the_end(Run.create("whole", QUICK))
    assert Path("whole/recipe.toml").read_bytes() == Path("elsewhere/b/recipe.toml").read_bytes()
    assert training.Recipe.read("whole") == QUICK
    model = lucid.models.create_model(
        QUICK.model, weights="elsewhere/b", num_classes=10, in_channels=1
    )
    assert model.pretrained_cfg["classes"] == [*"0123456789"]


def test_a_new_run_in_a_folder_without_an_epoch_leaves_nothing() -> None:
    Path("empty").mkdir()
    for name in ("a", "deep/b", "empty"):
        with Run.create(name, QUICK) as run:
            run.prepare()
            with pytest.raises(KeyboardInterrupt):
                next(run.fit([Interrupt()]))
    assert [path.name for path in Path().rglob("*")] == ["deep"]


class Interrupt(training.Callback):
    """Ctrl-C after so many steps."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps

    def on_step(self, run: Run, score: training.Score) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt


class Log(training.Callback):
    """Notes what is called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_start(self, run: Run) -> None:
        self.calls.append(("start", run.done))

    def on_step(self, run: Run, score: training.Score) -> None:
        self.calls.append(("step", score.count))

    def on_epoch(self, run: Run, epoch: training.Epoch) -> None:
        assert json.loads(Path("a/weights.json").read_text())["history"][-1] == epoch.record()
        self.calls.append(("epoch", epoch.number))

    def on_end(self, run: Run) -> None:
        self.calls.append(("end", run.done))


class StopAfter(training.Callback):
    """Stops after an epoch."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_epoch(self, run: Run, epoch: training.Epoch) -> None:
        if epoch.number == self.number:
            run.stop()


def test_callbacks_are_called_at_their_moments() -> None:
    log = Log()
    with Run.create("a", replace(QUICK, epochs=3)) as run:
        run.prepare()
        assert [epoch.number for epoch in run.fit([log, StopAfter(1)])] == [1]
    epoch = [("step", 20), ("step", 40), ("epoch", 1), ("end", 1)]
    assert log.calls == [("start", 0), *epoch]
    log.calls.clear()
    with Run.resume("a") as run:
        run.prepare()
        with pytest.raises(KeyboardInterrupt):
            next(run.fit([log, Interrupt()]))
        assert log.calls == [("start", 1), ("step", 20), ("end", 1)]
        run.finish()


def test_a_run_of_an_earlier_version_is_gone_on_with() -> None:
    """It had three files by the name of the weights, and fewer settings."""
    whole = run_to_the_end(Run.create("whole", QUICK))
    with Run.create("a.npz", QUICK) as run:
        run.prepare()
        next(run.fit())
    for path in Path().glob("a.*.*"):
        if path.name != "a.state.npz":
            path.unlink()
    for name in ("a.npz", "a.state.npz"):
        content = read(name)
        metadata = dict(content.metadata)
        metadata["lucid.description"] = as_earlier(metadata["lucid.description"])
        lucid.save(content.state, name, metadata)
    Path("a.json").write_text(as_earlier(Path("a.json").read_text()))
    assert training.RunFiles("a.npz").read_description().best_epoch == 1
    assert run_to_the_end(Run.resume("a.npz")) == whole
    assert Recipe.read("a.recipe.toml") == Recipe.read("whole")


def as_earlier(text: str) -> str:
    document = json.loads(text)
    del document["batch"]
    names = "model data epochs batch_size lr optimizer weight_decay label_smoothing warmup size"
    names += " augment validation limit seed max_unreadable"
    document["settings"] = {name: document["settings"][name] for name in names.split()}
    return json.dumps(document)


def test_the_history_is_a_table() -> None:
    with Run.create("a", QUICK) as run:
        run.prepare()
        epochs = list(run.fit())
    with Path("a/history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [
        epoch.record() for epoch in epochs
    ]


def test_the_environment_is_told() -> None:
    with Run.create("a", QUICK) as run:
        run.prepare()
        next(run.fit())
    found = json.loads(Path("a/environment.json").read_text())
    assert found["packages"]["numpy"] == np.__version__
    assert found["backend"] == lucid.kernels.get_backend()
    assert found["command"] == sys.argv


def test_images_of_ones_own() -> None:
    images = data.load_images("digits", 32, validation=0.1, limit=40)
    with Run.create("a.npz", QUICK) as run:
        with pytest.raises(ValueError, match="have no validation part"):
            run.prepare(replace(images, validation=None))
        run.prepare(replace(images, classes=[*"abcdefghij"]))
        next(run.fit())
    assert json.loads(Path("a.json").read_text())["classes"] == [*"abcdefghij"]
    with Run.resume("a.npz") as run, pytest.raises(ValueError, match="the images have 0, 1, 2"):
        run.prepare(images)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"model": "mobilenetv4_conv_aa_medium", "size": 16},
            "cannot be trained with 2 images of 16×16 at a time: avg_pool2d: a window of 2×2",
        ),
        ({"batch_size": 1}, "cannot be trained with 1 images of 32×32 at a time: BatchNorm2d: in"),
    ],
)
def test_what_the_model_cannot_take(entries: dict[str, Any], message: str) -> None:
    with (
        Run.create("a", replace(QUICK, **entries)) as run,
        pytest.raises(ValueError, match=message),
    ):
        run.build()
    assert not Path("a").exists()


def test_the_check_leaves_model_and_generator_alone() -> None:
    with Run.create("a", QUICK) as run:
        run.build()
        lucid.manual_seed(0)
        expected = lucid.models.create_model(QUICK.model, num_classes=10, in_channels=1)
        state = lucid._random.generator().bit_generator.state
        run.build()
        assert lucid._random.generator().bit_generator.state == state
    for name, value in expected.state_dict().items():
        np.testing.assert_array_equal(value.data, run.model.state_dict()[name].data, err_msg=name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size": 0}, "'size': expected an integer from 1 to 4096, got 0"),
        ({"model": "resnet"}, "'model': expected a name that `lucid models` lists"),
        ({"warmup": 1.0}, r"'warmup': expected a number in \[0, 1\), got 1.0"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**setting)  # type: ignore[arg-type]


def test_only_weights_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    decaying, others = training.decay_groups(model, 0.1)
    assert decaying == {"params": [model[2].weight], "weight_decay": 0.1}
    assert others["weight_decay"] == 0.0
    found = [id(parameter) for parameter in others["params"]]
    expected = [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert found == [id(parameter) for parameter in expected]
    (group,) = training.decay_groups(nn.Linear(2, 1, bias=False), 0.1)
    assert len(group["params"]) == 1
