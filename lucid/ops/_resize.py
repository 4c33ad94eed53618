"""Resampling images: each axis is a matrix product, so the gradient is one as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import pair
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.ops._common import operand
from lucid.ops._layout import Pair, check_image

__all__ = ["interpolate"]


def resample(x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Return ``rows · x · columnsᵀ`` for each image and channel of ``x`` ``(N, C, H, W)``.

    ``rows`` is ``(H', H)``, ``columns`` ``(W', W)``. The products run over channels-last memory.
    """
    n, c, h, w = x.shape
    vertical = wrap(rows.astype(x.dtype))
    horizontal = wrap(columns.astype(x.dtype))
    y = vertical @ x.permute(0, 2, 3, 1).reshape(n, h, w * c)
    y = horizontal @ y.reshape(n * len(rows), w, c)
    return y.reshape(n, len(rows), len(columns), c).permute(0, 3, 1, 2)


def cubic_near(distance: Any, a: float) -> Any:
    """Return the weight that cubic interpolation gives to what is at most 1 away."""
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1


def cubic_far(distance: Any, a: float) -> Any:
    """Return the weight that cubic interpolation gives to what is between 1 and 2 away."""
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a


def _bilinear(length: int, size: int, scale: float, align_corners: bool) -> np.ndarray:
    """Return the matrix ``(size, length)`` that interpolates linearly along an axis."""
    positions = np.arange(size)
    if align_corners:
        source = positions * ((length - 1) / (size - 1) if size > 1 else 0.0)
    else:
        source = np.maximum((positions + 0.5) * scale - 0.5, 0)
    low = np.minimum(source.astype(int), length - 1)
    high = np.minimum(low + 1, length - 1)
    matrix = np.zeros((size, length))
    matrix[positions, low] += 1 - (source - low)
    matrix[positions, high] += source - low
    return matrix


def interpolate(
    input: Any,
    size: int | Pair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resize images ``(N, C, H, W)`` by nearest-neighbour or bilinear interpolation.

    Args:
        input: images, floating point.
        size: height and width of the result, or one number for both.
        scale_factor: or the factors of height and width; the result is rounded down.
        mode: "nearest" or "bilinear".
        align_corners: for "bilinear": whether the corner pixels' centres stay in the corners.
            By default, as in PyTorch, the images' edges do.

    Returns:
        ``(N, C, H', W')``. There is no antialiasing, as by default in PyTorch.

    Raises:
        ValueError: if not exactly one of ``size`` and ``scale_factor`` is given, or an argument
            has no meaning.
    """
    who = "interpolate"
    x = operand(input, who)
    check_image(x, who)
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{who}: give either size or scale_factor")
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"{who}: mode must be 'nearest' or 'bilinear', got {mode!r}")
    if align_corners is not None and mode != "bilinear":
        raise ValueError(f"{who}: align_corners belongs to mode='bilinear', got mode={mode!r}")
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    lengths = x.shape[2], x.shape[3]
    if size is not None:
        sizes = pair(size, "size", who, 1)
        scales = [length / new for length, new in zip(lengths, sizes)]
    else:
        given: Any = scale_factor
        factors = given if isinstance(given, (tuple, list)) else (given, given)
        if len(factors) != 2 or not all(f > 0 for f in factors):
            raise ValueError(
                f"{who}: scale_factor must be one or two numbers over 0, got {scale_factor!r}"
            )
        sizes = pair(
            tuple(int(length * f) for length, f in zip(lengths, factors)), "the result", who, 1
        )
        scales = [1 / float(f) for f in factors]
    if mode == "nearest":
        rows, columns = (
            np.minimum((np.arange(new) * scale).astype(int), length - 1)
            for length, new, scale in zip(lengths, sizes, scales)
        )
        return x[:, :, rows[:, None], columns]
    matrices = [
        _bilinear(length, new, scale, bool(align_corners))
        for length, new, scale in zip(lengths, sizes, scales)
    ]
    return resample(x, *matrices)
