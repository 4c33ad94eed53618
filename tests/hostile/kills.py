"""``lucid train`` killed at any moment: what is left can be resumed, to the same weights."""

from __future__ import annotations

import functools
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

import lucid
from tests.hostile.runs import NAME, SMALL, end, finished_run, start
from tests.hostile.verdict import check

TRAIN = ["train", *SMALL, "--epochs", "3", "--output", NAME]
OURS = {f"run.{end}" for end in ("npz", "json", "recipe.toml", "history.csv", "environment.json")}


@functools.cache
def _undisturbed(backend: str) -> tuple[float, dict[str, np.ndarray]]:
    """Return how long a run takes, and its weights."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        status, said = end(start(TRAIN, Path(folder), backend))
        seconds = time.monotonic() - begin
        check(status == 0, said)
        return seconds, _weights(Path(folder) / NAME)


def _weights(path: Path) -> dict[str, np.ndarray]:
    return {name: value.data for name, value in lucid.load(path).items()}


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Kill one run, evaluate what is left, resume it."""
    seconds, expected = _undisturbed(backend)
    replacing = rng.random() < 0.4
    if replacing:
        finished_run(folder)
    process = start(TRAIN + ["--overwrite"] * replacing, folder, backend)
    time.sleep(rng.uniform(0.2, 1.0) * seconds)
    process.send_signal(rng.choice([signal.SIGKILL] * 3 + [signal.SIGINT, signal.SIGTERM]))
    process.communicate()

    status, said = end(start(["eval", NAME], folder, backend))
    check(status == 0 or not (folder / NAME).is_file(), f"eval of what is left: {said}")
    check(status == 0 or not replacing, f"the old weights are lost: {said}")
    status, said = end(start(["train", "--resume", NAME], folder, backend))
    if status != 0 and not replacing:
        nothing = not any(folder.glob("run.*")) or "is finished" in said
        check(nothing, f"resume: {said}")
    if status != 0:  # it was killed before it began, or after its end
        status, said = end(start([*TRAIN, "--overwrite"], folder, backend))
        check(status == 0, f"train again: {said}")
    found = _weights(folder / NAME)
    same = found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )
    check(same, "the resumed run has other weights than an undisturbed one")
    status, said = end(start(["eval", NAME], folder, backend))
    check(status == 0, f"eval at the end: {said}")
    left = {path.name for path in folder.iterdir()} - OURS
    check(not left, f"left behind: {sorted(left)}")
