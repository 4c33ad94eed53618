"""The NumPy backend computes what the compiled kernels do not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Kernel = Callable[Parameters, Result]


def accelerates(
    reference: Kernel[Parameters, Result],
) -> Callable[[Kernel[Parameters, Result]], Kernel[Parameters, Result]]:
    """Decorate a function to stand in for one of the NumPy backend wherever it can.

    The function returns ``NotImplemented`` for arguments that it has no compiled code for, such as
    those of another dtype or layout, before it has changed anything. Then the reference computes.
    So what tells the two apart (a packed weight, an output's layout) is made once and at hand. The
    docstring is the reference's::

        @accelerates(reference.softmax)
        def softmax(x, axis):
            if x.dtype != np.float32:
                return NotImplemented
            ...
    """

    def decorate(function: Kernel[Parameters, Result]) -> Kernel[Parameters, Result]:
        @functools.wraps(function)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            result = function(*args, **kwargs)
            return reference(*args, **kwargs) if result is NotImplemented else result

        call.__doc__ = reference.__doc__
        return call

    return decorate
