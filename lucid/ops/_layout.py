"""Between the logical shape ``(N, C, H, W)`` and memory, where channels come last.

Also the checks that the image operations share.
"""

from __future__ import annotations

import numpy as np

from lucid.autograd import Tensor
from lucid.kernels._memory import empty

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

# Up to so many channels planes are copied one by one: NumPy's loop along the channels of a pixel
# has as few rounds, and takes four times as long for colours.
_FEW = 4


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """Return the C-contiguous NHWC array of an image batch; a copy only for foreign layouts."""
    pixels = x.transpose(0, 2, 3, 1)
    if pixels.flags.c_contiguous or pixels.shape[3] > _FEW:
        return np.ascontiguousarray(pixels)
    out = empty(pixels.shape, pixels.dtype)
    for channel in range(pixels.shape[3]):
        out[..., channel] = pixels[..., channel]
    return out


def from_nhwc(x: np.ndarray) -> np.ndarray:
    """Return the view ``(N, C, H, W)`` of an NHWC array."""
    return x.transpose(0, 3, 1, 2)


# How many axes images have -> what the shape of a batch is called.
SHAPES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def times(size: tuple[int, ...]) -> str:
    """Return sizes as text: ``3×3``."""
    return "×".join(map(str, size))


def check_axes(x: Tensor, who: str, axes: int = 2) -> None:
    """Raise a ValueError unless ``x`` is a batch of images of that many axes."""
    if x.ndim != axes + 2:
        hint = "; add a batch axis with x.unsqueeze(0)" if x.ndim == axes + 1 else ""
        raise ValueError(
            f"{who}: expected an input of shape {SHAPES[axes]}, got shape {x.shape}{hint}"
        )


def check_image(x: Tensor, who: str, axes: int = 2) -> None:
    """Check that ``x`` is a floating-point batch of images of that many axes.

    Raises:
        ValueError: if it does not have those axes and two more.
        TypeError: if it is not of a floating dtype.
    """
    check_axes(x, who, axes)
    if x.dtype.kind != "f":
        raise TypeError(
            f"{who}: expected a floating-point input, got {x.dtype}; convert with x.float()"
        )


def check_positive(size: tuple[int, ...], x: Tensor, what: str, who: str) -> None:
    """Check that the output has at least one position along each axis.

    Raises:
        ValueError: if a kernel is larger than the padded input.
    """
    if min(size) < 1:
        raise ValueError(
            f"{who}: {what} does not fit into an input of shape {x.shape}: the output would be "
            f"{times(size)}; use a larger input, more padding or a smaller kernel"
        )
