"""Conversion to another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor
from lucid.autograd._dtype import as_dtype
from lucid.ops._common import convert, operand

__all__ = ["astype"]


def astype(input: Any, dtype: DTypeLike) -> Tensor:
    """Return ``input`` converted to ``dtype``; ``input`` itself if it has that dtype.

    The gradient is converted back. Integers and booleans have no gradient.

    Args:
        input: any shape.
        dtype: a NumPy dtype or its name.

    Raises:
        TypeError: if ``dtype`` names no real, integer or boolean dtype.
    """
    if isinstance(input, Tensor) and isinstance(dtype, np.dtype) and input.data.dtype == dtype:
        return input  # the usual case
    return convert(operand(input, "astype"), as_dtype(dtype, "astype"), "astype")


def widened(x: Tensor) -> Tensor:
    """Return a tensor of float16 as float32, to compute with; others as they are."""
    return astype(x, np.float32) if x.data.dtype == np.float16 else x
