"""What becomes of all ranks when one of them fails, is killed, or stops."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from lucid import _ranks

_BEAT = 0.5  # seconds between two signs of life
_STOPPED = 5.0  # so long a silence of a rank that is found stopped or gone on this machine
# So long a silence of one that cannot be looked at, as its machine is another. What holds Python's
# lock for longer (unpickling millions of objects, say) needs a larger number.
_SILENT = float(os.environ.get("LUCID_RANK_TIMEOUT", "8"))
_HANDLED = 2.0  # seconds in which an interrupt is answered, unless the rank waits for another one

_MEETING = 1.0  # seconds in which ranks that fail for one reason do so

_ALIVE, _LEAVES = 0, 1

_watch: _Watch | None = None


def start() -> None:
    """Watch the other ranks from now on, until this process ends; all ranks begin together."""
    global _watch
    if _watch is None and _ranks.size() > 1:
        _watch = _Watch()
        _watch.start()
        atexit.register(_watch.leave)
        sys.excepthook = _tell_uncaught
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """Let a forked process, which is none of the ranks, be as any other."""
    global _watch
    if _watch is not None:
        _watch = None
        sys.excepthook = sys.__excepthook__
        signal.set_wakeup_fd(-1)


def fail(message: str, status: int = 1) -> NoReturn:
    """End all ranks, after telling what happened on this one."""
    sys.stdout.flush()
    try:
        _ranks.abort(message, status)
    finally:  # without anything that would wait for the others
        os._exit(status)


def end_together(message: str, status: int = 1) -> None:
    """Return if all ranks come to their end now; else tell what happened here and end all.

    What is wrong for all ranks is so told by the caller, once, and what is wrong on one by that.

    Args:
        message: what happened.
        status: the exit status.
    """
    if _watch is not None and not _watch.meets_all():
        fail(message, status)


def who_is_where() -> str:
    """Return in words which process of which machine each rank is: launchers name these alone."""
    places: dict[str, list[str]] = {}
    for rank, (host, process) in enumerate(_watch.hosts if _watch is not None else ()):
        places.setdefault(host, []).append(f"rank {rank} is process {process}")
    return "; ".join(f"on {host} {', '.join(ranks)}" for host, ranks in places.items())


def on_interrupt(last_words: Callable[[], str]) -> None:
    """Say what is to be told if an interrupt finds this rank waiting for another one."""
    if _watch is not None:
        _watch.last_words = last_words


def _tell_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    lines = "".join(traceback.format_exception(kind, error, trace))
    end_together(lines.rstrip(), 128 + signal.SIGINT if issubclass(kind, KeyboardInterrupt) else 1)
    if _ranks.rank() == 0:
        sys.__excepthook__(kind, error, trace)


class _Watch(threading.Thread):
    """Sends signs of life to the next rank, and waits for those of the one before.

    The ranks are a ring: of several that end at once, the one behind them tells it.
    """

    def __init__(self) -> None:
        super().__init__(name="lucid-watch", daemon=True)
        self._comm = _ranks.communicator().Dup()
        self._rank, self._size = self._comm.rank, self._comm.size
        self._before = (self._rank - 1) % self._size
        self._ends = self._comm.Dup()
        self.hosts = self._comm.allgather((socket.gethostname(), os.getpid()))
        self._leaving = threading.Event()
        self._meeting = False
        # Python's own handler writes the number of a signal there, whatever the main thread does.
        self._signals, self._handler = socket.socketpair()
        for end in (self._signals, self._handler):
            end.setblocking(False)
        signal.set_wakeup_fd(self._handler.fileno(), warn_on_full_buffer=False)
        self.last_words: Callable[[], str] = lambda: "interrupted"

    def run(self) -> None:
        """Watch until all ranks leave."""
        from mpi4py import MPI

        beat, heard = np.array([_ALIVE], np.int8), np.zeros(1, np.int8)
        sent = MPI.REQUEST_NULL
        awaited = self._comm.Irecv(heard, self._before)
        together: Any = None  # what all ranks that leave wait for
        silence = 0.0
        interrupted: tuple[float, int, Any] | None = None
        last = time.monotonic()
        while True:
            time.sleep(_BEAT / 10 if together is not None else _BEAT)
            now = time.monotonic()
            passed, last = now - last, now
            if sent.Test() and beat[0] == _ALIVE:
                beat[0] = _LEAVES if self._leaving.is_set() else _ALIVE
                sent = self._comm.Isend(beat, (self._rank + 1) % self._size)
            if together is None and self._leaving.is_set():
                together = self._comm.Ibarrier()
            # What passed while this process did not run itself says nothing of others.
            silence += min(passed, 2 * _BEAT)
            while awaited is not None and awaited.Test():
                silence = 0.0
                awaited = None if heard[0] == _LEAVES else self._comm.Irecv(heard, self._before)
            if awaited is not None and (trouble := self._trouble(silence)):
                fail(trouble)
            if together is not None and awaited is None and together.Test() and sent.Test():
                return
            if number := self._signal():
                interrupted = now, number, _place_of_main()
            if interrupted is not None and self._answers(now - interrupted[0], interrupted[2]):
                fail(self.last_words(), 128 + interrupted[1])

    def meets_all(self) -> bool:
        """Return whether all ranks call this within a second."""
        self._meeting = True
        met = self._ends.Ibarrier()
        # Of several that fail, rank 0 speaks.
        until = time.monotonic() + _MEETING + (self._rank > 0) / 2
        while not met.Test():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def leave(self) -> None:
        """Wait for the other ranks, which may have more to do, and end."""
        self._leaving.set()
        self.join()

    def _trouble(self, silence: float) -> str:
        """Return what has become of the rank before this one; empty if it may just be slow."""
        host, process = self.hosts[self._before]
        name = f"rank {self._before} of {self._size} ({host}, process {process})"
        if host == self.hosts[self._rank][0] and (state := _state(process)) is not None:
            if silence > _STOPPED and state in "TtZX":
                return f"{name} {'was stopped' if state in 'Tt' else 'is gone'}"
            return ""
        if silence > _SILENT:
            return f"{name} has given no sign of life for {silence:.0f} seconds"
        return ""

    def _signal(self) -> int | None:
        """Return the number of a signal that is to end this process, if one came."""
        with contextlib.suppress(BlockingIOError):
            came = self._signals.recv(64)
            return next((n for n in (signal.SIGINT, signal.SIGTERM) if n in came), None)
        return None

    def _answers(self, seconds: float, place: Any) -> bool:
        """Return whether this thread answers a signal that came so long ago.

        It does if the main thread cannot, as it is still in MPI, waiting for another rank. Rank 0
        speaks first.
        """
        is_due = not self._meeting and seconds > _HANDLED + 3 * (self._rank > 0)
        return is_due and _place_of_main() == place


def _place_of_main() -> Any:
    """Return where the main thread is: the same as long as it is in one call."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame and (id(frame), frame.f_lasti)


def _state(process: int) -> str | None:
    """Return the letter that Linux has for what a process does; None where that is not known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X" if Path("/proc/self/stat").exists() else None
