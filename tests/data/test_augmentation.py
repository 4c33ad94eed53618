"""Random transforms: what they leave alone, what they take, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import lucid
from lucid.data import transforms
from lucid.data.transforms import _auto_augment

Image = pytest.importorskip("PIL.Image")


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Any:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).convert(mode)


def results(transform: Any, image: Any, count: int = 12, seed: int = 0) -> list[np.ndarray]:
    lucid.manual_seed(seed)
    return [np.asarray(transform(image)) for _ in range(count)]


RANDOM: list[tuple[Any, Any]] = [
    (transforms.RandomResizedCrop(16), noise()),
    (transforms.RandomResizedCrop((12, 20), interpolation="random"), noise()),
    (transforms.RandomVerticalFlip(), noise()),
    (transforms.ColorJitter(0.4, 0.4, 0.4, 0.1), noise()),
    (transforms.RandAugment(), noise()),
    (transforms.RandAugment(3, increasing=True, magnitude_std=0.5), noise("L")),
    (transforms.TrivialAugmentWide(), noise()),
    (transforms.TrivialAugmentWide(interpolation="random", fill=(1, 2, 3)), noise("L")),
    (transforms.RandomErasing(value="random"), np.ones((3, 20, 24), np.float32)),
    (transforms.RandomApply([transforms.RandomHorizontalFlip(1.0)]), noise()),
    (
        transforms.RandomChoice([transforms.CenterCrop(20), transforms.RandomCrop(20)], [1, 2]),
        noise(),
    ),
]


@pytest.mark.parametrize(("transform", "image"), RANDOM, ids=lambda value: type(value).__name__)
def test_a_random_transform_repeats_with_the_seed_and_varies(transform: Any, image: Any) -> None:
    before = np.array(image)
    first, second = results(transform, image), results(transform, image)
    for one, two in zip(first, second):
        np.testing.assert_array_equal(one, two)
    assert len({one.tobytes() for one in first}) > 1
    np.testing.assert_array_equal(np.asarray(image), before)


# -- geometry ---------------------------------------------------------------------------------


def test_a_crop_of_everything_is_the_image_resized() -> None:
    image = noise(size=(40, 40))
    crop = transforms.RandomResizedCrop(16, (1.0, 1.0), (1.0, 1.0), "bicubic")
    expected = transforms.Resize((16, 16), "bicubic")(image)
    np.testing.assert_array_equal(np.asarray(crop(image)), np.asarray(expected))


def test_each_image_of_a_batch_has_a_crop_of_its_own() -> None:
    ramp = np.arange(32, dtype=np.float32)
    batch = np.broadcast_to(ramp, (8, 2, 32, 32))
    crops = transforms.RandomResizedCrop(8, (0.1, 0.5))(batch)
    assert crops.shape == (8, 2, 8, 8)
    assert crops.dtype == np.float32
    # Along the width each is a part of the ramp, both channels the same one.
    np.testing.assert_array_equal(crops[:, 0], crops[:, 1])
    assert (np.diff(crops, axis=3) > 0).all()
    assert len(np.unique(crops[:, 0, 0, 0])) == 8


def test_areas_and_proportions_of_crops_are_in_their_ranges() -> None:
    crop = transforms.RandomResizedCrop(8, (0.2, 0.6), (0.5, 2.0))
    boxes = np.array([crop.box(1000, 1000) for _ in range(300)])
    areas, ratios = boxes[:, 2] * boxes[:, 3] / 1e6, boxes[:, 3] / boxes[:, 2]
    assert 0.199 < areas.min() < 0.22
    assert 0.58 < areas.max() < 0.601
    assert 0.498 < ratios.min() < 0.55
    assert 1.8 < ratios.max() < 2.01
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 1000).all()


def test_vertical_flips() -> None:
    image, batch = noise(), np.arange(12.0).reshape(1, 1, 3, 4)
    flipped = transforms.RandomVerticalFlip(1.0)
    np.testing.assert_array_equal(np.asarray(flipped(image)), np.asarray(image)[::-1])
    np.testing.assert_array_equal(flipped(batch), batch[:, :, ::-1])
    np.testing.assert_array_equal(transforms.RandomVerticalFlip(0.0)(batch), batch)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4000, 3000, 3.788),  # the side of the smallest part: (0.08 × 3/4 × 12e6) ** 0.5, over 224
        (500, 375, 1.0),
        (100, 100, 1.0),
    ],
)
def test_how_small_a_picture_may_be_decoded(width: int, height: int, expected: float) -> None:
    crop = transforms.RandomResizedCrop(224)
    for one, other in ((width, height), (height, width)):
        small = crop.draft(one, other)
        assert one / small[0] == pytest.approx(expected, rel=0.01)
        assert other / small[1] == pytest.approx(expected, rel=0.01)
        # No part of it is smaller than the result, unless it was before.
        boxes = np.array([crop.box(small[1], small[0]) for _ in range(200)])
        assert boxes[:, 2:].min() >= 224 or expected == 1
    composed = transforms.Compose([transforms.Convert("RGB"), crop, transforms.ToTensor()])
    assert composed.draft is not None
    assert composed.draft(width, height) == crop.draft(width, height)
    assert transforms.Compose([transforms.Resize(8), crop]).draft is None
    assert transforms.Compose([]).draft is None


# -- operations -------------------------------------------------------------------------------


def test_no_operation_leaves_the_image() -> None:
    image = noise()
    for transform in (
        transforms.RandAugment(0),
        transforms.RandAugment(p=0.0),
        transforms.ColorJitter(),
    ):
        np.testing.assert_array_equal(np.asarray(transform(image)), np.asarray(image))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", _auto_augment._OPERATIONS)
def test_operations_keep_size_and_mode(name: str, mode: str) -> None:
    image = noise(mode)
    for magnitude in (0, 10):
        changed = transforms.RandAugment(1, magnitude, p=1.0, operations=[name])(image)
        assert (changed.size, changed.mode) == (image.size, mode)


def test_trivial_augments_operations_are_those_of_torchvision() -> None:
    """Its table (_augmentation_space) with its strengths, by way of Pillow."""
    from PIL import ImageEnhance, ImageOps

    image, bins = noise(), 31
    affine = Image.Transform.AFFINE
    expected = [np.asarray(image)]
    for step in range(bins):
        part = step / (bins - 1)
        for sign in (1, -1):
            shear, shift = sign * 0.99 * part, sign * int(32 * part)
            for matrix in (
                (1, shear, 0, 0, 1, 0),
                (1, 0, 0, shear, 1, 0),
                (1, 0, shift, 0, 1, 0),
                (1, 0, 0, 0, 1, shift),
            ):
                expected.append(np.asarray(image.transform(image.size, affine, matrix)))
            expected.append(np.asarray(image.rotate(sign * 135 * part)))
            for name in ("Brightness", "Color", "Contrast", "Sharpness"):
                enhanced = getattr(ImageEnhance, name)(image).enhance(1 + sign * 0.99 * part)
                expected.append(np.asarray(enhanced))
        expected.append(np.asarray(ImageOps.posterize(image, round(8 - 6 * part))))
        expected.append(np.asarray(ImageOps.solarize(image, 255 - 255 * part)))
    expected += [np.asarray(ImageOps.autocontrast(image)), np.asarray(ImageOps.equalize(image))]
    known = {array.tobytes() for array in expected}
    given = {array.tobytes() for array in results(transforms.TrivialAugmentWide(), image, 1500)}
    assert given <= known
    assert len(given) > 0.8 * len(known)


# -- mixes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_mixed_labels_are_how_much_of_which_image(name: str, count: int) -> None:
    """Each image holds its number, so the mean of the result is the share of the labels."""
    mix = getattr(transforms, name)(num_classes=count)
    labels = np.arange(count)
    images = np.broadcast_to(labels[:, None, None, None].astype(np.float32), (count, 2, 9, 7))
    for _ in range(20):
        mixed, shares = mix(images, labels)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), shares @ labels, atol=1e-5)


def test_tensors_are_mixed_into_tensors() -> None:
    images, shares = transforms.CutMix(num_classes=3)(
        lucid.rand(4, 3, 8, 8), lucid.arange(3)[[0, 1, 2, 0]]
    )
    assert isinstance(images, lucid.Tensor)
    assert isinstance(shares, lucid.Tensor)
    assert shares.dtype == np.float32


# -- presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["none", "light", "strong", "rand-m9-mstd0.5-inc1"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_preset_makes_tensors_of_pictures(preset: str, mode: str) -> None:
    for channels, mean in ((3, (0.5, 0.4, 0.3)), (3, (0.5,)), (1, (0.5,))):
        transform = transforms.training(preset, 24, mean, (0.25,), channels=channels)
        image = transform(noise(mode, (50, 40)))
        assert image.shape == (channels, 24, 24)
        assert image.dtype == np.float32
        assert np.isfinite(image.data).all()


def test_the_preset_none_is_the_middle_as_for_evaluation() -> None:
    image = noise(size=(50, 40))
    expected = transforms.Compose(
        [
            transforms.Resize(24, "bicubic"),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(image)
    given = transforms.training("none", 24)(image)
    np.testing.assert_array_equal(given.data, expected.data, strict=True)


def test_each_preset_varies_more_than_the_one_before() -> None:
    """The spread of a pixel between draws, of a picture with some structure."""
    y, x = np.mgrid[:60, :80]
    image = Image.fromarray(np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8))
    spreads = []
    for preset in ("none", "light", "strong"):
        transform = transforms.training(preset, 32)
        lucid.manual_seed(0)
        spreads.append(np.stack([transform(image).data for _ in range(80)]).std(axis=0).mean())
    assert spreads[0] < 1e-6  # of equal numbers: rounding
    assert spreads[0] < spreads[1] < spreads[2]


# -- bad arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.RandomResizedCrop(0), "RandomResizedCrop: size must be at least 1"),
        (lambda: transforms.RandomResizedCrop(8, (0.5, 0.1)), "scale must be a range above 0"),
        (lambda: transforms.RandomResizedCrop(8, (0.5, 2)), "scale must be at most 1"),
        (lambda: transforms.RandomResizedCrop(8, ratio=(0, 1)), "ratio must be a range above 0"),
        (
            lambda: transforms.RandomResizedCrop(8, interpolation="box"),
            "RandomResizedCrop: interpolation must be one of nearest, bilinear, bicubic, got 'box'",
        ),
        (lambda: transforms.RandomVerticalFlip(2), "RandomVerticalFlip: p must be between 0 and 1"),
        (lambda: transforms.ColorJitter(-1), "ColorJitter: brightness must be a number of at"),
        (lambda: transforms.ColorJitter(contrast=(2, 1)), "ColorJitter: contrast must be a number"),
        (lambda: transforms.ColorJitter(hue=0.6), "hue must be .* within -0.5 and 0.5, got 0.6"),
        (lambda: transforms.RandAugment(-1), "RandAugment: num_ops must be at least 0, got -1"),
        (lambda: transforms.RandAugment(magnitude=-1), "magnitude must be at least 0"),
        (lambda: transforms.RandAugment(magnitude_std=-1), "magnitude_std must be at least 0"),
        (lambda: transforms.RandAugment(p=1.5), "RandAugment: p must be between 0 and 1"),
        (lambda: transforms.RandAugment(operations="all"), "operations must be one of 3a, 3aw"),
        (
            lambda: transforms.RandAugment(operations=["Tilt"]),
            "there is no operation 'Tilt'; there",
        ),
        (lambda: transforms.TrivialAugmentWide(1), "num_magnitude_bins must be at least 2, got 1"),
        (lambda: transforms.TrivialAugmentWide(31, "box"), "TrivialAugmentWide: interpolation"),
        (
            lambda: transforms.RandomErasing(scale=(0.1, 3)),
            "RandomErasing: scale must be at most 1",
        ),
        (lambda: transforms.RandomErasing(value="black"), "value must be a number, .*got 'black'"),
        (lambda: transforms.MixUp(alpha=0), "MixUp: alpha must be above 0, got 0"),
        (lambda: transforms.CutMix(num_classes=0), "CutMix: num_classes must be at least 1, got 0"),
        (lambda: transforms.RandomApply([], 3), "RandomApply: p must be between 0 and 1, got 3"),
        (lambda: transforms.RandomChoice([]), "RandomChoice: expected at least one transform"),
        (lambda: transforms.RandomChoice([abs], [0.5, 0.5]), "a probability for each, got 1 and"),
        (
            lambda: transforms.training("heavy"),
            "training: expected none, light, strong or a string",
        ),
        (lambda: transforms.training("rand-m9-zoom2"), "unknown part 'zoom2' of 'rand-m9-zoom2'"),
    ],
)
def test_arguments_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


IMAGES, LABELS = np.ones((4, 1, 8, 8), np.float32), np.arange(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: transforms.ColorJitter(0.1)(np.ones((3, 8, 8))),
            TypeError,
            "ColorJitter: expected a Pillow image of mode 'RGB' or 'L', got ndarray; use it before",
        ),
        (lambda: transforms.RandAugment()(noise("P")), TypeError, "got one of mode 'P'"),
        (lambda: transforms.RandomErasing()(noise()), TypeError, "use ToTensor first"),
        (
            lambda: transforms.RandomErasing()(np.ones((1, 8, 8), np.uint8)),
            TypeError,
            "RandomErasing: expected floating-point images, got uint8",
        ),
        (
            lambda: transforms.MixUp()(IMAGES, LABELS),
            ValueError,
            "MixUp: num_classes must be given for labels that are integers",
        ),
        (
            lambda: transforms.MixUp(num_classes=3)(IMAGES, LABELS),
            ValueError,
            "MixUp: labels must be from 0 to 2, got 0 to 3",
        ),
        (
            lambda: transforms.CutMix(num_classes=4)(IMAGES, LABELS[:3]),
            ValueError,
            "CutMix: got 4 images and 3 labels",
        ),
        (
            lambda: transforms.CutMix(num_classes=4)(IMAGES[0], LABELS),
            TypeError,
            re.escape("expected floating-point images (N, C, H, W), got shape (1, 8, 8)"),
        ),
        (
            lambda: transforms.CutMix(num_classes=4)(IMAGES, LABELS / 2),
            ValueError,
            re.escape("expected labels (N,) of integers or (N, classes), got shape (4,)"),
        ),
    ],
)
def test_images_that_cannot_be(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
