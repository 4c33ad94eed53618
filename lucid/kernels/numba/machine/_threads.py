"""The thread pool of the kernels.

Forked children and several Python threads can use it. A launch costs 3 µs from Python, where
Numba's pool takes 13, and a fraction of one within a plan:

- A launch publishes a kernel and a number of chunks in one shared word, ``turn | first | end``.
  The caller takes chunks from the front, the workers from the back, each by one compare-and-swap
  of the whole word. So nobody waits for a worker that is asleep or was put aside by the system: the
  caller does the work itself. The same chunks tend to stay with the same core, and its cache.
- The turn counts launches: a worker that comes late finds another word and takes nothing.
- A second caller at the same time finds the pool busy and works alone.
- After a fork the child starts a pool of its own.

Workers wait in a loop for a short time and then sleep until the next launch wakes them.
"""

from __future__ import annotations

import atexit
import os
import struct
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from llvmlite import ir

from lucid.kernels import numpy as reference
from lucid.kernels._processors import processors
from lucid.kernels.numba.machine._native import (
    Instruction,
    address,
    atomic_add,
    atomic_exchange,
    call_kernel,
    compare_exchange,
    compiled,
    give_way,
    i64,
    load_acquire,
    pause,
    piece,
    store_release,
    void,
    words,
)

Result = TypeVar("Result")

# Each shared number has a cache line of its own (8 words), or the cores would fight for it.
_TICKET, _DONE, _KERNEL, _ARGS, _LIMIT, _FIRST, _BUSY, _SLEEPING, _ACTIVE, _STOP = (
    8 * i for i in range(10)
)
_STATE_WORDS = 80

# Words of an instruction in a plan: the kernel's address, the number of chunks, for how many
# threads it has room (its scratch memory), then the kernel's arguments.
WORDS = 48
ARGUMENTS = 3
# What writes so many arguments: twice as fast as NumPy, and small calls wait for it.
_packed = [struct.Struct(f"{ARGUMENTS + count}q") for count in range(WORDS - ARGUMENTS + 1)]

MAX_CHUNKS = (1 << 16) - 1

# Rounds of waiting before a worker sleeps, some 1 ms: longer than the Python code between two
# kernels of a training step (100 to 300 µs), after which it would have to be woken, which takes as
# long again. To yield the core while waiting is no improvement: Linux then may leave worker and
# caller on one core, though another is free.
_PATIENCE = 50_000


@piece
def _take_one(place):
    """Count a number down, and return whether it was above zero."""
    while True:
        number = load_acquire(place)
        if number <= 0:
            return False
        if compare_exchange(place, number, number - 1):
            return True


@compiled(ir.FunctionType(void, [i64, i64]))
def _work(base, thread):
    """Take chunks from the back until none have come for a while, then fall asleep.

    Not during a launch, which wakes nobody: when the system gives the caller's core to another
    process for a few milliseconds, the rest of a long plan would have one thread less.
    """
    waited = 0
    while True:
        ticket = load_acquire(base + 8 * _TICKET)
        first, end = (ticket >> 16) & 0xFFFF, ticket & 0xFFFF
        if first < end and thread < load_acquire(base + 8 * _LIMIT):
            function = load_acquire(base + 8 * _KERNEL)
            args = load_acquire(base + 8 * _ARGS)
            chunk = load_acquire(base + 8 * _FIRST) + end - 1
            if compare_exchange(base + 8 * _TICKET, ticket, ticket - 1):
                call_kernel(function, args, chunk, thread)
                atomic_add(base + 8 * _DONE, 1)
                waited = 0
            continue
        if load_acquire(base + 8 * _STOP) != 0:
            return
        if waited < _PATIENCE:
            pause()
            waited += 1
            continue
        waited = 0
        if load_acquire(base + 8 * _BUSY) == 0:
            atomic_add(base + 8 * _SLEEPING, 1)
            # A launch that began meanwhile has either seen this, and wakes a sleeper, or is seen.
            if load_acquire(base + 8 * _BUSY) == 0 or not _take_one(base + 8 * _SLEEPING):
                return
        give_way()


@compiled(ir.FunctionType(i64, [i64, i64, i64]))
def _run(base, table, instructions):
    """Run the instructions of a plan one after the other, each in chunks on all threads.

    Returns 0; or, with nothing done, how many sleeping workers to wake before the next try.
    """
    plan = words(table)
    threads = load_acquire(base + 8 * _ACTIVE)
    pool = threads > 1 and compare_exchange(base + 8 * _BUSY, 0, 1)
    if pool and load_acquire(base + 8 * _SLEEPING) > 0:
        sleeping = atomic_exchange(base + 8 * _SLEEPING, 0)
        if sleeping > 0:
            store_release(base + 8 * _BUSY, 0)
            return sleeping
    for start in range(0, instructions * WORDS, WORDS):
        function, chunks = plan[start], plan[start + 1]
        args = table + 8 * (start + ARGUMENTS)
        limit = min(threads, plan[start + 2])
        if chunks == 1 or limit == 1 or not pool:
            for chunk in range(chunks):
                call_kernel(function, args, chunk, 0)
            continue
        for begin in range(0, chunks, MAX_CHUNKS):  # as many as a ticket can count
            count = min(MAX_CHUNKS, chunks - begin)
            turn = (load_acquire(base + 8 * _TICKET) >> 32) + 1
            store_release(base + 8 * _DONE, 0)
            store_release(base + 8 * _KERNEL, function)
            store_release(base + 8 * _ARGS, args)
            store_release(base + 8 * _LIMIT, limit)
            store_release(base + 8 * _FIRST, begin)
            store_release(base + 8 * _TICKET, (turn << 32) | count)
            own = 0
            while True:
                ticket = load_acquire(base + 8 * _TICKET)
                first, end = (ticket >> 16) & 0xFFFF, ticket & 0xFFFF
                if first >= end:
                    break
                if compare_exchange(base + 8 * _TICKET, ticket, ticket + (1 << 16)):
                    call_kernel(function, args, begin + first, 0)
                    own += 1
            waited = 0
            while load_acquire(base + 8 * _DONE) < count - own:
                pause()
                waited += 1
                if waited > 1000:  # the system may have given the other's core to someone else
                    give_way()
    if pool:
        store_release(base + 8 * _BUSY, 0)
    return 0


def _default_threads() -> int:
    for name in ("LUCID_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text) > 0:
            return int(text)
    return len(processors())


class _Pool:
    """Workers and the memory they share with the callers.

    What interrupts a launch in Python, such as Ctrl-C, may leave a worker asleep that nobody counts
    any more. So a pool that saw an exception is left to itself, and the next launch makes another.
    """

    def __init__(self, threads: int) -> None:
        # One cache line more than needed, so that the first word can start one.
        raw = np.zeros(_STATE_WORDS + 8, np.int64)
        skip = -address(raw) % 64 // 8
        self.state = raw[skip : skip + _STATE_WORDS]
        self.base = address(self.state)
        self.state[_ACTIVE] = threads
        self.wake: SimpleQueue[None] = SimpleQueue()  # something for each worker to be woken
        self.workers: dict[int, threading.Thread] = {}
        self.missing = threads - 1

    def run(self, plan: np.ndarray) -> None:
        try:
            if self.missing:
                self.start()
            while sleeping := _run.call(self.base, address(plan), plan.shape[0]):
                self.wake_up(sleeping)
        except BaseException:
            _leave(self)
            raise

    def start(self) -> None:
        _work.address  # noqa: B018  compiled here, not by all workers at once
        for number in range(1, int(self.state[_ACTIVE])):
            worker = threading.Thread(
                target=self.work, args=(number,), name="lucid-kernels", daemon=True
            )
            if self.workers.setdefault(number, worker) is worker:
                worker.start()
        self.missing = 0

    def work(self, number: int) -> None:
        try:
            while not self.state[_STOP]:
                _work.call(self.base, number)
                self.wake.get()
        except BaseException:
            _leave(self)

    def wake_up(self, count: int) -> None:
        for _ in range(count):
            self.wake.put(None)

    def stop(self) -> None:
        self.state[_STOP] = 1
        self.wake_up(len(self.workers))


_pools: dict[int, _Pool] = {}  # the one in use, under 0
_threads = _default_threads()


def _get_pool() -> _Pool:
    return _pools.get(0) or _pools.setdefault(0, _Pool(_threads))


def _leave(pool: _Pool) -> None:
    """Let a pool's workers end, and the next launch make another pool."""
    if _pools.get(0) is pool:
        del _pools[0]
    pool.stop()


def plan(*instructions: Instruction, threads: int | None = None) -> np.ndarray:
    """Return instructions as a plan ``(instructions, WORDS)`` of int64, for :func:`run`.

    ``threads`` is for how many they have room, by default for all there are now.
    """
    table = np.zeros((len(instructions), WORDS), np.int64)
    for index, instruction in enumerate(instructions):
        set_instruction(table, index, instruction, threads or _threads)
    return table


def set_instruction(
    plan: np.ndarray, index: int, instruction: Instruction, threads: int | None = None
) -> None:
    """Write an instruction into a plan."""
    function, chunks, *arguments = instruction
    head = function, chunks, threads or _threads
    at = 8 * WORDS * index
    _packed[len(arguments)].pack_into(plan, at, *head, *arguments)  # type: ignore[arg-type]


def run(plan: np.ndarray) -> None:
    """Run the instructions of a plan, one after the other."""
    _get_pool().run(plan)


def launch(*instructions: Instruction) -> None:
    """Run instructions, one after the other."""
    run(plan(*instructions))


def chunks_of(size: int, worth: int, most: int = MAX_CHUNKS) -> int:
    """Return into how many chunks to cut work of a size, where so much is worth a chunk."""
    return max(1, min(most, size // worth, MAX_CHUNKS))


def set_num_threads(threads: int) -> None:
    """Let kernels use this many threads; those of the NumPy backend that serve here as well."""
    global _threads
    _threads = threads
    for pool in list(_pools.values()):
        _leave(pool)
    reference.set_num_threads(threads)


def get_num_threads() -> int:
    """Return how many threads kernels use."""
    return _threads


def divide(count: int) -> list[slice]:
    """Return the slices of ``range(count)`` that :func:`in_parts` works on: one."""
    return [slice(0, count)]


def in_parts(function: Callable[[slice], Result], count: int, elements: int) -> list[Result]:
    """Call ``function`` on the whole range: the kernels inside use all threads themselves."""
    return [function(slice(0, count))]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # the workers do not exist there


@atexit.register
def _stop() -> None:
    for pool in list(_pools.values()):
        _leave(pool)
        for worker in pool.workers.values():
            worker.join(1)
