"""`lucid train` and `lucid eval`, on few images and for few epochs."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid.cli import main
from lucid.cli._output import Progress
from lucid.cli._train import _clock
from lucid.training import Run, RunFiles, _loop, _run_files

pytest.importorskip("sklearn")
PIL_Image = pytest.importorskip("PIL.Image")

OTHERS = (".environment.json", ".history.csv", ".json", ".recipe.toml")
SMALLEST = "mobilenetv4_conv_small_035"
QUICK = ["--limit", "40", "--batch-size", "20", "--epochs", "2", "--size", "32", "--no-report"]
QUICK += ["--model", SMALLEST]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)


def train(*options: str) -> int:
    return main(["train", "--data", "digits", *QUICK, *options])


@pytest.fixture(scope="module")
def files_of_a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert train("--output", str(folder / "a.npz")) == 0
    return folder


@pytest.fixture
def trained(files_of_a_run, in_an_empty_folder):
    """Put the files of a finished run, a.npz and what describes it, where the command works."""
    shutil.copytree(files_of_a_run, ".", dirs_exist_ok=True)


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def weights(path: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(value.data) for name, value in lucid.load(path).items()}


def assert_same_weights(a: str, b: str) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


# -- the main job -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npz", "deep/er/b.safetensors"])
def test_eval_prints_what_train_printed(name, capsys):
    assert train("--output", name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert lines[-1].startswith("test accuracy ")
    assert " of 40)" in lines[-1]
    assert main(["eval", name]) == 0
    assert last_line(capsys) == lines[-1]
    folder = Path(name).parent
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(
        Path(name).with_suffix(suffix).name for suffix in (Path(name).suffix, *OTHERS)
    )


def test_the_description_says_what_the_weights_are():
    train("--output", "a.npz", "--size", "40", "--seed", "3", "--optimizer", "sgd", "--lr", "0.01")
    description = json.loads(Path("a.json").read_text())
    assert description["settings"]["model"] == SMALLEST
    assert description["settings"]["size"] == 40
    assert description["settings"]["seed"] == 3
    assert description["num_classes"] == 10
    assert description["in_channels"] == 1
    assert description["classes"] == [str(digit) for digit in range(10)]
    assert len(description["mean"]) == len(description["std"]) == 1
    assert [record["epoch"] for record in description["history"]] == [1, 2]
    assert description["test"]["count"] == 40


def test_the_same_seed_gives_the_same_run():
    train("--output", "a.npz", "--seed", "1")
    train("--output", "b.npz", "--seed", "1")
    train("--output", "c.npz", "--seed", "2")
    assert_same_weights("a.npz", "b.npz")
    assert not np.array_equal(*(next(iter(weights(p).values())) for p in ("a.npz", "c.npz")))


def test_the_kept_weights_are_those_of_the_lowest_validation_loss():
    train("--output", "a.npz", "--epochs", "3")
    description = json.loads(Path("a.json").read_text())
    losses = [record["validation_loss"] for record in description["history"]]
    assert losses[description["best_epoch"] - 1] == min(losses)


def test_default_outputs_do_not_replace_each_other():
    assert train() == 0
    first = Path(f"runs/{SMALLEST}-digits/weights.npz").read_bytes()
    assert train("--seed", "1") == 0
    assert Path(f"runs/{SMALLEST}-digits/weights.npz").read_bytes() == first
    assert Path(f"runs/{SMALLEST}-digits-2/weights.npz").is_file()


def test_a_bar_where_stderr_is_a_terminal(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert train("--output", "a.npz") == 0
    captured = capsys.readouterr()
    assert "epoch 1/2:" in captured.err
    assert "epoch 1/2 " in captured.out


def test_the_bar_counts_pictures_and_tells_the_time_left(monkeypatch):
    shown = []
    monkeypatch.setattr(Progress, "start", lambda self, *args: shown.append(args))
    monkeypatch.setattr(Progress, "step", lambda self, *args: shown.append(args))
    assert train("--output", "a") == 0
    assert [args[0] for args in shown] == [40, 20, 20, 40, 20, 20]
    for _, text in shown[1:3] + shown[4:]:
        assert re.fullmatch(
            r"loss \d\.\d{4}, accuracy \d+\.\d\d %, \d\d:\d\d left of the run", text
        )
    assert shown[-1][1].endswith("00:00 left of the run")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00"), (61, "01:01"), (3599.6, "1:00:00"), (90061, "25:01:01")]
)
def test_a_time_as_a_clock_shows_it(seconds, text):
    assert _clock(seconds) == text


def test_a_folder_that_cannot_be_written_to(capsys, monkeypatch):
    assert train("--output", "a", "--epochs", "1") == 0

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    capsys.readouterr()
    monkeypatch.setattr(_run_files, "hold", refuse)
    assert train("--output", "b") == 2
    assert (
        capsys.readouterr().err == "lucid train: --output: cannot write to b: Permission denied\n"
    )
    assert main(["train", "--resume", "a"]) == 1
    assert capsys.readouterr().err == "lucid train: a/.lucid-run.lock: Permission denied\n"
    assert not Path("b").exists()


def test_no_bar_elsewhere(capsys):
    assert train("--output", "a.npz") == 0
    assert capsys.readouterr().err == ""


# -- eval -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trained")
def test_eval_prints_figures_of_each_class(capsys):
    assert main(["eval", "a.npz"]) == 0
    out = capsys.readouterr().out
    first, second, *_ = out.split("\n\n")
    rows = [line.split() for line in first.splitlines()]
    assert rows[0] == ["class", "images", "precision", "recall", "F1"]
    assert [row[0] for row in rows[1:11]] == [str(digit) for digit in range(10)]
    assert sum(int(row[1]) for row in rows[1:11]) == 40
    counts = [list(map(int, line.split()[1:])) for line in second.splitlines()[1:]]
    assert np.shape(counts) == (10, 10)
    assert f"({np.trace(counts)} of 40)" in out.splitlines()[-1]
    for words in ("expected calibration error", "95 % interval of the accuracy", "top-5 accuracy"):
        assert words in out


@pytest.mark.usefixtures("trained")
def test_eval_writes_json_and_csv(capsys):
    assert main(["eval", "a.npz", "--json", "--csv", "a.csv"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["count"] == 40
    assert np.trace(document["confusion"]) == document["correct"]
    header, *rows = Path("a.csv").read_text().splitlines()
    assert header == "class,images,precision,recall,f1"
    for row, figures in zip(rows, document["per_class"], strict=True):
        name, count, *shares = row.split(",")
        assert (name, int(count)) == (figures["name"], figures["count"])
        assert [float(share) if share else None for share in shares] == [
            figures[key] for key in ("precision", "recall", "f1")
        ]


@pytest.mark.usefixtures("trained")
def test_eval_with_flips_sees_each_image_twice(capsys):
    main(["eval", "a.npz", "--json", "plain.json"])
    main(["eval", "a.npz", "--json", "flips.json", "--flips"])
    plain, flips = (json.loads(Path(f"{name}.json").read_text()) for name in ("plain", "flips"))
    assert (plain["flips"], flips["flips"]) == (False, True)
    assert plain["loss"] != flips["loss"]


def test_eval_on_all_images_of_a_folder(capsys):
    for name in ("a", "b"):
        Path("photos", name).mkdir(parents=True)
        for index in range(10):
            picture = PIL_Image.new("RGB", (40, 40), (20 * index, 200, 90 * (name == "a")))
            picture.save(f"photos/{name}/{index}.png")
    Path("photos/a/0.png").write_bytes(b"damaged")
    options = ["--size", "32", "--batch-size", "4", "--epochs", "1", "--no-report"]
    assert main(["train", "--data", "photos", *options, "--output", "run"]) == 0
    capsys.readouterr()
    assert main(["eval", "run", "--data", "photos", "--all"]) == 0
    captured = capsys.readouterr()
    assert " of 19)" in captured.out.splitlines()[-1]
    assert "a/0.png cannot be read" in captured.err
    assert main(["eval", "run", "--data", "photos", "--all", "--json", "one.json"]) == 0
    assert main(["eval", "run", "--data", "photos", "--all", "--json", "two.json"]) == 0
    assert Path("one.json").read_text() == Path("two.json").read_text()  # nothing is random
    assert main(["eval", "run", "--all"]) == 2
    assert "--all measures on all images of --data; give it" in capsys.readouterr().err


def test_a_run_ends_in_a_report(capsys):
    options = [option for option in QUICK if option != "--no-report"]
    assert main(["train", "--data", "digits", *options, "--output", "a"]) == 0
    assert "report: a/report.html" in capsys.readouterr().out
    document = json.loads(Path("a/report.json").read_text())
    assert len(document["training"]["history"]) == 2
    assert Path("a/report.html").read_text().startswith("<!DOCTYPE html>")
    assert train("--output", "a", "--overwrite") == 0
    assert not Path("a/report.html").exists()  # it was on the run before
    assert main(["eval", "a", "--report", "b.html", "--flips"]) == 0
    again = json.loads(Path("b.json").read_text())
    assert again["training"]["history"] != []
    assert again["evaluation"]["flips"]
    assert main(["eval", "a", "--report", "b.html"]) == 2
    assert "--report: b.html is there already; give --overwrite" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_loses_nothing(capsys, monkeypatch):
    def fail(run: Run, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.files.report))

    monkeypatch.setattr("lucid.cli._train.write_run_report", fail)
    options = [option for option in QUICK if option != "--no-report"]
    assert main(["train", "--data", "digits", *options, "--output", "a"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device. The run is finished; its weights are in a/weights.npz" in error
    assert main(["eval", "a"]) == 0


def test_eval_lists_the_worst_of_many_classes(capsys):
    for index in range(25):
        for part, number in (("train", 2), ("val", 1), ("test", 1)):
            folder = Path(f"photos/{part}/class{index:02}")
            folder.mkdir(parents=True)
            for picture in range(number):
                PIL_Image.new("RGB", (40, 40), (10 * index, 200, 0)).save(folder / f"{picture}.png")
    options = ["--size", "32", "--batch-size", "10", "--epochs", "1", "--output", "a.npz"]
    assert main(["train", "--data", "photos", *options]) == 0
    capsys.readouterr()
    assert main(["eval", "a.npz"]) == 0
    out = capsys.readouterr().out
    assert "the 20 classes with the lowest F1" in out
    assert len(out.split("\n\n")[0].splitlines()) == 22
    assert "as class00" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json", "--csv"], "would both print"),
        (["--json", "a.json"], "--json: a.json is there already; give --overwrite"),
        (["--csv", "."], "--csv: . is a folder"),
        (["--report", "a.txt"], "--report: expected a name ending in .html, got a.txt"),
        (["--report", "b.html", "--json", "b.json"], "--json and --report both write b.json"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_eval_refuses_files_before_any_work(options, message, capsys):
    assert main(["eval", "a.npz", *options]) == 2
    assert message in capsys.readouterr().err


# -- interrupted and resumed ------------------------------------------------------------------


def interrupt_epoch(monkeypatch, number: int) -> None:
    epochs = iter(range(1, 100))
    original = _loop.train_epoch

    def interrupted(*args, **kwargs):
        if next(epochs) == number:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(_loop, "train_epoch", interrupted)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_as_if_never_interrupted(optimizer, capsys, monkeypatch):
    options = ["--epochs", "3", "--optimizer", optimizer, "--lr", "0.01"]
    assert train("--output", "whole.npz", *options) == 0
    whole = last_line(capsys)
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 3)
        assert train("--output", "parts.npz", *options) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "parts.npz" in error
    assert "lucid train --resume parts.npz" in error
    assert main(["eval", "parts.npz"]) == 0  # the best so far are usable
    capsys.readouterr()
    assert main(["train", "--resume", "parts.npz"]) == 0
    assert last_line(capsys) == whole
    assert_same_weights("whole.npz", "parts.npz")
    records = [json.loads(Path(f"{name}.json").read_text()) for name in ("whole", "parts")]
    for record in records:
        del record["run"]
        for epoch in record["history"]:
            del epoch["seconds"]
    assert records[0] == records[1]


def test_an_interrupt_before_anything_was_saved(capsys, monkeypatch):
    interrupt_epoch(monkeypatch, 1)
    assert train("--output", "a.npz") == 130
    assert "nothing was saved" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_resume_takes_no_other_settings(capsys):
    assert main(["train", "--resume", "a.npz", "--lr", "0.1"]) == 2
    assert "leave out --lr" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_resume_of_a_finished_run(capsys):
    assert main(["train", "--resume", "a.npz"]) == 2
    assert "the run is finished" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["photos/run", "photos/deep/run", None])
def test_a_run_among_the_classes_is_refused(place, capsys, monkeypatch):
    write_images("photos", 8)
    data, output = "photos", ["--output", place]
    if place is None:  # by default it is where the command runs
        monkeypatch.chdir("photos")
        data, output = ".", []
    assert main(["train", "--data", data, *output]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "where each folder holds the pictures of a class; give one outside of it" in error
    assert not list(Path().rglob("recipe.toml"))


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_signals_end_a_process_that_tells_how_to_go_on(number, status, word):
    command = [sys.executable, "-m", "lucid", "train", *QUICK, "--epochs", "500"]
    with subprocess.Popen(
        [*command, "--output", "a.npz"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have had it ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for line in process.stdout:
            if line.startswith("epoch   1/500"):
                break
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"lucid train: {word}. The best weights so far")
    assert "`lucid train --resume a.npz` goes on" in error
    assert weights("a.npz")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
def test_the_callers_own_answer_to_sigterm_stays():
    """In a program that calls the command's function, which comes back with a status."""
    command = ["models", "mobilenet_v4_conv_small"]
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(command) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert main(command) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_killed_in_its_first_epoch_begins_again(overwrite, capsys):
    assert train("--output", "whole.npz") == 0
    if overwrite:
        assert train("--output", "a.npz", "--seed", "1") == 0
    earlier = last_line(capsys)
    more = ["--overwrite"] * overwrite
    command = [sys.executable, "-m", "lucid", "train", *QUICK, "--output", "a.npz", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while not Path("a.state.npz").is_file() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert main(["eval", "a.npz"]) == (0 if overwrite else 2)
    captured = capsys.readouterr()
    if overwrite:
        assert captured.out.splitlines()[-1] == earlier
    else:
        assert "the run has not finished an epoch; `lucid train --resume a.npz`" in captured.err
    assert main(["train", "--resume", "a.npz"]) == 0
    assert_same_weights("whole.npz", "a.npz")
    assert not list(Path().glob(".*"))
    assert not Path("a.state.npz").exists()


def test_a_run_that_goes_on_elsewhere_is_not_resumed(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 2)
        assert train("--output", "a.npz") == 130
    with RunFiles(Path("a.npz")).held():
        assert main(["train", "--resume", "a.npz"]) == 2
        assert "a.npz: another process is training into it" in capsys.readouterr().err
        assert train("--output", "a.npz", "--overwrite") == 2
    assert main(["train", "--resume", "a.npz"]) == 0


def test_a_name_that_another_run_begins_to_use_is_not_taken():
    Path("runs").mkdir()
    with RunFiles(Path(f"runs/{SMALLEST}-digits")).held():
        assert train() == 0
    assert [path.name for path in Path("runs").iterdir()] == [f"{SMALLEST}-digits-2"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(epoch, capsys, monkeypatch):
    written = iter(range(100))
    original = os.fsync

    def fsync(descriptor):
        # The state and what is only looked at before the first epoch, then four files an epoch.
        if next(written) >= 2 * (4 + 4 * (epoch - 1)):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert train("--output", "a.npz") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a.state.npz: No space left on device. " in error
    assert not list(Path().glob(".*"))
    if epoch == 1:
        assert "No epoch was finished, so nothing was saved" in error
        assert not list(Path().iterdir())
    else:
        assert "`lucid train --resume a.npz` goes on after epoch 1" in error
        assert main(["train", "--resume", "a.npz"]) == 0


def test_a_validation_loss_that_is_no_number_is_not_the_best(monkeypatch):
    original = _loop.evaluate
    losses = iter([math.nan, 3.0, math.inf])

    def evaluate(*args):
        return replace(original(*args), loss=next(losses, 1.0))

    monkeypatch.setattr(_loop, "evaluate", evaluate)
    assert train("--output", "a.npz", "--epochs", "3") == 0
    description = json.loads(Path("a.json").read_text(), parse_constant=pytest.fail)
    assert [record["validation_loss"] for record in description["history"]] == [None, 3.0, None]
    assert description["best_epoch"] == 2


def test_a_size_that_no_memory_holds(capsys):
    with pytest.raises(SystemExit):
        train("--size", str(10**9))
    assert "--size: expected an integer from 1 to 4096, got '1000000000'" in capsys.readouterr().err


def test_a_size_that_the_network_cannot_take(capsys):
    assert train("--model", "mobilenetv4_conv_aa_medium", "--size", "16", "--output", "a") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        "lucid train: the model cannot be trained with 2 images of 16×16 at a time: "
        in captured.err
    )
    assert not Path("a").exists()


def small(*options: str) -> int:
    return main(["train", "--batch-size", "8", "--size", "32", "--epochs", "3", *options])


def test_wrong_data_is_told_before_any_work(capsys):
    write_images("photos", 8)
    write_images("only/one", 8)
    Path("only/one/sky blue").rename("only/blue")
    shutil.rmtree("only/one")
    Path("empty").mkdir()
    Path("notes.txt").write_text("no list")
    for data, message in (
        ("empty", "empty"),
        ("only", "holds one class only, 'blue': expected a folder of pictures for each of"),
        ("missing", "missing' is neither"),
        ("notes.txt", "notes.txt"),
    ):
        assert small("--data", data, "--output", "runs/a") == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("lucid train: --data: ")
        assert message in captured.err
        assert captured.err.count("\n") == 1
    assert not list(Path("runs").iterdir())


def test_other_classes_on_resume(capsys, monkeypatch):
    write_images("photos", 12)
    with monkeypatch.context() as patch:
        interrupt_epoch(patch, 2)
        assert small("--data", "photos", "--output", "a") == 130
    before = {path: path.read_bytes() for path in Path("a").iterdir()}
    Path("photos/red").rename("photos/green")
    capsys.readouterr()
    assert main(["train", "--resume", "a"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(
        "the weights know the classes red, sky blue, the images have green, sky blue\n"
    )
    assert {path: path.read_bytes() for path in Path("a").iterdir()} == before
    Path("photos/green").rename("photos/red")
    assert main(["train", "--resume", "a"]) == 0


def test_weights_of_another_architecture(capsys):
    model = lucid.models.create_model("mobilenetv4_conv_small_035", num_classes=10)
    lucid.save(model.state_dict(), "other.npz")
    assert train("--weights", "other.npz", "--model", "mobilenetv4_conv_small", "-o", "a") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "other.npz does not fit mobilenetv4_conv_small" in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("a").exists()


# -- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("folder", "folder is a folder with other files in it; name another"),
        ("file", "cannot write to file: "),
        ("file/a", "cannot write to file/a: "),
        ("a.pt", "expected a name ending in .safetensors or .npz"),
        ("file/a.npz", "cannot write to file/a.npz"),
    ],
)
def test_a_wrong_output_is_found_before_training(output, message, capsys):
    Path("folder").mkdir()
    Path("folder/photo.jpg").write_text("in the way")
    Path("file").write_text("in the way")
    assert train("--output", output) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", [["eval"], ["eval", "--data", "digits"], ["train", "--resume"]])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (".", ". is a folder; name the weights in it"),
        ("runs", "runs is a folder; name the weights in it"),
        ("notes.txt", "expected weights ending in .safetensors or .npz, got notes.txt"),
        ("none.npz", "there is no file none.npz"),
    ],
)
def test_weights_that_are_none(command, weights, message, capsys):
    Path("runs").mkdir()
    Path("notes.txt").write_text("no weights")
    assert main([*command, weights]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error.replace("'", "")


def test_output_has_the_short_name_that_it_has_elsewhere():
    assert train("-o", "a.npz", "--epochs", "1") == 0
    assert Path("a.npz").is_file()


def test_existing_weights_are_not_replaced_unasked(capsys):
    Path("a.npz").write_bytes(b"precious")
    assert train("--output", "a.npz") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert Path("a.npz").read_bytes() == b"precious"
    assert train("--output", "a.npz", "--overwrite") == 0
    assert main(["eval", "a.npz"]) == 0


def test_a_loss_that_is_not_a_number(capsys):
    assert train("--output", "a.npz", "--lr", "1e30", "--epochs", "5") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the loss became" in error
    assert "try a lower learning rate than 1e+30" in error


def test_a_loss_that_is_not_a_number_names_step_layer_and_pictures(capsys):
    write_images("photos", 12)
    options = ["--epochs", "9", "--batch-size", "8", "--size", "32", "--seed", "1"]
    assert main(["train", "--data", "photos", *options, "--lr", "1e30", "--output", "a"]) == 1
    *files, error = capsys.readouterr().err.splitlines()
    found = re.match(
        r"lucid train: epoch (\d+): step (\d+): the loss became \w+: (.*) is the", error
    )
    assert found, error
    assert (int(found[2]) - 1) // 2 == int(found[1]) - 1  # 17 pictures to learn from: two steps
    assert re.match(r"[\w.]+ \(\w+\)$", found[3])
    assert len(files) == 8
    names = {line.removeprefix("lucid train: in the batch: ") for line in files}
    assert len(names) == 8
    assert all(Path(name).is_file() for name in names)


def test_unknown_data(capsys):
    assert main(["train", "--data", "digit"]) == 2
    assert "digit" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_eval_without_a_description(capsys):
    Path("a.json").rename("b.json")
    assert main(["eval", "a.npz"]) == 2
    assert "a.json is missing" in capsys.readouterr().err
    Path("a.json").write_text("{}")
    assert main(["eval", "a.npz"]) == 1
    assert "a.json is not a description" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_eval_of_a_damaged_file(capsys):
    content = Path("a.npz").read_bytes()
    Path("a.npz").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert main(["eval", "a.npz"]) == 1
    error = capsys.readouterr().err
    assert "a.npz" in error
    assert error.count("\n") == 1


# -- a folder of images -----------------------------------------------------------------------


def write_images(folder: str, count: int, colours=((200, 30, 30), (30, 30, 200))) -> None:
    generator = np.random.default_rng(0)
    for name, colour in zip(("red", "sky blue"), colours):
        Path(folder, name).mkdir(parents=True)
        for index in range(count):
            noise = generator.integers(0, 50, (12, 16, 3))
            image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            PIL_Image.fromarray(image).save(Path(folder, name, f"{index}.png"))


def test_a_folder_of_classes(capsys):
    write_images("photos", 20)
    assert main(["train", "--data", "photos", "--epochs", "1", "--batch-size", "8"]) == 0
    result = last_line(capsys)
    assert " of 8)" in result  # a fifth of the images, evenly over the classes
    path = "runs/mobilenetv4_conv_small-photos"
    for name in (path, f"{path}/weights.npz"):
        assert main(["eval", name]) == 0
        assert last_line(capsys) == result
    description = json.loads(Path(f"{path}/weights.json").read_text())
    assert description["classes"] == ["red", "sky blue"]
    assert description["in_channels"] == 3


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_with_its_own_parts(held_out, capsys):
    write_images("photos/train", 10)
    write_images(f"photos/{held_out}", 3)
    assert main(["train", "--data", "photos", "--epochs", "1", "--batch-size", "8"]) == 0
    assert " of 6)" in last_line(capsys)


def test_other_images_of_the_same_classes(capsys):
    write_images("photos", 20)
    options = ["--epochs", "1", "--batch-size", "8", "--output", "a.npz"]
    assert main(["train", "--data", "photos", *options]) == 0
    write_images("others/train", 5)
    write_images("others/test", 4)
    assert main(["eval", "a.npz", "--data", "others"]) == 0
    assert " of 8)" in last_line(capsys)
    write_images("fewer/train", 2)
    write_images("fewer/test", 2)
    Path("fewer/train/red").rename("fewer/train/green")
    Path("fewer/test/red").rename("fewer/test/green")
    assert main(["eval", "a.npz", "--data", "fewer"]) == 2
    error = capsys.readouterr().err
    assert "the weights know the classes red, sky blue, the images have green, sky blue" in error
    assert main(["eval", "a.npz", "--data", "digits"]) == 2
    assert "a.npz was not trained on digits but on" in capsys.readouterr().err


@pytest.mark.usefixtures("trained")
def test_digits_from_files(capsys):
    """Weights for one grey channel measure pictures in colour, as the digits' own normalisation."""
    for digit in range(10):
        for part in ("train", "test"):
            Path("files", part, str(digit)).mkdir(parents=True)
            PIL_Image.new("RGB", (8, 8)).save(Path("files", part, str(digit), "0.png"))
    capsys.readouterr()
    assert main(["eval", "a.npz", "--data", "files"]) == 0
    assert "(1 of 10)" in last_line(capsys)  # black pictures are all the same digit


def test_a_folder_without_classes(capsys):
    Path("photos").mkdir()
    assert main(["train", "--data", "photos"]) == 2
    assert "photos" in capsys.readouterr().err
