"""`lucid models` and `lucid summary`, help, version, and how errors are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import lucid
from lucid import models
from lucid.cli import main


def test_models_as_a_table(capsys):
    assert main(["models", "small"]) == 0
    header, page, released, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "parameters", "multiply-adds"]
    assert page.split() == ["mobilenet_v4_conv_small", "3,774,024", "244,987,968"]
    assert released.split() == ["mobilenetv4_conv_small", "3,774,024", "186,005,568"]


def test_models_as_json(capsys):
    assert main(["models", "mobilenet_v4_conv_small", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "mobilenet_v4_conv_small"
    assert row["parameters"] == 3_774_024


def test_published_weights(capsys):
    assert main(["models", "--pretrained", "conv_small.e3600"]) == 0
    header, row, note = capsys.readouterr().out.splitlines()
    assert header.startswith("weights")
    assert row.split() == [
        "mobilenetv4_conv_small.e3600_r256_in1k",
        "3,774,024",
        "256",
        "74.53",
        "at",
        "256,",
        "75.62",
        "at",
        "320",
        "0.5,",
        "0.5",
        "apache-2.0",
    ]
    assert note == (
        "ImageNet's mean is 0.485 0.456 0.406, its standard deviation 0.229 0.224 0.225."
    )
    assert main(["models", "--pretrained"]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:-1]] == [
        entry.name for entry in models.list_pretrained()
    ]


def test_published_weights_as_json(capsys):
    assert main(["models", "--pretrained", "*in12k", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["num_classes"] for row in rows} == {11_821}
    assert {row["tag"] for row in rows} == {entry.tag for entry in models.list_pretrained("*in12k")}
    assert all(row["top1"] is None for row in rows)


@pytest.mark.parametrize("options", [[], ["--json"], ["--pretrained"]])
def test_a_filter_that_no_model_passes(options, capsys):
    assert main(["models", "resnet", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "no model's name contains 'resnet'" in captured.err


def test_summary(capsys):
    command = ["summary", "mobilenet_v4_conv_small", "--num-classes", "7", "--depth", "1"]
    assert main([*command, "--size", "64x48", "--channels", "1", "--batch-size", "2"]) == 0
    captured = capsys.readouterr()
    assert "input (2, 1, 64, 48)" in captured.out
    assert "(2, 7)" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["summary", "mobilenet_v4_conv_smal"], "did you mean mobilenet_v4_conv_small"),
        (["summary", "resnet50"], "there is no model 'resnet50'"),
        (["train", "--model", "mobilenet_v4_conv_larg"], "did you mean mobilenet_v4_conv_large"),
        (["eval", "nothing.npz"], "there is no file nothing.npz"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(argv, message, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"lucid {argv[0]}: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["paint"],
        ["train", "--epochs", "0"],
        ["train", "--epochs", "two"],
        ["train", "--lr", "nan"],
        ["train", "--lr", "-1"],
        ["train", "--optimizer", "magic"],
        ["train", "--label-smoothing", "1"],
        ["train", "--seed", "-3"],
        ["summary", "mobilenet_v4_conv_small", "--size", "axb"],
        ["summary", "mobilenet_v4_conv_small", "--size", "0"],
        ["summary", "mobilenet_v4_conv_small", "--size", "64x64x64"],
        ["summary", "mobilenet_v4_conv_small", "--size", "²"],
        ["summary", "mobilenet_v4_conv_small", "--depth", "0"],
    ],
)
def test_what_the_parser_refuses_is_status_2(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert "lucid" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_line_and_status_2(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("LUCID_DEBUG", raising=False)
    (tmp_path / "file").touch()
    chart = tmp_path / "file" / "chart.svg"
    assert main(["diagram", "mobilenet_v4_conv_small", "--size", "32", "-o", str(chart)]) == 2
    captured = capsys.readouterr()
    assert f"cannot write to {chart}" in captured.err
    assert captured.err.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(lucid.cli._errors.UsageError):
        main(["summary", "resnet50", "--debug"])
    monkeypatch.setenv("LUCID_DEBUG", "1")
    with pytest.raises(lucid.cli._errors.UsageError):
        main(["summary", "resnet50"])


@pytest.mark.parametrize("command", ["models", "summary", "train", "eval"])
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as error:
        main([command, "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  lucid {command}" in text


def run(*argv: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lucid", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def test_version_as_a_process():
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"lucid {lucid.__version__}\n")


def test_an_error_as_a_process():
    result = run("summary", "resnet50", env={**os.environ, "LUCID_DEBUG": "0"})
    assert result.returncode == 2
    assert result.stderr.startswith("lucid summary: there is no model 'resnet50'")
    assert "Traceback" not in result.stderr


def test_a_reader_that_leaves_early():
    """`lucid models | head`: no traceback, no complaint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lucid", "summary", "mobilenet_v4_conv_small"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", ["", "models", "train", "predict", "convert"])
def test_help_is_wrapped_at_the_terminals_width(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    text, examples = capsys.readouterr().out.split("\nexample")
    assert max(map(len, text.splitlines())) <= columns
    assert "  lucid " in examples
