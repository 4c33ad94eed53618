"""`lucid export`."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.cli import main
from lucid.models._checkpoints import as_metadata
from tests.onnx.runtimes import assert_close, evaluated, images, onnx_runtime

onnx = pytest.importorskip("onnx")

NAME = "mobilenetv4_conv_small_035"


def run(capsys, *arguments):
    status = main(["export", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def weights(tmp_path):
    """Weights of a training on birds, with what is known of them."""
    lucid.manual_seed(0)
    known = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
    description = {"architecture": NAME, "classes": ["wren", "rook", "tit"], **known}
    path = tmp_path / "birds.safetensors"
    state = models.create_model(NAME, num_classes=3).state_dict()
    lucid.save(state, path, metadata=as_metadata(description))
    return path


def metadata(path):
    return {each.key: json.loads(each.value) for each in onnx.load(path).metadata_props}


def test_weights_become_a_file_that_says_what_they_are(tmp_path, capsys, weights):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "new" / "birds.onnx"
    status, out, _ = run(capsys, weights, "-o", path)
    assert status == 0
    first, second = out.splitlines()
    assert first.startswith(f"{path}: {NAME}, ")
    assert first.endswith("MB, opset 17, images of 64×64")
    assert second.startswith("ONNX Runtime ")
    assert "outputs differ from lucid's by at most" in second
    assert metadata(path) == {
        "lucid.model": NAME,
        "lucid.size": [64, 64],
        "lucid.mean": [0.5] * 3,
        "lucid.std": [0.25] * 3,
        "lucid.crop_pct": 1.0,
        "lucid.classes": ["wren", "rook", "tit"],
        **{key: value for key, value in metadata(path).items() if key == "lucid.interpolation"},
    }
    model = models.load_model(weights, tell=lambda line: None)
    x = images((5, 3, 64, 64))
    assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


def test_options(tmp_path, capsys, weights):
    path, names = tmp_path / "m.onnx", tmp_path / "names.txt"
    names.write_text("a\nb\nc\n", encoding="utf-8")
    options = ["--size", "64x96", "--batch-size", 2, "--opset", 13, "--softmax"]
    options += ["--keep-batch-norm", "--classes", names]
    status, out, _ = run(capsys, NAME, "--weights", weights, "-o", path, *options)
    assert status == 0
    assert "opset 13, images of 64×96" in out
    file = onnx.load(path)
    assert file.opset_import[0].version == 13
    dims = [each.dim_value for each in file.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [2, 3, 64, 96]
    assert [each.name for each in file.graph.output] == ["probabilities"]
    assert "BatchNormalization" in {node.op_type for node in file.graph.node}
    assert metadata(path)["lucid.classes"] == ["a", "b", "c"]
    (probabilities,) = onnx_runtime(path)(images((2, 3, 64, 96)))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_any_size(tmp_path, capsys, weights):
    path = tmp_path / "m.onnx"
    status, out, _ = run(capsys, weights, "-o", path, "--dynamic-size")
    assert (status, "images of any size" in out) == (0, True)
    model = models.load_model(weights, tell=lambda line: None)
    x = images((1, 3, 97, 130))
    assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


def test_without_weights_it_says_that_they_are_random(tmp_path, capsys):
    path = tmp_path / "m.onnx"
    status, _, err = run(capsys, NAME, "-o", path, "--size", 64, "--num-classes", 7)
    assert status == 0
    assert err == f"lucid export: {NAME} has fresh random weights; --weights names others\n"
    assert onnx.load(path).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 7


def test_without_onnx_runtime_it_says_how_to_install_it(tmp_path, capsys, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, out, _ = run(capsys, weights, "-o", tmp_path / "m.onnx")
    assert status == 0
    assert "ONNX Runtime is not installed and did not run it: pip install" in out


def test_without_onnx_it_says_how_to_install_it(tmp_path, capsys, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, _, err = run(capsys, weights, "-o", tmp_path / "m.onnx")
    assert status == 1
    assert "ONNX files need onnx, which is not installed: pip install" in err
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_that_is_there_is_kept(tmp_path, capsys, weights):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    status, _, err = run(capsys, weights, "-o", path)
    assert (status, path.read_bytes()) == (2, b"mine")
    assert "is there already; give --overwrite to replace it" in err
    assert run(capsys, weights, "-o", path, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mobilenetv4_conv_smal", "-o", "m.onnx"], "did you mean mobilenetv4_conv_small"),
        (["nowhere.npz", "-o", "m.onnx"], "there is no file 'nowhere.npz'"),
        ([NAME, "-o", "m.pb"], "expected a name ending in .onnx, got m.pb"),
        ([NAME, "-o", "m.onnx", "--opset", "99"], "expected an opset from 11 to"),
        (["birds.safetensors", "-o", "m.onnx", "--num-classes", "3"], "those say their own"),
        ([NAME, "-o", "m.onnx", "--classes", "birds.txt"], "1 names for the model's 1000 classes"),
    ],
    ids=["model", "weights", "suffix", "opset", "count", "classes"],
)
def test_wrong_use(tmp_path, capsys, weights, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds.txt").write_text("wren\n", encoding="utf-8")
    status, _, err = run(capsys, *options)
    assert status == 2
    assert message in err
    assert not (tmp_path / "m.onnx").exists()


def test_predict_reads_the_file(tmp_path, capsys, weights):
    pytest.importorskip("PIL")
    from PIL import Image

    rng = np.random.default_rng(0)
    picture = tmp_path / "bird.png"
    Image.fromarray(rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)).save(picture)
    guesses = []
    for source, options in ((None, []), ("a.onnx", []), ("b.onnx", ["--softmax"])):
        if source is not None:
            assert main(["export", str(weights), "-o", str(tmp_path / source), *options]) == 0
        path = weights if source is None else tmp_path / source
        capsys.readouterr()
        assert main(["predict", str(picture), "--weights", str(path), "--json"]) == 0
        (guess,) = json.loads(capsys.readouterr().out)
        guesses.append([(each["name"], each["probability"]) for each in guess["top"]])
    assert {name for name, _ in guesses[0]} == {"wren", "rook", "tit"}
    for other in guesses[1:]:
        assert [name for name, _ in other] == [name for name, _ in guesses[0]]
        np.testing.assert_allclose(
            [value for _, value in other], [value for _, value in guesses[0]], rtol=1e-4
        )


def test_predict_takes_no_model_for_a_file(tmp_path, capsys):
    pytest.importorskip("PIL")
    command = ["predict", str(tmp_path), "--weights", "x.onnx", "--model", NAME]
    (tmp_path / "a.png").write_bytes(b"")
    assert main(command) == 2
    assert "an ONNX file is a whole model" in capsys.readouterr().err
