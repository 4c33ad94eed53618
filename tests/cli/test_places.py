"""Places that really cannot be written to: a closed folder, a full disk, a reader who has gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid.cli import main
from lucid.training import _loop

resource = pytest.importorskip("resource", reason="limits the size of files, as Unix does")
image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")

TRAIN = ["train", "--data", "digits", "--limit", "40", "--batch-size", "20", "--size", "32",
         "--model", "mobilenetv4_conv_small_035", "--no-report"]  # fmt: skip


# Of Linux: to write and to read, whatever the permissions of a file say.
OVERRIDES = 1 << 1 | 1 << 2


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        yield
        for path in Path(folder).rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


@contextlib.contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Have the permissions of files apply to root too, as they do to everybody else."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("permissions apply to everybody but root")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    # Effective, permitted and inheritable capabilities, 64 of each.
    before, bound = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    bound[:] = before[:]
    bound[0] &= ~OVERRIDES
    assert libc.capset(header, bound) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def weights(path: str) -> dict[str, np.ndarray]:
    return {name: value.data for name, value in lucid.load(Path(path, "weights.npz")).items()}


def contents(folder: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_closed_folder_is_told_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    with bound_by_permissions():
        assert main([*TRAIN, "--epochs", "1", "--output", "run"]) == 0
        trained = capsys.readouterr().out.splitlines()[-1]
        Path("closed").mkdir(mode=0o555)
        for output in ("closed/a", "closed/b.npz"):
            assert main([*TRAIN, "--output", output]) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("lucid train: --output: ")
            assert (
                f"cannot write to {output}: Permission denied" in err or "closed cannot be" in err
            )
            assert err.count("\n") == 1
        for option in ("--json", "--csv", "--report"):
            assert main(["eval", "run", option, "closed/a.html"]) == 2
            assert "closed cannot be written to" in capsys.readouterr().err
        assert not list(Path("closed").iterdir())
        Path("run").chmod(0o555)
        assert main(["eval", "run"]) == 0  # which only reads
        assert capsys.readouterr().out.splitlines()[-1] == trained


@contextlib.contextmanager
def from_epoch(number: int, act: Any, undo: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do something after the training of an epoch, before it is written; and undo it."""
    original, calls = _loop.evaluate, iter(range(1, 1000))

    def evaluate(*args: Any) -> Any:
        if next(calls) == number:
            act()
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_loop, "evaluate", evaluate)
        try:
            yield
        finally:
            undo()


@pytest.mark.slow
def test_a_folder_that_is_closed_during_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bound_by_permissions():
        assert main([*TRAIN, "--epochs", "3", "--output", "whole"]) == 0

        def close() -> None:
            Path("run").chmod(0o555)

        def reopen() -> None:
            Path("run").chmod(0o755)

        capsys.readouterr()
        with from_epoch(2, close, reopen, monkeypatch):
            assert main([*TRAIN, "--epochs", "3", "--output", "run"]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "run/state.npz: Permission denied" in error
        assert "`lucid train --resume run` goes on after epoch 1" in error
        close()
        assert main(["train", "--resume", "run"]) == 1
        assert "Permission denied" in capsys.readouterr().err
        reopen()
        assert main(["train", "--resume", "run", "--no-report"]) == 0
    for name, value in weights("whole").items():
        np.testing.assert_array_equal(value, weights("run")[name])
    assert {path.name for path in Path("run").iterdir()} == {
        path.name for path in Path("whole").iterdir()
    }


@contextlib.contextmanager
def full(size: int) -> Iterator[None]:
    """Let no file become larger than so many bytes: a write ends in the middle, as on a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.slow), 1_000_000])
def test_a_write_that_ends_in_the_middle_loses_nothing(
    size: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with full(size):
        assert main([*TRAIN, "--epochs", "2", "--output", "run"]) == 1
    assert "File too large. No epoch was finished, so nothing was saved" in capsys.readouterr().err
    assert not list(Path().iterdir())
    limit = contextlib.ExitStack()
    with from_epoch(2, lambda: limit.enter_context(full(size)), limit.close, monkeypatch):
        assert main([*TRAIN, "--epochs", "2", "--output", "run"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "run/state.npz: File too large. The best weights so far (epoch 1) are in" in error
    assert not list(Path("run").glob(".*"))
    assert main(["eval", "run"]) == 0
    assert main(["train", "--resume", "run", "--no-report"]) == 0


# As Python buffers what is printed, and as it does not where it is told so.
both_ways = pytest.mark.parametrize("unbuffered", ["", "1"])


@both_ways
@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_standard_output_that_takes_nothing(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    for command in (["models"], [*TRAIN, "--epochs", "1", "--output", "run"]):
        with open("/dev/full", "w") as device:
            done = subprocess.run(
                [sys.executable, "-m", "lucid", *command],
                stdout=device, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.endswith(f"lucid {command[0]}: No space left on device\n")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "streams",
    ["<&- >&- 2>&-", *(pytest.param(one, marks=pytest.mark.slow) for one in (">&-", "2>&-"))],
)
def test_streams_that_the_caller_closed(streams: str) -> None:
    command = " ".join([sys.executable, "-m", "lucid", *TRAIN, "--epochs", "1", "--output", "run"])
    done = subprocess.run(["sh", "-c", f"{command} {streams}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    lucid.load("run/weights.npz")


@both_ways
@pytest.mark.slow
def test_a_reader_who_has_seen_enough(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [sys.executable, "-m", "lucid", *TRAIN, "--epochs", "3", "--output", "run"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 1
    assert error.startswith("lucid train: Broken pipe. The best weights so far (epoch 1) are in ")
    assert main(["train", "--resume", "run", "--no-report"]) == 0


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
    image.fromarray(pixels).save(path, "PNG")


def test_names_of_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["-a", "A", "a", "b c", "ü\n", "x" * 200, "😀", "%s{}", "'\"<b>"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"\xff"))
    for number, name in enumerate(names * 6):
        draw(Path("photos é\n", name, f"-{number}\n😀.png"), number)
    data = ["train", "--data", "photos é\n", *TRAIN[5:], "--epochs", "1"]
    assert main([*data, "--validation", "0.3", "--output", "-run 😀\n"]) == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    assert main(["eval", "./-run 😀\n", "--json", "a.json", "--csv", "a.csv"]) == 0
    assert main(["eval", "./-run 😀\n"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == trained
    assert Path("a.csv").read_text(encoding="utf-8").count("\n") == len(names) + 2


def test_a_link_to_where_it_is_adds_no_pictures() -> None:
    for number in range(24):
        draw(Path("photos", "ab"[number % 2], f"{number}.png"), number)
    for place, link in (("..", "up"), (".", "here"), ("../..", "root"), ("../b", "other")):
        os.symlink(place, Path("photos", "a", link))
    os.symlink("up2", "photos/b/up2")
    labels = np.asarray(lucid.data.datasets.ImageFolder("photos").labels)
    assert ((labels == 0).sum(), (labels == 1).sum()) == (24, 12)  # `other` leads beside, not up
