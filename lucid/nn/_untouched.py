"""Whether the values of tensors are still those of which something was made.

The array of a tensor may be changed by anybody who has it, and no version counts that. So tensors
are watched: they become of a class that looks the same, whose ``data`` is a property. Whoever asks
for the array, by whatever way, ends the watch, and the tensor has its own class again. At the start
nobody else may hold the array or a view of it, which the count of references tells. So a change
that goes unnoticed would have to come by a bare address.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import array_of, array_slot, wrap
from lucid.kernels._memory import is_lease
from lucid.nn._parameter import Parameter

_numbers = itertools.count(1)


def _watched(kind: type[Tensor]) -> type[Tensor]:
    """Return the class of watched tensors of a class."""

    def end(tensor: Tensor) -> None:
        # In this order: a watch that begins between the two ends at once.
        tensor.__class__ = kind
        tensor._version.seen = next(_numbers)

    # The array is in hand before the watch ends: one that begins meanwhile finds it held.
    def get(tensor: Tensor) -> np.ndarray:
        array = array_of(tensor)
        end(tensor)
        return array

    def put(tensor: Tensor, array: np.ndarray) -> None:
        array_slot.__set__(tensor, array)
        end(tensor)

    def of_array(name: str) -> Any:
        return property(lambda tensor: getattr(array_of(tensor), name))

    members = {
        "__slots__": (),
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "data": property(get, put),
        **{name: of_array(name) for name in ("shape", "ndim", "dtype")},  # what is no value
        "_watches": kind,  # the class of its copies
    }
    return type(kind.__name__, (kind,), members)


_WATCHED = {kind: _watched(kind) for kind in (Tensor, Parameter)}
_CLASSES = frozenset(_WATCHED.values())


def _holders(tensor: Tensor) -> int:
    return sys.getrefcount(array_of(tensor))


# What is counted for an array that only its tensor holds; it differs between Pythons.
_SOLE = _holders(wrap(np.zeros(1)))
# Only under the lock of CPython does a count of references say anything.
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


def _is_sole(tensor: Tensor) -> bool:
    """Whether nobody but the tensor can reach its memory."""
    array = array_of(tensor)
    if array.base is None:
        whole = array.flags.owndata
    else:  # recycled memory, or what pickle has read
        read = type(array.base) is bytes and sys.getrefcount(array.base) <= _SOLE
        whole = read or is_lease(array.base)
    alone = whole and not weakref.getweakrefcount(array)
    del array
    return alone and _holders(tensor) <= _SOLE


class Untouched:
    """A watch over tensors."""

    __slots__ = ("_seen", "_versions")

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._seen: list[int] | None = None  # None: it cannot be told
        self._versions: list[Any] = []
        seen = []
        for tensor in tensors:
            kind = type(tensor)
            if kind in _WATCHED and _COUNTS:
                tensor.__class__ = _WATCHED[kind]
            self._versions.append(tensor._version)
            seen.append(tensor._version.seen)
            # Whoever came before the watch holds the array, and whoever comes later ends it.
            if type(tensor) not in _CLASSES or not _is_sole(tensor):
                return
        self._seen = seen

    @classmethod
    def of_all(cls, watches: Iterable[Untouched]) -> Untouched:
        """Return one watch over what several watch, of which each can tell."""
        made = cls(())
        for watch in watches:
            made._versions += watch._versions
            made._seen = (made._seen or []) + (watch._seen or [])
        return made

    def __bool__(self) -> bool:
        """Whether nobody has asked for an array since."""
        return [version.seen for version in self._versions] == self._seen
