"""``lucid train`` killed at any moment: what is left can be resumed, to the same weights."""

from __future__ import annotations

import functools
import random
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import lucid
from lucid.training import RunFiles
from tests.hostile.progress import processor_seconds, wait
from tests.hostile.runs import NAME, SMALL, end, finished_run, start
from tests.hostile.verdict import check

TRAIN = ["train", *SMALL, "--epochs", "3"]
# The state is written after every step, so many a kill comes while it is.
SETTINGS = ([], ["--save-minutes", "0"], ["--save-minutes", "0", "--keep-states", "2"])
MODELS = ([], ["--ema", "0.9", "--drop-path", "0.1", "--model", "mobilenetv4_conv_small_050"])
KEPT = {"weights.npz", "weights.json", "recipe.toml", "history.csv", "environment.json"}
KEPT |= {"report.html", "report.json"}
OURS = {"run": {"run"}, NAME: {f"run.{name}".replace("run.weights", "run") for name in KEPT}}


@functools.cache
def _undisturbed(backend: str, *options: str) -> tuple[float, dict[str, np.ndarray]]:
    """Return how many seconds of the processor a run takes, and its weights."""
    with tempfile.TemporaryDirectory() as folder:
        begin = _of_children()
        status, said = end(start([*TRAIN, *options, "--output", "run"], Path(folder), backend))
        seconds = _of_children() - begin
        check(status == 0, said)
        return seconds, _weights(Path(folder) / "run")


def _weights(path: Path) -> dict[str, np.ndarray]:
    return {name: value.data for name, value in lucid.load(RunFiles(path).weights).items()}


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Kill one run, evaluate what is left, resume it, and kill that too."""
    options = rng.choice(MODELS)
    seconds, expected = _undisturbed(backend, *options)
    name = rng.choice([*OURS])
    train = [*TRAIN, *options, *rng.choice(SETTINGS), "--output", name]
    replacing = rng.random() < 0.4
    if replacing:
        finished_run(folder, name)
    _kill(rng, start(train + ["--overwrite"] * replacing, folder, backend), seconds)

    weights = RunFiles(folder / name).weights
    status, said = end(start(["eval", name], folder, backend))
    check(status == 0 or not weights.is_file(), f"eval of what is left: {said}")
    check(status == 0 or not replacing, f"the old weights are lost: {said}")
    if rng.random() < 0.5:
        _kill(rng, start(["train", "--resume", name], folder, backend), seconds)
    status, said = end(start(["train", "--resume", name], folder, backend))
    if status != 0 and not replacing:
        left = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
        nothing = not left or "is finished" in said
        check(nothing, f"resume: {said}")
    if status != 0:  # it was killed before it began, or after its end
        status, said = end(start([*train, "--overwrite"], folder, backend))
        check(status == 0, f"train again: {said}")
    found = _weights(folder / name)
    same = found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )
    check(same, "the resumed run has other weights than an undisturbed one")
    status, said = end(start(["eval", name], folder, backend))
    check(status == 0, f"eval at the end: {said}")
    left = {path.name for path in folder.iterdir()} - OURS[name]
    if name == "run":
        left |= {path.name for path in (folder / name).iterdir()} - KEPT
    check(not left, f"left behind: {sorted(left)}")


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kill(rng: random.Random, process: subprocess.Popen[str], seconds: float) -> None:
    moment = rng.uniform(0.2, 1.0) * seconds

    def done(pause: float) -> bool:
        time.sleep(pause)
        return process.poll() is not None or processor_seconds(process.pid) >= moment

    check(wait(process.pid, moment + 1, done, every=0.01), "hangs before it is killed")
    process.send_signal(rng.choice([signal.SIGKILL] * 3 + [signal.SIGINT, signal.SIGTERM]))
    process.communicate()
