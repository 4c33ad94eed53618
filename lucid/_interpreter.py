"""Another interpreter, which runs code of lucid's beside this one.

It is no fork: threads, BLAS and MPI are none that it could break, and the script that runs is not
run again.
"""

from __future__ import annotations

import os
import subprocess
import sys

from lucid import _ranks

# A frozen program is no interpreter to start again.
AVAILABLE = bool(sys.executable) and not hasattr(sys, "frozen")


def command(program: str) -> list[str]:
    """Return the command that runs a program, which finds modules as this process does."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {sys.path}; {program}"]


def environment(**more: str) -> dict[str, str]:
    """Return this process's variables, and more, for a process that is no rank of MPI."""
    ours = {name: value for name, value in os.environ.items() if not _ranks.is_launchers(name)}
    return {**ours, **more}
