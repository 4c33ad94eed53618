"""The one run of a model that summaries and diagrams show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import is_whole, short
from lucid.autograd import Tensor
from lucid.graph import Graph, Shape, trace
from lucid.nn import Module


def check_model(model: Any, who: str) -> None:
    """Raise TypeError unless ``model`` is a module."""
    if not isinstance(model, Module):
        raise TypeError(f"{who}: expected a lucid.nn.Module, got {type(model).__name__}")


def traced(
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    dtype: DTypeLike,
    who: str,
) -> Graph:
    """Return the graph of a run of ``model`` on zeros of one shape, or of each in a list."""
    shapes = _shapes(input_shape, who)
    try:
        return trace(model, *(Tensor(np.zeros(shape, dtype), dtype=dtype) for shape in shapes))
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        given = ", ".join(str(shape) for shape in shapes)
        message = f"{who}: {type(model).__name__} does not run on an input of shape {given}: "
        raise ValueError(message + str(error)) from error


def _shapes(value: Any, who: str) -> tuple[Shape, ...]:
    """Return one shape, or a list of shapes, as a tuple of shapes."""
    try:
        several = len(value) > 0 and all(not isinstance(v, (int, np.integer)) for v in value)
        shapes = tuple(tuple(shape) for shape in (value if several else [value]))
    except TypeError:
        shapes = ((None,),)
    for size in (size for shape in shapes for size in shape):
        if not is_whole(size):
            raise TypeError(
                f"{who}: input_shape must be a tuple of integers such as (1, 3, 224, 224), "
                f"or a list of such tuples, got {short(value)}"
            )
        if size < 0:
            raise ValueError(f"{who}: input_shape has a negative size: {value!r}")
    return tuple(tuple(int(size) for size in shape) for shape in shapes)
