"""Between the logical shape ``(N, C, H, W)`` and memory, where channels come last.

Also the checks that the image operations share.
"""

from __future__ import annotations

import numpy as np

from lucid.autograd import Tensor

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """Return the C-contiguous NHWC array of an image batch; a copy only for foreign layouts."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def from_nhwc(x: np.ndarray) -> np.ndarray:
    """Return the view ``(N, C, H, W)`` of an NHWC array."""
    return x.transpose(0, 3, 1, 2)


def check_image(x: Tensor, who: str) -> None:
    """Check that ``x`` is a floating-point batch of images.

    Raises:
        ValueError: if it does not have four axes.
        TypeError: if it is not of a floating dtype.
    """
    if x.ndim != 4:
        hint = "; add a batch axis with x.unsqueeze(0)" if x.ndim == 3 else ""
        raise ValueError(
            f"{who}: expected an input of shape (N, C, H, W), got shape {x.shape}{hint}"
        )
    if x.dtype.kind != "f":
        raise TypeError(
            f"{who}: expected a floating-point input, got {x.dtype}; convert with x.float()"
        )


def check_positive(size: Pair, x: Tensor, what: str, who: str) -> None:
    """Check that the output has at least one position along each axis.

    Raises:
        ValueError: if a kernel is larger than the padded input.
    """
    if min(size) < 1:
        raise ValueError(
            f"{who}: {what} does not fit into an input of shape {x.shape}: the output would be "
            f"{size[0]}×{size[1]}; use a larger input, more padding or a smaller kernel"
        )
