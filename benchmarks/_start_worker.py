"""A process that is measured from its start, with one contender and one case.

``python -m benchmarks._start_worker NAME FOLDER THREADS`` does what a user's program does: it
imports the library, sets up model and weights, computes, and goes on computing. A line of JSON,
written the moment a stage is over, tells it to the parent, whose clock counts. Nothing else is
imported, since that would count too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _memory
from benchmarks._case import Case, read_case
from benchmarks._contenders import CONTENDERS, NotAvailableError

CALLS = 5  # after the first: memory is what a program needs that stays


def difference(case: Case, folder: Path, given: Any) -> float:
    """Return how far a result is from what lucid computed with NumPy, over its largest value."""
    if case.trains:
        expected = np.array(json.loads((folder / "expected.json").read_text())[0])
    else:
        expected = np.load(folder / "expected.npy")
    return float(np.abs(given - expected).max() / max(1.0, np.abs(expected).max()))


def main() -> None:
    """Go through the stages."""
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    # What libraries print must not end up among the stages.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**stage: Any) -> None:
        answers.write(json.dumps(stage) + "\n")
        answers.flush()

    case, contender = read_case(folder), CONTENDERS[name]
    try:
        importlib.import_module(contender.packages[-1])
        tell(stage="imported")
        run = contender.set_up(case, folder, threads)
    except (ModuleNotFoundError, NotAvailableError) as error:
        tell(skipped=str(error))
        return
    tell(stage="ready")
    results = [run()]
    tell(stage="first")
    if case.mode == "cold start" and hasattr(sys.modules.get("lucid"), "warm_up"):
        sys.modules["lucid"].warm_up()
        tell(stage="all kernels")
    for _ in range(1 if case.trains else CALLS):
        result = run()
    if not case.trains:  # a later step has another loss
        results.append(result)
    peak = _memory.peak()
    tell(peak_bytes=peak, difference=max(difference(case, folder, given) for given in results))


if __name__ == "__main__":
    main()
