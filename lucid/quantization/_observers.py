"""What values an activation takes in calibration, and which range of them integers shall span."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lucid.quantization._fake_quantize import ACTIVATION_RANGE, STEPS, activation_scale

Array = np.ndarray

BINS = 2048
_LEVELS = ACTIVATION_RANGE[1] - ACTIVATION_RANGE[0] + 1

# So many scales are tried, each half the one before.
_HALVINGS = 6

# The share of the values, in percent, that "percentile" keeps below its upper bound, and above its
# lower one.
PERCENTILE = 99.99


class Observer:
    """Sees the values of one activation, twice: for their range, then for their histogram."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0  # 0 is in every range
        self.is_finite = True
        self.histogram: Array | None = None

    def see_range(self, values: Array) -> None:
        """Widen the range to hold these values."""
        if values.size:
            low, high = float(values.min()), float(values.max())
            self.is_finite &= bool(np.isfinite([low, high]).all())
            self.low, self.high = min(self.low, low), max(self.high, high)

    def see_histogram(self, values: Array) -> None:
        """Count these values in the bins of the range; those outside belong to the outermost.

        Zeros are not counted: they are exact in every range, and half of a map behind ReLU, so
        they would hide what the others lose.
        """
        if self.histogram is None:
            self.histogram = np.zeros(BINS, np.int64)
        width = (self.high - self.low) / BINS
        if width > 0:
            known = values[values != 0]
            places = ((known - self.low) * (1 / width)).astype(np.int64)
            np.clip(places, 0, BINS - 1, out=places)
            self.histogram += np.bincount(places, minlength=BINS)

    @property
    def edges(self) -> Array:
        """The bounds of the bins, one more than there are bins."""
        return np.linspace(self.low, self.high, BINS + 1)

    def range(self, calibration: str) -> tuple[float, float]:
        """Return the range that a method of :data:`CALIBRATIONS` chooses."""
        if self.histogram is None or not self.histogram.any():
            return self.low, self.high
        return CALIBRATIONS[calibration](self.histogram, self.edges)


def minmax(histogram: Array, edges: Array) -> tuple[float, float]:
    """Return the range of all values."""
    return float(edges[0]), float(edges[-1])


def percentile(histogram: Array, edges: Array, kept: float = PERCENTILE) -> tuple[float, float]:
    """Return the range without the outermost values on both sides.

    ``kept`` per cent lie below its upper bound and as many above its lower one (Wu et al. 2020,
    "Integer Quantization for Deep Learning Inference", section 4.2).
    """
    below = np.cumsum(histogram) / histogram.sum()
    share = kept / 100
    high = edges[1 + int(np.searchsorted(below, share))]
    low = edges[int(np.searchsorted(below, 1 - share, side="right"))]
    return min(float(low), 0.0), max(float(high), 0.0)


def entropy(histogram: Array, edges: Array) -> tuple[float, float]:
    """Return the range whose rounded values tell most of the distribution.

    Among ranges that end on a bin, it has the smallest Kullback-Leibler divergence of the rounded
    distribution from the clipped one (Migacz 2017, "8-bit Inference with TensorRT"). Both ends
    shrink in proportion, so a range of one sign keeps its end at 0.
    """
    zero = int(np.argmin(np.abs(edges)))
    best, found = np.inf, (0, BINS)
    for kept in range(_LEVELS, BINS + 1, 8):
        start = round(zero * (1 - kept / BINS))
        stop = start + kept
        divergence = _divergence(histogram, start, stop)
        if divergence < best:
            best, found = divergence, (start, stop)
    return float(edges[found[0]]), float(edges[found[1]])


def _divergence(histogram: Array, start: int, stop: int) -> float:
    """Return how far the bins from ``start`` to ``stop`` are from their means in 256 levels.

    What lies outside counts in the outermost bins of the one distribution, and not in the other.
    """
    inside = histogram[start:stop].astype(np.float64)
    p = inside.copy()
    p[0] += histogram[:start].sum()
    p[-1] += histogram[stop:].sum()
    firsts = np.arange(_LEVELS) * len(inside) // _LEVELS
    filled = (p > 0).astype(np.float64)
    sums, numbers = np.add.reduceat(inside, firsts), np.add.reduceat(filled, firsts)
    means = np.divide(sums, numbers, out=np.zeros(_LEVELS), where=numbers > 0)
    q = np.repeat(means, np.diff([*firsts, len(inside)])) * filled
    if not q.any():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    known = p > 0
    if (q[known] == 0).any():  # a level holds outliers alone
        q = np.where(known, np.maximum(q, 1e-12), q)
    return float((p[known] * np.log(p[known] / q[known])).sum())


def mse(histogram: Array, edges: Array) -> tuple[float, float]:
    """Return the range with the smallest mean square error of the rounded values.

    It is the best of all scales and zero points that a quantiser can have (Nagel et al. 2021, "A
    White Paper on Neural Network Quantization", section 3.1).
    """
    middles = (edges[1:] + edges[:-1]) / 2
    known = histogram > 0
    middles, counts = middles[known], histogram[known]
    widest = float(activation_scale(edges[0], edges[-1])[0])
    best, found = np.inf, (float(edges[0]), float(edges[-1]))
    for scale in widest * 0.5 ** np.arange(_HALVINGS):
        lowest = min(math.ceil(-edges[0] / scale) + 1, STEPS) if edges[-1] > 0 else STEPS
        steps = np.rint(middles / scale)
        for zero in range(0, lowest + 1, 2) if edges[0] < 0 else (0,):
            rounded = np.clip(steps, -zero, _LEVELS - 1 - zero) * scale
            error = float(np.square(rounded - middles) @ counts)
            if error < best:
                best, found = error, (-zero * scale, (STEPS - zero) * scale)
    return found


# How a range is chosen from a histogram and its bins' bounds, by the name of the method.
CALIBRATIONS: dict[str, Callable[[Array, Array], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
