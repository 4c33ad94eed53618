"""Pictures that are gone, new or changed between the beginning of a run and what comes later."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid.cli import main
from lucid.data._dataset import paths_of
from lucid.training import Callback, Recipe, Run
from lucid.training._pictures import Pictures

image = pytest.importorskip("PIL.Image")

PARTS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
    image.fromarray(pixels).save(path)


@pytest.fixture
def recipe() -> Recipe:
    for number in range(40):
        draw(Path("photos", "ab"[number % 2], f"{number:02}.png"), number)
    return Recipe(
        model="mobilenetv4_conv_small_035", data="photos", size=32, epochs=2, batch_size=8,
        validation=0.25, lr=1e-3, save_minutes=0,
    )  # fmt: skip


class Interrupt(Callback):
    def on_step(self, run: Run, score: Any) -> None:
        if run.scheduler.last_epoch == 2:
            raise KeyboardInterrupt


def interrupted(recipe: Recipe) -> dict[str, set[str]]:
    """Interrupt a run in its first epoch, and return the names in its parts."""
    with Run.create("run", recipe) as run:
        run.prepare()
        with pytest.raises(KeyboardInterrupt):
            list(run.fit([Interrupt()]))
        return names(run)


def names(run: Run) -> dict[str, set[str]]:
    return {part: {path.name for path in paths_of(getattr(run.images, part))} for part in PARTS}


def delete() -> None:
    Path("photos/a/12.png").unlink()


def add() -> None:
    draw(Path("photos/b/new é\n.png"), 99)


def change() -> None:
    Path("photos/b/07.png").write_bytes(b"")


def all_three() -> None:
    for act in (delete, add, change):
        act()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (delete, r"1 gone: .*photos/a/12\.png\)"),
        (add, r"1 new: .*photos/b/new é\n\.png\)"),
        (change, r"1 of another size: .*photos/b/07\.png\)"),
        (all_three, r"1 gone: .*12\.png; 1 new: .*; 1 of another size: "),
    ],
)
def test_a_run_goes_on_with_its_own_pictures_alone(
    act: Callable[[], None], message: str, recipe: Recipe
) -> None:
    interrupted(recipe)
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    shutil.copytree("photos", "kept", copy_function=os.link)
    act()
    with Run.resume("run") as run, pytest.raises(ValueError, match=f"(?s){message}.* put them b"):
        run.build()
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    shutil.rmtree("photos")
    for number in range(40):
        draw(Path("photos", "ab"[number % 2], f"{number:02}.png"), number)
    with Run.resume("run") as run:
        run.prepare()
        assert run.description.batch == 2


def test_changes_that_are_accepted_move_no_picture_to_another_part(recipe: Recipe) -> None:
    parts = interrupted(recipe)
    all_three()
    with Run.resume("run", accept_changes=True) as run:
        run.build()
        now = names(run)
        assert run.description.batch == 0
        assert now["train"] - parts["train"] == {"new é\n.png"}
        assert set().union(*parts.values()) - set().union(*now.values()) == {"12.png"}
        for part in ("validation", "test"):
            assert parts[part] - {"12.png"} == now[part]
        run.prepare(tell=lambda line: None)
        with pytest.raises(KeyboardInterrupt):
            list(run.fit([StopLater()]))
    with Run.resume("run") as run:  # these are now the run's pictures
        run.prepare(tell=lambda line: None)
        assert names(run)["test"] == now["test"]
        list(run.fit())
        assert run.finish().count == len(now["test"] - {"07.png"})


class StopLater(Callback):
    def on_epoch(self, run: Run, epoch: Any) -> None:
        raise KeyboardInterrupt


def test_a_limited_run_takes_no_others(recipe: Recipe) -> None:
    parts = interrupted(replace(recipe, limit=5))
    with Run.resume("run") as run:
        run.build()
        assert names(run) == parts
    gone = min(parts["train"])
    next(Path("photos").rglob(gone)).unlink()
    add()
    with Run.resume("run") as run, pytest.raises(ValueError, match=rf"1 gone: \S+{gone}\)"):
        run.build()
    with Run.resume("run", accept_changes=True) as run:
        run.build()
        assert names(run) == {part: found - {gone} for part, found in parts.items()}


def test_without_its_table_a_run_can_only_have_its_own_pictures(recipe: Recipe) -> None:
    interrupted(recipe)
    table = Path("run/pictures.csv")
    content = table.read_bytes()
    table.unlink()
    with Run.resume("run") as run:
        run.build()
    delete()
    for accept in (False, True):
        with (
            Run.resume("run", accept_changes=accept) as run,
            pytest.raises(
                ValueError, match=r"which, is no longer known, as .*pictures\.csv is not"
            ),
        ):
            run.build()
    table.write_bytes(content)
    with Run.resume("run", accept_changes=True) as run:
        run.build()


def test_the_commands(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    parts = interrupted(recipe)
    delete()
    assert main(["train", "--resume", "run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "1 gone: " in error
    assert "photos/a/12.png" in error
    assert "--accept-changes" in error
    assert main(["train", "--data", "photos", "--accept-changes"]) == 2
    assert "--accept-changes is for runs that go on: give --resume" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--accept-changes", "--no-report"]) == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    add()
    left = sorted(parts["test"] - {"12.png"})
    (gone,) = Path("photos").rglob(left[0])
    kept = gone.read_bytes()
    gone.unlink()
    assert main(["eval", "run"]) == 0
    out, err = capsys.readouterr()
    assert f"of {len(left) - 1})" in out.splitlines()[-1]
    assert re_one_line(err).startswith("lucid eval: warning: the pictures are not those of the tra")
    gone.write_bytes(kept)
    Path("photos/b/new é\n.png").unlink()
    assert main(["eval", "run"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == trained
    assert err == ""


def re_one_line(text: str) -> str:
    assert text.count("\n") == 1
    return text


def test_a_table_comes_back(tmp_path: Path) -> None:
    odd = ["a,b", 'a"b', "a\nb", "a\r\nb", "ü\U0001f600", os.fsdecode(b"\xff\xfe"), "", " "]
    table = Pictures([("train", 7, name) for name in odd])
    file = tmp_path / "pictures.csv"
    file.write_bytes(table.csv)
    assert Pictures.read(file) == table
    assert Pictures.read(tmp_path / "none") == Pictures([])
    file.write_bytes(b"a\nb,c\n\x00")
    assert Pictures.read(file) == Pictures([])
    assert Pictures([]).digest == ""
