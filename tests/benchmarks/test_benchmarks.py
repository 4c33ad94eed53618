"""The benchmarks run from end to end, on something tiny. No time is asserted."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lucid
from benchmarks import _start, accuracy, between, growth, size
from benchmarks._case import Case
from benchmarks._contenders import CONTENDERS
from benchmarks._process import WorkerError, WorkerProcess
from benchmarks._report import COLOURS, best_of_family, least_of_family, markdown, ratios
from benchmarks.operations import interval
from tests.distributed.launch import mpiexec

ROOT = Path(__file__).parents[2]


def run(module, output, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_compare(tmp_path):
    names = ["lucid-numpy", "lucid-numpy-compiled", "openvino"]
    done = run("benchmarks.compare", tmp_path, "--quick", "--contenders", *names)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "compare.json").read_text())
    inference, training = result["cases"]
    assert (inference["mode"], training["mode"]) == ("inference", "training")
    assert list(inference["rows"]) == names
    assert list(training["rows"]) == ["lucid-numpy"]
    assert inference["parameters"] == 3_774_024
    for row in (inference["rows"]["lucid-numpy-compiled"], training["rows"]["lucid-numpy"]):
        assert len(row["rounds_ms"]) == result["settings"]["rounds"]
        assert row["fastest_ms"] <= row["median_ms"] <= row["slowest_ms"]
        assert row["difference"] < 1e-3
        assert row["peak_bytes"] > 2**20
    # The forward pass of one image, three times: forward and both gradients.
    floor = 2e-6 * 3 * training["multiply_adds"] * training["batch"] / training["peak_gflops"]
    assert training["floor_ms"] == pytest.approx(floor)
    missing = [n for n in ("torch", "onnx", "openvino") if importlib.util.find_spec(n) is None]
    if missing:
        reason = inference["rows"]["openvino"]["skipped"]
        assert any(name in reason for name in missing)
    assert "lucid numpy, compiled" in (tmp_path / "compare.md").read_text()


@pytest.mark.slow
def test_starts(tmp_path):
    names = ["lucid-numpy", "lucid-numpy-compiled", "onnxruntime"]
    modes = ["--modes", "start", "cold", "--contenders", *names]
    done = run("benchmarks.compare", tmp_path, "--quick", *modes)
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "compare.json").read_text())["cases"]
    expected = {"start": names[1:], "cold start": names[1:], "cold training": names[:1]}
    assert {case["mode"]: list(case["rows"]) for case in cases} == expected
    for case in cases:
        for row in case["rows"].values():
            if "skipped" in row:  # no ONNX Runtime, or nothing that writes its file
                continue
            stages = list(row["stages_ms"].values())
            assert stages == sorted(stages)
            assert list(row["stages_ms"])[:3] == ["imported", "ready", "first"]
            assert 0 < row["fastest_ms"] <= row["median_ms"] <= row["slowest_ms"]
            assert row["difference"] < 1e-3
            assert row["peak_bytes"] > 2**24  # Python and NumPy alone are more
    text = (tmp_path / "compare.md").read_text()
    assert "first training step, with an empty cache, batch 8" in text
    assert "| … ready |" in text
    assert "arithmetic alone" not in text


def test_a_start_that_fails_says_why_and_the_others_go_on(monkeypatch, tmp_path):
    told = {
        "a": {"stages_ms": {"imported": 1.0, "first": 3.0}, "peak_bytes": 5, "difference": 0.0},
        "b": {"stages_ms": {}, "failed": "ended with status 1: KeyError: 'b'"},
    }
    asked = []

    def start(name, folder, threads, limit, cold, waits):
        asked.append(name)
        assert not cold
        assert waits == (len(asked) < 3), "the first round compiles for the others"
        return told[name]

    monkeypatch.setattr(_start, "start", start)
    rows = _start.measure(Case("conv_small", "start", 1), ["a", "b"], tmp_path, 1, 2, 60)
    assert asked == ["a", "b", "a", "a"], "the first round fills caches; one that failed is out"
    assert rows["b"] == {"failed": "ended with status 1: KeyError: 'b'"}
    assert (rows["a"]["median_ms"], rows["a"]["rounds_ms"]) == (3.0, [3.0, 3.0])
    assert rows["a"]["stages_ms"] == {"imported": 1.0, "first": 3.0}


def test_a_process_that_cannot_start_says_why(tmp_path):
    row = _start.start("lucid-numpy", tmp_path, threads=1, limit=60)  # a folder without a case
    assert re.match("ended with status 1: FileNotFoundError", row["failed"])


@pytest.mark.slow
def test_ranks(tmp_path, monkeypatch):
    libraries = Path(mpiexec()).parents[1] / "lib"  # where the launcher is not beside Python
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}")
    done = run("benchmarks.ranks", tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "ranks.json").read_text())
    kinds = ["one", "beside", "memory"]
    assert [(row["ranks"], row["slowed"], row["kind"]) for row in result["rows"]] == [
        *((2, False, kind) for kind in kinds),
        *((4, True, kind) for kind in [*kinds, "1Gbit", "300Mbit"]),
    ]
    for row in result["rows"]:
        assert row["seconds"] == statistics.median(row["rounds"]) > 0
        assert row["error"] == pytest.approx(row["planned"] / row["seconds"] - 1)
    assert sum(nbytes for _, nbytes in result["measured"]["gradients"]) == 4 * 3_774_024
    # A sum of 15 MB over 4 ranks sends 1.5 times as much from each: a slow wire is as slow as that.
    assert result["rows"][-1]["seconds"] > 1.5 * 4 * 3_774_024 / (300e6 / 8)
    trace = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    assert {event["pid"] for event in trace} == {0, 1}


@pytest.mark.slow
def test_growth(tmp_path):
    done = run(
        "benchmarks.growth",
        tmp_path,
        *["--modes", "inference", "--batches", "1", "2", "--sizes", "32", "64", "--size", "32"],
        *["--contenders", "lucid-numpy", "--repeats", "1", "--seconds", "0.001"],
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "growth.json").read_text())
    by_axis = {curve["axis"]: curve for curve in result["curves"]}
    assert by_axis["batch"]["x"] == [1, 2]
    assert by_axis["size"]["x"] == [32, 64]
    assert math.isfinite(by_axis["batch"]["time_exponent"])


def test_exponent():
    x = [1, 2, 4, 8]
    assert growth.exponent(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)
    assert growth.exponent(x, [5, 5, 5, 5]) == pytest.approx(0)
    assert math.isnan(growth.exponent([2, 2], [1, 3]))


def case(**medians):
    rows = {name.replace("_", "-"): {"median_ms": ms} for name, ms in medians.items()}
    return {"mode": "inference", "batch": 1, "variant": "conv_small", "rows": rows}


def test_ratios_are_between_the_best_of_each():
    one = case(lucid_numpy=9.0, lucid_numpy_compiled=6.0, torch=12.0, torch_compile=3.0)
    assert ratios(best_of_family(one)) == {"lucid numpy / PyTorch": 2.0}
    for row in one["rows"].values():
        row["peak_bytes"] = row["median_ms"]
    one["rows"]["torch"]["failed"] = "later"
    assert ratios(least_of_family(one)) == {"lucid numpy / PyTorch": 2.0}


def test_a_worker_that_cannot_start_says_why(tmp_path):
    worker = WorkerProcess(["nobody", str(tmp_path)], threads=1, limit=60)
    try:
        with pytest.raises(WorkerError, match="ended with status 1: KeyError: 'nobody'"):
            worker.ask("load")
    finally:
        worker.stop()


def test_a_request_that_fails_is_an_answer(tmp_path):
    worker = WorkerProcess(["lucid-numpy", str(tmp_path)], threads=1, limit=60)
    try:
        for _ in range(2):
            assert worker.ask("load")["failed"].startswith("FileNotFoundError")
    finally:
        worker.stop()


def test_a_reason_stands_under_the_table():
    one = {**case(lucid_numpy=4.0), "floor_ms": 1.0, "peak_gflops": 100.0}
    one["rows"]["onnxruntime"] = {"skipped": "onnxruntime is not installed"}
    machine = {"processor": "P", "threads": 2, "system": "S", "python": "3", "numpy": "2"}
    settings = {"rounds": 3, "size": 224, "form": "paper", "optimizer": "sgd"}
    text = markdown(
        {
            "machine": {**machine, "time": "now"},
            "settings": settings,
            "versions": {},
            "cases": [one],
        }
    )
    assert "| ONNX Runtime | – |" in text
    assert "- ONNX Runtime: onnxruntime is not installed" in text


def test_contenders_have_labels_of_their_own():
    labels = [contender.label for contender in CONTENDERS.values()]
    assert len(set(labels)) == len(labels)


def test_contenders_have_colours_of_their_own():
    assert len(set(COLOURS)) == len(COLOURS) >= len(CONTENDERS)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not run from a git checkout")
def test_operations():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.operations", "HEAD", "--only", "glu", "--repeats", "2"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    head, _, *lines = run.stdout.splitlines()
    assert head.startswith("the working tree / HEAD, numpy")
    assert sorted(line[:50].strip() for line in lines) == ["glu", "glu, with gradient"]
    for line in lines:
        median, low, high, fastest, before = map(float, re.findall(r"[\d.]+", line[50:]))
        assert 0 < low <= median <= high
        assert min(fastest, before) > 0


def test_operations_interval_of_a_median():
    rng = np.random.default_rng(0)
    medians = [interval(1.02 + 0.1 * rng.standard_normal(64)) for _ in range(1000)]
    assert sum(low <= 1.02 <= high for low, high in medians) >= 990
    assert interval([1.0]) == (1.0, 1.0)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not run from a git checkout")
def test_between():
    options = ["--variants", "conv_small", "--size", "32", "--batches", "1", "--backends", "numpy"]
    options += ["--training-batches", "8", "--repeats", "2", "--seconds", "0.01"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.between", "HEAD", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    measured = [line for line in done.stdout.splitlines() if "ratio" in line]
    assert [line.split("  ")[0] for line in measured] == [
        "import lucid",
        "conv_small inference batch 1, numpy",
        "conv_small training batch 8, numpy",
    ]


def test_compare_takes_turns():
    calls = []
    args = argparse.Namespace(repeats=3)
    timings = [lambda: calls.append("old") or 1.0, lambda: calls.append("new") or 2.0]
    assert between.compare(timings, args) == [[1.0] * 3, [2.0] * 3]
    assert calls == ["old", "new", "new", "old", "old", "new"]


def test_size_sums_all_files_and_lists_the_versions(tmp_path):
    packages = tmp_path / "packages"
    for name, count in (
        ("a/__init__.py", 10),
        ("a/deep/data.bin", 500),
        ("a_b-1.2.dist-info/METADATA", 7),
        ("Z-3.dist-info/RECORD", 3),
    ):
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * count)
    assert size.size(packages) == 520
    assert list(size.installed(packages).items()) == [("a_b", "1.2"), ("Z", "3")]


def test_accuracy_is_the_largest_difference_over_the_largest_logit(monkeypatch):
    path = ROOT / "tests" / "reference" / "mobilenetv4_conv_small_050.json"
    reference = json.loads(path.read_text("utf-8"))
    logits = reference["eval"]["logits_first_image"]
    before = lucid.get_backend()
    try:
        right = dict(accuracy.differences(reference, "numpy"))
        shift = max(map(abs, logits)) / 2
        logits[3] += shift
        wrong = dict(accuracy.differences(reference, "numpy"))
    finally:
        lucid.set_backend(before)
    assert right.keys() == {"eager", "compiled"}
    assert max(right.values()) < 1e-5
    assert wrong["compiled"] == pytest.approx(shift / max(map(abs, logits)), rel=1e-4)
