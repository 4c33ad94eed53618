"""Dtypes: which there are, and how numbers that come from Python take them."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

DEFAULT_DTYPE = np.dtype(np.float32)

# The kinds of dtypes, in the order in which one takes in another.
RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}


def as_dtype(dtype: Any, who: str) -> np.dtype[Any]:
    """Return the NumPy dtype that ``dtype`` names, in this machine's byte order.

    Raises:
        TypeError: if it names none, or one that is not for real numbers, integers or booleans.
    """
    try:
        wanted = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        wanted = None
    if wanted is None:
        raise TypeError(f"{who}: expected a dtype such as lucid.float32, got {dtype!r}")
    if wanted.kind not in RANKS:
        raise TypeError(f"{who}: dtype must be a float, integer or boolean type, got {wanted}")
    return native(wanted)


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in this machine's byte order, which kernels and other libraries expect."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def as_number(value: float, dtype: np.dtype[Any], who: str, *, overflows: bool = False) -> Any:
    """Return a Python number as an array of ``dtype`` with zero axes.

    As in PyTorch, an integer dtype takes numbers without their fraction, and an unsigned one
    takes negative integers modulo its range.

    Args:
        value: the number.
        dtype: the dtype.
        who: the caller, for messages.
        overflows: whether a number too large for a floating dtype becomes infinite.

    Raises:
        ValueError: if the number is out of the dtype's range.
    """
    if dtype.kind == "f" and -60000 < value < 60000:  # in the range of every floating dtype
        return np.asarray(value, dtype)
    number = value
    fits = True
    if dtype.kind in "iu":
        low, high = _limits(dtype, isinstance(value, float))
        fits = low <= value <= high
        number = int(value) % (high + 1) if fits and dtype.kind == "u" else value
        if fits:
            return np.asarray(number, dtype)
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(number, dtype) if fits else None
    except OverflowError:  # an integer beyond all floats
        array = None
    if array is not None and not overflows and np.isinf(array) and math.isfinite(value):
        array = None
    if array is None:
        raise ValueError(f"{who}: {value} is out of the range of {dtype}")
    return array


@functools.cache
def _limits(dtype: np.dtype[Any], fractions: bool) -> tuple[int, int]:
    """Return the least and the largest number that an integer dtype takes from Python."""
    info = np.iinfo(dtype)
    return (-int(info.max) if info.min == 0 and not fractions else int(info.min)), int(info.max)


def convert_numbers(array: np.ndarray, dtype: np.dtype[Any], who: str) -> np.ndarray:
    """Return numbers that came from Python in ``dtype``, by the rules of :func:`as_number`."""
    if dtype.kind not in "iu" or array.dtype == dtype or array.dtype.kind == "b":
        with np.errstate(over="ignore"):
            return array.astype(dtype, copy=False)
    low, high = _limits(dtype, array.dtype.kind == "f")
    fits = (array >= low) & (array <= high)
    if array.dtype.kind == "f":
        fits &= array < high + 1.0  # the largest int64, as a float, is one more
    if not fits.all():
        raise ValueError(f"{who}: {array[~fits].flat[0]} is out of the range of {dtype}")
    whole = array.astype(np.int64) if array.dtype.kind == "f" else array
    return whole.astype(dtype)
