"""Kernels for float16, in which nothing is computed: NumPy rounds it after every step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_float32(kernel: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have a kernel take float16 as float32, if its first array is of that, and round its results.

    As PyTorch does. Arrays are given by position; results in float64 stay so.
    """

    @functools.wraps(kernel)
    def call(*args: Any, **settings: Any) -> Any:
        if args[0].dtype != np.float16:
            return kernel(*args, **settings)
        result = kernel(*[_converted(arg, np.float16, np.float32) for arg in args], **settings)
        if isinstance(result, tuple):
            return tuple([_converted(part, np.float32, np.float16) for part in result])
        return _converted(result, np.float32, np.float16)

    return call


def _converted(value: Any, before: type, after: type) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == before:
        return value.astype(after)
    return value
