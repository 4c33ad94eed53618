"""`lucid bench`: it runs, and what it counts is right. No time is asserted."""

from __future__ import annotations

import json

import pytest

import lucid
from lucid import kernels, models, nn
from lucid.autograd import Function
from lucid.autograd._graph import Node
from lucid.cli import main
from lucid.cli._step_layers import clocked

TINY = ["bench", "--size", "32", "--seconds", "0.001", "--backend", "numpy"]


@pytest.fixture
def known_peak(monkeypatch):
    """To find the processor's speed takes longer than all that is measured here."""
    monkeypatch.setattr("lucid.cli._bench._peak_gflops", lambda: 100.0)


def measured(capsys, *more):
    assert main([*TINY, "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_inference_as_a_table(capsys):
    assert main([*TINY, "--layers"]) == 0
    out = capsys.readouterr().out
    assert "mobilenet_v4_conv_small, inference, 1×3×32×32, float32" in out
    assert "numpy    eager" in out
    assert "numpy    compiled" in out
    assert "depthwise 5×5 /2 + relu6" in out  # of uib_0 in the third stage
    assert "conv 1×1 + add" in out
    assert "100.0 %" in out


@pytest.mark.usefixtures("known_peak")
def test_inference_as_json(capsys):
    result = measured(capsys, "--batch-size", "2", "--layers")
    assert result["input_shape"] == [2, 3, 32, 32]
    model = models.mobilenet_v4_conv_small()
    macs = lucid.summary(model, (2, 3, 32, 32)).total_macs
    assert result["multiply_adds"] == macs
    eager, compiled = result["measurements"]
    assert (eager["how"], compiled["how"]) == ("eager", "compiled")
    assert eager["macs"] == compiled["macs"] == macs
    assert sum(layer["macs"] for layer in compiled["layers"]) == macs
    first, last = compiled["layers"][0], compiled["layers"][-1]
    assert (first["name"], first["shape"]) == ("conv0.convbn_0.conv", [2, 32, 16, 16])
    assert (last["name"], last["shape"]) == ("classifier", [2, 1000])


@pytest.mark.usefixtures("known_peak")
def test_json_in_a_file_stands_beside_the_table(capsys, tmp_path):
    path = tmp_path / "o.json"
    assert main([*TINY, "--json", str(path)]) == 0
    assert "numpy    eager" in capsys.readouterr().out
    assert json.loads(path.read_text())["input_shape"] == [1, 3, 32, 32]
    assert main([*TINY, "--json", str(path)]) == 2
    assert "o.json is there already; give --overwrite" in capsys.readouterr().err


@pytest.mark.usefixtures("known_peak")
def test_training(capsys):
    result = measured(capsys, "--training", "--batch-size", "4", "--layers")
    (step,) = result["measurements"]
    assert result["mode"] == "training"
    assert set(step["phases_ms"]) == {"forward", "backward", "optimizer"}
    assert step["macs"] == 3 * result["multiply_adds"]
    layers = {layer["name"]: layer for layer in step["layers"]}
    assert sum(layer["macs"] for layer in step["layers"]) == result["multiply_adds"]
    first = layers["conv0.convbn_0"]  # convolution, batch norm and clip ran as one
    assert (first["shape"], first["kind"]) == ([4, 32, 16, 16], "conv 3×3 /2 + norm + relu6")
    assert first["products"] == 2  # images need no gradient
    assert layers["classifier"]["products"] == 3
    assert first["forward_ms"] > 0 < first["backward_ms"]
    assert {"(behind the model)", "(between operations)", "(optimizer)"} < set(layers)
    for layer in step["layers"][:-1]:
        assert layer["ms"] == pytest.approx(layer["forward_ms"] + layer["backward_ms"])

    assert main([*TINY, "--training", "--batch-size", "4", "--layers"]) == 0
    out = capsys.readouterr().out
    assert "numpy, training step\nlayer" in out
    assert "depthwise 5×5 /2 + norm + relu6" in out


def test_the_clock_counts_what_is_inside_only_once_and_is_taken_off():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 2))
    before = [nn.Module.__call__, vars(Function)["apply"], Node.call_backward]
    with clocked(model) as steps:
        for _ in range(2):
            model(lucid.randn(2, 3, 8, 8)).square().sum().backward()
    assert before == [nn.Module.__call__, vars(Function)["apply"], Node.call_backward]
    once, again = ([(ran.name, ran.kind, ran.macs) for ran in step] for step in steps)
    assert once == again
    assert once[0] == ("0", "conv 3×3", 2 * 4 * 36 * 27)
    assert ("3", "linear", 2 * 144 * 2) in once
    assert once[-1][0] is None  # the sum, behind the model
    assert all(ran.backward > 0 for ran in steps[0])


@pytest.mark.usefixtures("known_peak")
def test_timms_names_and_threads(capsys):
    before = kernels.get_num_threads()
    try:
        result = measured(capsys, "--model", "mobilenetv4_conv_small", "--threads", "1")
        assert result["model"] == "mobilenetv4_conv_small"
        assert result["threads"] == 1
    finally:
        kernels.set_num_threads(before)


def test_both_is_what_is_installed(capsys):
    before = kernels.get_backend()
    assert main(["bench", "--size", "32", "--seconds", "0.001", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["measurements"]
    assert {row["backend"] for row in rows} <= set(kernels.available_backends())
    assert "numpy" in {row["backend"] for row in rows}
    assert kernels.get_backend() == before


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--model", "mobilenet_v5"], 2, "there is no model 'mobilenet_v5'"),
        (["--batch-size", "0"], 2, "expected a positive integer, got '0'"),
        (["--backend", "cuda"], 2, "invalid choice: 'cuda'"),
        (["--seconds", "-1"], 2, "expected a number over 0"),
    ],
)
def test_wrong_use(capsys, argv, status, message):
    try:
        found = main(["bench", *argv])
    except SystemExit as error:  # argparse's own way
        found = error.code
    assert found == status
    assert message in capsys.readouterr().err
