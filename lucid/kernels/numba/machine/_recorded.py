"""Launches whose instructions are made once, and then run with the arrays of each call.

What a step of training launches for a layer is the same every time but for addresses, and to make
it takes Python some tenth of the step. So the first call for some shapes makes the instructions for
stand-ins: arrays at addresses that no memory has, which tell themselves which array they stand for,
and how far from its start something lies. Later calls put the addresses of their arrays there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import Instruction, address, stand_in, workspace

Array = np.ndarray
Make = Callable[..., list[Instruction]]

# The number of the array that an address belongs to stands above these bits. No processor has so
# much memory, no size or stride is so large, and the bits of a float are fewer.
_OFFSET_BITS = 56


class Recorded:
    """The instructions ``make(*arrays, *settings)``, for C-contiguous arrays of some shapes.

    ``make`` is called once, with stand-ins: it must not read or write what is in them, nor make
    arrays but in the workspace. What else it depends on is in the settings, or is the number of
    threads. ``kinds`` are the arrays' shapes and characters of dtypes; None is for no array.
    """

    def __init__(
        self, make: Make, kinds: tuple[Any, ...], settings: tuple[Any, ...] = (), threads: int = 0
    ) -> None:
        arrays = [
            None if kind is None else stand_in(number << _OFFSET_BITS, *kind)
            for number, kind in enumerate(kinds, 1)
        ]
        instructions, self.size = workspace.pretend(
            (len(kinds) + 1) << _OFFSET_BITS, lambda: make(*arrays, *settings)
        )
        table = _threads.plan(*instructions)
        # For each of its words the number of the array that it points into, from 1; else 0.
        self.whose = np.maximum(table >> _OFFSET_BITS, 0)
        self.table = table - (self.whose << _OFFSET_BITS)

    def launch(self, *arrays: Array | None) -> None:
        """Run them with some arrays."""
        workspace.start()
        memory = workspace.empty((self.size,))
        places = [0 if array is None else address(array) for array in (None, *arrays, memory)]
        _threads.run(self.table + np.array(places).take(self.whose))


_record = functools.lru_cache(maxsize=1024)(Recorded)


def launch(make: Make, arrays: tuple[Array | None, ...], *settings: Any) -> None:
    """Launch the instructions ``make(*arrays, *settings)``, see :class:`Recorded`.

    ``make`` is a function of a module, and the settings are hashable.
    """
    kinds = tuple([None if a is None else (a.shape, a.dtype.char) for a in arrays])
    _record(make, kinds, settings, _threads.get_num_threads()).launch(*arrays)
