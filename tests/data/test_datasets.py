"""The handwritten digits, and folders of pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid._extras import install
from lucid.data import DataLoader, transforms
from lucid.data.datasets import ImageFolder, Split, digits, read_image

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def split() -> Split:
    return digits()


def test_sizes_types_and_layout(split: Split) -> None:
    train, test = split
    assert (len(train), len(test)) == (1438, 359)
    for part in split:
        assert part.images.shape == (len(part), 3, 32, 32)
        assert part.images.dtype == np.float32
        assert part.images.transpose(0, 2, 3, 1).flags.c_contiguous
        assert part.labels.dtype == np.int64
        assert part.classes == list("0123456789")
    images, labels = next(iter(DataLoader(train, 16)))
    assert images.shape == (16, 3, 32, 32)
    assert labels.tolist() == train.labels[:16].tolist()


def test_pixels_are_the_real_ones() -> None:
    """Unresized and with the normalisation undone they are scikit-learn's, image by image."""
    from sklearn.datasets import load_digits

    reference = load_digits()
    expected = sorted(
        (int(label), *image.ravel().astype(int).tolist())
        for image, label in zip(reference.images, reference.target)
    )
    found = []
    for part in digits(size=8, channels=1, interpolation="nearest"):
        pixels = (part.images * part.std[0] + part.mean[0]) * 16
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)
        found += [
            (int(label), *np.rint(image).ravel().astype(int).tolist())
            for image, label in zip(pixels, part.labels)
        ]
    assert sorted(found) == expected
    assert len(found) == 1797


def test_the_constants_are_the_pixels_mean_and_deviation() -> None:
    from sklearn.datasets import load_digits

    pixels = load_digits().images / 16
    one = digits(size=8, channels=1).train
    np.testing.assert_allclose(one.mean, [pixels.mean()], atol=5e-4)
    np.testing.assert_allclose(one.std, [pixels.std()], atol=5e-4)


def test_enlarged_images_are_pillows(split: Split) -> None:
    small = digits(size=8, channels=1).test
    for index in (0, 100, 358):
        image = small.images[index, 0] * small.std[0] + small.mean[0]
        large = Image.fromarray(image.astype(np.float32)).resize((32, 32), Image.BICUBIC)
        expected = (np.clip(np.asarray(large), 0, 1) - split.test.mean[0]) / split.test.std[0]
        for channel in split.test.images[index]:
            np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_the_split_is_stratified_disjoint_and_always_the_same(split: Split) -> None:
    total = np.bincount(split.train.labels) + np.bincount(split.test.labels)
    np.testing.assert_array_equal(np.bincount(split.test.labels), np.rint(total * 0.2))
    # All images of the set differ, so the parts can be told apart by their pixels.
    parts = [{image.tobytes() for image in part.images} for part in split]
    assert len(parts[0]) + len(parts[1]) == 1797
    assert not parts[0] & parts[1]
    lucid.manual_seed(12345)
    again = digits()
    np.testing.assert_array_equal(again.test.images, split.test.images)
    np.testing.assert_array_equal(again.train.labels, split.train.labels)


def test_other_sizes_and_splits() -> None:
    train, test = digits(size=20, channels=1, test_size=0.5)
    assert train.images.shape[1:] == (1, 20, 20)
    assert abs(len(train) - len(test)) <= 10
    assert len(train.mean) == len(train.std) == 1


def test_augmentation_keeps_shape_background_and_layout(split: Split) -> None:
    train = split.train
    batch = train.images[:32]
    lucid.manual_seed(0)
    changed = train.augmentation()(batch)
    assert changed.shape == batch.shape
    assert changed.dtype == np.float32
    assert changed.transpose(0, 2, 3, 1).flags.c_contiguous
    assert not np.array_equal(changed, batch)
    # Bilinear means lie within the range of the pixels and of the black that is filled in.
    assert changed.min() >= batch.min() - 1e-6
    assert changed.max() <= batch.max() + 1e-6
    # Digits move, but stay recognisable.
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(batch, changed)]
    assert np.mean(alike) > 0.5


def test_bad_digits() -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        digits(channels=2)
    with pytest.raises(ValueError, match=r"test_size must be between 0 and 1, got 1\.0"):
        digits(test_size=1.0)
    with pytest.raises(ValueError, match="size must be at least 1"):
        digits(size=0)
    with pytest.raises(ValueError, match="interpolation must be one of nearest, bilinear"):
        digits(interpolation="magic")


@pytest.mark.parametrize(
    ("module", "who"), [("sklearn.datasets", "scikit-learn"), ("PIL.Image", "Pillow")]
)
def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, who: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"{who}.*{re.escape(install('data'))}"):
        digits()


# -- folders ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def picture(path: str, color: tuple[int, int, int], **options: Any) -> None:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), color).save(target, **options)

    picture("dog/2.png", (0, 255, 0))
    picture("dog/1.JPG", (0, 255, 0), quality=95)
    picture("dog/deep/er.webp", (0, 255, 0), lossless=True)
    picture("cat/a.png", (255, 0, 0))
    picture("cat/.hidden.png", (0, 0, 0))
    picture(".cache/x.png", (0, 0, 0))
    (tmp_path / "dog" / "notes.txt").write_text("woof")
    return tmp_path


def test_folder(folder: Path) -> None:
    dataset = ImageFolder(folder)
    assert dataset.classes == ["cat", "dog"]
    assert dataset.class_to_idx == {"cat": 0, "dog": 1}
    names = [(path.relative_to(folder).as_posix(), label) for path, label in dataset.samples]
    assert names == [("cat/a.png", 0), ("dog/1.JPG", 1), ("dog/2.png", 1), ("dog/deep/er.webp", 1)]
    image, label = dataset[0]
    assert (image.mode, image.size, label) == ("RGB", (12, 8), 0)
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert dataset[-1][0].getpixel((3, 3)) == (0, 255, 0)


def test_folder_in_a_loader(folder: Path) -> None:
    transform = transforms.Compose(
        [transforms.Resize(16), transforms.CenterCrop(16), transforms.ToTensor()]
    )
    images, labels = next(iter(DataLoader(ImageFolder(folder, transform), 4)))
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == np.float32
    assert images.data.transpose(0, 2, 3, 1).flags.c_contiguous
    assert labels.tolist() == [0, 1, 1, 1]
    with pytest.raises(TypeError, match=r"images need transforms\.ToTensor"):
        next(iter(DataLoader(ImageFolder(folder), 4)))


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 12, 2))  # a bright top edge
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top of the scene is at the right
    image.save(tmp_path / "x.png", exif=exif)
    upright = read_image(tmp_path / "x.png")
    assert upright.size == (8, 12)
    assert upright.getpixel((7, 6)) == (255, 255, 255)
    assert upright.getpixel((0, 6)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    options = {"transparency": bytes([0, 128])} if mode == "P" else {}
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path, **options)
    image = read_image(path)
    assert image.mode == "RGB"
    assert min(image.getpixel((1, 1))) > 250


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "header"])
def test_an_unreadable_picture_is_named(folder: Path, damage: str) -> None:
    path = folder / "dog" / "2.png"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "text": b"not a picture",
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "header": content[:20] + b"\xff" * 12 + content[32:],
        }[damage]
    )
    with pytest.raises(ValueError, match=r"dog.2\.png cannot be read as an image: ."):
        ImageFolder(folder)[2]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        ImageFolder(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no folders; expected one per class"):
        ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"cat holds no pictures; expected files ending in \.jpg"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*x\.png"):
        read_image(tmp_path / "x.png")
