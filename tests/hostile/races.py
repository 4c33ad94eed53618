"""Several processes that want the same file at once."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.hostile.progress import wait
from tests.hostile.runs import NAME, SMALL, end, start
from tests.hostile.verdict import check


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Let some processes race."""
    rng.choice([free_names, one_name, two_resume, readers])(rng, folder, backend)


def _train(rng: random.Random, *more: str) -> list[str]:
    return ["train", *SMALL, "--epochs", "1", "--seed", str(rng.randrange(100)), *more]


def _accuracy(said: str) -> str:
    return re.findall(r"test accuracy ([\d.]+) %", said)[-1]


def free_names(rng: random.Random, folder: Path, backend: str) -> None:
    """Runs without a name: each gets one of its own, with its own weights."""
    processes = []
    for _ in range(rng.choice([2, 3])):
        processes.append(start(_train(rng), folder, backend))
        time.sleep(rng.choice([0, 0, 0.05, 0.5]))
    said = []
    for process in processes:
        status, text = end(process)
        check(status == 0, text)
        said.append(text)
    names = [re.findall(r"best weights: epoch \d+, (.*)", text)[-1] for text in said]
    check(len(set(names)) == len(names), f"one name for two runs: {names}")
    for name, text in zip(names, said):
        _, again = end(start(["eval", name], folder, backend))
        check(_accuracy(again) == _accuracy(text), f"{name}: said {text}, evaluated {again}")


def one_name(rng: random.Random, folder: Path, backend: str) -> None:
    """Runs of one name: one gets it, or one after the other; none is mixed with another's."""
    more = ["--output", NAME] + ["--overwrite"] * rng.randrange(2)
    processes = []
    for _ in range(2):
        processes.append(start(_train(rng, *more), folder, backend))
        time.sleep(rng.choice([0, 0, 0.05, 0.5]))
    ends = [end(process) for process in processes]
    done = [text for status, text in ends if status == 0]
    check(bool(done), f"none of the runs got the name: {ends}")
    status, again = end(start(["eval", NAME], folder, backend))
    check(status == 0, again)
    found = [_accuracy(text) for text in done]
    check(_accuracy(again) in found, f"said {found}, evaluated {again}")


def two_resume(rng: random.Random, folder: Path, backend: str) -> None:
    """An interrupted run, taken up by two: one goes on with it."""
    process = start(["train", *SMALL, "--epochs", "50", "--output", NAME], folder, backend)
    wait(process.pid, 60, lambda _: time.sleep(0.02) or (folder / NAME).is_file())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    processes = [start(["train", "--resume", NAME], folder, backend) for _ in range(2)]
    time.sleep(rng.uniform(1.5, 4))
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    ends = [end(process) for process in processes]
    going_on = [text for _, text in ends if "epoch" in text and "validation:" in text]
    check(len(going_on) <= 1, f"both went on: {ends}")


_WRITE = """
import sys, lucid, numpy as np
for i in range(200):
    lucid.save({"a": np.full((64, 64), int(sys.argv[2]) * 1000 + i, np.float32)}, sys.argv[1])
"""
_READ = """
import sys, lucid
for i in range(200):
    a = lucid.load(sys.argv[1])["a"].data
    assert a.shape == (64, 64) and (a == a[0, 0]).all()
"""


def readers(rng: random.Random, folder: Path, backend: str) -> None:
    """Files are whole at every moment, whoever writes them."""
    path = folder / rng.choice(["a.npz", "a.safetensors"])
    subprocess.run([sys.executable, "-c", _WRITE, str(path), "0"], check=True)
    codes = [[_WRITE, str(path), "1"], [_WRITE, str(path), "2"], [_READ, str(path)]]
    processes = [
        subprocess.Popen([sys.executable, "-c", *code], stderr=subprocess.PIPE, text=True)
        for code in codes
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        check(process.returncode == 0, err)
    left = {file.name for file in folder.iterdir()} - {path.name}
    check(not left, f"left behind: {sorted(left)}")
