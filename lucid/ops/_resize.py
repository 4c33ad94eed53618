"""Resampling images: each axis is a matrix product, so the gradient is one as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import one_of, sizes
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.ops._common import operand
from lucid.ops._layout import check_image

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]


def resample(x: Tensor, *matrices: np.ndarray) -> Tensor:
    """Return ``x`` ``(N, C, *)`` with each axis of the images multiplied by its matrix.

    A matrix is ``(H', H)``. The products of two axes run over channels-last memory.
    """
    if len(matrices) != 2:
        for axis, matrix in enumerate(matrices, 2):
            x = (x.movedim(axis, -1) @ wrap(matrix.T.astype(x.dtype))).movedim(-1, axis)
        return x
    rows, columns = matrices
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


def _linear(length: int, size: int, scale: float, align_corners: bool) -> np.ndarray:
    """Return the matrix ``(size, length)`` that interpolates linearly along an axis."""
    source = _source(length, size, scale, align_corners).clip(0)
    low = np.minimum(source.astype(int), length - 1)
    rest = source - low
    return _matrix(length, [(low, 1 - rest), (low + 1, rest)])


def _cubic(length: int, size: int, scale: float, align_corners: bool) -> np.ndarray:
    """Return the matrix ``(size, length)`` that interpolates cubically along an axis."""
    source, a = _source(length, size, scale, align_corners), -0.75
    low = np.floor(source).astype(int)
    rest = source - low
    near = [(low, cubic_near(rest, a)), (low + 1, cubic_near(1 - rest, a))]
    far = [(low - 1, cubic_far(rest + 1, a)), (low + 2, cubic_far(2 - rest, a))]
    return _matrix(length, near + far)


def _source(length: int, size: int, scale: float, align_corners: bool) -> np.ndarray:
    """Return where along an axis the pixels of the result lie."""
    positions = np.arange(size)
    if align_corners:
        return positions * ((length - 1) / (size - 1) if size > 1 else 0.0)
    return (positions + 0.5) * scale - 0.5


def _matrix(length: int, taps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the matrix of taps, places and weights; beyond the ends the last pixel counts."""
    matrix = np.zeros((len(taps[0][0]), length))
    for places, weights in taps:
        matrix[np.arange(len(places)), places.clip(0, length - 1)] += weights
    return matrix


def _antialiased(length: int, size: int, scale: float, cubic: bool) -> np.ndarray:
    """Return the matrix of a filter as wide as the pixels of the result, as Pillow has it."""
    wide = max(scale, 1.0)
    centre = (np.arange(size)[:, None] + 0.5) * scale
    reach = (2 if cubic else 1) * wide
    places = np.arange(length)
    read = (places >= (centre - reach + 0.5).clip(0).astype(int)) & (
        places < np.minimum((centre + reach + 0.5).astype(int), length)
    )
    distance = abs(places - centre + 0.5) / wide
    if cubic:
        weights = np.where(distance < 1, cubic_near(distance, -0.5), cubic_far(distance, -0.5))
        weights[distance >= 2] = 0
    else:
        weights = (1 - distance).clip(0)
    weights *= read
    return np.asarray(weights / weights.sum(1, keepdims=True))


def adaptive_windows(length: int, size: int) -> list[tuple[int, int]]:
    """Return where the windows of an adaptive pooling begin and end along an axis."""
    return [(i * length // size, -((i + 1) * length // -size)) for i in range(size)]


def averaging(length: int, size: int) -> np.ndarray:
    """Return the matrix ``(size, length)`` that averages over the adaptive windows."""
    matrix = np.zeros((size, length))
    for i, (start, end) in enumerate(adaptive_windows(length, size)):
        matrix[i, start:end] = 1 / (end - start)
    return matrix


# Mode -> for how many axes it is; the others are for all.
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_MODES = ("nearest", "nearest-exact", "area", *_AXES)


def interpolate(
    input: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize rows ``(N, C, L)``, images ``(N, C, H, W)`` or volumes ``(N, C, D, H, W)``.

    Args:
        input: images, floating point.
        size: the result's size along each axis, or one number for all.
        scale_factor: or the factors of the sizes; the result is rounded down.
        mode: "nearest", "nearest-exact", "linear" of rows, "bilinear" and "bicubic" of images,
            "trilinear" of volumes, or "area", the means of adaptive pooling.
        align_corners: for the linear and cubic modes: whether the corner pixels' centres stay in
            the corners. By default, as in PyTorch, the images' edges do.
        recompute_scale_factor: whether the factors are those of the rounded sizes.
        antialias: for "bilinear" and "bicubic": whether smaller images are of all pixels.

    Returns:
        ``(N, C, H', W')``.

    Raises:
        ValueError: if not exactly one of ``size`` and ``scale_factor`` is given, or an argument
            has no meaning.
    """
    who = "interpolate"
    x = operand(input, who)
    one_of(mode, _MODES, "mode", who)
    check_image(x, who, _AXES.get(mode, x.ndim - 2 if x.ndim in (3, 4, 5) else 2))
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{who}: give either size or scale_factor")
    filtered = mode in ("bilinear", "bicubic")
    if align_corners is not None and not (filtered or "linear" in mode):
        raise ValueError(f"{who}: align_corners belongs to mode='bilinear', got mode={mode!r}")
    if antialias and not filtered:
        raise ValueError(f"{who}: antialias belongs to 'bilinear' and 'bicubic', got mode={mode!r}")
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    lengths = x.shape[2:]
    new, scales = _sizes_and_scales(who, lengths, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise ValueError(f"{who}: recompute_scale_factor belongs to scale_factor, not to size")
        scales = [length / n for length, n in zip(lengths, new)]
    if mode == "area":
        return resample(x, *map(averaging, lengths, new))
    if mode.startswith("nearest"):
        offset = 0.5 if mode == "nearest-exact" else 0.0
        places = [
            np.minimum(((np.arange(n) + offset) * scale).astype(int), length - 1)
            for length, n, scale in zip(lengths, new, scales)
        ]
        taken = (slice(None), slice(None), *np.ix_(*places))
        return x[taken]
    axis_matrix = _cubic if mode == "bicubic" else _linear
    matrices = []
    for length, n, scale in zip(lengths, new, scales):
        if antialias:
            step = (length - 1) / (n - 1) if align_corners and n > 1 else scale
            matrices.append(_antialiased(length, n, step, mode == "bicubic"))
        else:
            matrices.append(axis_matrix(length, n, scale, bool(align_corners)))
    return resample(x, *matrices)


def _sizes_and_scales(
    who: str, lengths: tuple[int, ...], size: Any, scale_factor: Any
) -> tuple[tuple[int, ...], list[float]]:
    """Return the result's sizes, and how many of the input's pixels one of its own is."""
    axes = len(lengths)
    if size is not None:
        new = sizes(size, axes, "size", who, 1)
        return new, [length / n for length, n in zip(lengths, new)]
    factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,)
    factors *= axes if len(factors) == 1 else 1
    if len(factors) != axes or not all(f > 0 for f in factors):
        raise ValueError(
            f"{who}: scale_factor must be one or two numbers over 0, got {scale_factor!r}"
        )
    new = tuple(int(length * f) for length, f in zip(lengths, factors))
    return sizes(new, axes, "the result", who, 1), [1 / float(f) for f in factors]


def upsample(
    input: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Return :func:`interpolate` of these arguments: the older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Return :func:`interpolate` with ``mode="nearest"``."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Return :func:`interpolate` with ``mode="bilinear"`` and ``align_corners=True``."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
