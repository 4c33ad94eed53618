"""``lucid quantize``: what it writes and prints, and what it refuses."""

from __future__ import annotations

import re

import pytest

import lucid
from lucid import models, quantization
from lucid.cli import main

pytest.importorskip("sklearn")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    arguments = "--data digits --limit 60 --epochs 1 --batch-size 20 --output"
    model = ["--model", "mobilenetv4_conv_small_035"]
    assert main(["train", *model, *arguments.split(), str(folder)]) == 0
    return folder


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_writes_a_file_and_says_what_it_costs(run, suffix, tmp_path, capsys):
    target = tmp_path / f"small{suffix}"
    assert main(["quantize", str(run), "-o", str(target), "--images", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "weights", "signal-to-noise"]
    assert [line.split(":")[0] for line in lines[-3:]] == ["before", "after", str(target)]
    assert "test accuracy" in lines[-2]
    if suffix == ".safetensors":
        model = models.create_model("mobilenetv4_conv_small_035", num_classes=10, in_channels=1)
        again = quantization.restore(model, lucid.load(target))
        assert again(lucid.zeros(1, 1, 32, 32)).shape == (1, 10)


@pytest.mark.slow
def test_digits_are_read_as_before_to_half_a_point(tmp_path, capsys):
    folder, target = tmp_path / "digits", tmp_path / "small.onnx"
    settings = "--model mobilenetv4_conv_small_035 --data digits --epochs 6 --output"
    assert main(["train", *settings.split(), str(folder)]) == 0
    capsys.readouterr()
    assert main(["quantize", str(folder), "-o", str(target)]) == 0
    found = re.findall(r"(before|after): test accuracy (\S+) %", capsys.readouterr().out)
    (before, exact), (after, rounded) = found
    assert (before, after) == ("before", "after")
    assert float(exact) > 80
    assert float(rounded) >= float(exact) - 0.5


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-o", "small.txt"], 2, "expected a name ending in .onnx or"),
        (["-o", "small.onnx", "--skip", "nothing"], 2, "skip names no module 'nothing'"),
        (["-o", "small.onnx", "--data", "nowhere"], 2, "--data: "),
    ],
)
def test_refuses(run, arguments, status, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(run), *arguments]) == status
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
