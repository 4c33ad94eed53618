"""Grad-CAM: on models whose answer is known by hand, and what it leaves as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.visual import gradcam

Image = pytest.importorskip("PIL.Image")


class TwoChannels(nn.Module):
    """Logit 0 is 2·mean(channel 0) - mean(channel 1), logit 1 its negative.

    The map is the image itself, so weight_k is (2, -1) / positions for class 0.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.maps = nn.Conv2d(2, 2, 1, bias=False)
        self.maps.weight.data[...] = np.eye(2)[:, :, None, None]
        self.act = nn.ReLU(inplace=inplace)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Linear(2, 2, bias=False)
        self.classifier.weight.data[...] = [[2, -1], [-2, 1]]

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.classifier(self.drop(self.pool(self.act(self.maps(x))).flatten(1)))


A = np.array([[1, 2, 0], [0, 4, 1]], np.float32)
B = np.array([[6, 0, 0], [2, 4, 8]], np.float32)
IMAGE = np.stack([A, B])


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("target", "sign"), [(0, 1), (1, -1)])
def test_the_answer_by_hand(inplace: bool, target: int, sign: int) -> None:
    result = gradcam(TwoChannels(inplace), IMAGE, target, layer="maps")
    heat = np.maximum(sign * (2 * A - B), 0)
    np.testing.assert_allclose(result.heatmap, heat / heat.max(), rtol=1e-6)
    assert result.heatmap.dtype == np.float32
    assert result.target == target
    logit = 2 * A.mean() - B.mean()
    expected = np.exp([logit, -logit]) / np.exp([logit, -logit]).sum()
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)


def test_without_a_target_the_likeliest_class() -> None:
    result = gradcam(TwoChannels(), IMAGE[None])
    assert 2 * A.mean() < B.mean()
    assert result.target == 1
    assert [index for index, _ in result.top()] == [1, 0]
    assert result.top(1) == [(1, pytest.approx(float(result.probabilities[1])))]


def test_by_default_the_last_map() -> None:
    model = TwoChannels()
    expected = gradcam(model, IMAGE, 0, model.act).heatmap
    np.testing.assert_array_equal(gradcam(model, IMAGE, 0).heatmap, expected)


def test_what_speaks_against_everything_gives_no_heat() -> None:
    result = gradcam(TwoChannels(), np.stack([np.zeros_like(B), B]), target=0)
    assert not result.heatmap.any()
    assert np.isfinite(result.probabilities).all()


def test_a_map_of_one_place_is_enlarged_bilinearly() -> None:
    """A corner of a 2×2 map, enlarged to 4×4: as align_corners=False has it."""
    model = nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    model[3].weight.data[...] = 1
    image = np.zeros((1, 4, 4), np.float32)
    image[0, :2, :2] = 1
    line = np.array([1, 0.75, 0.25, 0])
    np.testing.assert_allclose(
        gradcam(model, image, 0, "0").heatmap, np.outer(line, line), rtol=1e-6
    )


@pytest.mark.parametrize("timm", [False, True])
def test_mobilenet_v4(timm: bool) -> None:
    """With nothing but a linear layer after the pooling, the weights are the classifier's."""
    lucid.manual_seed(0)
    cfg = models.configs.conv_small()
    model = models.MobileNet_V4(models.configs.timm(cfg) if timm else cfg, num_classes=5).eval()
    image = np.random.default_rng(0).standard_normal((3, 96, 64)).astype(np.float32)
    result = gradcam(model, image, target=2)
    assert result.heatmap.shape == (96, 64)
    assert result.heatmap.max() == 1
    assert result.heatmap.min() >= 0
    if not timm:
        with lucid.no_grad():
            maps = model.layers(model.conv0(lucid.tensor(image[None]))).numpy()[0]
        heat = np.maximum(np.einsum("k,khw->hw", model.classifier.weight.data[2], maps), 0)
        assert heat.shape == (3, 2)
        # In the middle of the picture of each cell's 32×32 pixels, between its four middle ones.
        cells = result.heatmap.reshape(3, 32, 2, 32)[:, 15:17, :, 15:17].mean(axis=(1, 3))
        np.testing.assert_allclose(cells / cells.max(), heat / heat.max(), atol=0.04)


# -- the picture ------------------------------------------------------------------------------


def photo_model() -> models.MobileNet_V4:
    lucid.manual_seed(1)
    model = models.mobilenet_v4_conv_small(num_classes=4)
    model.pretrained_cfg = {"input_size": (3, 64, 64), "crop_pct": 0.8}
    return model


def test_a_photograph_gets_a_heat_map_of_its_size() -> None:
    values = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    result = gradcam(photo_model(), Image.fromarray(values))
    assert result.heatmap.shape == (120, 200)
    np.testing.assert_array_equal(result.image, values)
    # 80 pixels high and 133 wide after resizing; the crop starts at (8, 34).
    left, top, right, bottom = result.region
    assert (top, bottom) == pytest.approx((8 * 1.5, 72 * 1.5))
    assert (left, right) == pytest.approx((34 * 200 / 133, 98 * 200 / 133))
    outside = result.heatmap.copy()
    outside[12:108, 51:148] = 0
    assert not outside.any()
    assert result.heatmap[12:108, 51:147].any()


def test_overlay() -> None:
    result = gradcam(photo_model(), Image.new("RGB", (90, 120), (100, 100, 100)))
    overlay = result.overlay()
    assert overlay.size == (90, 120)
    assert overlay.mode == "RGB"
    pixels = np.asarray(overlay)
    hot = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    assert pixels[hot].tolist() == [191, 58, 44]  # 0.3 of the grey, 0.7 of the hottest colour
    assert pixels[0, 0].tolist() == [193, 193, 193]  # not seen: paler
    plain = np.asarray(result.overlay(alpha=0))
    assert (plain[hot] == 100).all()
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, got 2"):
        result.overlay(2)


def test_the_picture_of_an_array_is_what_it_was_made_of() -> None:
    model = photo_model()
    pixels = np.random.default_rng(2).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    array = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tensor = lucid.tensor(array.transpose(2, 0, 1))
    np.testing.assert_array_equal(gradcam(model, tensor).image, pixels)
    grey = gradcam(TwoChannels(), IMAGE).image
    assert grey.shape == (2, 3, 3)
    assert (grey.min(), grey.max()) == (0, 255)


# -- what it leaves as it was -----------------------------------------------------------------


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "training": [module.training for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.data.copy() for p in model.parameters()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "values": {name: value.data.copy() for name, value in model.state_dict().items()},
    }


@pytest.mark.parametrize("layer", [None, "layers.2"])
def test_the_model_is_left_as_it_was(layer: str | None) -> None:
    model = photo_model().train()
    model.layers[1].eval()
    for parameter in model.conv0.parameters():
        parameter.requires_grad_(False)
    model(lucid.randn(2, 3, 64, 64)).sum().backward()
    called = []
    model.layers.register_forward_hook(lambda *_: called.append(1))
    before = state(model)
    with lucid.no_grad():  # as in a script that only predicts
        first = gradcam(model, np.ones((3, 64, 64), np.float32), layer=layer)
        second = gradcam(model, np.ones((3, 64, 64), np.float32), layer=layer)
        assert not lucid.is_grad_enabled()
    np.testing.assert_equal(state(model), before)
    np.testing.assert_array_equal(first.heatmap, second.heatmap)
    assert called == [1, 1]


def test_the_model_is_left_as_it_was_after_an_error() -> None:
    model = photo_model().train()
    before = state(model)
    image = np.zeros((3, 64, 64), np.float32)
    with pytest.raises(IndexError, match="target must be from 0 to 3, got 4"):
        gradcam(model, image, target=4)
    with pytest.raises(ValueError, match="the layer Linear makes no maps"):
        gradcam(model, image, layer="classifier")
    with pytest.raises(ValueError, match="expected 3 input channels"):
        gradcam(model, image[:2])
    np.testing.assert_equal(state(model), before)


def test_a_frozen_model() -> None:
    model = photo_model().requires_grad_(False)
    assert gradcam(model, np.ones((3, 64, 64), np.float32)).heatmap.max() == 1


def test_the_image_is_left_as_it_was() -> None:
    tensor = lucid.ones(1, 3, 64, 64).requires_grad_()
    gradcam(photo_model(), tensor)
    assert tensor.grad is None
    assert tensor.requires_grad


# -- errors -----------------------------------------------------------------------------------


def test_errors() -> None:
    model, image = TwoChannels(), IMAGE
    with pytest.raises(TypeError, match=r"expected a lucid\.nn\.Module, got str"):
        gradcam("model", image)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Pillow image, an array or a tensor, got list"):
        gradcam(model, [1, 2])
    with pytest.raises(ValueError, match=r"expected one image .*, got shape \(2, 2, 4, 4\)"):
        gradcam(model, np.zeros((2, 2, 4, 4), np.float32))
    with pytest.raises(TypeError, match="expected floating-point pixels, got uint8"):
        gradcam(model, image.astype(np.uint8))
    for target in (1.0, True, "cat"):
        with pytest.raises(TypeError, match="target must be the index of a class"):
            gradcam(model, image, target)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no part named 'layers'; its direct parts are maps, act,"):
        gradcam(model, image, layer="layers")
    with pytest.raises(ValueError, match="the layer Conv2d is no part of the model"):
        gradcam(model, image, layer=nn.Conv2d(1, 1, 1))
    with pytest.raises(TypeError, match="layer must be a module or a name, got int"):
        gradcam(model, image, layer=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no part of the model makes a map"):
        gradcam(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), image)
    with pytest.raises(ValueError, match=r"expected logits \(1, classes\) from the model, got \(1"):
        gradcam(nn.Sequential(nn.Conv2d(2, 2, 1)), image)
    with pytest.raises(ValueError, match=r"expected logits .* got list"):
        gradcam(models.mobilenet_v4_conv_small(features_only=True), lucid.ones(3, 64, 64))
