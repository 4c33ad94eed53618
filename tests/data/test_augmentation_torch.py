"""Augmentations against timm's and Pillow's, on the same random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lucid import _random
from lucid.data import transforms
from lucid.data.transforms import _auto_augment, _colour
from tests.timm_import import import_timm

Image = pytest.importorskip("PIL.Image")
torch = pytest.importorskip("torch")
timm = import_timm()


old = np.random.mtrand._rand  # NumPy's old global generator, which timm draws from


class _Draws:
    """Draws as timm does: from Python's generator, and choices and betas from NumPy's old one."""

    def __init__(self, integers: Any = random.randrange) -> None:
        self.choice, self.beta = old.choice, old.beta
        self.random, self.uniform, self.normal = random.random, random.uniform, random.gauss
        self.integers = integers

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, 7.0)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> _Draws:
    draws = _Draws()
    monkeypatch.setattr(_random, "generator", lambda: draws)
    return draws


@pytest.fixture(autouse=True)
def black_with_no_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm keep no bit of an image: Pillow before 13 made it black, and 13 refuses."""
    from PIL import ImageOps

    before = ImageOps.posterize

    def posterize(image: Any, bits: int) -> Any:
        return before(image, bits) if bits else Image.new(image.mode, image.size)

    monkeypatch.setattr(ImageOps, "posterize", posterize)


def both(seed: int, theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Call both with the generators in one state."""
    results = []
    for function in (theirs, ours):
        random.seed(seed)
        old.seed(seed)
        results.append(function())
    return results[0], results[1]


def picture(mode: str = "RGB") -> Any:
    """Return a picture with edges, gradients and noise."""
    y, x = np.mgrid[:56, :72]
    rng = np.random.default_rng(0)
    channels = [x * 3, y * 4, 200 * ((x - 30) ** 2 + (y - 20) ** 2 < 300)]
    array = np.stack(channels).astype(float)
    array = np.clip(array + rng.normal(0, 12, array.shape) + 20, 0, 255)
    return Image.fromarray(array.astype(np.uint8).transpose(1, 2, 0)).convert(mode)


def assert_same_pictures(theirs: Any, ours: Any) -> None:
    assert theirs.mode == ours.mode
    np.testing.assert_array_equal(np.asarray(theirs), np.asarray(ours), strict=True)


# -- RandAugment ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _auto_augment._OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 1, 3, 5, 8, 10])
@pytest.mark.parametrize("fill", [(128, 128, 128), (10, 200, 90)])
def test_an_operation_is_timms(draws: _Draws, name: str, magnitude: int, fill: Any) -> None:
    from timm.data.auto_augment import AugmentOp, RandAugment

    operation = AugmentOp(name, prob=1.0, magnitude=magnitude, hparams={"img_mean": fill})
    reference = RandAugment([operation], num_layers=1)
    ours = transforms.RandAugment(
        1, magnitude, p=1.0, operations=[name], interpolation="random", fill=fill
    )
    for seed in range(4):
        assert_same_pictures(*both(seed, lambda: reference(picture()), lambda: ours(picture())))


STRINGS = [
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-m15-mmax20-n3-p0.7",
    "rand-n2-m15-mstd0.5-p0.7",
    "rand-m7-mstd101-inc0",
    "rand-m5-n4-p1-mstd2",
    "rand-tweights-m8-mstd1-n3",
    "rand-m6-t3a-p0.9",
    "rand-t3aw-n5",
]


@pytest.mark.parametrize("config", STRINGS)
@pytest.mark.parametrize("interpolation", ["random", "bilinear"])
def test_a_string_is_timms(draws: _Draws, config: str, interpolation: str) -> None:
    from timm.data.auto_augment import rand_augment_transform

    settings: dict[str, Any] = {"img_mean": (124, 116, 104)}
    if interpolation != "random":
        settings["interpolation"] = Image.Resampling.BILINEAR
    reference = rand_augment_transform(config, settings)
    ours = transforms.RandAugment.from_string(
        config, interpolation=interpolation, fill=(124, 116, 104)
    )
    for seed in range(40):
        assert_same_pictures(*both(seed, lambda: reference(picture()), lambda: ours(picture())))


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ("rand-m9-x3", "x3"),
        ("rand-magic9", "magic9"),
        ("rand-m9-mstd", "mstd"),
        ("rand-m9.5", "m9.5"),
        ("rand-tnone", "tnone"),
        ("rand--m9", ""),
        ("random-m9", "random"),
        ("original-mstd0.5", "original"),
        ("rand-inc2x", "inc2x"),
    ],
)
def test_an_unknown_part_of_a_string_is_named(config: str, part: str) -> None:
    with pytest.raises(ValueError, match=f"RandAugment: unknown part '{part}' of '{config}'"):
        transforms.RandAugment.from_string(config)


# -- colours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("change", "enhancer"),
    [
        (_colour.brightness, "Brightness"),
        (_colour.contrast, "Contrast"),
        (_colour.saturation, "Color"),
    ],
)
def test_a_change_of_colours_is_pillows(change: Any, enhancer: str, mode: str) -> None:
    from PIL import ImageEnhance

    image = picture(mode)
    for factor in [0, 0.1, 0.37, 1, 1.0001, 1.9, 3.3, *np.random.default_rng(0).uniform(0, 2, 30)]:
        expected = getattr(ImageEnhance, enhancer)(image).enhance(factor)
        assert_same_pictures(expected, change(image, factor))


@pytest.mark.parametrize("shift", [-0.5, -0.21, -0.001, 0, 0.3, 0.5])
def test_a_shift_of_hue_is_torchvisions(shift: float) -> None:
    """Whose function for Pillow's images is this."""
    image = picture()
    h, s, v = image.convert("HSV").split()
    values = np.array(h, dtype=np.uint8)
    with np.errstate(over="ignore"):
        values += np.int32(shift * 255).astype(np.uint8)
    expected = Image.merge("HSV", (Image.fromarray(values), s, v)).convert("RGB")
    assert_same_pictures(expected, _colour.hue(image, shift))


# -- crops and erasing ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(375, 500), (500, 300), (20, 400), (900, 30), (64, 64)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.35, 1.0), (0.9, 1.0)])
def test_a_random_resized_crop_is_timms(draws: _Draws, size: Any, scale: Any) -> None:
    from timm.data import transforms as timm_transforms

    class Functional:
        get_image_size = staticmethod(lambda image: image.size)

    before, timm_transforms.F = timm_transforms.F, Functional
    try:
        ours = transforms.RandomResizedCrop(32, scale)
        image = Image.new("RGB", size[::-1])
        for seed in range(60):
            theirs, box = both(
                seed,
                lambda: timm_transforms.RandomResizedCropAndInterpolation.get_params(
                    image, scale, (3 / 4, 4 / 3)
                ),
                lambda: ours.box(*size),
            )
            assert theirs == box
    finally:
        timm_transforms.F = before


@pytest.mark.parametrize("mode", ["const", "pixel"])
@pytest.mark.parametrize("probability", [1.0, 0.4])
def test_erased_rectangles_are_timms(draws: _Draws, mode: str, probability: float) -> None:
    from timm.data.random_erasing import RandomErasing

    reference = RandomErasing(
        probability, max_area=0.33, min_aspect=0.3, max_aspect=3.3, mode=mode, device="cpu"
    )
    ours = transforms.RandomErasing(
        probability, scale=(0.02, 0.33), value="random" if mode == "pixel" else 0
    )
    images = np.full((6, 3, 30, 45), 5, np.float32)
    for seed in range(20):
        theirs, mine = both(
            seed, lambda: reference(torch.from_numpy(images.copy())).numpy(), lambda: ours(images)
        )
        np.testing.assert_array_equal(theirs != 5, mine != 5)
        assert set(np.unique(mine)) <= {5.0, 7.0 if mode == "pixel" else 0.0}
        assert (images == 5).all(), "what was given stays as it is"


# -- mixes ------------------------------------------------------------------------------------


@pytest.fixture
def numpy_draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    draws = _Draws(old.randint)
    monkeypatch.setattr(_random, "generator", lambda: draws)
    return


@pytest.mark.usefixtures("numpy_draws")
@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_mix_is_timms(name: str, alpha: float, channels_last: bool) -> None:
    from timm.data.mixup import Mixup

    reference = Mixup(
        mixup_alpha=alpha * (name == "MixUp"),
        cutmix_alpha=alpha * (name == "CutMix"),
        label_smoothing=0.0,
        num_classes=5,
    )
    ours = getattr(transforms, name)(alpha=alpha, num_classes=5)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(6, 3, 17, 24)).astype(np.float32)
    if channels_last:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    labels = rng.integers(0, 5, 6)
    before = images.copy()

    def mixed_by_timm() -> Any:
        x = torch.from_numpy(np.ascontiguousarray(images))
        return reference(x.clone(), torch.from_numpy(labels))

    def mixed_by_us() -> Any:
        old.rand()  # whether to mix at all
        return ours(images, labels)

    for seed in range(25):
        (x, y), (mixed, shares) = both(seed, mixed_by_timm, mixed_by_us)
        np.testing.assert_allclose(mixed, x.numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(shares, y.numpy(), rtol=1e-6, atol=1e-6)
        assert mixed.strides == images.strides
        np.testing.assert_array_equal(images, before)


@pytest.mark.usefixtures("numpy_draws")
@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_a_mix_of_shares_is_that_of_the_classes(name: str) -> None:
    images, labels = np.ones((4, 1, 8, 8), np.float32), np.array([0, 2, 1, 1])
    mix = getattr(transforms, name)(num_classes=3)
    first, second = both(
        0, lambda: mix(images, labels)[1], lambda: mix(images, np.eye(3)[labels])[1]
    )
    np.testing.assert_array_equal(first, second, strict=True)
