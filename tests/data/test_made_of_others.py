"""Lists of pictures, datasets made of others, pictures in memory, and training parts of images."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data
from lucid.data import DataLoader, load_images, transforms
from lucid.data._dataset import labels_of, paths_of, with_transform
from lucid.data.datasets import ImageFolder, ImageList

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(path: str, size: tuple[int, int] = (20, 16)) -> str:
    """Write a picture whose colour is told by its name."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (len(path) * 7 % 256, sum(path.encode()) % 256, 90)).save(path)
    return path


def fill(root: str = "photos", count: int = 6) -> None:
    for name in ("a", "b"):
        for index in range(count):
            save(f"{root}/{name}/{index}.png")


def write_list(
    rows: list[tuple[str, ...]], name: str = "list.csv", head: str = "path,label"
) -> str:
    keys = head.split(",")
    if name.endswith(".csv"):
        Path(name).write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    else:
        Path(name).write_text(json.dumps([dict(zip(keys, row)) for row in rows]))
    return name


# -- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deep/list.csv", "deep/LIST.JSON"])
def test_a_list_names_pictures_and_classes(name: str) -> None:
    Path("deep").mkdir()
    rows = [("x.png", "owl"), ("sub/y.png", "kite"), ("z.png", "owl")]
    write_list(rows, name)
    for path, _ in rows:
        save(f"deep/{path}")
    dataset = ImageList(name, transforms.ToTensor())
    assert dataset.classes == ["kite", "owl"]
    assert dataset.class_to_idx == {"kite": 0, "owl": 1}
    assert dataset.labels.tolist() == [1, 0, 1]
    assert [path for path, _ in dataset.samples] == [Path("deep") / path for path, _ in rows]
    image, label = dataset[-1]
    assert image.shape == (3, 16, 20)
    assert label == 1
    with pytest.raises(IndexError, match="ImageList: index 3 is out of range for 3 samples"):
        dataset[3]


def test_a_list_as_spreadsheets_write_it() -> None:
    Path("list.csv").write_bytes(
        '\ufeffid,label,path\r\n7,"snowy, owl","a b.png"\r\n8,kite,c.png\r\n'.encode()
    )
    dataset = ImageList("list.csv")
    assert dataset.classes == ["kite", "snowy, owl"]
    assert dataset.samples[0] == (Path("a b.png"), 1)


def test_classes_that_are_numbers_are_sorted_as_such() -> None:
    write_list([(f"{n}.png", str(n)) for n in (10, 2, 1)])
    assert ImageList("list.csv").classes == ["1", "2", "10"]
    Path("list.json").write_text('[{"path": "a", "label": 10}, {"path": "b", "label": 9}]')
    assert ImageList("list.json").classes == ["9", "10"]


def test_the_classes_of_the_training_stay() -> None:
    write_list([("x.png", "b")])
    dataset = ImageList("list.csv", classes=["a", "b", "c"])
    assert dataset.labels.tolist() == [1]
    message = r"ImageList: list\.csv, line 2: 'b' is none of the classes a, c"
    with pytest.raises(ValueError, match=message):
        ImageList("list.csv", classes=["a", "c"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: expected columns path and label in the first line, got none"),
        ("a.csv", "x,y\n", "expected columns path and label in the first line, got x, y"),
        ("a.csv", "path,label\n", "a.csv lists no pictures"),
        ("a.csv", "path,label\nx.png\n", r"a.csv, line 2: expected a path and a label, got \{"),
        ("a.csv", "path,label\nx,a\n,a\n", "a.csv, line 3: expected a path and a label"),
        ("a.csv", "path,label,split\nx,a,often\n", "a.csv, line 2: expected a split train, val or"),
        ("a.csv", b"path,label\n\xff,a\n", "a.csv is no list of pictures: 'utf-8' codec"),
        ("a.json", "{}", "a.json: expected a list of objects with path and label"),
        ("a.json", "[1]", "a.json, entry 0: expected a path and a label, got 1"),
        (
            "a.json",
            '[{"path": "x", "label": true}]',
            "a.json, entry 0: expected a path and a label",
        ),
        ("a.json", "[", "a.json is no list of pictures: Expecting value"),
        pytest.param("a.json", "[" * 50_000, "a.json is no list of pictures: ", id="deep"),
    ],
)
def test_files_that_are_no_lists(name: str, content: str | bytes, message: str) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        ImageList(name)


def test_a_list_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file none\.csv"):
        ImageList("none.csv")


# -- images from a list -----------------------------------------------------------------------


def listed(*splits: str) -> str:
    rows = []
    for split in splits:
        for label in ("a", "b"):
            for index in range(10):
                path = save(f"pictures/{split}{label}{index}.png")
                rows.append((path, label, split))
    return write_list(rows, head="path,label,split")


def test_images_of_a_list_with_parts() -> None:
    images = load_images(listed("train", "Valid", "TEST"), 8, augment="none")
    assert [len(part) for part in (images.train, images.validation or (), images.test)] == [20] * 3
    assert [str(path) for path in paths_of(images.test)] == [
        f"pictures/TEST{label}{index}.png" for label in "ab" for index in range(10)
    ]
    assert images.notes == []
    images = load_images(listed("train", "val"), 8)
    assert images.validation is None
    assert len(images.test) == 20


def test_images_of_a_list_without_parts_are_divided_as_those_of_a_folder() -> None:
    fill("photos", 10)
    write_list([(f"photos/{name}/{i}.png", name) for name in "ab" for i in range(10)])
    one, other = (load_images(source, 8, validation=0.25) for source in ("photos", "list.csv"))
    for part in ("train", "validation", "test"):
        assert paths_of(getattr(one, part)) == paths_of(getattr(other, part))


def test_lists_that_cannot_be_divided() -> None:
    write_list([("x.png", "a"), ("y.png", "a")])
    with pytest.raises(ValueError, match=r"list\.csv lists one class only, 'a': expected at least"):
        load_images("list.csv", 8)
    with pytest.raises(ValueError, match="train and test, val or both in it, got 'train'"):
        load_images(listed("train"), 8)
    with pytest.raises(ValueError, match="train and test, val or both in it, got '', 'train'"):
        load_images(listed("train", ""), 8)


def test_a_part_without_a_class_is_told() -> None:
    path = listed("train", "test")
    lines = Path(path).read_text().splitlines()
    Path(path).write_text("\n".join(line for line in lines if not line.endswith("b,test")))
    assert load_images(path, 8).notes == ["list.csv, split test, has no pictures of b"]


# -- what is changed at random ----------------------------------------------------------------


@pytest.mark.parametrize("augment", ["none", "light", "strong", "rand-m9-mstd0.5-inc1"])
def test_training_pictures_alone_are_changed_at_random(augment: str) -> None:
    fill(count=10)
    for path in Path("photos").rglob("*.png"):  # with edges
        image = Image.open(path).resize((40, 32))
        image.paste((255, 0, 0), (0, 0, 11, 32))
        image.save(path)
    images = load_images("photos", 16, augment=augment, validation=0.25)
    assert images.augmentation is None
    for name in ("train", "validation", "test"):
        part = getattr(images, name)
        lucid.manual_seed(0)
        drawn = {part[0][0].data.tobytes() for _ in range(10)}
        assert (len(drawn) > 1) == (name == "train" and augment != "none")
    plain = with_transform(images.train, images.transform)
    np.testing.assert_array_equal(plain[0][0].data, plain[0][0].data)
    assert plain[0][0].shape == images.train[0][0].shape


def test_reading_all_pictures_once_draws_nothing() -> None:
    fill()
    images = load_images("photos", 16, augment="strong")
    lucid.manual_seed(0)
    state = lucid._random.generator().bit_generator.state
    data.readable([images.train])
    assert lucid._random.generator().bit_generator.state == state


def test_an_augmentation_that_is_none() -> None:
    fill()
    with pytest.raises(ValueError, match="unknown part 'zoom3' of 'rand-zoom3'"):
        load_images("photos", 16, augment="rand-zoom3")
    with pytest.raises(ValueError, match="augmented by none, light or strong, not by 'rand-m9'"):
        load_images("digits", 16, augment="rand-m9")


def test_the_digits_are_changed_by_the_batch() -> None:
    pytest.importorskip("sklearn")
    batch = np.ones((4, 1, 16, 16), np.float32)
    assert load_images("digits", 16, augment="none").augmentation is None
    for augment in ("light", "strong"):
        change = load_images("digits", 16, augment=augment).augmentation
        assert change is not None
        assert change(batch).shape == batch.shape


# -- one after the other ----------------------------------------------------------------------


def test_datasets_one_after_the_other() -> None:
    fill()
    folder = ImageFolder("photos", transforms.ToTensor())
    whole = data.ConcatDataset([data.Subset(folder, [11, 2]), folder, data.Subset(folder, [])])
    assert len(whole) == 14
    assert whole.cumulative_sizes == [2, 14, 14]
    assert [whole[i][1] for i in (0, 1, 2, 13, -14)] == [1, 0, 0, 1, 1]
    assert paths_of(whole) == [folder.samples[i][0] for i in (11, 2, *range(12))]
    assert labels_of(whole).tolist() == [1, 0, *folder.labels]
    assert with_transform(whole, np.asarray)[0][0].shape == (16, 20, 3)
    assert sum(len(labels) for _, labels in DataLoader(whole, 4, num_workers=2)) == 14
    with pytest.raises(IndexError, match="ConcatDataset: index 14 is out of range for 14 samples"):
        whole[14]
    with pytest.raises(ValueError, match="ConcatDataset: expected at least one dataset"):
        data.ConcatDataset([])


def test_concatenation_is_pytorchs() -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    parts = [range(3), range(10, 11), range(0), range(20, 24)]
    ours, theirs = data.ConcatDataset(parts), torch_data.ConcatDataset(parts)
    assert ours.cumulative_sizes == theirs.cumulative_sizes
    assert [ours[i] for i in range(-8, 8)] == [theirs[i] for i in range(-8, 8)]


# -- in memory --------------------------------------------------------------------------------


def random_crops() -> Callable[[Any], Any]:
    return transforms.training("light", 8)


def test_pictures_in_memory_are_read_once_and_changed_each_time() -> None:
    fill()
    folder = ImageFolder("photos", random_crops())
    cached = data.Cached(data.Subset(folder, range(10)))
    assert len(cached) == 10
    assert paths_of(cached) == paths_of(folder)[:10]
    batches = []
    for dataset in (data.Subset(folder, range(10)), cached, cached):
        lucid.manual_seed(1)
        loader = DataLoader(dataset, 5, shuffle=True, num_workers=2)
        batches.append([(images.data, labels.data) for images, labels in (*loader, *loader)])
        if dataset is cached:
            for path in Path("photos").rglob("*.png"):
                path.unlink(missing_ok=True)
    for first, second in zip(batches[0], batches[2]):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    assert (batches[1][0][0] != batches[1][2][0]).any(), "each epoch has changes of its own"


def test_no_more_is_kept_than_is_allowed() -> None:
    fill()
    of_one = 3 * 20 * 16 + 8  # and what describes it
    folder = ImageFolder("photos", random_crops())
    cached = data.Cached(folder, max_bytes=3 * of_one + of_one // 2)
    threads = [threading.Thread(target=lambda: [cached[i] for i in range(12)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in Path("photos").rglob("*.png"):
        path.unlink()
    there = 0
    for index in range(12):
        with contextlib.suppress(FileNotFoundError):
            there += cached[index] is not None
    assert there == 3


def test_pictures_that_vanish_before_they_are_kept_are_left_out() -> None:
    fill()
    lines: list[str] = []
    (part,) = data.readable([ImageFolder("photos", random_crops())], 0.5, tell=lines.append)
    cached = data.Cached(part)
    cached[0]
    for index in (0, 1):
        Path(f"photos/a/{index}.png").unlink()
    assert sum(len(labels) for _, labels in DataLoader(cached, 3, num_workers=2)) == 11
    assert lines == [f"there is no file {Path('photos/a/1.png')}"]


def test_what_cannot_be_kept() -> None:
    fill()
    with pytest.raises(TypeError, match="Cached: expected pictures from files, with a transform"):
        data.Cached(ImageFolder("photos"))
    with pytest.raises(TypeError, match="got TensorDataset"):
        data.Cached(data.TensorDataset(np.ones(3)))


# -- decoded smaller --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "least", "decoded"),
    [
        ((1600, 1200), 0.35, (400, 300)),
        ((1600, 1200), 0.08, (800, 600)),
        ((500, 375), 0.35, (250, 188)),
        ((500, 375), 0.08, (500, 375)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_large_jpeg_is_decoded_smaller_for_a_random_crop(
    size: Any, least: float, decoded: Any, turned: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Path("photos/a").mkdir(parents=True)
    Image.effect_noise(size, 30).convert("RGB").save("photos/a/x.jpg", exif=exif)
    seen: list[tuple[int, int]] = []

    def look(image: Any) -> Any:
        seen.append(image.size)
        return image

    crop = transforms.RandomResizedCrop(96, (least, 1.0))
    for transform in (crop, transforms.Resize(96), transforms.training("none", 96)):
        look.draft = getattr(transform, "draft", None)  # type: ignore[attr-defined]
        ImageFolder("photos", look)[0]
    assert seen == [each[::-1] if turned else each for each in (decoded, size, size)]


def test_a_picture_decoded_smaller_shows_the_same() -> None:
    y, x = np.mgrid[:900, :1200]
    array = np.stack([x / 5, y / 4, 127 + 90 * np.sin(x / 60) * np.cos(y / 50)], -1)
    Path("photos/a").mkdir(parents=True)
    Image.fromarray(array.astype(np.uint8)).save("photos/a/x.jpg", quality=95)
    crop = transforms.Compose([transforms.RandomResizedCrop(64), transforms.ToTensor()])
    whole = with_transform(folder := ImageFolder("photos", crop), lambda image: crop(image))
    for seed in range(10):
        lucid.manual_seed(seed)
        smaller = folder[0][0].data
        lucid.manual_seed(seed)
        np.testing.assert_allclose(smaller, whole[0][0].data, atol=0.06)
