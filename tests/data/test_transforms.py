"""Transforms, against Pillow where it has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid.autograd import Tensor
from lucid.data import transforms as T  # noqa: N812

Image = pytest.importorskip("PIL.Image")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def picture(height: int, width: int) -> Any:
    values = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def is_channels_last(array: np.ndarray) -> bool:
    return array.transpose(0, 2, 3, 1).flags.c_contiguous


GEOMETRIC: list[T.Transform] = [
    T.Resize((9, 7)),
    T.Resize(5, "bicubic"),
    T.CenterCrop(6),
    T.CenterCrop((20, 4)),
    T.RandomCrop((6, 5), padding=2),
    T.RandomHorizontalFlip(),
    T.RandomAffine(20, (0.1, 0.2), (0.8, 1.2)),
]


@pytest.mark.parametrize("transform", GEOMETRIC, ids=repr)
def test_images_batches_tensors_and_pillow_have_the_same_sizes(transform: T.Transform) -> None:
    batch = noise(3, 3, 12, 10)
    result = transform(batch)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32
    assert transform(batch[0]).shape == result.shape[1:]
    tensor = transform(Tensor(batch))
    assert isinstance(tensor, Tensor)
    assert tensor.shape == result.shape
    image = transform(picture(12, 10))
    assert (image.height, image.width) == result.shape[2:]


@pytest.mark.parametrize("transform", GEOMETRIC, ids=repr)
def test_random_ones_repeat_with_the_seed_and_leave_their_input_alone(
    transform: T.Transform,
) -> None:
    batch = noise(4, 3, 12, 10)
    before = batch.copy()
    batch.flags.writeable = False
    lucid.manual_seed(5)
    first = transform(batch)
    lucid.manual_seed(5)
    np.testing.assert_array_equal(transform(batch), first)
    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize("transform", GEOMETRIC, ids=repr)
def test_an_empty_batch_stays_empty(transform: T.Transform) -> None:
    assert len(transform(np.zeros((0, 3, 12, 10), np.float32))) == 0


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(5, 4), (30, 17), 6, 25])
def test_resize_is_pillows(interpolation: str, size: Any) -> None:
    image = picture(12, 10)
    resize = T.Resize(size, interpolation)
    expected = image.resize(
        (size[1], size[0]) if isinstance(size, tuple) else (size, int(size * 12 / 10)),
        getattr(Image, interpolation.upper()),
    )
    np.testing.assert_array_equal(np.asarray(resize(image)), np.asarray(expected))
    array = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_array_equal(resize(array), np.asarray(expected).transpose(2, 0, 1))
    floats = array.astype(np.float32)
    for plane, result in zip(floats, resize(floats)):
        theirs = Image.fromarray(plane).resize(expected.size, getattr(Image, interpolation.upper()))
        np.testing.assert_array_equal(result, np.asarray(theirs))
    wide = resize(array.astype(np.int64) * 3)
    assert wide.dtype == np.int64
    np.testing.assert_array_equal(wide, np.rint(resize(floats * 3)))


def test_resize_of_the_shorter_side() -> None:
    assert T.Resize(10)(picture(20, 30)).size == (15, 10)
    assert T.Resize(10)(picture(30, 20)).size == (10, 15)


def test_center_crop() -> None:
    image = np.arange(7 * 9, dtype=np.float32).reshape(1, 7, 9)
    np.testing.assert_array_equal(T.CenterCrop((3, 5))(image), image[:, 2:5, 2:7])
    padded = T.CenterCrop((9, 3))(image)
    np.testing.assert_array_equal(padded[:, 1:8], image[:, :, 3:6])
    assert padded[:, [0, 8]].max() == 0
    for height, width, size in ((7, 9, (4, 4)), (7, 9, (10, 3)), (8, 5, (3, 12)), (4, 4, (9, 9))):
        photo = picture(height, width)
        crop = T.CenterCrop(size)
        array = crop(np.asarray(photo).transpose(2, 0, 1))
        np.testing.assert_array_equal(np.asarray(crop(photo)).transpose(2, 0, 1), array)


def windows(image: np.ndarray, height: int, width: int) -> list[bytes]:
    return [
        image[:, i : i + height, j : j + width].tobytes()
        for i in range(image.shape[1] - height + 1)
        for j in range(image.shape[2] - width + 1)
    ]


def test_random_crop_takes_every_window_of_the_bordered_image() -> None:
    lucid.manual_seed(0)
    image = noise(2, 5, 4)
    bordered = np.pad(image, ((0, 0), (1, 1), (1, 1)), constant_values=7)
    possible = windows(bordered, 5, 3)
    crops = T.RandomCrop((5, 3), padding=1, fill=7)(np.stack([image] * 400))
    found = [np.ascontiguousarray(crop).tobytes() for crop in crops]
    assert set(found) == set(possible)
    assert is_channels_last(crops)
    photo = picture(5, 4)
    array = np.pad(np.asarray(photo), ((1, 1), (1, 1), (0, 0)), constant_values=7)
    possible = windows(np.ascontiguousarray(array.transpose(2, 0, 1)), 5, 3)
    crop = np.asarray(T.RandomCrop((5, 3), padding=1, fill=7)(photo)).transpose(2, 0, 1)
    assert np.ascontiguousarray(crop).tobytes() in possible


def test_flips() -> None:
    lucid.manual_seed(0)
    batch = noise(1000, 1, 2, 3)
    result = T.RandomHorizontalFlip(0.3)(batch)
    flipped = (result == batch[..., ::-1]).all(axis=(1, 2, 3))
    kept = (result == batch).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert 240 < flipped.sum() < 360
    photo = picture(4, 5)
    np.testing.assert_array_equal(
        np.asarray(T.RandomHorizontalFlip(1)(photo)), np.asarray(photo)[:, ::-1]
    )
    assert T.RandomHorizontalFlip(0)(photo) is photo


def test_affine_by_whole_pixels_is_a_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    affine = T.RandomAffine(0, fill=9)
    image = noise(2, 3, 6, 7)

    def shifted(n: int, height: int, width: int) -> np.ndarray:
        return np.broadcast_to(np.array([[1.0, 0, 2], [0, 1.0, -1]]), (n, 2, 3))

    monkeypatch.setattr(affine, "_matrices", shifted)
    result = affine(image)
    np.testing.assert_array_equal(result[:, :, 1:, :5], image[:, :, :5, 2:])
    assert (result[:, :, 0] == 9).all()
    assert (result[:, :, :, 5:] == 9).all()


def test_affine_without_change_is_the_identity() -> None:
    image = noise(2, 3, 6, 7)
    np.testing.assert_allclose(T.RandomAffine(0)(image), image, atol=1e-6)


def test_a_quarter_turn_is_clockwise() -> None:
    image = noise(2, 3, 6, 6)
    result = T.RandomAffine((90, 90))(image)
    np.testing.assert_allclose(result, np.rot90(image, -1, axes=(2, 3)), atol=1e-5)


def test_affine_agrees_with_pillow_inside() -> None:
    image = noise(40, 40)
    affine = T.RandomAffine(30, (0.1, 0.1), (0.8, 1.2))
    for seed in range(5):
        lucid.manual_seed(seed)
        ours = affine(image[None])[0]
        lucid.manual_seed(seed)
        theirs = np.asarray(affine(Image.fromarray(image)))
        inside = (ours != 0) & (theirs != 0)
        # At the border Pillow has no half-covered pixels.
        inside[1:-1, 1:-1] &= inside[2:, 1:-1] & inside[:-2, 1:-1]
        inside[1:-1, 1:-1] &= inside[1:-1, 2:] & inside[1:-1, :-2]
        inner = inside[3:-3, 3:-3]
        assert inner.sum() > 400
        difference = np.abs(ours - theirs)[3:-3, 3:-3][inner]
        assert np.quantile(difference, 0.98) < 1e-3


def test_affine_draws_within_its_ranges() -> None:
    lucid.manual_seed(0)
    matrices = T.RandomAffine((-10, 30), (0.25, 0.5), (0.5, 2.0))._matrices(2000, 21, 41)
    angle = np.rad2deg(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    scale = 1 / np.hypot(matrices[:, 0, 0], matrices[:, 0, 1])
    for values, low, high in ((angle, -10, 30), (scale, 0.5, 2.0)):
        assert low - 1e-9 <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-9
    # Where the middle of the image comes to lie.
    linear, offset = matrices[:, :, :2], matrices[:, :, 2]
    middle = np.linalg.solve(linear, (np.array([20, 10]) - offset)[:, :, None])[:, :, 0]
    shift = np.abs(middle - [20, 10])
    assert (shift <= [0.25 * 41 + 1e-9, 0.5 * 21 + 1e-9]).all()
    assert (shift.max(axis=0) > [0.24 * 41, 0.48 * 21]).all()


def test_each_image_of_a_batch_is_changed_differently() -> None:
    batch = np.stack([noise(1, 12, 12)] * 5)
    for transform in (T.RandomAffine(20), T.RandomCrop(6)):
        results = {image.tobytes() for image in transform(batch)}
        assert len(results) > 1


def test_normalize() -> None:
    batch = noise(2, 3, 4, 5)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    result = T.Normalize(mean.tolist(), std.tolist())(batch)
    expected = (batch - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert result.dtype == np.float32
    np.testing.assert_allclose(T.Normalize(0.5, 2)(batch), (batch - 0.5) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="mean has 3 values for 1 channels"):
        T.Normalize([0, 0, 0], 1)(batch[:, :1])
    with pytest.raises(TypeError, match="expected floating-point images, got uint8"):
        T.Normalize(0, 1)(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(TypeError, match="expected an array or a tensor; use ToTensor first"):
        T.Normalize(0, 1)(picture(2, 2))
    with pytest.raises(ValueError, match="std must be above 0"):
        T.Normalize(0, [1, 0])


def test_to_tensor() -> None:
    photo = picture(4, 5)
    tensor = T.ToTensor()(photo)
    assert isinstance(tensor, Tensor)
    assert tensor.shape == (3, 4, 5)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor.data, np.asarray(photo).transpose(2, 0, 1) / 255, rtol=1e-6)
    assert T.ToTensor()(photo.convert("L")).shape == (1, 4, 5)
    assert T.ToTensor()(photo.convert("1")).data.max() == 1
    array = np.full((2, 3), 300, np.int32)
    assert T.ToTensor()(array).data.max() == 300
    np.testing.assert_array_equal(T.ToTensor()(np.asarray(photo)).data, tensor.data)
    with pytest.raises(ValueError, match=r"mode 'P' must be converted: convert\(\"RGB\"\)"):
        T.ToTensor()(photo.convert("P"))
    with pytest.raises(TypeError, match="expected a Pillow image or a numeric array, got str"):
        T.ToTensor()("x.png")
    with pytest.raises(ValueError, match=r"expected \(H, W\) or \(H, W, C\), got shape \(3,\)"):
        T.ToTensor()(np.ones(3))


def test_compose() -> None:
    pipeline = T.Compose([T.Resize(6), T.CenterCrop(4), T.ToTensor(), T.Normalize(0.5, 0.25)])
    assert pipeline(picture(9, 12)).shape == (3, 4, 4)
    assert repr(pipeline) == (
        "Compose([Resize(size=6, interpolation='bilinear'), CenterCrop(size=(4, 4)), "
        "ToTensor(), Normalize(mean=(0.5,), std=(0.25,))])"
    )
    with pytest.raises(TypeError, match="expected functions, got 3"):
        T.Compose([3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: T.Resize(0), ValueError, "Resize: size must be at least 1"),
        (lambda: T.Resize((1, 2, 3)), ValueError, r"one number or \(height, width\)"),
        (lambda: T.Resize(1.5), TypeError, "size must be integers"),
        (lambda: T.Resize(3, "cubic"), ValueError, "interpolation must be one of"),
        (lambda: T.CenterCrop(-1), ValueError, "CenterCrop: size must be at least 1"),
        (lambda: T.RandomCrop(3, padding=-1), ValueError, "padding must not be negative"),
        (lambda: T.RandomHorizontalFlip(2), ValueError, "p must be between 0 and 1"),
        (lambda: T.RandomAffine((3, 1)), ValueError, "degrees must be a range"),
        (lambda: T.RandomAffine(1, (2, 0)), ValueError, "translate must be between"),
        (lambda: T.RandomAffine(1, scale=(0, 1)), ValueError, "scale must be a range above 0"),
    ],
)
def test_bad_settings(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_bad_images() -> None:
    with pytest.raises(TypeError, match="expected a Pillow image, an array or a tensor, got list"):
        T.CenterCrop(2)([1, 2])
    with pytest.raises(ValueError, match=r"or a batch \(N, C, H, W\), got shape \(2, 2\)"):
        T.CenterCrop(2)(np.ones((2, 2)))
    with pytest.raises(ValueError, match="an image of 4×4 with a border of 1 is smaller"):
        T.RandomCrop(7, padding=1)(noise(1, 4, 4))
    with pytest.raises(TypeError, match="expected floating-point images, got uint8"):
        T.RandomAffine(3)(np.zeros((1, 4, 4), np.uint8))
