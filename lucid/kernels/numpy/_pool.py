"""Pooling over NHWC images, and its gradients."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid.kernels.geometry import Padding, Pair
from lucid.kernels.numpy._half import in_float32
from lucid.kernels.numpy._sums import sums


def _padded(x: np.ndarray, padding: Padding, value: float) -> np.ndarray:
    if padding == ((0, 0), (0, 0)):
        return np.ascontiguousarray(x)
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def _windows(
    padded: np.ndarray, kernel: Pair, stride: Pair, dilation: Pair, size: Pair
) -> np.ndarray:
    """Return the view ``(N, H', W', C, kh, kw)``."""
    n, _, _, c = padded.shape
    by_image, by_row, by_column, by_channel = padded.strides
    return as_strided(
        padded,
        (n, *size, c, *kernel),
        (
            by_image,
            by_row * stride[0],
            by_column * stride[1],
            by_channel,
            by_row * dilation[0],
            by_column * dilation[1],
        ),
    )


def max_pool2d(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, size: Pair
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maxima ``(N, H', W', C)`` and the taps (row-major in the kernel) they came from.

    The padding counts as minus infinity; a NaN in the window is its maximum; of equal values
    the first is taken.
    """
    padded = _padded(x, padding, -np.inf)
    windows = _windows(padded, kernel, stride, dilation, size)
    best = windows[..., 0, 0].copy()
    taps = np.zeros(best.shape, np.int32)
    for tap in range(1, kernel[0] * kernel[1]):
        value = windows[..., tap // kernel[1], tap % kernel[1]]
        larger = (value > best) | ((value != value) & (best == best))
        np.copyto(best, value, where=larger)
        taps[larger] = tap
    return best, taps


def max_pool2d_grad(
    grad: np.ndarray,
    taps: np.ndarray,
    input_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
) -> np.ndarray:
    """Return the gradient of the input: each output's gradient goes to the element it came from."""
    gx = _padded(np.zeros(input_shape, grad.dtype), padding, 0.0)
    windows = _windows(gx, kernel, stride, dilation, grad.shape[1:3])
    for tap in range(kernel[0] * kernel[1]):
        windows[..., tap // kernel[1], tap % kernel[1]] += grad * (taps == tap)
    return _without_padding(gx, input_shape, padding)


def max_pool2d_take(
    x: np.ndarray, taps: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> np.ndarray:
    """Return the elements of ``x`` that ``taps`` name: :func:`max_pool2d_grad` derived."""
    padded = _padded(x, padding, 0.0)
    windows = _windows(padded, kernel, stride, dilation, taps.shape[1:3])
    y = np.zeros(taps.shape, x.dtype)
    for tap in range(kernel[0] * kernel[1]):
        np.copyto(y, windows[..., tap // kernel[1], tap % kernel[1]], where=taps == tap)
    return y


@in_float32
def sum_pool2d(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Padding, size: Pair
) -> np.ndarray:
    """Return the sum of each window; the padding counts as zero."""
    windows = _windows(_padded(x, padding, 0.0), kernel, stride, (1, 1), size)
    return np.asarray(sums(windows, (4, 5)), x.dtype)


@in_float32
def sum_pool2d_grad(
    grad: np.ndarray, input_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding
) -> np.ndarray:
    """Return the gradient of the input of :func:`sum_pool2d`."""
    gx = _padded(np.zeros(input_shape, grad.dtype), padding, 0.0)
    windows = _windows(gx, kernel, stride, (1, 1), grad.shape[1:3])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            windows[..., i, j] += grad
    return _without_padding(gx, input_shape, padding)


def _without_padding(padded: np.ndarray, shape: tuple[int, ...], padding: Padding) -> np.ndarray:
    top, left = padding[0][0], padding[1][0]
    return np.ascontiguousarray(padded[:, top : top + shape[1], left : left + shape[2]])
