"""Recycled memory for large arrays.

Memory that the system hands out anew comes page by page, each zeroed and mapped at its first
touch: a training step of mobilenetv4_conv_small at batch 16 took 17 000 page faults, 40 of its
650 ms. Here a block goes back to a free list when the array made of it and all views of that
are gone, and the next array of about its size gets it, still mapped and partly in the cache.

The alternative is to forbid malloc to return memory to the system (``mallopt`` with a high
``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD``, by ctypes). It saves the same faults, but it holds
for every library in the process, only with glibc, and memory once used is never given back.

The base of the array that is handed out is an object of a class of its own, so reference counting
tells when the memory is free: a weak reference to that object returns it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Smaller arrays are malloc's: it keeps those in its heap (128 KiB is glibc's limit for that).
SMALLEST = 1 << 17

_HUGE = 1 << 22  # bytes; from here on huge pages are asked for, as NumPy does
_FIT = 1.5  # memory serves arrays that are smaller than it by up to this factor
_ROOM = 1.5  # how much more than the most that ever was in use may be held
_ALWAYS = 1 << 25  # bytes that may be held in any case
_DTYPE = np.dtype(np.float32)
_BYTES = np.dtype(np.uint8)


class _Lease(np.ndarray):
    """Memory in use: the base of one array, which dies with the array and all its views."""

    __slots__ = ()


class _Loan(weakref.ref[_Lease]):
    """Waits for a lease's end, and is then among those returned."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


# Loans are returned wherever an array dies, in another thread or while the pool is locked: so by
# nothing but one append. It is C's: Ctrl-C cannot come in it, and be lost as in a ``__del__``.
_returned: deque[_Loan] = deque()


def _allocate(size: int) -> mmap.mmap:
    """Return zeroed pages of the system's, which go back to it, and not to malloc, when freed."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class _Pool:
    """Free memory by size.

    With what is in use it is at most half more than ever was in use at a time, or 32 MiB.

    One call at a time changes it. Another that comes meanwhile, in another thread, from a finaliser
    or a signal's handler, does without: there is no lock that an exception could leave locked.
    """

    def __init__(self) -> None:
        self.turns: dict[int, object] = {}  # the call that changes something, under 0
        self.whole = True  # whether the last change was made to its end
        self.free: dict[int, list[mmap.mmap]] = {}  # the size that was returned longest ago first
        self.loans: dict[_Loan, mmap.mmap] = {}
        self.used = self.held = self.peak = 0  # bytes; held: used and free

    def lend(self, size: int) -> _Lease:
        """Return memory of about ``size`` bytes; it comes back by itself."""
        lease = self._changed(self._lend, size)
        return _Lease(size, _BYTES, _allocate(size)) if lease is None else lease

    def trim(self) -> None:
        """Give all free memory back to the system."""
        self._changed(self._trim)

    def _changed(self, change: Callable[..., _Lease | None], *args: int) -> _Lease | None:
        """Return ``change(*args)``, or None if another call is at it."""
        turn = object()
        # Twice: an exception that comes in the middle of the first end does not reach the second.
        try:
            try:
                if self.turns.setdefault(0, turn) is not turn:
                    return None
                self.whole = False
                result = change(*args)
                self.whole = True
                return result
            finally:
                self._end(turn)
        finally:
            self._end(turn)

    def _end(self, turn: object) -> None:
        if self.turns.get(0) is turn:
            if not self.whole:
                self._recount()
            del self.turns[0]

    def after_fork(self) -> None:
        """In a child, end what another thread was at."""
        for turn in list(self.turns.values()):
            self._end(turn)

    def _lend(self, size: int) -> _Lease:
        self._collect()
        if not self.free.get(size):
            # Whole training steps come to reuse all their memory only with both, a loose fit
            # and the room that it costs: without, 120 arrays of conv_small's found none.
            fitting = [n for n, same in self.free.items() if same and size < n <= _FIT * size]
            size = min(fitting, default=size)
        self.used += size
        self.peak = max(self.peak, self.used)
        if found := self.free.get(size):
            memory = found.pop()
        else:
            self.held += size
            self._shrink(max(_ALWAYS, int(self.peak * _ROOM)))
            memory = _allocate(size)
        lease = _Lease(size, _BYTES, memory)
        self.loans[_Loan(lease, _returned.append)] = memory
        return lease

    def _trim(self) -> None:
        self._collect()
        self._shrink(self.used)
        self.peak = self.used

    def _recount(self) -> None:
        """Let go of what is on its way back, and add up anew."""
        _returned.clear()
        self.loans = {loan: memory for loan, memory in self.loans.items() if loan() is not None}
        self.used = sum(map(len, self.loans.values()))
        self.held = self.used + sum(size * len(same) for size, same in self.free.items())
        self.whole = True

    def _collect(self) -> None:
        """Move what was returned to the free lists."""
        while _returned:
            memory = self.loans.pop(_returned.popleft(), None)
            if memory is not None:
                size = len(memory)
                self.used -= size
                same = self.free.pop(size, None) or []
                same.append(memory)
                self.free[size] = same

    def _shrink(self, limit: int) -> None:
        """Give free memory back to the system until no more than ``limit`` bytes are held."""
        while self.held > limit and self.free:
            size, same = next(iter(self.free.items()))
            if same:
                same.pop()
                self.held -= size
            else:
                del self.free[size]


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.after_fork)


def empty(shape: int | Sequence[int], dtype: Any = _DTYPE) -> np.ndarray:
    """Return an uninitialised C-contiguous array; a large one starts at a 64-byte boundary.

    Its memory is recycled when it and all its views are gone. Arrays of less than
    :data:`SMALLEST` bytes are NumPy's own, wherever they start.
    """
    dtype = np.dtype(dtype)
    nbytes = dtype.itemsize * (shape if isinstance(shape, int) else math.prod(shape))
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    # Sizes are rounded up, by an eighth at most, so that arrays of about one size share memory.
    step = 1 << (nbytes.bit_length() - 4)
    size = -(-nbytes // step) * step
    return np.ndarray(shape, dtype, _pool.lend(size))


def empty_like(array: np.ndarray) -> np.ndarray:
    """Return an uninitialised array of ``array``'s shape, dtype and order of axes in memory."""
    if array.nbytes < SMALLEST:
        return np.empty_like(array, subok=False)
    if array.flags.c_contiguous:
        return empty(array.shape, array.dtype)
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    ordered = empty([array.shape[axis] for axis in order], array.dtype)
    return ordered.transpose(np.argsort(order))


def is_lease(base: object) -> bool:
    """Whether ``base``, an array's, is recycled memory that belongs to that array alone."""
    return type(base) is _Lease


def trim() -> None:
    """Give all free memory back to the system."""
    _pool.trim()
