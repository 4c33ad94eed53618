"""Run by the tests, on one rank or several: train by a recipe, up to a step if one is given."""

from __future__ import annotations

import json
import os
import sys

from lucid import distributed
from lucid.training import Callback, Recipe, Run, RunFiles, Score


class StopAt(Callback):
    """Ends the process after so many steps of it, as if it were killed."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, run: Run, score: Score) -> None:
        """Count."""
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def main(path: str, recipe: str, steps: str) -> None:
    """Begin the run, or go on with it."""
    distributed.init()
    processes = distributed.all_gather(os.getpid())
    if distributed.rank() == 0:
        print(*processes, flush=True)
    begun = distributed.broadcast(RunFiles(path).exist())
    run = Run.resume(path) if begun else Run.create(path, Recipe(**json.loads(recipe)))
    with run:
        run.prepare()
        try:
            for epoch in run.fit([StopAt(int(steps))]):
                if distributed.rank() == 0:
                    counts = epoch.train.count, epoch.validation.count
                    print("epoch", epoch.number, *counts, flush=True)
        except KeyboardInterrupt:
            return
        run.finish()


main(*sys.argv[1:])
