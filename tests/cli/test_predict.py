"""`lucid predict`, with fresh weights: what it prints must be what the model computes."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models
from lucid._extras import install
from lucid.cli import main
from lucid.cli._predict import read_classes
from lucid.data import imagenet_classes
from lucid.data.datasets import read_image
from lucid.data.transforms import for_model
from lucid.models._checkpoints import DEFAULT, as_metadata

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

NAME = "mobilenet_v4_conv_small"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of 1000 and of 3 classes, scikit-learn's photographs, and a folder of images."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("predict")
    for seed, classes in ((0, 1000), (1, 3)):
        lucid.manual_seed(seed)
        model = models.create_model(NAME, num_classes=classes)
        model.classifier.weight.data[...] *= 15  # fresh weights can hardly tell images apart
        lucid.save(model.state_dict(), root / f"w{classes}.npz", as_metadata(DEFAULT))
    photos = root / "photos"
    (photos / "deep" / "er").mkdir(parents=True)
    images = load_sample_images()
    for name, image in zip(("china", "flower"), images.images):
        Image.fromarray(image).save(photos / f"{name}.jpg")
    Image.fromarray(image[::3, ::3]).save(photos / "deep" / "er" / "small flower.webp")
    (photos / "deep" / "broken.jpg").write_bytes(b"this is no photograph")
    (photos / "deep" / "notes.txt").write_text("neither is this")
    (photos / ".hidden.jpg").write_bytes(b"nor this")
    return root


@pytest.fixture(autouse=True)
def in_that_folder(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)


def predict(*options: str, weights: str = "w1000.npz", model: str | None = NAME) -> int:
    return main(
        ["predict", *options, "--weights", weights, *([] if model is None else ["--model", model])]
    )


def expected(path: str, classes: int = 1000) -> np.ndarray:
    model: Any = models.create_model(NAME, num_classes=classes, weights=f"w{classes}.npz").eval()
    with lucid.no_grad():
        logits = model(for_model(model)(read_image(path))[None])
    return logits.softmax(-1).numpy()[0]


def result(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# -- the table --------------------------------------------------------------------------------


def test_two_photographs(capsys):
    assert predict("photos/china.jpg", "photos/flower.jpg") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[0].split() == ["image", "class", "probability"]
    assert len(lines) == 1 + 2 * 5
    assert len({len(line) for line in lines}) == 1  # aligned
    names = imagenet_classes()
    for start, path in ((1, "photos/china.jpg"), (6, "photos/flower.jpg")):
        probabilities = expected(path)
        best = np.argsort(-probabilities)[:5]
        assert lines[start].startswith(path)
        for line, index in zip(lines[start : start + 5], best):
            assert names[index] in line
            assert float(line.split()[-2]) == pytest.approx(100 * probabilities[index], abs=0.006)
            assert line.endswith(" %")


def test_a_folder_with_a_broken_file(capsys):
    assert predict("photos", "--top", "1", "--csv", "all.csv", "--batch-size", "2") == 1
    captured = capsys.readouterr()
    left_out, broken = captured.err.splitlines()
    assert left_out == "lucid predict: passed over: 1 file (1 .txt)"
    assert broken.startswith("lucid predict: photos/deep/broken.jpg cannot be read as an ")
    found = [line.rpartition(".")[0] for line in captured.out.splitlines()[1:]]
    assert [line.split(".")[0] for line in found] == [
        "photos/china",
        "photos/deep/er/small flower",
        "photos/flower",
    ]
    rows = list(csv.reader(Path("all.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[0] for row in rows[1:]] == [
        "photos/china.jpg",
        "photos/deep/er/small flower.webp",
        "photos/flower.jpg",
    ]


# -- JSON and CSV -----------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="has no such files")
def test_a_device_is_written_into(tmp_path, monkeypatch):
    access = os.access
    # Nobody but root may make files beside a device.
    monkeypatch.setattr(
        os, "access", lambda path, *more, **how: str(path) != "/dev" and access(path, *more, **how)
    )
    (tmp_path / "o.csv").symlink_to(os.devnull)
    more = ("--json", os.devnull, "--csv", str(tmp_path / "o.csv"))
    assert predict("photos/china.jpg", *more) == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(tmp_path) == ["o.csv"]


def test_json(capsys):
    assert predict("photos/china.jpg", "--json", "-", "--top", "3") == 0
    (entry,) = result(capsys)
    assert predict("photos/china.jpg", "--json", "--top", "3") == 0
    assert result(capsys) == [entry]
    probabilities = expected("photos/china.jpg")
    assert entry["file"] == "photos/china.jpg"
    assert [guess["index"] for guess in entry["top"]] == np.argsort(-probabilities)[:3].tolist()
    for guess in entry["top"]:
        assert guess["name"] == imagenet_classes()[guess["index"]]
        assert guess["probability"] == pytest.approx(probabilities[guess["index"]], rel=1e-4)


def test_files_are_written_and_the_table_printed_all_the_same(capsys, tmp_path):
    out = tmp_path / "o.json"
    assert predict("photos/china.jpg", "--json", str(out), "--csv", str(tmp_path / "o.csv")) == 0
    assert capsys.readouterr().out.startswith("image")
    (entry,) = json.loads(out.read_text())
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [int(row["index"]) for row in rows] == [guess["index"] for guess in entry["top"]]
    assert [float(row["probability"]) for row in rows] == [g["probability"] for g in entry["top"]]
    assert [row["rank"] for row in rows] == list("12345")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", "o.json"]


def test_csv_on_stdout_with_a_name_that_needs_quotes(capsys, tmp_path):
    path = tmp_path / 'a, "b".png'
    Image.new("RGB", (30, 20)).save(path)
    assert predict(str(path), "--csv", "-", "--top", "1") == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["file", "rank", "index", "name", "probability"]
    assert row[:2] == [str(path), "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="such a name cannot be everywhere")
def test_a_name_that_is_no_text(capsys, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\n.png"
    with open(path, "wb") as file:
        Image.new("RGB", (30, 20)).save(file, "PNG")
    assert predict(os.fsdecode(path), "--csv", "o.csv") == 0
    assert "/\ufffd\ufffd.png " in capsys.readouterr().out
    assert predict(os.fsdecode(path), "--json", "-") == 0
    assert os.fsencode(result(capsys)[0]["file"]) == path


def test_batches_make_no_difference(capsys):
    found = []
    for size in ("1", "2", "16"):
        predict("photos/*.jpg", "photos/**/*.webp", "--json", "-", "--batch-size", size)
        found.append(result(capsys))
    assert len(found[0]) == 3
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert a["file"] == b["file"]
            assert [g["index"] for g in a["top"]] == [g["index"] for g in b["top"]]
            for first, second in zip(a["top"], b["top"]):
                assert first["probability"] == pytest.approx(second["probability"], rel=1e-4)


# -- images of every kind ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["upright", "exif", "grey", "palette", "alpha", "palette alpha", "16 bit", "cmyk"]
)
def test_kinds_of_images(kind, tmp_path, capsys):
    """Each is the same scene, so all predictions are that of the plain image, or near it."""
    y, x = np.mgrid[:90, :120]
    scene = np.where((x // 30 + y // 20) % 2, 255, 0).astype(np.uint8)  # black and white only
    plain = Image.fromarray(scene).convert("RGB")
    plain.save(tmp_path / "plain.png")
    path, options = tmp_path / "x.png", {}
    image = plain
    if kind == "exif":
        image, options["exif"] = plain.transpose(Image.Transpose.ROTATE_90), Image.Exif()
        options["exif"][0x0112] = 6
    elif kind == "grey":
        image = plain.convert("L")
    elif kind == "palette":
        image = plain.quantize(4)
    elif kind == "alpha":  # white where nothing is
        image = Image.fromarray(np.stack([scene * 0] * 3 + [255 - scene], axis=-1))
    elif kind == "palette alpha":
        image = Image.fromarray((scene > 0).astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 0, 200, 0, 0])
        options["transparency"] = bytes([255, 0])
    elif kind == "16 bit":
        image = Image.fromarray(scene.astype(np.uint16) * 257)
    elif kind == "cmyk":
        path, image, options = tmp_path / "x.jpg", plain.convert("CMYK"), {"quality": 100}
    image.save(path, **options)
    assert predict(str(tmp_path / "plain.png"), str(path), "--json", "-") == 0
    first, second = result(capsys)
    tolerance = 0.05 if kind == "cmyk" else 1e-5
    for a, b in zip(first["top"], second["top"]):
        assert b["probability"] == pytest.approx(a["probability"], rel=tolerance)


def test_a_file_is_taken_once_and_a_hidden_one_if_named(capsys):
    assert predict("photos/china.jpg", "photos/china.jpg", "photos/*china*", "--json", "-") == 0
    assert len(result(capsys)) == 1
    assert predict("photos/china.jpg", "photos/.hidden.jpg") == 1
    assert "photos/.hidden.jpg cannot be read" in capsys.readouterr().err


# -- names of the classes ---------------------------------------------------------------------


def test_imagenet_classes():
    names = imagenet_classes()
    assert len(names) == 1000
    assert all(name == name.strip() and name for name in names)
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 409: "analog clock"}
    known |= {151: "Chihuahua", 398: "abacus", 817: "sports car", 954: "banana"}
    assert {index: names[index] for index in known} == known
    assert names[999] == "toilet tissue"


def test_other_classes_are_numbers(capsys):
    assert predict("photos/china.jpg", "--json", "-", weights="w3.npz") == 0
    (entry,) = result(capsys)
    assert sorted(guess["name"] for guess in entry["top"]) == ["0", "1", "2"]
    assert sum(guess["probability"] for guess in entry["top"]) == pytest.approx(1)
    probabilities = expected("photos/china.jpg", 3)
    assert [guess["index"] for guess in entry["top"]] == np.argsort(-probabilities).tolist()


@pytest.mark.parametrize(
    ("name", "content"),
    [("c.txt", "cat\ndog\r\n wild boar \n\n"), ("c.json", '["cat", "dog", "wild boar"]')],
)
def test_classes_from_a_file(name, content, capsys, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    assert read_classes(path) == ["cat", "dog", "wild boar"]
    assert predict("photos/china.jpg", "--json", "-", "--classes", str(path), weights="w3.npz") == 0
    (entry,) = result(capsys)
    for guess in entry["top"]:
        assert guess["name"] == ["cat", "dog", "wild boar"][guess["index"]]


def test_weights_of_a_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--limit", "40", "--batch-size", "20", "--epochs", "1", "--size", "40"]
    options += ["--output", "run.npz", "--model", NAME, "--no-report"]
    assert main(["train", "--data", "digits", *options]) == 0
    Image.new("L", (30, 40), 90).save("x.png")
    capsys.readouterr()
    assert predict("x.png", "--json", "-", "--top", "99", weights="run.npz", model=None) == 0
    (entry,) = result(capsys)
    assert len(entry["top"]) == 10
    assert all(guess["name"] == str(guess["index"]) for guess in entry["top"])
    model = models.create_model(NAME, num_classes=10, in_channels=1).eval()
    model.load_state_dict(lucid.load("run.npz"))
    image = lucid.full((1, 1, 40, 40), (90 / 255 - 0.305) / 0.376)
    with lucid.no_grad():
        probabilities = model(image).softmax(-1).numpy()[0]
    for guess in entry["top"]:
        assert guess["probability"] == pytest.approx(probabilities[guess["index"]], rel=1e-4)
    assert predict("x.png", weights="run.npz", model="mobilenet_v4_conv_large") == 2
    assert f"are those of {NAME}, not of" in capsys.readouterr().err


def test_the_model_may_be_told_by_the_name_of_the_weights(capsys, tmp_path):
    path = tmp_path / "mobilenetv4_conv_small.fresh.npz"
    path.write_bytes(Path("w3.npz").read_bytes())
    assert predict("photos/china.jpg", weights=str(path), model=None) == 0


# -- the picture ------------------------------------------------------------------------------


def test_explain(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "why.png"
    assert predict("photos", "--explain", str(path)) == 1
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[0] > 1000
    orange = (abs(pixels - [0xD9, 0x66, 0x2B]).sum(axis=2) == 0).sum(axis=1)
    starts = np.diff((orange > 10).astype(int)) == 1
    assert starts.sum() == 3  # the bar of the likeliest class of each of the three images
    assert "can be" not in capsys.readouterr().out


def test_explain_needs_matplotlib(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert predict("photos", "--explain", str(tmp_path / "x.png")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert install("plot") in captured.err


def test_too_many_to_explain(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "pictures").mkdir()
    for index in range(21):
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{index}.png")
    assert predict(str(tmp_path / "pictures"), "--explain", str(tmp_path / "x.png")) == 0
    captured = capsys.readouterr()
    assert captured.out.count(".png") == 21
    assert "x.png shows the first 20 of 21 images" in captured.err
    assert (tmp_path / "x.png").is_file()


# -- what cannot be done ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["no.jpg"], 2, "no image found: there is no file no.jpg"),
        (["*.tiff"], 2, "no image found: nothing matches *.tiff"),
        (["photos/deep/er/none"], 2, "there is no file photos/deep/er/none"),
        (["photos/deep/broken.jpg"], 1, "none of the 1 images could be read"),
        (["photos", "--json", "-", "--csv", "-"], 2, "would both print"),
        (["photos", "--json", "w.txt/o.json"], 2, "--json: cannot write to w.txt/o.json"),
        (["photos", "--json", "w.json"], 2, "--json: w.json is there already; give --overwrite"),
        (["photos", "--json", "o", "--csv", "o"], 2, "--json and --csv name one file"),
        (["photos", "--csv", "photos"], 2, "--csv: photos is a folder"),
        (["photos", "--explain", "x.txt"], 2, "--explain: expected a name ending in .png or"),
        (["photos", "--classes", "none.txt"], 2, "--classes: none.txt cannot be read"),
        (["photos/china.jpg", "--classes", "w.txt"], 2, "2 names for the model's 1000 classes"),
        (["photos", "--classes", "w.json"], 2, "w.json must hold a list of names"),
        (["photos", "--model", "resnet50"], 2, "there is no model 'resnet50'"),
        (["photos", "--weights", "none.npz"], 2, "there is no file 'none.npz'"),
        (["photos", "--weights", "photos"], 2, "photos is a folder; name the weights in it"),
        (["photos", "--weights", "w.txt"], 2, "expected weights ending in .safetensors or .npz"),
        (["photos", "--weights", "bad.npz"], 1, "bad.npz"),
        (["photos", "--weights", "headless.npz"], 1, "no classifier; `lucid embed` takes them"),
        (["photos/china.jpg", "--weights", "nan.npz"], 1, "not all finite numbers"),
        (["photos", "--model", "mobilenet_v4_conv_large"], 1, "does not fit mobilenet_v4_conv_lar"),
    ],
)
def test_failures_are_one_line(options, status, message, files, capsys):
    Path("w.txt").write_text("cat\ndog\n")
    Path("w.json").write_text('{"cat": 1}')
    Path("bad.npz").write_bytes(b"PK but not really")
    state = lucid.load("w3.npz")
    state["classifier.bias"].data[...] = np.nan
    lucid.save(state, "nan.npz")
    lucid.save({k: v for k, v in state.items() if "classifier" not in k}, "headless.npz")
    before = sorted(path.name for path in files.iterdir())
    assert main(["predict", "--weights", "w1000.npz", "--model", NAME, *options]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(line.startswith("lucid predict: ") for line in lines)
    assert message in lines[-1]
    others = ("broken.jpg cannot be read", "passed over: 1 file (1 .txt)", "does not say what")
    assert [line for line in lines[:-1] if not any(other in line for other in others)] == []
    assert sorted(path.name for path in files.iterdir()) == before


def test_a_missing_file_among_others(capsys):
    assert predict("photos/china.jpg", "no.jpg", "--top", "1") == 1
    captured = capsys.readouterr()
    assert captured.err == "lucid predict: no image found: there is no file no.jpg\n"
    assert len(captured.out.splitlines()) == 2


def test_the_arrays_tell_the_model(capsys):
    assert predict("photos/china.jpg", "--json", "-", model=None) == 0
    first = result(capsys)
    assert predict("photos/china.jpg", "--json", "-") == 0
    assert result(capsys) == first
    lucid.save({"x": np.ones(3)}, "foreign.npz")
    assert predict("photos/china.jpg", weights="foreign.npz", model=None) == 2
    error = capsys.readouterr().err
    assert "foreign.npz does not have the entries of any model; give --model to see what" in error
    Path("foreign.npz").unlink()


def test_what_is_assumed_is_said(capsys, tmp_path):
    state = lucid.load("w3.npz")
    lucid.save(state, tmp_path / "bare.npz")
    assert predict("photos/china.jpg", weights=str(tmp_path / "bare.npz"), model=None) == 0
    assert capsys.readouterr().err == (
        f"lucid predict: {tmp_path / 'bare.npz'} does not say what images it expects: assuming "
        "224×224 pixels, 87.5% of the shorter side, bicubic interpolation, ImageNet's mean, "
        "ImageNet's standard deviation\n"
    )
    part = {key: DEFAULT[key] for key in ("mean", "std", "interpolation", "crop_pct")}
    lucid.save(state, tmp_path / "part.npz", as_metadata(part))
    assert predict("photos/china.jpg", weights=str(tmp_path / "part.npz"), model=None) == 0
    assert capsys.readouterr().err.endswith("it expects: assuming 224×224 pixels\n")


def test_weights_that_say_everything(capsys, tmp_path):
    description = {
        "architecture": NAME,
        "classes": ["cat", "dog", "eel"],
        "input_size": (3, 96, 96),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    path = tmp_path / "full.npz"
    lucid.save(lucid.load("w3.npz"), path, as_metadata(description))
    assert predict("photos/china.jpg", "--json", "-", weights=str(path), model=None) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    model: Any = models.create_model(NAME, num_classes=3, weights="w3.npz").eval()
    model.pretrained_cfg = description
    with lucid.no_grad():
        logits = model(for_model(model)(read_image("photos/china.jpg"))[None])
    (entry,) = json.loads(captured.out)
    for guess in entry["top"]:
        assert guess["name"] == description["classes"][guess["index"]]
        wanted = logits.softmax(-1).numpy()[0, guess["index"]]
        assert guess["probability"] == pytest.approx(wanted, rel=1e-4)
    assert predict("photos", weights=str(path), model="mobilenet_v4_conv_large") == 2
    assert f"are those of {NAME}, not of" in capsys.readouterr().err


def test_names_of_classes_that_are_not_there(capsys, tmp_path):
    path = tmp_path / "w.npz"
    lucid.save(lucid.load("w3.npz"), path, as_metadata({**DEFAULT, "classes": ["cat", "dog"]}))
    assert predict("photos/china.jpg", "--json", "-", weights=str(path)) == 0
    captured = capsys.readouterr()
    assert "w.npz names 2 classes but has 3; they are numbered" in captured.err
    assert sorted(guess["name"] for guess in json.loads(captured.out)[0]["top"]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("weights", "near"),
    [
        ("w100.npz", "did you mean w1000.npz"),
        ("w1000", "did you mean w1000.npz"),
        ("w1000.safetensors", "did you mean w1000.npz"),
        ("timm/mobilenetv4_conv_smal.e2400_r224_in1k", "timm/mobilenetv4_conv_small.e2400_r224_in"),
        ("nothing-like-it.npz", None),
    ],
)
def test_mistyped_weights(weights, near, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # no network
    assert predict("photos/china.jpg", weights=weights, model=None) in (1, 2)
    error = capsys.readouterr().err
    assert f"there is no file '{weights}'" in error
    assert "--model" not in error
    assert ("did you mean" in error) == (near is not None)
    assert near is None or near in error


def test_as_a_program():
    command = [sys.executable, "-m", "lucid", "predict", "photos/deep", "--weights", "w3.npz"]
    done = subprocess.run(
        [*command, "--model", NAME, "--csv", "-"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stdout.count("\n") == 4
    assert "broken.jpg" in done.stderr
