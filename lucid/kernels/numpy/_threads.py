"""Lucid's own threads over parts of the work, and NumPy's BLAS held at one meanwhile.

NumPy threads its matrix products only. Everything else of a network (patches, depthwise
convolutions, batch norm, activations) runs on one core unless the work is divided, and then the
products must not start threads of their own: measured on two cores, a forward pass of
mobilenetv4_conv_small at batch 16 took 800 to 2400 ms with both pools on a busy machine, and
300 ms with the batch divided and BLAS held at one thread. It is held also for what is too little
to divide: OpenBLAS's threads look for more work for 26 ms after each product, which cost a
training step 400 ms of processor time.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from lucid.kernels import _blas

Result = TypeVar("Result")


class _Turn:
    """A call's right to BLAS's thread count and to the workers, which one call has at a time.

    Attributes:
        members: the threads that work on this.
        before: how many threads BLAS had, and gets back at the end.
        asked: how many it gets instead, because somebody asked for them meanwhile.
    """

    __slots__ = ("asked", "before", "members")

    def __init__(self) -> None:
        self.members = {threading.get_ident()}
        self.before: int | None = None
        self.asked: int | None = None

    def drain(self) -> None:
        """Return when no other thread works on this."""


class _Launch(_Turn):
    """Parts of the work for whoever comes: the caller, who does what nobody has begun, and workers.

    A part is taken by writing a name beside it, which one thread can do, and which tells whose it
    was when that thread is interrupted at any point. So no part is done twice, the end waits for
    no thread that has not begun, and a worker that is late finds nothing to do.
    """

    __slots__ = ("function", "outcomes", "parts", "takers", "told")

    def __init__(self, function: Callable[[slice], Any], parts: list[slice]) -> None:
        super().__init__()
        self.function, self.parts = function, parts
        self.takers: dict[int, object] = {}
        self.outcomes: dict[int, tuple[Any, BaseException | None]] = {}
        self.told: SimpleQueue[None] = SimpleQueue()  # something for each outcome of a worker's

    def work(self, taker: object) -> None:
        """Do the parts that nobody has taken."""
        for index, part in enumerate(self.parts):
            if self.takers.setdefault(index, taker) is taker:
                with np.errstate(all="ignore"):
                    self.outcomes[index] = self.function(part), None
                self.told.put(None)

    def give_up(self, taker: object, error: BaseException | None) -> None:
        """Let parts that were taken and not done, or not even taken, end with an error."""
        for index in range(len(self.parts)):
            if self.takers.setdefault(index, taker) is taker:
                self.outcomes.setdefault(index, (None, error))
        self.told.put(None)

    def drain(self) -> None:
        """Take what is left, and return when the workers have done theirs, whatever comes."""
        again: BaseException | None = None
        while len(self.outcomes) < len(self.parts):
            try:
                self.give_up(self, None)
                while len(self.outcomes) < len(self.parts):
                    self.told.get()
            except BaseException as error:  # Ctrl-C, again: the workers still write
                again = error
        if again is not None:
            raise again

    def results(self) -> list[Any]:
        """Return what the parts gave, and keep nothing, as a worker may still hold this."""
        outcomes, self.outcomes = self.outcomes, {}
        del self.function
        for _, error in outcomes.values():
            if error is not None:
                raise error
        return [outcomes[index][0] for index in range(len(self.parts))]


class _Worker:
    """A thread that helps with launches, one at a time.

    A queue of C's instead of an executor's, with futures and conditions: those are run by Python,
    and the time they hold its lock is missing on both sides.
    """

    def __init__(self, name: str) -> None:
        self.launches: SimpleQueue[_Launch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def _serve(self) -> None:
        launch: _Launch | None = None
        while True:
            try:
                launch = self.launches.get()
                if launch is None:
                    return
                launch.members.add(threading.get_ident())
                launch.work(self)
            except BaseException as error:  # raised where the result is asked for
                if launch is not None:
                    launch.give_up(self, error)
            launch = None


class _Pool:
    """Threads that each take a part of the work; made when first needed."""

    def __init__(self) -> None:
        self._blas: _blas.Blas | None = None
        self._threads: int | None = None
        self._workers: list[_Worker] = []
        self._turns: dict[int, _Turn] = {}  # at most one, under 0

    def after_fork(self) -> None:
        """Forget, in a child, the threads that do not exist there, and end what they were at."""
        self._workers = []
        for turn in self._turns.values():
            self._restore(turn)
        self._turns = {}

    def turn(self) -> _Turn | None:
        """Return the call whose turn it is."""
        return self._turns.get(0)

    def is_alone(self) -> bool:
        """Whether no others can help: there are none, or they are at work, maybe for this call."""
        return self.get_threads() < 2 or 0 in self._turns

    def get_threads(self) -> int:
        if self._threads is None:
            blas = _blas.Blas()
            # What OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and the machine say.
            self._blas, self._threads = blas, blas.threads()
        return self._threads

    def set_threads(self, threads: int) -> None:
        self.get_threads()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.launches.put(None)
        self._threads = threads
        mine = _Turn()
        mine.asked = threads
        self._during(mine, self._ask, mine)

    def _ask(self, mine: _Turn) -> None:
        """Let BLAS have as many threads as ``mine`` asks for, when the call that has it ends."""
        while (turn := self._turns.setdefault(0, mine)) is not mine:
            turn.asked = mine.asked
            if self._turns.get(0) is turn:
                return

    def divide(self, count: int) -> list[slice]:
        threads = max(1, min(self.get_threads(), count))
        bounds = [count * i // threads for i in range(threads + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def run(self, function: Callable[[slice], Result], count: int) -> list[Result]:
        """Return ``function`` of slices that cover ``range(count)``, computed side by side."""
        parts = self.divide(count)
        turn = self.turn()
        if len(parts) < 2 or (turn is not None and threading.get_ident() in turn.members):
            return [function(slice(0, count))]
        launch = _Launch(function, parts)
        if not self._during(launch, self._launch, launch):
            # The same parts as with help: the result does not depend on who came first.
            return [function(part) for part in parts]
        return launch.results()

    def _launch(self, launch: _Launch) -> bool:
        """Do the work with others, unless they are at work; return whether it is done."""
        if not self._begin(launch):
            return False
        for worker in self._others(len(launch.parts) - 1):
            worker.launches.put(launch)
        launch.work(launch)
        launch.drain()
        return True

    def alone(self, function: Callable[[slice], Result], count: int) -> Result:
        """Return ``function`` of the whole, on this thread, BLAS at one thread too."""
        if self.is_alone():
            return function(slice(0, count))
        turn = _Turn()
        return self._during(turn, self._held, turn, function, count)

    def _held(self, turn: _Turn, function: Callable[[slice], Result], count: int) -> Result:
        self._begin(turn)
        return function(slice(0, count))

    def _during(self, turn: _Turn, call: Callable[..., Result], *args: Any) -> Result:
        """Return ``call(*args)``, which may take the turn, and leave everything as it was.

        An exception from outside, such as Ctrl-C, can come at any point, also in the middle of
        the end: it does not come in the second.
        """
        try:
            try:
                return call(*args)
            finally:
                self._end(turn)
        finally:
            self._end(turn)

    def _begin(self, turn: _Turn) -> bool:
        """Hold BLAS at one thread, unless another call has the turn; return whether it has not."""
        if self._turns.setdefault(0, turn) is not turn:
            return False
        assert self._blas is not None
        turn.before = self._blas.threads()
        self._blas.limit(1)
        return True

    def _end(self, turn: _Turn) -> None:
        """Leave everything as it was, if this call has the turn: however far it came."""
        if self._turns.get(0) is turn:
            turn.drain()
            self._restore(turn)
            del self._turns[0]

    def _restore(self, turn: _Turn) -> None:
        assert self._blas is not None
        threads = None
        while (wanted := turn.before if turn.asked is None else turn.asked) != threads:
            self._blas.limit(wanted)
            threads = wanted

    def _others(self, count: int) -> list[_Worker]:
        """Return so many workers."""
        while len(self._workers) < count:
            worker = _Worker(f"lucid_{len(self._workers)}")
            try:
                worker.start()
                self._workers.append(worker)
            except BaseException:
                if worker not in self._workers:
                    worker.launches.put(None)
                raise
        return self._workers[:count]


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.after_fork)

# Multiply-adds that take as long as a step of an element-wise function on one element.
ELEMENT = 64

# Fewer elements than this are done before a second thread has woken up (about 50 µs).
WORTHWHILE = 1 << 17


def _outside_forks(function: Callable[..., Result]) -> Callable[..., Result]:
    """Have a fork wait for ``function``. A worker is at once let in: the call it helps is there."""

    @functools.wraps(function)
    def call(*args: Any) -> Result:
        turn = _pool.turn()
        if turn is not None and threading.get_ident() in turn.members:
            return function(*args)
        return _blas.call(function, *args)

    return call


@_outside_forks
def in_parts(function: Callable[[slice], Result], count: int, elements: int) -> list[Result]:
    """Call ``function`` on slices of ``range(count)``, side by side where ``elements`` are many.

    Returns:
        The results, in the order of the slices. The work must not write to the same memory.
    """
    if elements < WORTHWHILE or count < 2:
        return [_pool.alone(function, count)]
    return _pool.run(function, count)


def images_in_parts(function: Callable[[slice], Result], count: int, elements: int) -> None:
    """Call :func:`in_parts` on images; of one, what ``function`` calls may divide the work."""
    if count == 1:
        function(slice(0, 1))
    else:
        in_parts(function, count, elements)


def divide(count: int) -> list[slice]:
    """Return the slices of ``range(count)`` that :func:`in_parts` works on side by side."""
    return _pool.divide(count)


def sum_parts(parts: list[np.ndarray]) -> np.ndarray:
    """Return the sum of what each part computed, added up into the first."""
    first, *others = parts
    for other in others:
        first += other
    return first


def get_num_threads() -> int:
    """Return how many threads the kernels use."""
    return _pool.get_threads()


def available_threads() -> int:
    """Return among how many threads :func:`in_parts` divides here: in a part of a task none."""
    turn = _pool.turn()
    is_part = turn is not None and threading.get_ident() in turn.members
    return 1 if is_part else get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads the kernels use; NumPy's BLAS is set to the same number."""
    _pool.set_threads(threads)


def is_ready() -> bool:
    """Return whether no kernel is still to be compiled."""
    return True


def warm_up(wait: bool) -> None:
    """Begin to compile the kernels that are missing, and wait until they are there, if asked."""
