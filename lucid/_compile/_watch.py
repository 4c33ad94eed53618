"""Tensors that tell when their values are read by anything but an operation.

A choice by value, a comparison or a detour by way of NumPy shows in no operation. Such a tensor
hands out its array as one that looks the same and calls back when it is computed with. Its shape,
dtype and strides may be asked for freely. Inside operations it hands out the plain array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid._compile._blank import complete
from lucid.autograd import Tensor
from lucid.autograd._function import is_observed
from lucid.autograd._tensor import array_of, array_slot
from lucid.graph import leaves, mapped

# NumPy's functions that look at no values.
_HARMLESS = {
    np.may_share_memory, np.shares_memory, np.shape, np.ndim, np.size, np.result_type, np.can_cast,
    np.empty_like, np.zeros_like, np.ones_like, np.reshape, np.transpose,
    np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze,
}  # fmt: skip


class Values(np.ndarray):
    """An array that calls ``noted`` when its values are used."""

    noted: Callable[[], None]
    # Whether the change is known when all elements become those of a watched tensor's array.
    assigned: Callable[[Any], bool] = staticmethod(lambda source: False)
    of: Tensor | None = None  # the tensor whose array it is, no view of that

    def __array_finalize__(self, source: Any) -> None:
        self.noted = getattr(source, "noted", _nobody)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        _note(inputs, kwargs)
        return getattr(ufunc, method)(*_bare(inputs), **_bare(kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _HARMLESS:
            return super().__array_function__(function, types, args, kwargs)
        if function is np.copyto and isinstance(args[0], Values) and args[0].assigned(args[1]):
            return function(*_bare(args), **kwargs)
        _note(args, kwargs)
        return function(*_bare(args), **_bare(kwargs))


def _nobody() -> None:
    pass


def _note(*values: Any) -> None:
    for leaf in leaves(values, Values):
        leaf.noted()


def _bare(values: Any) -> Any:
    return mapped(lambda leaf: leaf.view(np.ndarray) if isinstance(leaf, Values) else leaf, values)


def _noting(name: str) -> Any:
    method = getattr(np.ndarray, name)

    def call(self: Values, *args: Any, **kwargs: Any) -> Any:
        _note(self, args, kwargs)
        return method(self.view(np.ndarray), *_bare(args), **_bare(kwargs))

    return call


for _name in (
    "__getitem__", "__setitem__", "__contains__", "__bool__", "__int__", "__float__", "__index__",
    "__complex__", "__copy__", "__deepcopy__", "__reduce__", "all", "any", "argmax", "argmin",
    "argpartition", "argsort", "astype", "byteswap", "choose", "clip", "compress", "copy",
    "cumprod", "cumsum", "diagonal", "dot", "dump", "dumps", "fill", "flatten", "item", "max",
    "mean", "min", "nonzero", "partition", "prod", "put", "repeat", "round", "searchsorted", "sort",
    "std", "sum", "take", "tobytes", "tofile", "tolist", "trace", "var",
):  # fmt: skip
    setattr(Values, _name, _noting(_name))


def watched(
    read: Callable[[Tensor], None],
    detached: Callable[[Tensor, Tensor], None],
    assigned: Callable[[Tensor, Tensor], bool],
) -> type[Tensor]:
    """Return a class for tensors to become.

    Args:
        read: is called with the tensor whose values are used.
        detached: is called with what ``detach()`` returns, and the tensor itself.
        assigned: is called with a tensor that is changed in place and the one that it becomes, and
            returns whether that is known now; otherwise both are read.
    """

    class Watched(Tensor):
        __slots__ = ()

        # Asked for a thousand times in a run.
        shape = property(lambda self: array_of(self).shape)
        ndim = property(lambda self: array_of(self).ndim)
        dtype = property(lambda self: array_of(self).dtype)

        @property
        def data(self) -> np.ndarray:
            complete(self)
            if not is_observed():
                return array_of(self)
            values = array_of(self).view(Values)
            values.noted = lambda: read(self)
            values.of = self
            values.assigned = lambda source: (
                isinstance(source, Values) and source.of is not None and assigned(self, source.of)
            )
            return values

        @data.setter
        def data(self, array: np.ndarray) -> None:
            if is_observed():
                read(self)
            array_slot.__set__(self, array)

        def numpy(self) -> np.ndarray:
            if is_observed():
                read(self)
            return super().numpy().view(np.ndarray)

        def detach(self) -> Tensor:
            other = super().detach()
            detached(other, self)
            return other

    return Watched
