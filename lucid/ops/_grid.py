"""Reading images at given places: the sampler of a spatial transformer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lucid._check import one_of
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.ops._common import Array, operand, shape_argument
from lucid.ops._elementwise import floor, where
from lucid.ops._index import getitem
from lucid.ops._layout import SHAPES, check_image
from lucid.ops._resize import cubic_far, cubic_near

__all__ = ["affine_grid", "grid_sample"]

_A = -0.75  # of the cubic filter


def affine_grid(theta: Any, size: Any, align_corners: bool | None = None) -> Tensor:
    """Return the places that affine maps give the pixels of an output, for :func:`grid_sample`.

    Args:
        theta: maps ``(N, 2, 3)`` of images or ``(N, 3, 4)`` of volumes, floating point.
        size: the output's shape ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
        align_corners: whether -1 and 1 are the centres of the outermost pixels; else their edges.

    Returns:
        ``(N, H, W, 2)`` or ``(N, D, H, W, 3)``: x, y (and z) of each pixel, from -1 to 1.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    who = "affine_grid"
    maps, shape = operand(theta, who), shape_argument((size,), who, minimum=1)
    axes = len(shape) - 2
    if axes not in (2, 3) or maps.shape != (shape[0], axes, axes + 1):
        raise ValueError(
            f"{who}: expected maps (N, 2, 3) with a size (N, C, H, W), or (N, 3, 4) with "
            f"(N, C, D, H, W), got shape {maps.shape} and size {shape}"
        )
    if maps.dtype.kind != "f":
        raise TypeError(f"{who}: expected floating-point maps, got {maps.dtype}")
    lines = [_centres(length, bool(align_corners)) for length in shape[2:]]
    places = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(shape[2:])], -1)
    flat = wrap(places.reshape(-1, axes + 1).astype(maps.dtype))
    return (flat @ maps.transpose(1, 2)).reshape(shape[0], *shape[2:], axes)


def _centres(length: int, align_corners: bool) -> Array:
    """Return the pixels' centres along an axis from -1 to 1."""
    if length == 1:
        return np.zeros(1)
    line = np.linspace(-1, 1, length)
    return line if align_corners else line * (length - 1) / length


def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Return the images' values at the places of ``grid`` (Jaderberg et al. 2015).

    Args:
        input: images ``(N, C, H, W)`` or volumes ``(N, C, D, H, W)``, floating point.
        grid: ``(N, H', W', 2)`` or ``(N, D', H', W', 3)``: x, y (and z), where -1 is the left,
            upper or front end of the images and 1 the other one.
        mode: ``"bilinear"``, ``"nearest"``, or of images ``"bicubic"``.
        padding_mode: what is outside: ``"zeros"``, the ``"border"``, or its ``"reflection"``.
        align_corners: whether -1 and 1 are the centres of the outermost pixels; else their edges.

    Returns:
        ``(N, C, H', W')`` or ``(N, C, D', H', W')``, with gradients for images and places.

    Raises:
        ValueError: if the shapes do not fit each other, or an argument has no meaning.
        TypeError: if dtypes differ or are not floating point.
    """
    who = "grid_sample"
    x, places = operand(input, who), operand(grid, who)
    axes = x.ndim - 2
    check_image(x, who, 3 if axes == 3 else 2)
    one_of(mode, ("bilinear", "nearest", "bicubic"), "mode", who)
    one_of(padding_mode, ("zeros", "border", "reflection"), "padding_mode", who)
    if mode == "bicubic" and axes == 3:
        raise ValueError(f"{who}: mode='bicubic' needs an input of shape {SHAPES[2]}")
    if x.dtype != places.dtype:
        raise TypeError(
            f"{who}: input and grid must have the same dtype, got {x.dtype} and {places.dtype}"
        )
    if places.ndim != x.ndim or places.shape[0] != len(x) or places.shape[-1] != axes:
        raise ValueError(
            f"{who}: expected a grid of {len(x)} images and {axes} coordinates for an input of "
            f"shape {x.shape}, got shape {places.shape}"
        )
    if 0 in x.shape[1:]:
        raise ValueError(f"{who}: expected non-empty channels and images, got shape {x.shape}")
    lengths = x.shape[2:]
    taps = [
        _taps(places[..., axes - 1 - axis], length, mode, padding_mode, bool(align_corners))
        for axis, length in enumerate(lengths)
    ]
    rows = x.movedim(1, -1).flatten(0, -2)  # (N·H·W, C)
    image = np.arange(len(x)).reshape(-1, *(1,) * axes)
    total: Any = None
    for corner in itertools.product(*taps):
        index, weight = image, None
        for (place, factor), length in zip(corner, lengths):
            index = index * length + place.clip(0, length - 1)
            inside = (place >= 0) & (place < length)
            if not inside.all():
                factor = factor * wrap(inside.astype(x.dtype))
            weight = factor if weight is None else weight * factor
        assert weight is not None
        values = getitem(rows, index.ravel()).reshape(*index.shape, -1) * weight.unsqueeze(-1)
        total = values if total is None else total + values
    result: Tensor = total.movedim(-1, 1)
    return result


def _taps(
    line: Tensor, length: int, mode: str, padding_mode: str, align_corners: bool
) -> list[tuple[Array, Tensor]]:
    """Return the pixels to read along an axis, and their weights, for places from -1 to 1."""
    line = (line + 1) / 2 * (length - 1) if align_corners else ((line + 1) * length - 1) / 2
    how = length, padding_mode, align_corners
    if mode == "bicubic":
        start = floor(line.detach())
        rest = line - start
        weights = [
            cubic_far(rest + 1, _A),
            cubic_near(rest, _A),
            cubic_near(1 - rest, _A),
            cubic_far(2 - rest, _A),
        ]
        return [
            (_pixel(_inside(start + offset, *how), length), weight)
            for offset, weight in zip((-1, 0, 1, 2), weights)
        ]
    line = _inside(line, *how)
    if mode == "nearest":
        nowhere = wrap(np.zeros(line.shape, bool))
        return [(_pixel(line.round(), length), where(nowhere, line, 1.0))]
    start = floor(line.detach())
    rest = line - start
    return [(_pixel(start, length), 1 - rest), (_pixel(start + 1, length), rest)]


def _inside(line: Tensor, length: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Return places with those beyond the ends moved inside, unless zeros are read there."""
    if padding_mode == "zeros":
        return line
    if padding_mode == "reflection":
        low, span = (0.0, length - 1) if align_corners else (-0.5, length)
        line = where(line < low, low - line, line - low)
        turns = floor(line.detach() / max(span, 1))
        line = low + where(turns % 2 == 0, line - turns * span, (turns + 1) * span - line)
    # At the ends themselves the gradient is 0, as in PyTorch.
    end = length - 1
    return where((line > 0) & (line < end), line, line.detach().clamp(0, end))


def _pixel(line: Tensor, length: int) -> Array:
    """Return whole places as integers; those far outside, and NaN, as just outside."""
    return np.nan_to_num(line.data, nan=-1.0).clip(-1, length).astype(np.int64)
