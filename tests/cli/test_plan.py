"""`lucid plan`: it runs, and what it computes is what the library computes. No time is asserted."""

from __future__ import annotations

import json

import pytest

from lucid import distributed, kernels
from lucid.cli import main

TINY = ["plan", "--ranks", "6", "--size", "32", "--batch-size", "4", "--seconds", "0.001"]


def test_a_table(capsys):
    assert main([*TINY, "--network", "1Gbit", "--latency", "20us", "--threads", "1"]) == 0
    head, measured, step, computed, _, columns, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("mobilenet_v4_conv_small, 4×3×32×32 a rank, 15.1 MB of gradients")
    assert measured.endswith("threads: 1")
    assert step.startswith("a step of one rank: forward")
    assert computed == "computed for 1Gbit and 20 µs between machines, ranks on each: 1"
    assert columns.split()[:3] == ["ranks", "images", "ms"]
    found = [row.split()[:2] for row in rows[:4]]
    assert found == [["1", "4"], ["2", "8"], ["4", "16"], ["6", "24"]]
    assert rows[-1].endswith("90% from: the smallest batch a rank that efficient")


def test_json_is_what_the_library_says(capsys):
    argv = [*TINY, "--latency", "5us", "--ranks-per-machine", "2", "--sync-bn", "--float16"]
    threads, backend = kernels.get_num_threads(), kernels.get_backend()
    assert main([*argv, "--backend", "numpy", "--worth", "0.5", "--json"]) == 0
    assert (kernels.get_num_threads(), kernels.get_backend()) == (threads, backend)
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["backend"]) == ("mobilenet_v4_conv_small", "numpy")
    assert told["threads"] == max(1, threads // 2)
    measured = told["measured"]
    gradients = tuple(map(tuple, measured.pop("gradients")))
    assert len(measured["runs"]) >= 3
    step = distributed.StepTimes(**measured, gradients=gradients)
    planned = distributed.plan(
        step,
        6,
        "10Gbit",
        latency=5e-6,
        ranks_per_machine=2,
        wire="float16",
        sync_batch_norm=True,
        worth=0.5,
    )
    for found, expected in zip(told["steps"], planned, strict=True):
        assert found["seconds"] == pytest.approx(expected.seconds)
        assert found["images_per_second"] == pytest.approx(expected.images_per_second)
        assert found["pays_from"] == expected.pays_from


def test_json_in_a_file(capsys, tmp_path):
    path = tmp_path / "plan.json"
    assert main([*TINY, "--json", str(path)]) == 0
    assert "efficiency" in capsys.readouterr().out
    assert json.loads(path.read_text())["network"] == "10Gbit"
    assert main([*TINY, "--json", str(path)]) == 2
    assert "plan.json is there already; give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: --ranks"),
        (["--ranks", "0"], "--ranks: expected a positive integer, got '0'"),
        (["--ranks", "4", "--network", "fast"], "--network: expected a bandwidth such as 10Gbit"),
        (["--ranks", "4", "--latency", "50"], "--latency: expected a time such as 50us or 0.1ms"),
        (["--ranks", "4", "--worth", "1"], r"--worth: expected a number in [0, 1), got '1'"),
        (["--ranks", "4", "--model", "resnet"], "there is no model 'resnet'"),
        (["--ranks", "4", "--ranks-per-machine", "-1"], "expected a positive integer, got '-1'"),
    ],
)
def test_wrong_use(capsys, argv, message):
    try:
        status = main(["plan", *argv])
    except SystemExit as error:  # argparse's own way
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
