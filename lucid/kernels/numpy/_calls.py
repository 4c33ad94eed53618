"""Calls of NumPy: done at once, or recorded, and done again and again on the same arrays.

What computes a convolution issues calls on parts of its arrays, see :class:`Calls`. A plan's
arrays are always the same, so it records its calls once. With one image what
Python does between two calls is a tenth of the time on one thread, and more on two, of which one
waits for Python's lock meanwhile.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from lucid.kernels import _memory
from lucid.kernels.numpy._threads import WORTHWHILE, divide, get_num_threads, in_parts

Array = np.ndarray
Result = TypeVar("Result")
Call = Callable[[], Any]
Buffers = deque[Array]


class Calls:
    """Does each call at once, on this thread."""

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function of arrays: it writes to ``out``, or else to the first of them."""
        function(*args, **kwargs)

    def divide(
        self, task: Callable[[slice], Result], count: int, elements: int
    ) -> Sequence[Result]:
        """Name the calls of a task on slices of ``range(count)``, maybe for several threads.

        Args:
            task: what names them.
            count: how many things there are to divide.
            elements: how much work all of it is, see :func:`in_parts`.

        Returns:
            What ``task`` returned for each slice.
        """
        return [task(slice(0, count))]

    def empty(self, shape: int | Sequence[int], dtype: Any) -> Array:
        """Return an array for what lies between the calls of one step."""
        return _memory.empty(shape, dtype)

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

    A thread's part of a step has memory of its own, which the next step's part has too: what lies
    in one core's cache is not read by the other.

    Attributes:
        threads: for how many threads they are.
    """

    def __init__(self) -> None:
        self.threads = get_num_threads()
        self._stages: list[list[list[Call]]] = [[[]]]  # the calls of the parts of each
        self._calls = self._stages[0][0]  # those of the present part
        self._part: int | None = None  # its number, None outside of divided tasks
        self._touched: list[_Touched] = []  # by the parts of the last divided task
        self._buffers: dict[Any, Buffers] = {}
        self._memory: list[Scratch] = []

    def play(self) -> None:
        """Do the calls, those of a stage's parts side by side."""
        for parts in self._stages:
            in_parts(functools.partial(_run, parts), len(parts), WORTHWHILE)

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._calls.append(functools.partial(function, *args, **kwargs))

    def divide(
        self, task: Callable[[slice], Result], count: int, elements: int
    ) -> Sequence[Result]:
        slices = divide(count) if self._part is None and elements >= WORTHWHILE else []
        if len(slices) < 2:
            return [task(slice(0, count))]
        serial = self._calls
        parts: list[list[Call]] = [[] for _ in slices]
        results = []
        for self._part, part in enumerate(slices):
            self._calls = parts[self._part]
            results.append(task(part))
        self._part, self._calls = None, serial
        touched = [_Touched(calls) for calls in parts]
        if not serial and len(self._touched) == len(parts) and _are_apart(touched, self._touched):
            # Between two layers whose parts are other images no thread waits for another.
            for mine, calls, old, new in zip(self._stages[-2], parts, self._touched, touched):
                mine += calls
                old.add(new)
            return results
        if not serial:
            self._stages.pop()
        self._calls, self._touched = [], touched
        self._stages += [parts, [self._calls]]
        return results

    def empty(self, shape: int | Sequence[int], dtype: Any) -> Array:
        number = self._part or 0
        while len(self._memory) <= number:
            self._memory.append(Scratch())
        return self._memory[number].empty(shape, np.dtype(dtype))

    def buffers(self, key: Any, shared: Buffers) -> Buffers:
        return self._buffers.setdefault((self._part or 0, key), deque())

    def end_step(self) -> None:
        """Let the calls to come have the memory of those before."""
        for scratch in self._memory:
            scratch.give_all()


def _run(parts: list[list[Call]], some: slice) -> None:
    for calls in parts[some]:
        for call in calls:
            call()


class _Touched:
    """Where calls read and write, as first byte and end."""

    def __init__(self, calls: list[Any]) -> None:
        self.reads: set[tuple[int, int]] = set()
        self.writes: set[tuple[int, int]] = set()
        for call in calls:
            arrays = [x for x in (*call.args, call.keywords.get("out")) if isinstance(x, Array)]
            written = arrays.pop() if "out" in call.keywords else arrays.pop(0)
            self.writes.add(_bounds(written))
            self.reads.update(map(_bounds, arrays))

    def add(self, other: _Touched) -> None:
        """Add where others do."""
        self.reads |= other.reads
        self.writes |= other.writes


def _bounds(x: Array) -> tuple[int, int]:
    start: int = x.__array_interface__["data"][0]
    spans = [(n - 1) * stride for n, stride in zip(x.shape, x.strides)]
    low, high = (sum(side(0, span) for span in spans) for side in (min, max))
    return start + low, start + high + x.itemsize


def _are_apart(later: list[_Touched], earlier: list[_Touched]) -> bool:
    """Whether no part of a later task needs another part of an earlier one to be done."""

    def clash(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> bool:
        return any(a < d and c < b for a, b in some for c, d in others)

    return not any(
        clash(mine.writes, other.reads | other.writes) or clash(mine.reads, other.writes)
        for n, mine in enumerate(later)
        for m, other in enumerate(earlier)
        if n != m
    )


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
