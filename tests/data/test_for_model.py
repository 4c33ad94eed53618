"""`for_model` against torchvision's rules, written once more with Pillow and NumPy alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.data.datasets import read_image
from lucid.data.transforms import Convert, for_model

Image = pytest.importorskip("PIL.Image")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Settings(nn.Module):
    """A model of which only the preprocessing counts."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.pretrained_cfg = settings or None


def picture(height: int, width: int, seed: int = 0) -> Any:
    """Smooth and noisy at once, so that positions and interpolation both show."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1)
    values = 127 + 80 * waves + rng.uniform(-40, 40, (height, width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def torchvision_rules(
    image: Any, size: int, crop_pct: float, bicubic: bool, mean: Any = MEAN, std: Any = STD
) -> np.ndarray:
    """Resize(floor(size / crop_pct)), CenterCrop(size), ToTensor, Normalize, in float64."""
    shorter = math.floor(size / crop_pct)
    width, height = image.size
    if width <= height:
        new_width, new_height = shorter, int(shorter * height / width)
    else:
        new_width, new_height = int(shorter * width / height), shorter
    method = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    if (width, height) != (new_width, new_height):
        image = image.resize((new_width, new_height), method)
    pixels = np.asarray(image)
    if new_width < size or new_height < size:
        left = (size - new_width) // 2 if size > new_width else 0
        top = (size - new_height) // 2 if size > new_height else 0
        right = (size - new_width + 1) // 2 if size > new_width else 0
        bottom = (size - new_height + 1) // 2 if size > new_height else 0
        pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
    top = int(round((pixels.shape[0] - size) / 2.0))  # noqa: RUF046
    left = int(round((pixels.shape[1] - size) / 2.0))  # noqa: RUF046
    pixels = pixels[top : top + size, left : left + size].astype(np.float64) / 255
    return ((pixels - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "shape",
    [
        (427, 640),
        (640, 427),
        (333, 257),
        (1, 9),
        (40, 41),
        (64, 64),
        (67, 67),
        (68, 67),
        (67, 501),
        (50, 33),
        (7, 5),
    ],
    ids=str,
)
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.1])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_values_are_those_of_torchvisions_rules(
    shape: tuple[int, int], crop_pct: float, interpolation: str
) -> None:
    model = Settings(input_size=(3, 64, 64), crop_pct=crop_pct, interpolation=interpolation)
    image = picture(*shape)
    result = for_model(model)(image)
    expected = torchvision_rules(image, 64, crop_pct, interpolation == "bicubic")
    assert result.shape == (3, 64, 64)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "crop_pct", "resized"),
    [(224, 0.875, 256), (224, 0.95, 235), (256, 0.95, 269), (384, 0.95, 404), (384, 1.0, 384)],
)
def test_published_sizes(size: int, crop_pct: float, resized: int) -> None:
    model = Settings(input_size=(3, size, size), crop_pct=crop_pct, mean=(0.5,) * 3, std=(0.5,) * 3)
    transform = for_model(model)
    assert transform.transforms[1].size == resized
    image = picture(450, 431)
    expected = torchvision_rules(image, size, crop_pct, True, (0.5,) * 3, (0.5,) * 3)
    np.testing.assert_allclose(transform(image).numpy(), expected, rtol=0, atol=1e-6)


def test_a_model_without_weights_gets_imagenets() -> None:
    model = models.mobilenet_v4_conv_small()
    assert model.pretrained_cfg is None
    image = picture(300, 260)
    expected = torchvision_rules(image, 224, 0.875, True)
    np.testing.assert_allclose(for_model(model)(image).numpy(), expected, rtol=0, atol=1e-6)


def test_the_result_is_an_image_for_the_model() -> None:
    model = models.mobilenet_v4_conv_small(num_classes=3, in_channels=1).eval()
    model.pretrained_cfg = {"input_size": (1, 32, 32), "mean": (0.3,), "std": (0.4,)}
    image = for_model(model)(picture(40, 50))
    assert image.shape == (1, 32, 32)
    with lucid.no_grad():
        assert model(image[None]).shape == (1, 3)


def test_weights_for_colour_used_on_grey() -> None:
    model = models.mobilenet_v4_conv_small(in_channels=1)
    image = Image.new("RGB", (300, 300), (51, 51, 51))
    value = (0.2 - sum(MEAN) / 3) / (sum(STD) / 3)
    np.testing.assert_allclose(for_model(model)(image).numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_is_converted(mode: str) -> None:
    image = Image.new("RGB", (70, 80), (255, 255, 255)).convert(mode)
    result = for_model(Settings(input_size=(3, 64, 64)))(image).numpy()
    expected = ((1 - np.array(MEAN)) / STD)[:, None, None]
    np.testing.assert_allclose(result, np.broadcast_to(expected, result.shape), rtol=1e-5)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparent_places_become_white(tmp_path: Any, format: str) -> None:
    image = Image.new("RGBA", (20, 10), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 10, 10))
    image.paste((0, 0, 0, 102), (0, 0, 5, 10))
    path = tmp_path / f"x.{format.lower()}"
    image.save(path, format, lossless=True)
    result = read_image(path)
    assert result.mode == "RGB"
    assert [result.getpixel((x, 5)) for x in (2, 7, 15)] == [(153,) * 3, (255,) * 3, (255, 0, 0)]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Any) -> None:
    values = np.array([[0, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.asarray(read_image(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"for_model: expected a lucid\.nn\.Module, got str"):
        for_model("mobilenet_v4_conv_small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected square images, got an input_size of 32×64"):
        for_model(Settings(input_size=(3, 32, 64)))
    with pytest.raises(ValueError, match="one channel or three, the model expects 4"):
        for_model(models.mobilenet_v4_conv_small(in_channels=4))
    with pytest.raises(TypeError, match="Convert: expected a Pillow image, got ndarray"):
        Convert("RGB")(np.zeros((3, 4, 4)))
    assert repr(for_model(Settings(input_size=(3, 64, 64)))).startswith(
        "Compose([Convert(mode='RGB'), Resize(size=73, interpolation='bicubic'), CenterCrop("
    )
