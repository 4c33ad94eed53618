"""The ``lucid`` command as it is installed: Ctrl-C ends its imports, too, without a traceback.

It is no module of the package, because the package imports NumPy before any of its modules.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run ``lucid`` with the process's arguments and return its exit status."""
    try:
        from lucid.cli import main as run

        status = run()
    except KeyboardInterrupt:
        print("lucid: interrupted", file=sys.stderr)
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is Python's own end
    return status
