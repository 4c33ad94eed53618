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
    (lambda: F.affine_grid(X(1, 2, 3), (1, 3, 2)), "affine_grid: expected maps"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_refused(case: int) -> None:
    call, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()
