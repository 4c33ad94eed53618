"""Training of convolution, batch norm by the batch's statistics, and clip as one operation.

The convolution's result ``z`` is kept, and where the clip lets the gradient pass. The statistics
are taken from each block of ``z`` right after its product; scale, shift and clip are one pass. The
gradient passes over ``z`` twice: for the two sums of a column, and for the gradient of ``z``, which
never is in memory as a whole: the products for the input's and the weights' gradient follow block
by block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels._memory import empty, empty_like
from lucid.kernels.exchange import Exchange, sums_of_all
from lucid.kernels.geometry import NO_BOUNDS, NOTHING, UNIT, Bounds, Conv, norm_scale_shift
from lucid.kernels.numpy._activation import select
from lucid.kernels.numpy._batch_norm import batch_norm_stats
from lucid.kernels.numpy._calls import Calls
from lucid.kernels.numpy._conv import (
    input_grad_into,
    weight_grad_part,
    work,
)
from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._pieces import Columns, multiply_transposed
from lucid.kernels.numpy._prepared import prepared
from lucid.kernels.numpy._rows import BLOCK, Rows, column_sums
from lucid.kernels.numpy._threads import in_parts, sum_parts

# Sums of squares are good enough where the mean is up to this many deviations: at 8 rounding costs
# the variance some 1e-5 of its value in float32. Beyond, they are taken again around the mean.
_DEVIATIONS = 8

# Rows of a 1×1 convolution's product: with fewer OpenBLAS is slow, with more at once hardly faster.
_ROWS = 512

# Floats in a group of images whose gradient is made and used before the next one's. It stays in
# the third-level cache for the most part; smaller groups would be too many calls.
_GROUP = 1 << 21


@in_float32
def conv_norm_act_train(
    x: np.ndarray,
    weight: np.ndarray,
    norm_weight: np.ndarray | None,
    norm_bias: np.ndarray | None,
    eps: float,
    bounds: Bounds,
    conv: Conv,
    exchange: Exchange | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ``clip(normalised(z) * norm_weight + norm_bias)`` with ``z = conv2d(x, weight)``.

    Args:
        x: ``(N, H, W, I)``.
        weight: ``(O, I/groups, kh, kw)``.
        norm_weight: ``(O,)`` or None for 1.
        norm_bias: ``(O,)`` or None for 0.
        eps: added to the variance.
        bounds: of the clip.
        conv: the convolution's geometry.
        exchange: with those who have other images of the same batch, which then count too.

    Returns:
        The result, ``z``, each column's mean and biased variance of ``z`` in float64, and where
        the gradient passes the clip, or None: everywhere.
    """
    z = empty(conv.output_shape(x.shape, weight.shape), x.dtype)
    columns = z.shape[3]

    def products(images: slice) -> np.ndarray:
        total = np.zeros((2, columns))

        def add(calls: Calls, block: np.ndarray, *_: Any) -> None:
            nonlocal total
            rows = block.reshape(-1, columns)
            total += column_sums(rows, rows)

        run = prepared(x[images].shape, weight, conv, NOTHING, watch=add)
        run(z[images], x[images])
        return total

    rows = z.reshape(-1, columns)
    mean, squares = sum_parts(in_parts(products, len(x), work(z, weight.shape))) / len(rows)
    variance = squares - mean * mean
    if not np.isfinite(squares).all() or (mean * mean > _DEVIATIONS**2 * variance).any():
        mean, variance = batch_norm_stats(rows)
    if exchange is not None:
        mean, variance = exchange.statistics(mean, variance, len(rows))
    factors = norm_scale_shift(mean, variance, norm_weight, norm_bias, eps, z.dtype)
    y, inside = _finished(z, *factors, bounds)
    return y, z, mean, variance, inside


def _finished(
    z: np.ndarray, scale: np.ndarray, shift: np.ndarray, bounds: Bounds
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what comes of ``z``, and where it is within the bounds, if there are any."""
    layout = Rows(z.size // z.shape[3], z.shape[3])
    y = empty_like(z)
    inside = None if bounds == NO_BOUNDS else empty(z.shape, bool)
    scale, shift = layout.repeat(scale), layout.repeat(shift)
    wide_z, wide_y = layout.wide(z), layout.wide(y)
    wide_inside = None if inside is None else layout.wide(inside)

    def finish(part: slice) -> None:
        for block in layout.blocks(part):
            out = np.multiply(wide_z[block], scale, out=wide_y[block])
            out += shift
            if wide_inside is not None:
                np.clip(out, *bounds, out=out)
                # Also of NaN. Now that it is in the cache: later it would be three passes more.
                passes = np.not_equal(out, bounds[0], out=wide_inside[block])
                if bounds[1] != math.inf:
                    passes &= out != bounds[1]

    in_parts(finish, layout.wide_count, z.size)
    return y, inside


@in_float32
def conv_norm_act_train_grad(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    z: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    norm_weight: np.ndarray | None,
    norm_bias: np.ndarray | None,
    eps: float,
    bounds: Bounds,
    conv: Conv,
    needs_x: bool,
    needs_weight: bool,
    exchange: Exchange | None = None,
    spends_z: bool = False,
    inside: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of ``x``, ``weight``, ``norm_weight`` and ``norm_bias``.

    ``grad`` is that of the result; ``z``, ``mean``, ``variance`` and ``inside`` are what
    :func:`conv_norm_act_train` returned, the other arguments what it took; without ``inside`` it is
    found again. ``spends_z`` says that ``z`` may be written over. What is not needed is None.
    """
    if inside is None and bounds != NO_BOUNDS:
        row = norm_scale_shift(mean, variance, norm_weight, norm_bias, eps, z.dtype)
        _, inside = _finished(z, *row, bounds)
    passed = _Passed(grad, z, inside)
    sums = passed.layout.sums(passed.pair, z.size, z.dtype)
    # The gradient of z is a * (g + b * z + c), column by column, with g what passes the clip. The
    # products take a into the weights, which are few: a pass over the map less.
    inverse_std = 1 / np.sqrt(variance + eps)
    count = z.size // z.shape[3]
    dbias = sums[0]
    dweight = (sums[1] - mean * dbias) * inverse_std
    a = inverse_std if norm_weight is None else inverse_std * norm_weight
    weight_sum, bias_sum, count = sums_of_all(exchange, dweight, dbias, count)
    b = -inverse_std * weight_sum / count
    c = -bias_sum / count - b * mean
    gradient = passed.gradient(b, c)
    factors = a.astype(z.dtype)[:, None, None, None]
    weight = np.multiply(weight, factors, out=empty(weight.shape, weight.dtype))

    gx = empty(x.shape, x.dtype) if needs_x else None
    gweight = None
    if needs_x or needs_weight:
        is_product = conv.is_pointwise(weight.shape) and conv.stride == UNIT
        products = _row_products if is_product else _image_products

        def images(part: slice) -> np.ndarray | None:
            part_gx = None if gx is None else gx[part]
            return products(gradient, part, z.shape, x[part], weight, part_gx, needs_weight, conv)

        parts = in_parts(images, len(x), work(z, weight.shape))
        if needs_weight:
            gweight = sum_parts([part for part in parts if part is not None])
            gweight *= factors
    return gx, gweight, dweight.astype(z.dtype), dbias.astype(z.dtype)


# Writes the gradient of z, without a, for some long rows into an array (rows, width).
Gradient = Callable[[slice, np.ndarray], None]


class _Passed:
    """The gradient that passes the clip, block by block."""

    def __init__(self, grad: np.ndarray, z: np.ndarray, inside: np.ndarray | None) -> None:
        n, height, width, columns = z.shape
        self.layout = Rows(n * height * width, columns, height * width)
        self.grad, self.z = self.layout.wide(grad), self.layout.wide(z)
        self.inside = None if inside is None else self.layout.wide(inside)
        # What the first pass lets pass is read by the second.
        self.passed = self.grad if inside is None else empty(self.z.shape, z.dtype)

    def pair(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient that passes, and ``z``, in a block."""
        passed = self.passed[block]
        if self.inside is not None:
            select(self.grad[block], self.inside[block], out=passed)
        return passed, self.z[block]

    def gradient(self, b: np.ndarray, c: np.ndarray) -> Gradient:
        """Return the function that writes ``passed + b * z + c`` for some long rows."""
        layout, dtype = self.layout, self.z.dtype
        b, c = (layout.repeat(factors.astype(dtype)) for factors in (b, c))

        def write(part: slice, out: np.ndarray) -> None:
            for block in layout.blocks(part):
                target = out[block.start - part.start : block.stop - part.start]
                np.multiply(self.z[block], b, out=target)
                target += c
                target += self.passed[block]

        return write


def _row_products(
    gradient: Gradient,
    images: slice,
    shape: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray,
    gx: np.ndarray | None,
    needs_weight: bool,
    conv: Conv,
) -> np.ndarray | None:
    """Write the input's gradient of a 1×1 convolution, and return the weights' part."""
    o, i = weight.shape[:2]
    layout = Rows(len(x) * shape[1] * shape[2], o, shape[1] * shape[2])
    rows, gx_rows = x.reshape(-1, i), None if gx is None else gx.reshape(-1, i)
    matrix = Columns(weight.reshape(o, i), len(rows))
    step = max(1, max(_ROWS, BLOCK // o) // layout.together)  # long rows
    step = math.ceil(len(rows) / layout.together / math.ceil(len(rows) / layout.together / step))
    buffer = empty((step, layout.width), x.dtype)
    first = images.start * shape[1] * shape[2] // layout.together
    total = product = None
    for start in range(0, len(rows), step * layout.together):
        block = slice(start, min(start + step * layout.together, len(rows)))
        begin, end = block.start // layout.together, block.stop // layout.together
        gradient(slice(first + begin, first + end), buffer[: end - begin])
        gz = buffer[: end - begin].reshape(-1, o)
        if gx_rows is not None:
            matrix.multiply(gz, gx_rows[block])
        if not needs_weight:
            continue
        if total is None:
            total = empty((o, i), x.dtype)
            multiply_transposed(gz, rows[block], total)
            continue
        if product is None:
            product = empty((o, i), x.dtype)
        multiply_transposed(gz, rows[block], product)
        total += product
    return None if total is None else total.reshape(weight.shape)


def _image_products(
    gradient: Gradient,
    images: slice,
    shape: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray,
    gx: np.ndarray | None,
    needs_weight: bool,
    conv: Conv,
) -> np.ndarray | None:
    """Do what :func:`_row_products` does for any convolution, some images at a time."""
    _, height, width, o = shape
    layout = Rows(len(x) * height * width, o, height * width)
    long_rows = height * width // layout.together  # of one image
    step = max(1, min(len(x), _GROUP // (height * width * o)))
    buffer = empty((step * long_rows, layout.width), x.dtype)
    total = None
    for start in range(0, len(x), step):
        group = slice(start, min(start + step, len(x)))
        first, count = images.start + start, group.stop - start
        target = buffer[: count * long_rows]
        gradient(slice(first * long_rows, (first + count) * long_rows), target)
        gz = target.reshape(count, height, width, o)
        if gx is not None:
            input_grad_into(gx[group], gz, weight, conv)
        if needs_weight:
            part = weight_grad_part(x[group], gz, weight.shape, conv)
            total = part if total is None else np.add(total, part, out=total)
    return total
