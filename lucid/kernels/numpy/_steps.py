"""Steps of inference that are no convolution, and how a batch is divided into groups of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.kernels.numpy._calls import ON_THREADS, Calls
from lucid.kernels.numpy._sums import sums
from lucid.kernels.prepared import Bound, Prepared

Array = np.ndarray


class Step(Prepared):
    """A prepared step that consists of calls of NumPy.

    Attributes:
        issue: a function of :class:`Calls`, the output and the inputs that issues the calls.
        in_any_layout: whether it reads its inputs however they lie.
    """

    issue: Callable[..., None]

    def __init__(self, issue: Callable[..., None], in_any_layout: bool = False) -> None:
        self.issue, self.in_any_layout = issue, in_any_layout

    def run(self, out: Array, *inputs: Array) -> None:
        """Do the step."""
        self.issue(ON_THREADS, out, *inputs)

    def conform(self, *inputs: Array) -> tuple[Array, ...]:
        return inputs if self.in_any_layout else super().conform(*inputs)


def join_lanes(
    lanes: Sequence[tuple[Sequence[Bound], Sequence[Bound]]], groups: int
) -> Callable[[Array], None] | None:
    """Return a function of a batch that runs prepared steps for all its groups of images, or None.

    Each group goes through all steps on one thread, in the memory of that thread's lane.
    None, as here, where there are no lanes, see :func:`divide_images`.

    Args:
        lanes: for each lane, the steps on its memory for the first and for the second group.
        groups: how many there are.
    """
    return None


def divide_images(images: int) -> tuple[int, int]:
    """Return how many images of a batch, a divisor, go through the large maps together.

    And how many such groups are under way at once: one; the numba backend has lanes for more.

    At most 8, so that memory does not grow with the batch, and at least 4 of more than 8: two cost
    mobilenetv4_conv_medium at batch 16 5 %, one 9 %.
    """
    return next((size for size in range(8, 3, -1) if images % size == 0), images), 1


def prepare_images(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Prepared | None:
    """Return a step ``run(out, x)`` that copies ``x`` ``(N, H, W, C)`` of any layout, or None.

    None, as here, leaves the input where it is: the first convolution may read it as it lies.
    """
    return None


def prepare_average(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Prepared:
    """Return a step ``run(out, x)`` that writes the mean ``(N, C)`` of ``x`` ``(N, H, W, C)``."""
    n, height, width, channels = shape

    def average(out: Array, x: Array) -> None:
        np.divide(sums(x, (1, 2)), height * width, out=out, casting="same_kind")

    def issue(calls: Calls, out: Array, x: Array) -> None:
        means = out.reshape(n, channels)
        calls.divide(lambda part: calls.do(average, means[part], x[part]), n, x.size)

    return Step(issue)


def prepare_affine(
    shape: tuple[int, int, int, int], scale: Array, shift: Array, low: float, high: float
) -> Prepared:
    """Return a step ``run(out, x)``: ``clip(x · scale + shift, low, high)`` channel by channel."""

    def issue(calls: Calls, out: Array, x: Array) -> None:
        calls.do(np.multiply, x, scale, out=out)
        calls.do(np.add, out, shift, out=out)
        if low > -np.inf or high < np.inf:
            calls.do(np.clip, out, low, high, out=out)

    return Step(issue)
