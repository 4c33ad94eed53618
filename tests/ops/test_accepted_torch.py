"""What PyTorch takes besides the usual: one image, negative padding, vectors for matrices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
import lucid.nn

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((3, 5, 6))
KERNEL = RNG.standard_normal((2, 3, 2, 2))
VECTOR = RNG.standard_normal(6)

Call = Callable[[Any, Any], Any]

CALLS: dict[str, Call] = {
    "conv2d": lambda lib, x: lib.nn.functional.conv2d(x, lib.tensor(KERNEL, dtype=lib.float64)),
    "max_pool2d": lambda lib, x: lib.nn.functional.max_pool2d(x, 2),
    "avg_pool2d": lambda lib, x: lib.nn.functional.avg_pool2d(x, 3, 1, 1),
    "adaptive_avg_pool2d": lambda lib, x: lib.nn.functional.adaptive_avg_pool2d(x, (2, 5)),
    "MaxPool2d": lambda lib, x: lib.nn.MaxPool2d(2, ceil_mode=True)(x),
    "AvgPool2d": lambda lib, x: lib.nn.AvgPool2d(2)(x),
    "AdaptiveAvgPool2d": lambda lib, x: lib.nn.AdaptiveAvgPool2d(1)(x),
    "InstanceNorm2d": lambda lib, x: lib.nn.InstanceNorm2d(3, affine=True, dtype=lib.float64)(x),
    "einsum sums what the result has not": lambda lib, x: lib.einsum("...i->i", x),
    "einsum of nothing but dots": lambda lib, x: lib.einsum("...->", x),
    "einsum of two": lambda lib, x: lib.einsum("...i,...j->ij", x, x),
    "a weight without outputs": lambda lib, x: lib.nn.functional.linear(
        x, lib.tensor(VECTOR, dtype=lib.float64)
    ),
    "one bias for all": lambda lib, x: lib.nn.functional.linear(
        x,
        lib.tensor(VECTOR, dtype=lib.float64).reshape(1, 6).expand(2, 6),
        lib.tensor([2.0]).double(),
    ),
}


def assert_same(call: Call) -> None:
    mine = lucid.tensor(IMAGE, dtype=lucid.float64, requires_grad=True)
    reference = torch.tensor(IMAGE, requires_grad=True)
    one, two = call(lucid, mine), call(torch, reference)
    assert one.shape == tuple(two.shape)
    np.testing.assert_allclose(one.detach().numpy(), two.detach().numpy(), rtol=1e-6, atol=1e-9)
    (one * one).sum().backward()
    (two * two).sum().backward()
    assert mine.grad is not None
    np.testing.assert_allclose(mine.grad.numpy(), reference.grad.numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CALLS)
def test_is_taken_as_in_torch(name: str) -> None:
    assert_same(CALLS[name])


def test_conv2d_layer_of_one_image() -> None:
    layer = lucid.nn.Conv2d(3, 2, 2)
    image = lucid.tensor(IMAGE)
    np.testing.assert_array_equal(
        layer(image).detach().numpy(), layer(image.unsqueeze(0))[0].detach().numpy()
    )


def test_batch_norm_takes_no_image_alone() -> None:
    with pytest.raises(ValueError, match="4D input"):
        torch.nn.BatchNorm2d(3)(torch.tensor(IMAGE))
    with pytest.raises(ValueError, match="BatchNorm2d"):
        lucid.nn.BatchNorm2d(3)(lucid.tensor(IMAGE))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_of_either_sign(mode: str) -> None:
    for low, high in itertools.product(range(-4, 5, 2), repeat=2):
        for pad in ((1, -2, low, high), (low, 1, 2, high)):
            kept = [size + min(a, 0) + min(b, 0) for size, a, b in zip((6, 5), pad[::2], pad[1::2])]
            unmade = mode == "circular" and any(
                k < max(a, b) for k, a, b in zip(kept, pad[::2], pad[1::2])
            )
            if unmade or (mode == "constant" and min(kept) < 0):
                continue  # there PyTorch returns memory that nobody wrote, or refuses

            def call(lib: Any, x: Any, pad: tuple[int, ...] = pad) -> Any:
                return lib.nn.functional.pad(x, pad, mode=mode)

            try:
                call(torch, torch.tensor(IMAGE))
            except (RuntimeError, NotImplementedError):
                continue
            assert_same(call)


def test_circular_padding_beyond_what_is_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="pad: mode 'circular' cannot add -4 and 3 elements"):
        lucid.nn.functional.pad(lucid.tensor(IMAGE), (-4, 3), mode="circular")
