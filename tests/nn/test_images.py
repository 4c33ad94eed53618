"""Layers and functions of images: gradients by differences, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
import lucid.nn.functional as F  # noqa: N812
from lucid import nn
from lucid.autograd import gradcheck, gradgradcheck

LAYERS: list[tuple[Callable[[], Any], tuple[int, ...]]] = [
    (lambda: nn.Conv1d(2, 4, 3, 2, 1, groups=2), (2, 2, 5)),
    (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (1, 2, 3, 4)),
    (lambda: nn.Conv3d(2, 4, (2, 1, 2), 2, 1, (2, 1, 1), 2), (1, 2, 3, 2, 2)),
    (lambda: nn.ConvTranspose1d(2, 4, 3, 3, 1, 2, 2), (2, 2, 3)),
    (lambda: nn.ConvTranspose2d(2, 4, (3, 2), (1, 2), 1, (1, 0), 2, True, 2), (1, 2, 3, 3)),
    (lambda: nn.ConvTranspose3d(2, 2, 2, 2, (1, 0, 0), 1), (1, 2, 2, 1, 2)),
    (lambda: nn.MaxPool1d(3, 2, 1, ceil_mode=True), (2, 2, 6)),
    (lambda: nn.MaxPool3d(2, 1, 1, (1, 2, 1)), (1, 2, 2, 3, 2)),
    (lambda: nn.AvgPool3d((1, 2, 2), 2, (0, 1, 1), False, False), (1, 2, 2, 3, 2)),
    (lambda: nn.AdaptiveMaxPool2d((2, 3)), (2, 2, 3, 5)),
    (lambda: nn.AdaptiveAvgPool3d((2, None, 1)), (1, 2, 3, 2, 2)),
    (lambda: nn.Upsample(scale_factor=1.7, mode="bicubic"), (1, 2, 3, 4)),
    (lambda: nn.Upsample((5, 2, 3), mode="trilinear"), (1, 2, 2, 3, 2)),
    (lambda: nn.Unfold((2, 3), (1, 2), 1, (1, 2)), (2, 2, 3, 4)),
    (lambda: nn.Fold((3, 4), (2, 3), (2, 1), 1, (1, 2)), (2, 12, 6)),
    (lambda: nn.PixelShuffle(2), (1, 8, 2, 3)),
    (lambda: nn.PixelUnshuffle(2), (1, 2, 4, 2)),
    (lambda: nn.ChannelShuffle(3), (2, 6, 2)),
    (lambda: nn.ReflectionPad3d((1, 0, 0, 1, 1, 1)), (1, 2, 2, 2, 3)),
    (lambda: nn.LocalResponseNorm(3, 0.5), (2, 4, 3)),
]


@pytest.mark.parametrize("case", range(len(LAYERS)))
def test_gradients(case: int) -> None:
    build, shape = LAYERS[case]
    layer = build().double()
    rng = np.random.default_rng(0)
    x = lucid.tensor(rng.standard_normal(shape), dtype=np.float64, requires_grad=True)
    inputs = (x, *layer.parameters())
    assert gradcheck(lambda x, *_: layer(x), inputs)
    assert gradgradcheck(lambda x, *_: layer(x), inputs)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gradients_of_places_and_images(mode: str, padding_mode: str) -> None:
    rng = np.random.default_rng(3)
    x = lucid.tensor(rng.standard_normal((2, 3, 4, 5)), dtype=np.float64, requires_grad=True)
    theta = lucid.tensor(rng.uniform(-1, 1, (2, 2, 3)), dtype=np.float64, requires_grad=True)

    def transformed(x: Any, theta: Any) -> Any:
        grid = F.affine_grid(theta, (2, 3, 3, 2), False)
        return F.grid_sample(x, grid, mode, padding_mode, False)

    assert gradcheck(transformed, (x, theta))


def test_the_identity_map_returns_the_image() -> None:
    x = lucid.randn(2, 3, 5, 4)
    theta = lucid.eye(2, 3).expand(2, 2, 3)
    for align_corners in (True, False):
        grid = F.affine_grid(theta, x.shape, align_corners)
        for mode in ("nearest", "bilinear", "bicubic"):
            y = F.grid_sample(x, grid, mode, align_corners=align_corners)
            np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-5, atol=1e-5)


def test_a_transposed_convolution_takes_back_the_shape() -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    back = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)
    x = lucid.randn(1, 3, 8, 7)
    assert back(conv(x), output_size=x.shape).shape == x.shape
    with pytest.raises(ValueError, match=r"ConvTranspose2d: output_size must be between \(7, 7\)"):
        back(conv(x), output_size=(9, 9))


def test_padding_of_other_kinds_is_not_fused() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    model = nn.Sequential(conv, nn.BatchNorm2d(3), nn.ReLU()).eval()
    x = lucid.randn(2, 2, 5, 5)
    padded = F.conv2d(F.pad(x, (1, 1, 1, 1), "circular"), conv.weight, conv.bias)
    with lucid.no_grad():
        np.testing.assert_allclose(model(x).numpy(), model[2](model[1](padded)).numpy(), atol=1e-6)


def test_maxima_go_back_to_their_places() -> None:
    x = lucid.tensor(1.0 + np.random.default_rng(0).permutation(48).reshape(1, 2, 4, 6))
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    back = nn.MaxUnpool2d(2)(y, indices)
    assert back.shape == x.shape
    assert (back.numpy() != 0).sum() == np.count_nonzero(y.numpy())
    assert lucid.equal(F.max_pool2d(back, 2), y)
    assert lucid.equal(back[back != 0], x[back != 0])
    few, places = F.adaptive_max_pool1d(x.flatten(2), 5, return_indices=True)
    assert lucid.equal(x.flatten(2).gather(2, places), few)


def test_folding_counts_how_many_windows_hold_each_pixel() -> None:
    x = lucid.ones(1, 1, 4, 4)
    counts = F.fold(F.unfold(x, 3, padding=1), (4, 4), 3, padding=1)
    expected = [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    np.testing.assert_array_equal(counts[0, 0].numpy(), expected)


def test_unfolded_windows_times_weights_are_a_convolution() -> None:
    x, w = lucid.randn(2, 3, 6, 5), lucid.randn(4, 3, 3, 2)
    product = w.flatten(1) @ F.unfold(x, (3, 2), 1, 1, 2)
    convolved = F.conv2d(x, w, None, 2, 1)
    np.testing.assert_allclose(product.numpy(), convolved.flatten(2).numpy(), rtol=1e-4, atol=1e-5)


def test_an_antialiased_image_keeps_its_mean() -> None:
    x = lucid.rand(1, 1, 64, 64)
    for mode in ("bilinear", "bicubic"):
        small = F.interpolate(x, (8, 8), mode=mode, antialias=True)
        assert abs(small.mean().item() - x.mean().item()) < 0.02
        assert small.std().item() < 0.6 * F.interpolate(x, (8, 8), mode=mode).std().item()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    lucid.manual_seed(0)
    x = lucid.randn(200, 500)
    for layer in (nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3)):
        y = layer(x)
        assert abs(y.mean().item()) < 0.02
        assert abs(y.std().item() - 1) < 0.02
        assert layer.eval()(x) is x
    whole = nn.Dropout3d(0.5)(lucid.ones(4, 8, 2, 2, 2)).flatten(2)
    assert set(np.unique(whole.numpy())) == {0.0, 2.0}
    assert lucid.equal(whole.amin(2), whole.amax(2))


def test_layers_print_as_in_pytorch() -> None:
    assert repr(nn.ZeroPad2d(1)) == "ZeroPad2d((1, 1, 1, 1))"
    assert repr(nn.ConstantPad1d((1, 2), 3.5)) == "ConstantPad1d(padding=(1, 2), value=3.5)"
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"
    assert repr(nn.ConvTranspose2d(3, 4, 2, 2, output_padding=1)) == (
        "ConvTranspose2d(3, 4, kernel_size=(2, 2), stride=(2, 2), output_padding=(1, 1))"
    )


X = lucid.ones
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: F.conv1d(X(1, 2, 3, 4), X(1, 2, 3)), r"conv1d: expected an input of shape \(N, C, L"),
    (lambda: F.conv1d(X(1, 2, 3), X(1, 2)), r"conv1d: expected a weight of shape \(O, I/groups, k"),
    (lambda: F.conv1d(X(1, 2, 3), X(1, 1, 3)), "conv1d: expected 1 input channels .* got 2"),
    (lambda: F.conv1d(X(1, 2, 3), X(1, 2, 3), stride=(1, 2)), "an integer or one in a tuple"),
    (lambda: F.conv3d(X(1, 1, 2, 2, 2), X(1, 1, 3, 1, 1)), "a kernel of 3×1×1 does not fit"),
    (lambda: nn.Conv1d(3, 4, 1, groups=2), "Conv1d: groups must divide in_channels=3"),
    (lambda: nn.Conv2d(3, 4, 1, padding_mode="mirror"), "Conv2d: padding_mode must be one of"),
    (lambda: F.conv_transpose2d(X(1, 2, 3, 3), X(2, 2, 1, 1), output_padding=1), "output_padding"),
    (lambda: F.conv_transpose2d(X(1, 2, 3, 3), X(3, 2, 1, 1)), "expected 3 input channels"),
    (lambda: F.conv_transpose2d(X(1, 2, 1, 1), X(2, 2, 1, 1), padding=2), "would be -3×-3"),
    (lambda: F.conv_transpose2d(X(1, 3, 2, 2), X(3, 2, 1, 1), groups=2), "the 3 input channels"),
    (lambda: F.grid_sample(X(1, 2, 3, 3), X(2, 1, 1, 2)), "expected a grid of 1 images and 2"),
    (lambda: F.grid_sample(X(1, 2, 3, 3), X(1, 1, 1, 2), "linear"), "mode must be one of"),
    (lambda: F.grid_sample(X(1, 1, 2, 2, 2), X(1, 1, 1, 1, 3), "bicubic"), "bicubic"),
    (lambda: F.max_pool1d(X(1, 2, 3), 5), "a window of 5 does not fit"),
    (lambda: F.max_pool3d(X(2, 3, 3, 3), 2, padding=2), "at most half the kernel size"),
    (lambda: F.max_unpool2d(X(1, 1, 2, 2), X(1, 1, 2, 1).long(), 2), "an index for each maximum"),
    (lambda: F.adaptive_max_pool1d(X(1, 2, 3), (1, 2)), "output_size must be an integer or one"),
    (
        lambda: F.interpolate(X(1, 2, 3), 4, mode="bilinear"),
        r"input of shape \(N, C, H",
    ),
    (lambda: F.interpolate(X(1, 2, 3), 4, mode="linear", antialias=True), "antialias belongs to"),
    (lambda: F.fold(X(1, 4, 5), (3, 3), 2), r"expected columns \(N, C·4, 4\)"),
    (lambda: F.unfold(X(1, 1, 2, 2), 3), "a window of 3×3 does not fit"),
    (lambda: F.pixel_shuffle(X(1, 6, 2, 2), 2), "expected 4·C channels"),
    (lambda: F.pixel_unshuffle(X(1, 6, 2, 3), 2), "whose sides 2 divides"),
    (lambda: F.channel_shuffle(X(1, 6, 2), 4), "groups=4 must divide the channels"),
    (lambda: nn.ReflectionPad1d((1, 2, 3)), "padding must be an integer or 2 of them"),
    (lambda: nn.CircularPad1d(1)(X(1, 2, 3, 4)), r"expected an input of shape \(N, C, L\)"),
    (lambda: F.dropout3d(X(2, 3)), r"expected an input of shape \(N, C, D, H, W\)"),
    (lambda: F.affine_grid(X(1, 2, 3), (1, 3, 2)), "affine_grid: expected maps"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_refused(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
