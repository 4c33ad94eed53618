"""Folders of pictures for training: what is said of them, and of pictures that cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lucid.cli import main
from lucid.data import datasets
from tests.data.test_load_images import fill

Image = pytest.importorskip("PIL.Image")

QUICK = ["--batch-size", "8", "--epochs", "1", "--size", "32", "--validation", "0.25"]
QUICK += ["--output", "a.npz", "--no-report"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)


# -- notes ------------------------------------------------------------------------------------


def test_what_is_passed_over_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/notes")
    Path("photos/train/a/x.heic").write_bytes(b"")
    Path("photos/test/a/x.HEIC").write_bytes(b"")
    Path("photos/train/readme").write_bytes(b"")
    assert main(["train", "--data", "photos", *QUICK]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("lucid train: ") for line in lines] == [True] * 3
    assert lines[1].endswith("passed over: 3 files (2 .heic, 1 no suffix)")


# -- unreadable pictures ----------------------------------------------------------------------


def damage(*paths: str) -> None:
    for path in paths:
        Path(path).write_text(f"no picture: {path}")


def train(*options: str) -> int:
    return main(["train", "--data", "photos", *QUICK, *options])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_unreadable_pictures_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    fill("photos/train/a", "photos/train/b", "photos/val/a", "photos/test/a", "photos/test/b")
    damage("photos/train/a/0.png", "photos/val/a/1.png", "photos/test/b/3.png")
    assert train() == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[1] == "lucid train: 3 of 20 pictures cannot be read:"
    for line, name in zip(lines[2:], ("train/a/0.png", "val/a/1.png", "test/b/3.png"), strict=True):
        assert re.search(rf"{name} cannot be read as an image: it is none of JPEG", line)
    assert "7 training, 3 validation and 7 test images" in captured.out
    assert " of 7)" in captured.out.splitlines()[-1]
    assert main(["eval", "a.npz"]) == 0
    again = capsys.readouterr()
    assert again.out.splitlines()[-1] == captured.out.splitlines()[-1]
    assert "test/b/3.png cannot be read" in again.err
    assert "train/a/0.png" not in again.err


@pytest.mark.parametrize(
    ("options", "bad", "status"),
    [
        ([], 1, 0),
        (["--strict"], 0, 0),
        (["--strict"], 1, 1),
        ([], 5, 1),
        (["--max-unreadable", "0.5"], 5, 0),
        (["--max-unreadable", "0.01"], 1, 0),
        (["--max-unreadable", "0.01"], 2, 1),
    ],
)
def test_how_many_may_be_unreadable(
    options: list[str], bad: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b", count=4)
    damage(*[f"photos/train/{name}/{index}.png" for index in range(3) for name in "ab"][:bad])
    assert train(*options) == status
    error = capsys.readouterr().err
    assert error.count("cannot be read as an image") == bad
    if status:
        allowed = " ".join(options) or "--max-unreadable 0.25"
        assert f"{bad} of 16 pictures cannot be read, more than {allowed} allows" in error
        assert not Path("a.npz").exists()


def test_many_unreadable_pictures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    fill("photos/a", "photos/b", count=15)
    damage(*[f"photos/{name}/{index}.png" for index in range(15) for name in "ab"])
    assert train() == 1
    error = capsys.readouterr().err
    assert error.count("cannot be read as an image") == 20
    assert "and 10 more" in error


def test_pictures_that_vanish_or_break_on_the_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture can be read when all are checked, and no more when its turn comes."""
    fill("photos/train/a", "photos/train/b", "photos/val/a", "photos/test/a", "photos/test/b")
    gone = {"train/a/0.png", "train/b/1.png", "val/a/2.png", "test/a/3.png"}
    seen: set[str] = set()
    original = datasets.load_picture

    def load_picture(path: Path, transform: Any) -> Any:
        name = path.relative_to(Path("photos").resolve()).as_posix()
        if name in gone and name in seen:
            path.unlink(missing_ok=True)
        seen.add(name)
        return original(path, transform)

    monkeypatch.setattr(datasets, "load_picture", load_picture)
    assert train("--epochs", "2") == 0
    captured = capsys.readouterr()
    assert captured.err.count("there is no file") == 4
    assert " of 7)" in captured.out.splitlines()[-1]


def test_too_many_vanish_on_the_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b")
    original, count = datasets.load_picture, iter(range(100))

    def load_picture(path: Path, transform: Any) -> Any:
        if next(count) >= 16:
            raise ValueError(f"{path} cannot be read")
        return original(path, transform)

    monkeypatch.setattr(datasets, "load_picture", load_picture)
    assert train() == 1
    assert "cannot be read, more than --max-unreadable 0.25 allows" in capsys.readouterr().err


def test_a_test_picture_breaks_after_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b")
    assert train() == 0
    capsys.readouterr()
    damage("photos/test/a/0.png")
    assert main(["eval", "a.npz"]) == 0
    assert " of 7)" in last_line(capsys)
    assert main(["eval", "a.npz", "--strict"]) == 1
    assert "1 of 8 pictures cannot be read, more than --strict allows" in capsys.readouterr().err


def test_pictures_too_long_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b")
    Image.new("L", (60_000, 1)).save("photos/test/a/long.png")  # training could crop it
    assert train("--size", "48") == 0
    assert "long.png cannot be used: Resize: an image of 1×60000 is too" in capsys.readouterr().err


def test_the_share_is_kept_in_the_description() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a")
    assert train("--max-unreadable", "0.1") == 0
    assert json.loads(Path("a.json").read_text())["settings"]["max_unreadable"] == 0.1
