"""Processes that compile kernels into the cache, on all processors, beside the program.

So a program can compute by NumPy meanwhile, and what compiles is not in its memory. A process is
given kernels one by one through a pipe, and ends when that is closed, so also when the program is
killed, but ends the kernel it is at. One that takes too long is killed. A kernel that no process
has made, or that cannot be read from the cache, the program compiles itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from lucid import _interpreter
from lucid.kernels._processors import processors
from lucid.kernels.numba.machine import _cache

_MOST = 8  # processes: each takes 150 MB, and the longest kernel a second

# Seconds for one kernel, after which a process is taken to hang: 300 times what the longest
# takes on one processor that nobody else uses.
_LIMIT = 300.0

# What a first training step of a usual model does not need is compiled last. Who asks for a kernel
# gets it next in any case: the other processes work ahead on what will be asked for.
_LATE = (
    "_activation.clip",
    "_activation.mapped",
    "_attention",
    "_batch_norm.statistics",
    "_optim.adagrad",
    "_optim.rmsprop",
    "_pool.max",
    "_pool.spread",
    "_pool.take",
    "_prepared",
    "_product.inner",
    "_softmax",
)

# How far processes stand back that work ahead for a program which computes by kernels. One that
# computes by NumPy until they are there is better served if they do not.
_NICE = 10

# A terminal's Ctrl-C is for the program. In a session of their own, Linux would count processes by
# sessions: each got as much of the processors as the program, whatever their priority.
_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)

_PROGRAM = "from lucid.kernels.numba.machine._compiler import serve; serve"
_MADE = b"made\n"

_COMPLETE = "complete"  # the entry of the cache that says that it holds all kernels


# All that there are, by their names: what `_native.Native` makes.
natives: dict[str, Any] = {}


class Team:
    """Processes that compile kernels, in the order of their names here, at a priority."""

    def __init__(self, names: list[str], nice: int = 0) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._queue, self._open, self._count = list(names), set(names), len(names)
        self._made: set[str] = set()
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._lanes, self._nice = 0, nice

    def start(self) -> None:
        """Start the processes."""
        for _ in range(min(len(processors()), _MOST, self._count)):
            with self._changed:
                self._lanes += 1
            threading.Thread(target=self._lane, name="lucid-compiler", daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether no kernel is made any more. A fork has no process that could."""
        return not self._open or not self._lanes or self._owner != os.getpid()

    def wait(self, name: str | None = None) -> bool:
        """Wait for all kernels, or for one, which is begun next; return whether that is made."""
        with self._changed:
            if name in self._queue:
                self._queue.remove(name)
                self._queue.insert(0, name)
            try:
                while not self.is_done and (name is None or name in self._open):
                    _show(f"lucid: {len(self._made)} of {self._count} kernels compiled")
                    self._changed.wait(0.5)
            finally:
                _show("")
            return name in self._made

    def leave(self) -> None:
        """Forget the processes, in a fork, which holds their pipes too."""
        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0  # it is no child of this one

    def _lane(self) -> None:
        """Hand kernels to a process until none is left, or the process ends."""
        name = None
        try:
            with subprocess.Popen(
                _interpreter.command(f"{_PROGRAM}({self._nice})"),
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_interpreter.environment(),
                **_GROUP,
            ) as process:
                self.processes.append(process)
                assert process.stdin is not None
                assert process.stdout is not None
                while (name := self._next()) is not None:
                    process.stdin.write(f"{name}\n".encode())
                    overdue = threading.Timer(_LIMIT, process.kill)
                    overdue.daemon = True  # the program need not wait for it
                    overdue.start()
                    answer = process.stdout.readline()
                    overdue.cancel()
                    if not answer:
                        break
                    self._end(name, answer == _MADE)
        except OSError:  # it cannot be started, or was killed
            pass
        finally:
            with self._changed:
                self._lanes -= 1
            self._end(name, False)

    def _next(self) -> str | None:
        with self._changed:
            return self._queue.pop(0) if self._queue else None

    def _end(self, name: str | None, made: bool) -> None:
        with self._changed:
            if made and name is not None:
                self._made.add(name)
                if len(self._made) == self._count:
                    _cache.save(_COMPLETE, b"")
            self._open.discard(name or "")
            self._changed.notify_all()


_teams: dict[int, Team] = {}  # the one of this process, under 0


def _team(meanwhile: str = "", nice: int = 0) -> Team | None:
    """Return the processes, which begin with all kernels if there are none; None if none can be."""
    if 0 not in _teams:
        if not _interpreter.AVAILABLE or _cache.folder() is None:
            return None
        announce(meanwhile)
        new = Team(sorted(natives, key=_turn), nice)
        if _teams.setdefault(0, new) is new:
            new.start()
    return _teams[0]


def _turn(name: str) -> tuple[bool, bool]:
    """Return when a kernel is begun: long ones first, so that the processes end together."""
    return name.startswith(_LATE), not natives[name].is_long


def wait_for(name: str) -> bool:
    """Wait until another process has compiled one of the kernels; return whether one has."""
    team = _team(nice=_NICE)
    return team is not None and team.wait(name)


def warm_up(wait: bool) -> None:
    """Let processes compile the kernels if some are missing, and wait for them, if asked.

    Where no process can be started, or nothing can be kept, each is compiled when it is used.
    """
    if not is_ready():
        team = _team("" if wait else "; NumPy computes meanwhile")
        if wait and team is not None:
            team.wait()


def is_ready() -> bool:
    """Return whether no process compiles kernels any more, nor has to."""
    global _is_complete
    if 0 in _teams:
        return _teams[0].is_done
    if not _is_complete:
        _is_complete = _cache.load(_COMPLETE) is not None
    return _is_complete or not _interpreter.AVAILABLE or _cache.folder() is None


_is_complete = False


def _forget() -> None:
    for team in _teams.values():
        team.leave()
    _teams.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def announce(meanwhile: str = "") -> None:
    """Say, once, why a first call takes seconds."""
    global _told
    if not _told and sys.stderr is not None and (folder := _cache.folder()) is not None:
        _told = True
        text = f"lucid: compiling the fast kernels for this machine, once (kept in {folder})"
        print(f"{text}{meanwhile}", file=sys.stderr)


_told = False


def _show(text: str) -> None:
    """Show how far it is on the last line of a terminal, in the place of what it showed before."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


# -- in the other process


def serve(nice: int = 0) -> None:
    """Make the kernels whose names come, line by line, until there are no more."""
    if hasattr(os, "nice"):
        os.nice(nice)
    _teams[0] = Team([])  # nobody else compiles for this one
    answers = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # what is printed is no answer
    for line in sys.stdin:
        try:
            natives[line.strip()].make()
        except Exception:
            answers.write(b"not made\n")
        else:
            answers.write(_MADE)
