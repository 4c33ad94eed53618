"""``lucid train`` on several ranks: it computes what one rank computes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from tests.distributed.launch import ENDED, ROOT, check_ranks, start_ranks

pytest.importorskip("sklearn")
pytest.importorskip("PIL.Image")

# Half of what there is: MixUp and CutMix, a moving average, several batches a step. 22 images are
# no multiple of what the ranks' parts are made of. Of small images, batch norms in training make
# another rounding another loss within three steps, so most tests leave them as they are.
RECIPE: dict[str, Any] = {
    "data": "digits",
    "model": "mobilenetv4_conv_small_035",
    "size": 32,
    "limit": 150,
    "epochs": 2,
    "batch_size": 22,
    "optimizer": "sgd",
    "lr": 0.02,
    "augment": "strong",
    "mixup": 0.4,
    "cutmix": 0.5,
    "accumulate": 2,
    "clip_grad": 1.0,
    "ema": 0.9,
    "save_minutes": 0.0,
    "freeze": 7,
}
SCRIPT = str(Path(__file__).with_name("train.py"))


def train(ranks: int, path: Path, steps: int = 0, **changes: Any) -> list[str]:
    """Train up to a step, or to the end; go on with a run that is there. Return its epochs."""
    arguments = [SCRIPT, str(path), json.dumps({**RECIPE, **changes}), str(steps)]
    printed = check_ranks(ranks, *arguments, timeout=300)
    return [line for line in printed.splitlines() if line.startswith("epoch")]


def difference(first: Path, second: Path) -> float:
    """Return the largest difference of two runs' weights, relative to each tensor's largest."""
    ours, theirs = (lucid.load(path / "weights.npz") for path in (first, second))
    assert ours.keys() == theirs.keys()
    return max(
        float(np.abs(ours[name].data - theirs[name].data).max() / max(np.abs(value.data).max(), 1))
        for name, value in ours.items()
        if value.data.size
    )


def history(path: Path) -> np.ndarray:
    rows = np.genfromtxt(path / "history.csv", delimiter=",", skip_header=1)
    return np.atleast_2d(rows)[:, :5]


@pytest.mark.slow
def test_two_ranks_train_as_one_does_and_their_number_may_change(tmp_path: Path) -> None:
    """Within epochs too: the state is written after each step."""
    assert train(1, tmp_path / "whole") == ["epoch 1 132 143", "epoch 2 132 143"]
    train(1, tmp_path / "parts", 1)
    train(2, tmp_path / "parts", 3)
    assert train(1, tmp_path / "parts") == ["epoch 2 132 143"]
    assert difference(tmp_path / "whole", tmp_path / "parts") < 1e-6
    np.testing.assert_allclose(history(tmp_path / "whole"), history(tmp_path / "parts"), rtol=1e-6)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "parts").iterdir()} == names


@pytest.mark.slow
def test_weights_of_classes_and_a_teacher_count_for_the_whole_batch(tmp_path: Path) -> None:
    train(1, tmp_path / "teacher", epochs=1)
    changes = {"teacher": str(tmp_path / "teacher"), "class_weights": True, "cutmix": 0.0}
    changes |= {"mixup": 0.0, "epochs": 1, "balanced": True, "optimizer": "adamw"}
    for ranks, name in ((1, "one"), (2, "two")):
        train(ranks, tmp_path / name, **changes)
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5
    np.testing.assert_allclose(history(tmp_path / "one"), history(tmp_path / "two"), rtol=1e-5)


@pytest.mark.slow
def test_batch_norms_see_the_whole_batch(tmp_path: Path) -> None:
    changes = {"freeze": 0, "sync_bn": True, "limit": 22, "epochs": 1}
    for ranks, name in ((1, "one"), (2, "two")):
        train(ranks, tmp_path / name, **changes)
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5
    np.testing.assert_allclose(history(tmp_path / "one"), history(tmp_path / "two"), rtol=1e-5)


def lucid_on_ranks(
    ranks: int, *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    process = start_ranks(ranks, "-m", "lucid", *arguments, cwd=cwd)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.slow
def test_wrong_use_is_told_once() -> None:
    for arguments, message in (
        (["train", "--epochs", "0"], "argument --epochs: expected an integer from 1 to 1,000,000"),
        (["train", "--data", "nowhere"], "lucid train: --data: '"),
        (
            ["train", "--batch-size", "1"],
            "lucid train: --batch-size: expected an image or more for",
        ),
        (
            ["models"],
            "lucid models: 2 processes were started, and one does this: leave out mpiexec",
        ),
    ):
        done = lucid_on_ranks(2, *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count(message) == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_the_command_prints_and_writes_once_and_shares_out_the_pictures(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(28):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"no picture")
    done = lucid_on_ranks(
        2,
        *["train", "--data", "photos", "--model", RECIPE["model"], "--size", "32", "--epochs", "1"],
        *["--batch-size", "8", "-o", "run", "--timeline", "trace.json", "--ema", "0.9"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        RECIPE["model"],
        "epoch",
        "best",
        "report:",
        "test",
    ]
    assert done.stderr.count("1 of 29 pictures cannot be read") == 1
    assert done.stderr.count("broken.png") == 1
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"weights.npz", "report.html", "pictures.csv"} <= written
    assert "state.npz" not in written
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["ranks"] == 2
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {0, 1}


@pytest.mark.slow
def test_find_lr_sees_the_loss_of_all_ranks(tmp_path: Path) -> None:
    recipe = ["--data", "digits", "--model", RECIPE["model"], "--size", "32", "--limit", "60"]
    recipe += ["--batch-size", "20", "--freeze", "7", "--optimizer", "sgd", "--no-augment"]
    for ranks in (1, 2):
        done = lucid_on_ranks(ranks, "train", *recipe, "--find-lr", f"{ranks}.csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    one, two = (np.genfromtxt(tmp_path / f"{n}.csv", delimiter=",")[1:] for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-4)


@pytest.mark.slow
def test_what_fails_on_one_rank_is_told_by_it_with_what_is_kept(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from lucid import distributed\n"
        "from lucid.cli import _train, main\n"
        "class Fails(_train._Watch):\n"
        "    def on_step(self, run, score):\n"
        "        if score.count == 40 and distributed.rank() == 1:\n"
        "            raise OSError('the disk is on fire')\n"
        "_train._Watch = Fails\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    recipe = ["--data", "digits", "--model", RECIPE["model"], "--size", "32", "--limit", "60"]
    recipe += ["--batch-size", "20", "--save-minutes", "0", "-o", "run"]
    process = start_ranks(2, "-c", code, "train", *recipe, cwd=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode in ENDED, err
    # Rank 0 has written the state after batch 1, as both have summed gradients since; that after
    # batch 2 it may be at.
    kept = "`lucid train --resume run` goes on in epoch 1, after batch [12]"
    assert re.search(rf"rank 1 of 2 \(.+\): the disk is on fire\. {kept}", err), err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_of_which_a_rank_is_killed_goes_on(tmp_path: Path, seed: int) -> None:
    """At any moment, and with another number of ranks."""
    begin = time.monotonic()
    train(2, tmp_path / "whole")
    seconds = time.monotonic() - begin
    rng = random.Random(seed)
    arguments = [SCRIPT, str(tmp_path / "parts"), json.dumps(RECIPE), "0"]
    for ranks in (2, 3):
        process = start_ranks(ranks, *arguments)
        assert process.stdout is not None
        numbers = [int(number) for number in process.stdout.readline().split()]
        time.sleep(rng.uniform(0, 0.8) * seconds)
        killed = time.monotonic()
        if is_killed := process.poll() is None:
            os.kill(rng.choice(numbers), rng.choice([signal.SIGKILL, signal.SIGSTOP]))
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            # The first one came to its end before it was killed, so the second one had nothing to
            # do. MPI's own end waits for a rank that is stopped in it.
            for number in numbers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            if "the run is finished" not in process.communicate(timeout=60)[1]:
                raise
            break
        if is_killed:
            assert time.monotonic() - killed < 15
            assert process.returncode != 0
    with contextlib.suppress(AssertionError):  # it may have come to its end before it was killed
        train(rng.choice([1, 2]), tmp_path / "parts")
    assert difference(tmp_path / "whole", tmp_path / "parts") < 1e-5
