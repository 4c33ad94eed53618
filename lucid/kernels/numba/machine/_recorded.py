"""Launches whose instructions are made once, and then run with the arrays of each call.

What a step of training launches for a layer is the same every time but for addresses, and to make
it takes Python some tenth of the step. So the first call for some shapes makes the instructions for
stand-ins: arrays at addresses that no memory has, which tell themselves which array they stand for,
and how far from its start something lies. Later calls put the addresses of their arrays there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import Instruction, address, stand_in, workspace

Array = np.ndarray
Make = Callable[..., list[Instruction]]

# The number of the array that an address belongs to stands above these bits. No processor has so
# much memory, no size or stride is so large, and the bits of a float are fewer.
_OFFSET_BITS = 56


class _Recorded(NamedTuple):
    table: Array  # a plan, with offsets where addresses will be
    whose: Array  # for each of its words the number of the array, from 1; 0 for other words
    size: int  # floats of the workspace, which is the last of the arrays


@functools.lru_cache(maxsize=1024)
def _record(
    make: Make, kinds: tuple[tuple[Any, str] | None, ...], settings: tuple[Any, ...], threads: int
) -> _Recorded:
    arrays = []
    count = 0
    for kind in kinds:
        count += kind is not None
        arrays.append(None if kind is None else stand_in(count << _OFFSET_BITS, *kind))
    instructions, size = workspace.pretend(
        (count + 1) << _OFFSET_BITS, lambda: make(*arrays, *settings)
    )
    table = _threads.plan(*instructions)
    whose = np.maximum(table >> _OFFSET_BITS, 0)
    return _Recorded(table - (whose << _OFFSET_BITS), whose, size)


def launch(make: Make, arrays: tuple[Array | None, ...], *settings: Any) -> None:
    """Launch the instructions ``make(*arrays, *settings)``.

    ``make`` is called for the first arrays of their shapes, with stand-ins: it must not read or
    write what is in them, nor make arrays but in the workspace, and all else that it depends on is
    in the settings.

    Args:
        make: a function of a module.
        arrays: C-contiguous ones, or None.
        settings: hashable.
    """
    kinds = tuple([None if a is None else (a.shape, a.dtype.char) for a in arrays])
    recorded = _record(make, kinds, settings, _threads.get_num_threads())
    workspace.start()
    memory = workspace.empty((recorded.size,))
    places = [0, *[address(array) for array in arrays if array is not None], address(memory)]
    _threads.run(recorded.table + np.array(places).take(recorded.whose))
