"""`lucid embed`, with fresh weights: what it writes must be what the model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.cli import main
from lucid.data.datasets import read_image
from lucid.data.transforms import for_model
from lucid.models._checkpoints import DEFAULT, as_metadata

Image = pytest.importorskip("PIL.Image")

NAME = "mobilenet_v4_conv_small"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights, three images and a broken one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)
    lucid.manual_seed(0)
    state = models.create_model(NAME, num_classes=7).state_dict()
    lucid.save(state, "w.npz", as_metadata(DEFAULT))
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for index, shape in enumerate([(300, 240, 3), (120, 260, 3), (90, 90, 3)]):
        values = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(values).save(f"photos/{index}.png")
    Path("photos/1b.png").write_bytes(b"no image")
    return tmp_path


def embed(*options: str) -> int:
    return main(["embed", *options, "--model", NAME])


def test_features(folder, capsys):
    assert embed("photos", "--weights", "w.npz", "-o", "o.npz", "--batch-size", "2") == 1
    captured = capsys.readouterr()
    assert captured.out == "3 × 1280 features in o.npz\n"
    assert captured.err.startswith("lucid embed: photos/1b.png cannot be read as an image")
    assert captured.err.count("\n") == 1
    with np.load("o.npz") as found:
        assert sorted(found.files) == ["features", "files"]
        features, files = found["features"], found["files"]
    assert files.tolist() == ["photos/0.png", "photos/1.png", "photos/2.png"]
    assert features.shape == (3, 1280)
    assert features.dtype == np.float32
    model: Any = models.create_model(NAME, num_classes=0, weights="w.npz").eval()
    for path, row in zip(files, features):
        with lucid.no_grad():
            expected = model(for_model(model)(read_image(path))[None]).numpy()[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_weights_without_a_classifier(folder):
    state = lucid.load("w.npz")
    lucid.save({k: v for k, v in state.items() if "classifier" not in k}, "headless.npz")
    for weights in ("w.npz", "headless.npz"):
        assert embed("photos/0.png", "--weights", weights, "-o", f"of-{weights}") == 0
    with np.load("of-w.npz") as a, np.load("of-headless.npz") as b:
        np.testing.assert_array_equal(a["features"], b["features"])


def test_failures(folder, capsys):
    for options, status, message in [
        (["photos", "-o", "o.txt"], 2, "--output: expected a name ending in .npz, got o.txt"),
        (["photos", "-o", "w.npz"], 2, "--output: w.npz is there already; give --overwrite"),
        (["none", "-o", "o.npz"], 2, "no image found: there is no file none"),
        (["photos/1b.png", "-o", "o.npz"], 1, "none of the 1 images could be read"),
    ]:
        assert embed(*options, "--weights", "w.npz") == status
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[-1] == f"lucid embed: {message}" or message in captured.err
    assert not Path("o.npz").exists()
