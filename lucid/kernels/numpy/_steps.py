"""Steps of inference that are no convolution, and steps joined to one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Run = Callable[..., None]


def join(steps: Sequence[tuple[Run, tuple[Array | None, ...]]]) -> Callable[[], None]:
    """Return a function that runs prepared steps, each on its arrays, one after the other."""

    def call() -> None:
        for run, arrays in steps:
            run(*arrays)

    return call


def prepare_images(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Run:
    """Return a step ``run(x, out)`` that copies ``x`` ``(N, H, W, C)``, of any layout."""

    def run(x: Array, out: Array) -> None:
        np.copyto(out, x)

    return run


def prepare_average(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Run:
    """Return a step ``run(x, out)`` that writes the mean ``(N, C)`` of ``x`` ``(N, H, W, C)``."""
    n, height, width, channels = shape

    def run(x: Array, out: Array) -> None:
        x.reshape(n, height * width, channels).mean(axis=1, out=out.reshape(n, channels))

    return run
