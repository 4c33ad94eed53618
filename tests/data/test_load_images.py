"""A folder of images for training, divided into parts, and what cannot be read of them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid import data
from lucid.data import load_images

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(*folders: str, count: int = 4) -> None:
    """Write pictures into folders, no two alike."""
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            rng = np.random.default_rng(zlib.crc32(f"{folder}/{index}".encode()))
            Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(
                f"{folder}/{index}.png"
            )


def load(**options: Any) -> data.Images:
    return load_images("photos", 32, **options)


# -- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize(
    ("validation", "test"),
    [
        ("val", "test"),
        ("valid", "Test"),
        ("Validation", "testing"),
        (None, "TEST"),
        ("Valid", None),
    ],
)
def test_names_of_the_parts(train: str, validation: str | None, test: str | None) -> None:
    fill(f"photos/{train}/a", f"photos/{train}/b", count=5)
    if validation:
        fill(f"photos/{validation}/a", f"photos/{validation}/b", count=3)
    if test:
        fill(f"photos/{test}/a", f"photos/{test}/b", count=2)
    images = load()
    assert images.classes == ["a", "b"]
    assert images.notes == []
    assert len(images.train) == 10
    assert len(images.test) == (4 if test else 6)
    assert (images.validation is not None) == (validation is not None and test is not None)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/a", "train/b", "Training/a", "test/a"], "has both Training/ and train/; keep one"),
        (["train/a", "train/b", "val/a", "valid/a"], "has both val/ and valid/; keep one"),
        (["test/a", "test/b"], "has a folder test/ but no train/ beside it"),
        (["Train/a", "Train/b"], "has a folder Train/ but neither test/ nor val/ beside it"),
        (["train/a", "train/b", "test/c"], "has folders of other classes: c; expected a, b"),
        (["train/a", "train/b", "test"], "test holds no folders; expected one per class"),
        (
            ["a"],
            "holds one class only, 'a': expected a folder of pictures for each of at least two",
        ),
        (["all/a", "all/b"], r"if its folders are the classes \(a, b\), give photos.all"),
        (["train/a", "test/a"], "train holds one class only, 'a'"),
    ],
)
def test_folders_that_cannot_be_divided(folders: list[str], message: str) -> None:
    fill(*(f"photos/{folder}" for folder in folders))
    with pytest.raises(ValueError, match=message):
        load()


def test_classes_that_are_called_as_parts_are() -> None:
    fill("photos/train", "photos/bus", "photos/test")
    assert load().classes == ["bus", "test", "train"]


def test_what_is_passed_over_is_said() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/notes")
    Path("photos/train/a/x.heic").write_bytes(b"")
    Path("photos/test/a/x.HEIC").write_bytes(b"")
    Path("photos/train/readme").write_bytes(b"")
    notes = load().notes
    assert notes == [
        "photos: passed over beside the parts: notes",
        "photos: passed over: 3 files (2 .heic, 1 no suffix)",
        f"{Path('photos/test')} has no pictures of b",
    ]


def test_a_picture_to_learn_from_and_to_be_judged_by() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b")
    Path("photos/test/b/copy.png").write_bytes(Path("photos/train/b/1.png").read_bytes())
    (note,) = load().notes
    assert note == (
        "1 of the test's 9 pictures are among those to learn from too, so the test says little of "
        f"them: {Path('photos/test/b/copy.png')}"
    )


def test_the_parts_stay_the_same_when_a_picture_breaks() -> None:
    """Or the test's pictures would be learned from by a resumed run."""
    fill("photos/a", "photos/b", count=20)
    before = load()
    Path("photos/a/3.png").write_text("no picture")
    for part in ("train", "test"):
        first, second = getattr(before, part), getattr(load(), part)
        np.testing.assert_array_equal(first.indices, second.indices)


# -- holding out ------------------------------------------------------------------------------


def test_each_class_gives_its_part_and_always_the_same() -> None:
    labels = np.repeat([0, 1, 2], [20, 10, 5])
    whole = data.TensorDataset(np.arange(35.0), labels)
    rest, held_out = data.hold_out(whole, labels, 0.2)
    assert np.bincount(labels[held_out.indices]).tolist() == [4, 2, 1]
    assert sorted([*rest.indices, *held_out.indices]) == list(range(35))
    again = data.hold_out(whole, labels, 0.2)[1]
    np.testing.assert_array_equal(again.indices, held_out.indices)


@pytest.mark.parametrize(("count", "part"), [(2, 0.1), (2, 0.9)])
def test_too_few_to_hold_out(count: int, part: float) -> None:
    labels = np.repeat([0, 1], count)
    message = f"4 images in 2 classes are too few to hold out {part:g} of each class"
    with pytest.raises(ValueError, match=message):
        data.hold_out(data.TensorDataset(labels), labels, part)


def test_validation_images_are_held_out_if_the_folder_has_none() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", count=8)
    assert load().validation is None
    images = load(validation=0.25)
    assert (len(images.train), len(images.validation or ())) == (12, 4)
    fill("photos/val/a", "photos/val/b", count=3)
    images = load(validation=0.25)
    assert (len(images.train), len(images.validation or ())) == (16, 6)


def test_a_limit_takes_images_of_all_classes() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b", count=8)
    images = load(validation=0.25, limit=4)
    parts = (images.train, images.validation, images.test)
    for part in parts:
        assert part is not None
        assert sorted(label for _, label in (part[i] for i in range(4))) == [0, 0, 1, 1]
        assert len(part) == 4


def test_data_that_are_none() -> None:
    with pytest.raises(ValueError, match="'none' is neither `digits` nor a folder of images"):
        load_images("none", 32)
    with pytest.raises(
        ValueError, match=r"lists them, \.csv or \.json; there is nothing of that n"
    ):
        load_images("none.csv", 32)
    Path("list.txt").write_text("path,label\n")
    with pytest.raises(ValueError, match=r"list\.txt' is .* that lists them, \.csv or \.json$"):
        load_images("list.txt", 32)


# -- pictures that cannot be read -------------------------------------------------------------


def test_unreadable_pictures_are_told_and_left_out() -> None:
    fill("photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b", count=4)
    Path("photos/train/a/0.png").write_text("no picture")
    images, lines, counts = load(), [], []
    train, test = data.readable(
        [images.train, images.test], tell=lines.append, after_each=lambda *n: counts.append(n)
    )
    assert (len(train), len(test)) == (7, 8)
    assert lines[0] == "1 of 16 pictures cannot be read:"
    assert "0.png cannot be read as an image" in lines[1]
    assert counts == [(done, 16) for done in range(1, 17)]


def test_unreadable_pictures_are_warned_of() -> None:
    fill("photos/a", "photos/b", count=5)
    Path("photos/a/0.png").write_text("no picture")
    whole = data.datasets.ImageFolder("photos")
    with pytest.warns(UserWarning, match="cannot be read"):
        data.readable([whole])


def test_more_unreadable_pictures_than_may_be() -> None:
    fill("photos/a", "photos/b", count=5)
    Path("photos/a/0.png").write_text("no picture")
    whole = data.datasets.ImageFolder("photos")
    message = "1 of 10 pictures cannot be read, more than max_unreadable=0 allows"
    with pytest.raises(data.UnreadableError, match=message):
        data.readable([whole], 0, tell=lambda line: None)


def test_a_batch_of_which_nothing_can_be_read_any_more_is_passed_over() -> None:
    fill("photos/a", "photos/b", count=2)
    (part,) = data.readable([load_images_of("photos")], 0.5)
    loader = data.DataLoader(part, 2)
    assert [len(labels) for _, labels in loader] == [2, 2]
    for index in range(2):
        Path(f"photos/a/{index}.png").unlink()
    with pytest.warns(UserWarning, match="there is no file"):
        assert [labels.tolist() for _, labels in loader] == [[1, 1]]


def load_images_of(folder: str) -> data.datasets.ImageFolder:
    return data.datasets.ImageFolder(folder, data.transforms.ToTensor())


def test_what_is_in_memory_is_readable() -> None:
    part = data.TensorDataset(np.ones((3, 1)))
    assert data.readable([part]) == [part]
