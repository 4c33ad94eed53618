"""One run, one file: what is kept, what goes on, and what does not. Nothing is measured here."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks import all as everything
from benchmarks._contenders import CONTENDERS
from benchmarks._machine import AVX2, UNLIMITED, code
from benchmarks._results import KINDS, VARIANTS, Run

MACHINE = everything.describe(2)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Measure nothing: the commands that ran; those in ``measured.broken`` fail."""

    class Measured(list):
        broken: frozenset[str] = frozenset()

    ran = Measured()

    def measure(command, code):
        ran.append(command.split()[0])
        if command.split()[0] in ran.broken:
            raise subprocess.CalledProcessError(1, command)
        machine = {**MACHINE, "code": code}
        return {"machine": machine, "versions": {command.split()[0]: "1"}, "rows": []}

    monkeypatch.setattr(everything, "measure", measure)
    monkeypatch.setattr(everything, "describe", lambda threads: dict(MACHINE))
    monkeypatch.setattr(everything, "commit", lambda: "0123456789")
    monkeypatch.setattr(everything, "ROOT", tmp_path)
    commands = {"a": "compare", "b": "growth", "c": "size"}
    monkeypatch.setattr(everything, "parts", lambda short=False, code="": commands)
    return ran


def test_a_run_is_one_file_with_a_head(measured, tmp_path):
    assert everything.main(["--output", str(tmp_path / "results.json")]) == 0
    data = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert list(data["parts"]) == ["a", "b", "c"]
    assert data["head"]["commit"] == "0123456789"
    assert data["head"]["versions"] == {"compare": "1", "growth": "1", "size": "1"}
    for key in ("processor", "vector_extensions", "processors_available", "threads", "time"):
        assert data["head"][key] == MACHINE[key]
    assert Run(data).strangers == []
    assert list((tmp_path / everything.OUTPUT).iterdir()) == []


def test_a_run_goes_on_where_it_was(measured, tmp_path, capsys):
    measured.broken = frozenset({"growth"})
    output = tmp_path / "results.json"
    assert everything.main(["--output", str(output)]) == 1
    assert not output.exists(), "the old results stay until all parts are there"
    assert measured == ["compare", "growth", "size"]
    assert "without b; the same command goes on" in capsys.readouterr().err
    measured.broken = frozenset()
    assert everything.main(["--output", str(output)]) == 0
    assert measured == ["compare", "growth", "size", "growth"]
    assert list(json.loads(output.read_text("utf-8"))["parts"]) == ["a", "b", "c"]


@pytest.mark.parametrize(("key", "value"), [("commit", "fedcba"), ("processor", "another")])
def test_a_run_goes_on_only_at_its_commit_and_on_its_machine(
    measured, tmp_path, monkeypatch, key, value
):
    measured.broken = frozenset({"size"})
    arguments = ["--output", str(tmp_path / "results.json")]
    everything.main(arguments)
    if key == "commit":
        monkeypatch.setattr(everything, "commit", lambda: value)
    else:
        monkeypatch.setattr(everything, "describe", lambda threads: {**MACHINE, key: value})
    with pytest.raises(SystemExit, match=f"with {key} .*, and it is {value} now; remove the file"):
        everything.main(arguments)


def test_parts_can_be_measured_one_by_one(measured, tmp_path, capsys):
    output = tmp_path / "results.json"
    arguments = ["--output", str(output)]
    assert everything.main([*arguments, "--only", "b"]) == 0
    assert "without a, c; the same command without --only goes on" in capsys.readouterr().err
    assert everything.main([*arguments, "--only", "a", "b"]) == 0
    assert measured == ["growth", "compare"]
    assert not output.exists()
    assert everything.main(arguments) == 0
    assert measured == ["growth", "compare", "size"]
    assert list(json.loads(output.read_text("utf-8"))["parts"]) == ["a", "b", "c"]


def test_a_run_that_is_limited_says_so_and_is_kept_apart(measured, tmp_path, monkeypatch):
    results = tmp_path / "results"
    monkeypatch.setattr("benchmarks._results.FOLDER", results)
    monkeypatch.setitem(MACHINE, "vector_extensions", ["avx2", "avx512f"])
    assert everything.main([]) == 0
    assert everything.main(["--code", "avx2", "--short"]) == 0
    kept = [json.loads(file.read_text("utf-8"))["head"] for file in sorted(results.iterdir())]
    assert len(kept) == 2
    assert sorted((head["code"], head["short"]) for head in kept) == [("", False), ("avx2", True)]


def test_an_environment_that_limits_is_noticed(monkeypatch):
    assert code() == ""
    for name, value in AVX2.items():
        monkeypatch.setenv(name, value)
    assert code() == "avx2"
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    assert code() == "", "all are limited, or the run is of the machine as it is"


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("limits", ["", "avx2"])
def test_the_parts_are_what_is_shown(short, limits):
    names = [f"{mode} {variant}" for mode in ("inference", "training") for variant in VARIANTS]
    parts = everything.parts(short, limits)
    assert [name for name in parts if name.split()[0] in {m for m, _ in KINDS}] == names
    for command in (*parts.values(), *everything.QUICK.values()):
        name, *arguments = command.split()
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "parser"):
            args = module.parser().parse_args(arguments)
            assert set(getattr(args, "contenders", [])) <= CONTENDERS.keys()
            if limits and command in parts.values():
                assert not set(getattr(args, "contenders", [])) & set(UNLIMITED)


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    quick = tmp_path / "quick.json"
    command = [sys.executable, "-m", "benchmarks.all", "--quick", "--output", str(quick)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as pytest's own workers have it
    before = {path.name for path in everything.ROOT.iterdir()}
    done = subprocess.run(
        command, cwd=everything.ROOT, env=one_thread, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(quick.read_text("utf-8"))
    assert list(data["parts"]) == list(everything.QUICK)
    assert data["head"]["versions"]["lucid"]
    assert "build" not in {path.name for path in everything.ROOT.iterdir()} - before
