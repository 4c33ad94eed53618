"""Compare lucid with PyTorch on PyTorch's samples, and print the totals."""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import lucid
from tests.peer import modules, ops, optimisers, schedules
from tests.peer.tally import Tally

PARTS = {"ops": ops, "modules": modules, "optimisers": optimisers, "schedules": schedules}


def main() -> int:
    """Run the comparison; return 1 if there is a failure or an entry of the table is over."""
    parser = argparse.ArgumentParser(prog="python -m tests.peer", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every sample, in more than one layout")
    parser.add_argument("--only", default="", help="operations whose name in PyTorch contains this")
    parser.add_argument("--part", choices=PARTS, action="append", help="a part of the library")
    parser.add_argument("--backend", choices=lucid.available_backends(), action="append")
    parser.add_argument("--examples", type=int, default=2, help="how many of each failure")
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # PyTorch's
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's
    tally = Tally(tuple(options.backend or lucid.available_backends()))
    began = time.perf_counter()
    for name in options.part or PARTS:
        PARTS[name].run(tally, options.all, options.only)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    report = tally.report(options.examples)
    if report:
        print(report)
    over = [] if options.only or options.part else tally.stale(options.all)
    for difference in over:
        print(f"no longer a difference: {difference.names}: {difference.reason}")
    print(tally.totals())
    return 1 if report or over else 0


if __name__ == "__main__":
    sys.exit(main())
