"""The ``lucid`` command as it is installed: Ctrl-C ends its imports, too, without a traceback.

It is no module of the package, because the package imports NumPy before any of its modules.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from typing import NoReturn

_INTERRUPTED = "lucid: interrupted\n"


def _again(unraisable: sys.UnraisableHookArgs) -> None:
    """Let a Ctrl-C come again if it came where Python drops exceptions, as in C's callbacks.

    So does what SIGTERM raises, which has a number of its own.
    """
    number = getattr(unraisable.exc_type, "number", signal.SIGINT)
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
    elif hasattr(signal, "pthread_kill"):  # ends a call of the system's as well
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, (main_thread, number)).start()
    else:
        threading.Timer(0.01, _thread.interrupt_main).start()


def _leave(*_: object) -> NoReturn:
    """End at once, while there is nothing to lose: modules turn an exception into other ones."""
    os.write(2, _INTERRUPTED.encode())
    os._exit(130)


def main() -> int:
    """Run ``lucid`` with the process's arguments and return its exit status."""
    sys.unraisablehook = _again
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from lucid.cli import main as run

    try:
        signal.signal(signal.SIGINT, handler)
        status = run()
    except KeyboardInterrupt:
        sys.stderr.write(_INTERRUPTED)
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is Python's own end
    return status
