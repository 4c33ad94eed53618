"""What the entries of a recipe make of a run."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data, training
from lucid.training import Recipe, Run
from lucid.training._from_recipe import build_loader, build_mix, build_model, open_weights

pytest.importorskip("sklearn")

QUICK = Recipe(
    model="mobilenetv4_conv_small_035", epochs=3, batch_size=10, size=32, limit=40, lr=1e-3
)
# Everything that has a state of its own, or changes from epoch to epoch.
ALL = replace(
    QUICK, head_epochs=1, freeze=1, layer_decay=0.7, dropout=0.2, drop_path=0.1, ema=0.9,
    accumulate=2, clip_grad=1.0, class_weights=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(path: str) -> dict[str, np.ndarray]:
    return {name: value.data for name, value in lucid.load(f"{path}/weights.npz").items()}


def run_to_the_end(run: Run) -> training.Score:
    with run:
        run.prepare()
        for _ in run.fit():
            pass
        return run.finish()


@pytest.mark.parametrize("done", [1, 2])
def test_a_run_with_everything_ends_as_one_that_was_not_interrupted(done: int) -> None:
    whole = run_to_the_end(Run.create("whole", ALL))
    with Run.create("parts", ALL) as run:
        run.prepare()
        for _, epoch in zip(range(done), run.fit()):
            assert epoch.train.count == 40
    resumed = Run.resume("parts")
    assert resumed.recipe == ALL
    assert run_to_the_end(resumed) == whole
    second = weights("parts")
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


class Interrupt(training.Callback):
    """Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, run: Run, score: training.Score) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("steps", "every"),
    [(3, 1), (4, 2), *(pytest.param(1, each, marks=pytest.mark.slow) for each in (1, 2))],
)
def test_a_run_with_everything_goes_on_within_an_epoch(
    steps: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted again and again, and gone on with from the last step or the one before it."""
    recipe = replace(ALL, save_minutes=0)
    whole = run_to_the_end(Run.create("whole", replace(recipe, save_minutes=1e6)))
    write = training.RunFiles.write_state
    calls = iter(range(1000))

    def sometimes(files: training.RunFiles, state: training.RunState) -> None:
        if not state.description.batch or next(calls) % every == 0:
            write(files, state)

    monkeypatch.setattr(training.RunFiles, "write_state", sometimes)
    run = Run.create("parts", recipe)
    for _ in range(10):
        with run:
            run.prepare()
            try:
                for _ in run.fit([Interrupt(steps + every - 1)]):
                    pass
                assert run.finish() == whole
                break
            except KeyboardInterrupt:
                pass
        run = Run.resume("parts")
    assert not list(Path("parts").glob("state*"))
    second = weights("parts")
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    histories = [Path(name, "weights.json").read_text() for name in ("whole", "parts")]
    first, other = ([drop_seconds(r) for r in json.loads(h)["history"]] for h in histories)
    assert first == other


def drop_seconds(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "seconds"}


def test_the_classifier_first_and_then_all_but_the_frozen_stages() -> None:
    recipe = replace(QUICK, head_epochs=1, freeze=2)
    with Run.create("a", recipe) as run:
        run.prepare()
        states = [{name: value.data.copy() for name, value in run.model.state_dict().items()}]
        for _ in run.fit():
            states.append({n: value.data.copy() for n, value in run.model.state_dict().items()})
    changed = [
        {name.split(".")[0] + name.split(".")[1] * name.startswith("layers")
         for name, value in a.items() if not np.array_equal(value, b[name])}
        for a, b in itertools.pairwise(states)
    ]  # fmt: skip
    assert changed[0] == {"classifier"}
    assert changed[1] == changed[2] == {
        "classifier", "head", *(f"layers{stage}" for stage in range(1, 5))
    }  # fmt: skip


def test_the_head_has_a_schedule_of_its_own() -> None:
    recipe = replace(QUICK, head_epochs=1, epochs=3, warmup=0.0)
    with Run.create("a", recipe) as run:
        run.prepare()
        rates = [run.scheduler.lr_at(step) / recipe.lr for step in range(13)]
    assert run.steps == 4
    half_a_cosine = [0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    assert rates[:4] == pytest.approx(half_a_cosine)
    assert rates[4:] == pytest.approx([0.5 * (1 + np.cos(np.pi * s / 8)) for s in range(9)])


def test_the_average_is_judged_and_kept() -> None:
    with Run.create("a", replace(QUICK, ema=0.5)) as run:
        run.prepare()
        for epoch in run.fit():
            validation = data.DataLoader(run.images.validation, 10)
            assert epoch.validation.loss == pytest.approx(
                training.evaluate(run.averaged, validation).loss
            )
            if run.description.best_epoch == epoch.number:
                best = {n: v.data.copy() for n, v in run.averaged.module.state_dict().items()}
        assert run.averaged.n_averaged.item() == 12
    for name, value in weights("a").items():
        np.testing.assert_array_equal(value, best[name], err_msg=name)


def test_patience() -> None:
    recipe = replace(QUICK, epochs=50, lr=1e-9, patience=2)  # too slow to become better for long
    with Run.create("a", recipe) as run:
        run.prepare()
        epochs = [epoch.number for epoch in run.fit()]
    assert epochs[-1] == run.description.best_epoch + 2 < 50
    with Run.resume("a") as run:
        run.prepare()
        assert list(run.fit()) == []
        run.finish()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"head_epochs": 3}, "'head_epochs': expected fewer than the 3 epochs"),
        ({"layer_decay": 1.5}, r"'layer_decay': expected a number in \(0, 1\], or null, got 1.5"),
        ({"ema": 1.0}, r"'ema': expected a number in \[0, 1\), or null, got 1.0"),
        ({"clip_grad": 0}, "'clip_grad': expected a number over 0, or null, got 0"),
        ({"patience": 0}, "'patience': expected an integer from 1"),
    ],
)
def test_entries_that_cannot_be(entries: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **entries)  # type: ignore[arg-type]


def test_too_many_frozen_stages() -> None:
    with (
        Run.create("a", replace(QUICK, freeze=8)) as run,
        pytest.raises(ValueError, match="expected 0 to 7 stages"),
    ):
        run.prepare()


# -- weights to start from ------------------------------------------------------------------------


@pytest.fixture
def start() -> Path:
    """Weights that expect other images than the digits are, with a classifier of ten classes."""
    lucid.manual_seed(5)
    with Run.create("first", replace(QUICK, size=40, epochs=1)) as run:
        run.prepare()
        next(run.fit())
        run.finish()
    content = lucid.load("first/weights.npz")
    path = Path("start.safetensors")
    described = {
        "architecture": QUICK.model, "input_size": (1, 40, 40), "mean": (0.25,), "std": (0.5,),
    }  # fmt: skip
    from lucid._files import save
    from lucid.models._checkpoints import as_metadata

    save(content, path, as_metadata(described))
    return path


def test_images_are_as_the_weights_expect_them(start: Path) -> None:
    recipe = replace(QUICK, size=None, weights=str(start), epochs=2)
    with Run.create("a", recipe) as run:
        assert run.recipe.size == 40
        assert Path(str(run.recipe.weights)).is_absolute()
        run.prepare()
        for name, value in lucid.load(start).items():
            np.testing.assert_array_equal(value.data, run.model.state_dict()[name].data)
        assert (run.description.mean, run.description.std) == ([0.25], [0.5])
        pixels = run.images.test.batch(np.arange(40))[0].data * 0.5 + 0.25
        plain = data.datasets.digits(40, 1).test.images * 0.376 + 0.305
        np.testing.assert_allclose(pixels[0], plain[0], atol=1e-6)
        next(run.fit())
    start.unlink()  # the state is enough to go on
    with Run.resume("a") as run:
        run.prepare()
        assert (run.images.mean, run.images.std) == ([0.25], [0.5])
        list(run.fit())
        score = run.finish()
    model = lucid.models.load_model("a")
    images = data.load_images("digits", 40, model=model, limit=40)
    again = training.evaluate(model, data.DataLoader(images.test, 10))
    assert again.loss == pytest.approx(score.loss, rel=1e-5)


def test_two_models_start_from_the_same_weights(start: Path) -> None:
    recipe = replace(QUICK, weights=str(start))
    opened = open_weights(recipe)
    given = recipe, [*"abcdefghij"], 1, opened, print
    first, second = build_model(*given), build_model(*given)
    with lucid.no_grad():
        for parameter in first.parameters():
            parameter.fill_(7.0)
    for name, value in lucid.load(start).items():
        np.testing.assert_array_equal(second.state_dict()[name].data, value.data)
        np.testing.assert_array_equal(build_model(*given).state_dict()[name].data, value.data)


def test_a_classifier_of_other_classes_starts_fresh(start: Path) -> None:
    told: list[str] = []
    images = data.load_images("digits", 32, validation=0.1, limit=40)
    recipe = replace(QUICK, weights="first")  # a run's folder names its classes
    with Run.create("same", recipe) as run:
        run.prepare(images, tell=told.append)
    assert told == []
    with Run.create("other", recipe) as run:
        run.prepare(replace(images, classes=[*"abcdefghij"]), tell=told.append)
        mine, theirs = run.model.state_dict(), lucid.load("first/weights.npz")
    assert len(told) == 1
    assert "loaded, except for a fresh classifier" in told[0]
    for name, value in theirs.items():
        assert np.array_equal(value.data, mine[name].data) == (not name.startswith("classifier"))


def test_weights_that_cannot_be(start: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file 'none\.npz'"):
        Run.create("a", replace(QUICK, weights="none.npz"))
    with (
        Run.create("a", replace(QUICK, model="mobilenetv4_conv_small", weights=str(start))) as run,
        pytest.raises(ValueError, match="does not fit mobilenetv4_conv_small: "),
    ):
        run.prepare()
    with pytest.raises(ValueError, match="weights: none are published for mobilenetv4_conv_small_"):
        Run.create("a", replace(QUICK, weights=True))
    assert not Path("a").exists()


# -- numbers of the optimiser and of batch norms --------------------------------------------------


def test_the_optimiser_has_its_numbers() -> None:
    with Run.create("a", replace(QUICK, beta1=0.6, beta2=0.99, opt_eps=1e-6)) as run:
        run.prepare()
        for group in run.optimizer.param_groups:
            assert (group["betas"], group["eps"]) == ((0.6, 0.99), 1e-6)


def norms(model: lucid.nn.Module) -> set[tuple[float, float]]:
    found = [layer for layer in model.modules() if isinstance(layer, lucid.nn.BatchNorm2d)]
    return {(layer.eps, layer.momentum) for layer in found}


def test_weights_tell_what_their_batch_norms_add() -> None:
    """Whoever takes them computes what the training did, and goes on from that."""
    recipe = replace(QUICK, epochs=1, bn_momentum=0.3, bn_eps=0.5)
    with Run.create("a", recipe) as run:
        run.prepare()
        assert norms(run.model) == {(0.5, 0.3)}
        for _ in run.fit():
            pass
        score = run.finish()
    model = lucid.models.load_model("a", tell=pytest.fail)
    assert norms(model) == {(0.5, 0.1)}
    test = data.DataLoader(run.images.test, 10)
    assert training.evaluate(model, test).loss == pytest.approx(score.loss, rel=1e-5)
    lucid.save(model.state_dict(), "untold.npz")
    untold = lucid.models.load_model("untold.npz", tell=lambda line: None)
    assert training.evaluate(untold, test).loss != pytest.approx(score.loss, rel=1e-2)
    with Run.create("b", replace(QUICK, weights="a")) as run:
        run.build()
        assert norms(run.model) == {(0.5, 0.1)}
        assert run.recipe.bn_eps == run.description.of_weights()["bn_eps"] == 0.5
    with Run.create("c", replace(QUICK, weights="a", bn_eps=1e-3)) as run:
        run.build()
        assert norms(run.model) == {(1e-3, 0.1)}


# -- what training images go through --------------------------------------------------------------


def test_mixed_batches_and_rare_classes_resume_too() -> None:
    recipe = replace(
        QUICK, epochs=2, mixup=0.4, cutmix=1.0, mix_probability=0.7, balanced=True, workers=0,
        augment="strong",
    )  # fmt: skip
    whole = run_to_the_end(Run.create("whole", replace(recipe, workers=2)))
    with Run.create("parts", recipe) as run:
        run.prepare()
        next(run.fit())
    assert run_to_the_end(Run.resume("parts")) == whole
    second = weights("parts")
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_how_often_batches_are_mixed() -> None:
    lucid.manual_seed(0)
    mix = build_mix(replace(QUICK, mixup=0.4, cutmix=1.0, mix_probability=0.5), 3)
    assert mix is not None
    batch = lucid.randn(6, 1, 8, 8), lucid.tensor([0, 1, 2, 0, 1, 2])
    made = [mix(*batch) for _ in range(200)]
    mixed = [(images.data, labels.data) for images, labels in made if labels.ndim == 2]
    assert 70 < len(mixed) < 130
    for _, labels in mixed:
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    # CutMix leaves each pixel as it is in one of the two images.
    cut = [
        ((images == batch[0].data) | (images == batch[0].data[::-1])).all() for images, _ in mixed
    ]
    assert 0.3 < np.mean(cut) < 0.7
    assert build_mix(QUICK, 3) is None


def test_rare_classes_are_shown_as_often() -> None:
    labels = np.repeat([0, 1], [190, 10])
    images = data.datasets.ImageArrays(
        np.zeros((200, 1, 4, 4), np.float32), labels, ["a", "b"], (0.0,), (1.0,)
    )
    loader = build_loader(replace(QUICK, balanced=True, cache=True), images, ["a", "b"], 10, None)
    lucid.manual_seed(0)
    seen = np.concatenate([batch[1].data for batch in loader])
    assert 70 < (seen == 1).sum() < 130
    plain = build_loader(QUICK, images, ["a", "b"], 10, None)
    assert sum((batch[1].data == 1).sum() for batch in plain) == 10


def test_augmentations() -> None:
    assert replace(QUICK, augment=True).augment == "light"  # type: ignore[arg-type]
    assert replace(QUICK, augment=False).augment == "none"  # type: ignore[arg-type]
    replace(QUICK, augment="rand-m9-mstd0.5-inc1")
    with pytest.raises(ValueError, match="'augment': expected 'none', 'light', 'strong' or a"):
        replace(QUICK, augment="rand-x3")


# -- a teacher ------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Path:
    """Pictures of two classes, told apart by their brightness, as files."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for number in range(40):
        label = number % 2
        path = Path("photos", "ab"[label], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(100 * label, 100 * label + 150, (32, 32, 3), np.uint8)
        image.fromarray(pixels).save(path)
    return Path("photos").resolve()


def test_a_teacher_and_its_stored_answers_teach_the_same(folder: Path) -> None:
    from lucid.cli import main

    recipe = replace(QUICK, data=str(folder), epochs=1, limit=None, augment="none", validation=0.25)
    # Adam makes steps of one size of gradients that are almost 0, whose signs rounding decides; and
    # after an epoch on so few pictures a difference in the last bits grows a thousandfold.
    recipe = replace(recipe, optimizer="sgd", lr=0.01)
    run_to_the_end(Run.create("teacher", replace(recipe, seed=7)))
    options = ["--weights", "teacher", "--top", "2", "--csv", "answers.csv"]
    assert main(["predict", str(folder), *options]) == 0
    taught = replace(recipe, teacher="teacher", temperature=3.0, teacher_weight=0.7)
    first = run_to_the_end(Run.create("live", taught))
    second = run_to_the_end(Run.create("stored", replace(taught, teacher="answers.csv")))
    assert first.loss == pytest.approx(second.loss, rel=1e-3)
    assert first.loss != run_to_the_end(Run.create("alone", recipe)).loss
    third = weights("stored")
    for name, value in weights("live").items():
        np.testing.assert_allclose(value, third[name], rtol=2e-2, atol=2e-3, err_msg=name)
    alone = weights("alone")
    assert not all(np.allclose(third[name], alone[name], rtol=2e-2, atol=2e-3) for name in alone)


def test_a_teacher_sees_images_normalised_as_it_knows_them(start: Path) -> None:
    recipe = replace(QUICK, teacher=str(start))
    with Run.create("a", recipe) as run:
        run.prepare()
        (images, _, answers) = next(iter(run._changed(run.loader)))
    teacher = lucid.models.load_model(start, tell=lambda line: None)
    pixels = images.data * 0.376 + 0.305
    with lucid.no_grad():
        expected = teacher(lucid.tensor((pixels - 0.25) / 0.5))
    np.testing.assert_allclose(answers.data, expected.data, rtol=1e-3, atol=1e-4)


def test_teachers_that_cannot_be(folder: Path, start: Path) -> None:
    recipe = replace(QUICK, data=str(folder), limit=None)

    def prepare(**entries: object) -> None:
        with Run.create("a", replace(recipe, **entries)) as run:
            run.prepare()

    with pytest.raises(ValueError, match="teacher: expected a model of 2 classes and 3 image chan"):
        prepare(teacher=str(start))
    with pytest.raises(ValueError, match=r"teacher: there is no file 'none\.npz'"):
        prepare(teacher="none.npz")
    with pytest.raises(ValueError, match="expected weights, not a file of answers, with mixup"):
        prepare(teacher="answers.csv", mixup=0.2)


def test_answers_that_do_not_fit_are_found_before_pictures_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lucid.cli import main

    train = ["train", "--data", str(folder), "--size", "32", "--epochs", "1", "--batch-size", "10"]
    train += ["--model", QUICK.model, "--augment", "none", "--output", "a"]
    paths = sorted(folder.rglob("*.png"))
    (paths[3]).write_bytes(b"no picture")  # to which a teacher has no answer

    def answers(chances: tuple[str, str] = ("0.25", "0.75"), left_out: int = 3) -> str:
        rows = [
            f"{path},{name},{chance}"
            for number, path in enumerate(paths)
            for name, chance in zip("ab", chances)
            if number != left_out
        ]
        return "\n".join(["file,name,probability", *rows])

    read: list[int] = []
    original = Run.prepare
    monkeypatch.setattr(Run, "prepare", lambda run, **_: read.append(1) or original(run, **_))
    for text, message in {
        "": "has no answers for ",
        "file,rank,index,name,probability\n": "answers.csv has no answers for ",
        answers(left_out=5): f"answers.csv has no answers for {paths[5]}",
        "file,name,probability\nx.png,c,1.0\n": "names the class 'c', expected those of the images",
        "a,b\n1,2\n": "is not what `lucid predict --csv` writes: KeyError('file')",
        "file,name,probability\nx.png,a,much\n": "is not what `lucid predict --csv` writes",
        "file,name,probability\nx.png,a\n": "is not what `lucid predict --csv` writes",
        answers(("nan", "0.5")): "line 2: expected a probability from 0 to 1, got nan",
        answers(("0.5", "-0.5")): "line 3: expected a probability from 0 to 1, got -0.5",
        answers(("0.8", "0.9")): "add up to 1.7",
        "file,name,probability\n\0,\udcff": "is not what `lucid predict --csv` writes",
    }.items():
        Path("answers.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
        assert main([*train, "--teacher", "answers.csv"]) == 2, text
        error = capsys.readouterr().err
        assert error.startswith("lucid train: --teacher: ")
        assert message in error
        assert error.count("\n") == 1
    for missing in ("none.csv", "folder.csv"):
        Path("folder.csv").mkdir(exist_ok=True)
        assert main([*train, "--teacher", missing]) == 2
        assert re.search(f"--teacher: .*{missing}: ", capsys.readouterr().err)
    assert not read
    assert not Path("a").exists()
    assert main([*train[:2], "digits", *train[3:], "--teacher", "answers.csv"]) == 2
    Path("answers.csv").write_text(answers())
    assert main([*train, "--teacher", "answers.csv"]) == 0


def test_the_curve_of_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    from lucid.cli import main

    quick = ["--model", QUICK.model, "--limit", "40", "--batch-size", "10", "--size", "32"]
    assert main(["train", "--data", "digits", *quick, "--find-lr", "curve.csv"]) == 0
    assert "suggested learning rate: " in capsys.readouterr().out
    lines = Path("curve.csv").read_text().splitlines()
    assert lines[0] == "lr,loss"
    assert len(lines) > 20
    assert not Path("runs/mobilenetv4_conv_small_035-digits").exists()
    assert main(["train", "--data", "digits", *quick, "--find-lr", "curve.csv"]) == 2


#: For each entry of a recipe that a step of the training depends on, another value.
_OF_A_STEP: dict[str, Any] = {
    "batch_size": 20, "optimizer": "sgd", "weight_decay": 50.0, "beta1": 0.1, "beta2": 0.1,
    "opt_eps": 1.0, "label_smoothing": 0.5, "freeze": 2, "layer_decay": 0.3, "dropout": 0.5,
    "drop_path": 0.5, "bn_eps": 0.5, "accumulate": 2, "clip_grad": 0.01, "class_weights": True,
    "teacher_weight": 0.1, "temperature": 5.0, "augment": "none", "mixup": 0.5, "cutmix": 0.5,
    "mix_probability": 0.1, "balanced": True, "seed": 5, "size": 40, "limit": 39, "validation": 0.2,
    "model": "mobilenetv4_conv_small_050", "weights": "start", "teacher": None,
}  # fmt: skip
#: What it does not depend on: how long the training is and how it is watched, kept and judged.
_OF_THE_REST = {
    "data", "epochs", "lr", "warmup", "head_epochs", "ema", "patience", "bn_momentum", "workers",
    "cache", "save_minutes", "keep_states", "max_unreadable", "sync_bn",
}  # fmt: skip


@pytest.mark.slow
def test_the_curve_of_the_rate_follows_every_entry_that_steps_depend_on(start: Path) -> None:
    assert _OF_A_STEP.keys() | _OF_THE_REST == {entry.name for entry in fields(Recipe)}
    usual = replace(QUICK, batch_size=8, mixup=0.1, teacher=str(start), drop_path=0.1)
    usual = replace(usual, mix_probability=0.5)

    def losses(**entries: Any) -> list[float]:
        with Run.create("a", replace(usual, **entries)) as run:
            run.prepare()
            return run.find_lr(low=0.01, high=0.02, steps=3).losses

    first = losses()
    assert losses() == first
    for name, value in _OF_A_STEP.items():
        assert losses(**{name: str(start) if value == "start" else value}) != first, name
    others = {"epochs": 9, "lr": 0.1, "warmup": 0.5, "ema": 0.5, "workers": 0, "head_epochs": 1}
    assert losses(**others) == first
