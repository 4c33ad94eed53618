"""Calls of NumPy: done at once, or recorded, and done again and again on the same arrays.

What computes a convolution issues calls on parts of its arrays, see :class:`Calls`. A plan's
arrays are always the same, so it records its calls once. For one image what Python does between two
calls is a tenth of the time on one thread. On two it is more, as one waits for Python's lock.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from lucid.kernels import _memory
from lucid.kernels.numpy._threads import WORTHWHILE, divide, in_parts

Array = np.ndarray
Result = TypeVar("Result")
Call = Callable[[], Any]
Buffers = deque[Array]


class Calls:
    """Does each call at once, on this thread."""

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function of arrays, whose numbers are there at once or only later."""
        function(*args, **kwargs)

    def divide(
        self, task: Callable[[slice], Result], count: int, elements: int
    ) -> Sequence[Result]:
        """Issue the calls of a task on slices of ``range(count)``, maybe for several threads.

        Args:
            task: what issues them.
            count: how many things there are to divide.
            elements: how much work all of it is, see :func:`in_parts`.

        Returns:
            What ``task`` returned for each slice.
        """
        return [task(slice(0, count))]

    def empty(self, shape: int | Sequence[int], dtype: Any) -> Array:
        """Return an array for what lies between the calls of one step."""
        return _memory.empty(shape, dtype)

    def give(self, array: Array) -> None:
        """Let the calls to come have the memory of an array, if it was got in the same part."""

    def contiguous(self, x: Array) -> Array:
        """Return an array, or a copy of it if it has gaps or its axes are in another order."""
        if x.flags.c_contiguous:
            return x
        copy = self.empty(x.shape, x.dtype)
        self.do(np.copyto, copy, x)
        return copy

    def buffers(self, key: Any, shared: Buffers) -> Buffers:
        """Return where arrays of a kind are that no step is using: ``shared``, or others."""
        return shared


class _OnThreads(Calls):
    """Does each call at once, those of a divided task side by side."""

    def divide(
        self, task: Callable[[slice], Result], count: int, elements: int
    ) -> Sequence[Result]:
        return in_parts(task, count, elements)


HERE = Calls()
ON_THREADS = _OnThreads()


class Recording(Calls):
    """The calls of several steps, to be done again and again.

    The n-th part of each divided task uses the same memory, so that what one thread left in its
    cache is not fetched by another. Calls outside of divided tasks use that of the first part.

    Args:
        threads: among how many threads a task may be divided.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._stages: list[list[list[Call]]] = []  # the calls of the parts of each
        self._calls: list[Call] | None = None  # those of the present part; None: none is begun
        self._part = 0
        self._is_divided = False
        self._buffers: dict[Any, Buffers] = {}
        self._memory: list[Scratch] = []

    def play(self) -> None:
        """Do the calls, those of a stage's parts side by side."""
        for parts in self._stages:
            in_parts(functools.partial(_run, parts), len(parts), WORTHWHILE)

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if self._calls is None:
            self._calls = []
            self._stages.append([self._calls])
        self._calls.append(functools.partial(function, *args, **kwargs))

    def divide(
        self, task: Callable[[slice], Result], count: int, elements: int
    ) -> Sequence[Result]:
        may_divide = self._threads > 1 and not self._is_divided and elements >= WORTHWHILE
        slices = divide(count) if may_divide else []
        if len(slices) < 2:
            return [task(slice(0, count))]
        parts: list[list[Call]] = [[] for _ in slices]
        results = []
        self._is_divided = True
        for self._part, self._calls in enumerate(parts):
            results.append(task(slices[self._part]))
        self._is_divided = False
        self._part, self._calls = 0, None
        self._stages.append(parts)
        return results

    def empty(self, shape: int | Sequence[int], dtype: Any) -> Array:
        while len(self._memory) <= self._part:
            self._memory.append(Scratch())
        return self._memory[self._part].empty(shape, np.dtype(dtype))

    def give(self, array: Array) -> None:
        self._memory[self._part].give(array)

    def buffers(self, key: Any, shared: Buffers) -> Buffers:
        return self._buffers.setdefault((self._part, key), deque())

    def end_step(self) -> None:
        """Let the calls to come have the memory of those before."""
        for scratch in self._memory:
            scratch.give_all()


def _run(parts: list[list[Call]], some: slice) -> None:
    for calls in parts[some]:
        for call in calls:
            call()


class Scratch:
    """Memory that arrays use one after the other."""

    def __init__(self) -> None:
        self._blocks: list[Array] = []
        self._free: list[Array] = []

    def empty(self, shape: int | Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return an array in the smallest block that is large enough, or in a new one."""
        size = dtype.itemsize * int(np.prod(shape))
        fitting = [block for block in self._free if len(block) >= size]
        if fitting:
            block = min(fitting, key=len)
            self._free = [other for other in self._free if other is not block]
        else:
            block = _memory.empty(max(size, _memory.SMALLEST), np.uint8)
            self._blocks.append(block)
        return np.ndarray(shape, dtype, block)

    def give(self, array: Array) -> None:
        """Let others have an array's memory."""
        assert isinstance(array.base, np.ndarray)
        self._free.append(array.base)

    def give_all(self) -> None:
        """Let others have all memory."""
        self._free = list(self._blocks)
