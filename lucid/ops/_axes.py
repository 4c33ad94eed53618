"""One function for images of one, two and three axes: rows, images and volumes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from lucid.ops._common import operand
from lucid.ops._layout import SHAPES

P = ParamSpec("P")
R = TypeVar("R")


def for_axes(function: Callable[Concatenate[str, int, P], R], name: str) -> list[Callable[P, R]]:
    """Return ``name1d``, ``name2d`` and ``name3d``, made of ``function(who, axes, input, …)``.

    The function documents the second, and takes batches alone: see :func:`batched`.
    """
    signature = inspect.signature(function)
    own = signature.replace(parameters=list(signature.parameters.values())[2:])

    def of(axes: int) -> Callable[P, R]:
        who = f"{name}{axes}d"

        def operation(*args: P.args, **kwargs: P.kwargs) -> R:
            return batched(function, who, axes, *args, **kwargs)

        operation.__name__ = operation.__qualname__ = who
        operation.__module__ = function.__module__
        see = f"As :func:`~lucid.nn.functional.{name}2d`, of an input ``{SHAPES[axes]}``."
        operation.__doc__ = function.__doc__ if axes == 2 else see
        operation.__signature__ = own  # type: ignore[attr-defined]
        return operation

    return [of(axes) for axes in SHAPES]


def batched(
    function: Callable[Concatenate[str, int, P], R],
    who: str,
    axes: int,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Call ``function(who, axes, input, …)``; one image is a batch of one until it returns."""
    call: Any = function
    given: Any = args
    if "input" in kwargs:
        given = (kwargs.pop("input"), *args)
    if given:
        x = operand(given[0], who)
        if x.ndim == axes + 1:
            result = call(who, axes, x.unsqueeze(0), *given[1:], **kwargs)
            if not isinstance(result, tuple):
                result = result.squeeze(0)
            else:
                result = tuple([y.squeeze(0) for y in result])
            return result
    return call(who, axes, *given, **kwargs)
