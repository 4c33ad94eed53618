"""What all commands share: output in any encoding, and errors on one line that can be shown."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lucid
from lucid import models
from lucid.cli import main
from lucid.models._checkpoints import DEFAULT, as_metadata

NAME = "mobilenet_v4_conv_small"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["models"], marks=pytest.mark.slow),
        ["summary", NAME],
        ["diagram", NAME],
        ["bench", "--backend", "numpy", "--size", "32", "--seconds", "0.01", "--layers"],
        ["predict", "pictures", "--weights", "w.npz", "--classes", "names.txt"],
        ["train", "--limit", "40", "--batch-size", "20", "--epochs", "1", "--output", "→.npz",
         "--model", "mobilenetv4_conv_small_035"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_output_in_any_encoding(
    command: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid.cli._bench._peak_gflops", lambda: 100.0)
    if command[0] == "train":
        pytest.importorskip("sklearn")
    if command[0] == "predict":
        image = pytest.importorskip("PIL.Image")
        pytest.importorskip("sklearn")
        state = models.create_model(NAME, num_classes=2).state_dict()
        lucid.save(state, "w.npz", as_metadata(DEFAULT))
        Path("names.txt").write_text("猫\nσκύλος\n", encoding="utf-8")
        Path("pictures").mkdir()
        image.new("RGB", (9, 9)).save("pictures/→ ü.png")
        Path("pictures/→.jpg").write_bytes(b"no picture")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert main(command) == (1 if command[0] == "predict" else 0)
    for stream in (out, err):
        stream.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert text
    if command[0] == "predict":
        shown = "→ ü.png".encode(encoding, "replace").decode(encoding)
        assert shown in text
        assert b"cannot be read as an image" in err.buffer.getvalue()


@pytest.mark.skipif(os.name == "nt", reason="such a name cannot be there")
def test_an_error_is_one_line_whatever_a_name_holds(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff\n\x1b[31m.npz")
    assert main(["predict", "x.png", "--weights", name]) == 2
    assert main(["eval", name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    assert "\x1b" not in error
    error.encode()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("seconds", [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_at_any_moment_is_no_traceback(seconds):
    """While modules are imported, arguments are parsed, the work is done, and at the end."""
    code = """
import sys, lucid_command

def tell(event, args):
    if event == "import" and args[0] == "lucid.cli":
        print(flush=True)

sys.addaudithook(tell)
sys.exit(lucid_command.main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, "summary", "mobilenet_v4_conv_small", "--size", "32"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    if process.returncode:
        assert (process.returncode, error.count("\n")) == (130, 1)
        assert "interrupted" in error


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_in_a_callback_from_c_comes_again():
    """Python drops what is raised there, and would only print it."""
    code = """
import ctypes, signal, sys, time
import lucid.cli, lucid_command

def run():
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()
    time.sleep(60)

lucid.cli.main = run
sys.exit(lucid_command.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, "lucid: interrupted\n")
