"""``lucid convert``: renaming, what is refused, and that nothing is lost on the way."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from lucid import models
from lucid._files import read_metadata
from lucid.cli import main
from lucid.models import _timm
from lucid.models._checkpoints import as_metadata, read_description
from lucid.models._config import read_config
from lucid.models._pretrained import VARIANTS, Checkpoint, configuration, convert
from tests.models.test_pretrained_reference import reference
from tests.reference import arrays
from tests.torch_bytes import archive, older, tensor


def state_of(variant, timm=True, classes=3, **kwargs):
    cfg = configuration(f"{'mobilenetv4' if timm else 'mobilenet_v4'}_{variant}")
    return models.MobileNet_V4(cfg, classes, **kwargs).state_dict()


def small():
    return {n: arrays.weight(n, tuple(s)) for n, s in reference("conv_small")["entries"]}


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        found, wanted = np.asarray(state[name].numpy()), np.asarray(array)
        assert found.dtype == wanted.dtype
        assert found.tobytes() == wanted.tobytes(), name


def run(capsys, *arguments):
    status = main(["convert", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_round_trip_of_timms_file(tmp_path, capsys):
    state = small()
    lucid.save(state, tmp_path / "timm.npz")
    status, out, err = run(capsys, tmp_path / "timm.npz", tmp_path / "o.npz", "--to", "lucid")
    assert (status, err) == (0, "")
    what = f"mobilenetv4_conv_small under lucid's names, {len(state)} arrays"
    assert out == f"{tmp_path / 'o.npz'}: {what}\n"
    ours = lucid.load(tmp_path / "o.npz")
    assert "head.convbn_0.conv.weight" in ours
    model = models.mobilenet_v4_conv_small(weights=tmp_path / "o.npz")
    assert_same(model.state_dict(), ours)
    assert run(capsys, tmp_path / "o.npz", tmp_path / "back.npz", "--to", "timm")[0] == 0
    assert_same(lucid.load(tmp_path / "back.npz"), state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_of_every_variant(variant):
    ours = state_of(variant, timm=True, in_channels=4)
    theirs = convert(Checkpoint("x", ours, None, False), f"mobilenet_v4_{variant}", to_timm=True)
    assert _timm.is_timm(theirs)
    back = convert(Checkpoint("x", theirs, None, False), f"mobilenet_v4_{variant}", to_timm=False)
    assert_same(back, {name: value.numpy() for name, value in ours.items()})
    if variant in ("conv_small", "conv_medium", "hybrid_medium"):  # timm's names, as stored
        assert theirs.keys() == {name for name, _ in reference(variant)["entries"]}


@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(0, 4),
    channels=st.integers(1, 4),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip_keeps_every_bit(classes, channels, dtype, seed):
    """Values of any bits (NaNs too), other dtypes, classes and channels."""
    rng = np.random.default_rng(seed)
    ours = {}
    for name, value in state_of("conv_small", True, classes, in_channels=channels).items():
        count = value.numel() * np.dtype(dtype).itemsize
        ours[name] = lucid.tensor(
            np.frombuffer(rng.bytes(count), dtype).reshape(value.shape), dtype
        )
    theirs = convert(Checkpoint("x", ours, None, False), "mobilenet_v4_conv_small", True)
    back = convert(Checkpoint("x", theirs, None, False), "mobilenet_v4_conv_small", False)
    assert_same(back, {name: value.numpy() for name, value in ours.items()})


@pytest.mark.parametrize("variant", ["conv_small", "hybrid_medium"])
def test_the_pages_form_comes_with_a_warning(tmp_path, capsys, variant):
    ours = state_of(variant, timm=False)
    lucid.save(ours, tmp_path / "ours.npz")
    status, out, err = run(capsys, tmp_path / "ours.npz", tmp_path / "t.npz", "--to", "timm")
    assert status == 0
    assert f"mobilenet_v4_{variant} under timm's names" in out
    assert "lucid convert: warning: " in err
    assert "computes something else" in err
    theirs = lucid.load(tmp_path / "t.npz")
    expected = {name: tuple(shape) for name, shape in reference(variant)["entries"]}
    assert theirs.keys() == expected.keys()
    modules = _timm.module_names(read_config(configuration(f"mobilenet_v4_{variant}")))
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[_timm.rename(name, modules)].numpy(), value.numpy())
    added = theirs.keys() - {_timm.rename(name, modules) for name in ours}
    for name in added:  # factors that change nothing
        assert name.endswith("layer_scale.gamma")
        np.testing.assert_array_equal(theirs[name].numpy(), np.ones(expected[name], "f4"))
    assert bool(added) == (variant == "hybrid_medium")


def test_an_output_that_exists_is_kept(tmp_path, capsys):
    lucid.save(small(), tmp_path / "timm.npz")
    (tmp_path / "out.npz").write_bytes(b"precious")
    arguments = [tmp_path / "timm.npz", tmp_path / "out.npz", "--to", "lucid"]
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("lucid convert: ")
    assert "out.npz is there already; give --overwrite" in err
    assert (tmp_path / "out.npz").read_bytes() == b"precious"
    assert run(capsys, *arguments, "--overwrite")[0] == 0
    assert "head.convbn_0.conv.weight" in lucid.load(tmp_path / "out.npz")


def test_in_place(tmp_path, capsys):
    path = tmp_path / "w.npz"
    lucid.save(small(), path)
    assert run(capsys, path, path, "--to", "lucid", "--overwrite")[0] == 0
    assert run(capsys, path, path, "--to", "timm", "--overwrite")[0] == 0
    assert_same(lucid.load(path), small())


def test_wrong_use(tmp_path, capsys):
    lucid.save(small(), tmp_path / "timm.npz")
    lucid.save({"x": np.ones(2)}, tmp_path / "other.npz")
    out = tmp_path / "out.npz"
    for arguments, message in [
        ((tmp_path / "timm.npz", out, "--to", "timm"), "has timm's names already"),
        ((tmp_path / "gone.npz", out, "--to", "timm"), "there is no file"),
        ((tmp_path / "timm.npz", tmp_path / "out.pth", "--to", "lucid"), "expected a name ending"),
        ((tmp_path / "timm.npz", tmp_path, "--to", "lucid"), "is a folder"),
        ((tmp_path / "other.npz", out, "--to", "timm"), "not have the entries of any model; give"),
        ((tmp_path / "timm.npz", out, "--to", "lucid", "--model", "resnet"), "no model 'resnet'"),
    ]:
        status, _, err = run(capsys, *arguments)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
    for arguments in [(tmp_path / "timm.npz", out), (tmp_path / "timm.npz", out, "--to", "keras")]:
        with pytest.raises(SystemExit) as error:
            run(capsys, *arguments)
        assert error.value.code == 2
        capsys.readouterr()
    assert not out.exists()


def test_failures(tmp_path, capsys):
    state = small()
    lucid.save(state, tmp_path / "timm.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK nonsense")
    state["norm_head.bias"] = np.ones(3, "f4")
    lucid.save(state, tmp_path / "shape.npz")
    out = tmp_path / "out.npz"
    large = ("--model", "mobilenetv4_conv_large")
    for arguments, message in [
        ((tmp_path / "broken.npz", out, "--to", "timm"), "broken.npz is not a .npz file"),
        (
            (tmp_path / "shape.npz", out, "--to", "lucid"),
            "shape.npz does not fit mobilenetv4_conv_small: entry 'norm_head.bias': expected "
            "shape (1280,), got (3,)",
        ),
        (
            (tmp_path / "timm.npz", out, "--to", "lucid", *large),
            "entry 'conv_stem.weight': expected shape (24, 3, 3, 3), got (32, 3, 3, 3) (its "
            "entries are those of mobilenetv4_conv_small)",
        ),
    ]:
        status, _, err = run(capsys, *arguments)
        assert status == 1
        assert message in err
        assert err.count("\n") == 1
    assert not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.npz", "shape.npz", "timm.npz"]


# -- the description --------------------------------------------------------------------------

DESCRIPTION = {
    "architecture": "mobilenet_v4_conv_small",
    "classes": ["cat", "dog", "eel"],
    "input_size": (3, 48, 48),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
}


def description_of(path):
    return read_description(read_metadata(path), str(path))


@pytest.mark.parametrize("first", [".npz", ".safetensors"])
@pytest.mark.parametrize("second", [".npz", ".safetensors"])
def test_the_description_goes_along(tmp_path, capsys, first, second):
    paths = [tmp_path / f"a{first}", tmp_path / f"b{second}", tmp_path / f"c{first}"]
    metadata = {"format": "pt", **as_metadata(DESCRIPTION)}
    lucid.save(state_of("conv_small", classes=3), paths[0], metadata)
    for source, target, names in ((*paths[:2], "timm"), (*paths[1:], "lucid")):
        assert run(capsys, source, target, "--to", names)[::2] == (0, "")
        assert description_of(target) == DESCRIPTION
        assert read_metadata(target)["format"] == "pt"
    found = models.mobilenet_v4_conv_small(3, weights=paths[1]).pretrained_cfg
    wanted = {key: value for key, value in DESCRIPTION.items() if key != "architecture"}
    assert found == {**wanted, "num_classes": 3}


def test_what_is_known_from_elsewhere_goes_into_the_file(tmp_path, capsys):
    name = "mobilenetv4_conv_small.e3600_r256_in1k.npz"
    lucid.save(small(), tmp_path / name)
    assert run(capsys, tmp_path / name, tmp_path / "o.npz", "--to", "lucid")[0] == 0
    found = description_of(tmp_path / "o.npz")
    assert found["input_size"] == (3, 256, 256)
    assert found["std"] == (0.5, 0.5, 0.5)
    lucid.save(small(), tmp_path / "unknown.npz")
    assert run(capsys, tmp_path / "unknown.npz", tmp_path / "u.npz", "--to", "lucid")[0] == 0
    assert description_of(tmp_path / "u.npz") == {"architecture": "mobilenetv4_conv_small"}


@pytest.mark.parametrize("own", [True, False])
def test_trained_weights_keep_what_they_are(tmp_path, capsys, monkeypatch, own):
    """Also those of a file that says nothing, with a .json beside it."""
    pytest.importorskip("sklearn")
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    quick = ["--limit", "40", "--batch-size", "20", "--epochs", "1", "--size", "40", "--no-report"]
    assert main(["train", "--data", "digits", *quick, "--output", "run.npz"]) == 0
    image.new("L", (30, 40), 90).save("x.png")
    if not own:
        lucid.save(lucid.load("run.npz"), "run.npz")
    assert run(capsys, "run.npz", "deep.safetensors", "--to", "timm")[0] == 0
    assert run(capsys, "deep.safetensors", "back.npz", "--to", "lucid")[0] == 0
    wanted = json.loads((tmp_path / "run.json").read_text())
    found = description_of("back.npz")
    assert found["classes"] == wanted["classes"]
    assert found["input_size"] == (1, 40, 40)
    assert list(found["mean"]) == wanted["mean"]
    predictions = []
    for weights in ("run.npz", "deep.safetensors"):
        assert main(["predict", "x.png", "--weights", weights, "--json", "-"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        predictions.append(json.loads(captured.out))
    # timm's form computes something else, so only the names are the same.
    for (entry,) in predictions:
        assert all(guess["name"] == str(guess["index"]) for guess in entry["top"])


def test_contradictions_are_told(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    quick = ["--limit", "40", "--batch-size", "20", "--epochs", "1", "--size", "40", "--no-report"]
    assert main(["train", "--data", "digits", *quick, "--output", "run.npz"]) == 0
    document = json.loads((tmp_path / "run.json").read_text())
    document["settings"]["size"] = 64
    (tmp_path / "run.json").write_text(json.dumps(document))
    image.new("L", (30, 40), 90).save("x.png")
    capsys.readouterr()
    assert main(["predict", "x.png", "--weights", "run.npz"]) == 0
    assert capsys.readouterr().err == (
        "lucid predict: warning: run.json contradicts run.npz: input_size is (1, 64, 64) in the "
        "one, (1, 40, 40) in the other, which counts\n"
    )


def test_arrays_of_several_architectures_are_told_of(tmp_path, capsys):
    """Anti-aliasing has no arrays: a file's name, its description or --model tells of it."""
    name = "mobilenetv4_conv_aa_large"
    state = models.create_model(name, num_classes=2).state_dict()
    lucid.save(state, tmp_path / "birds.npz")
    lucid.save(state, tmp_path / f"{name}.birds.npz")
    source, out = tmp_path / "birds.npz", tmp_path / "o.npz"
    status, said, err = run(capsys, source, out, "--to", "timm")
    assert status == 0
    assert "mobilenetv4_conv_large under" in said
    assert err == (
        f"lucid convert: {source} does not say whether it is of mobilenetv4_conv_large or {name}, "
        "whose arrays are alike: assuming mobilenetv4_conv_large; --model names another\n"
    )
    for arguments in ((source, "--model", name), (tmp_path / f"{name}.birds.npz",)):
        first, *rest = arguments
        status, said, err = run(capsys, first, out, "--to", "timm", "--overwrite", *rest)
        assert (status, err) == (0, "")
        assert f"{name} under timm's names" in said
        assert description_of(out)["architecture"] == name


# -- PyTorch's files --------------------------------------------------------------------------


def test_a_checkpoint_of_pytorch(tmp_path, capsys):
    path, out = tmp_path / "ck.pth.tar", tmp_path / "o.safetensors"
    parts = {"state_dict": {"module.a": tensor()}, "state_dict_ema": {"module.b": tensor()}}
    path.write_bytes(archive({**parts, "epoch": 3}))
    status, printed, err = run(capsys, path, out)
    assert status == 0
    assert printed == f"{out}: 1 arrays, under the names they had\n"
    assert "took 'state_dict'; left off the prefix 'module.'; it has 'state_dict_ema' too" in err
    assert_same(lucid.load(out), {"a": np.arange(6, dtype="f4").reshape(2, 3)})
    assert run(capsys, path, out, "--key", "state_dict_ema", "--overwrite")[0] == 0
    assert lucid.load(out).keys() == {"b"}


@pytest.mark.parametrize(
    ("value", "key", "taken"),
    [
        ({"model": {"a": tensor()}}, None, "took 'model'"),
        (
            {"model_ema": {"n_averaged": 3, "module.a": tensor()}},
            None,
            "took 'model_ema'; left off",
        ),
        ({"nets": {"g": {"a": tensor()}}}, "nets.g", "took 'nets.g'"),
        ({"nets": {"model": {"a": tensor()}}}, "nets", "took 'nets.model'"),
        ({"module._orig_mod.a": tensor()}, None, "left off the prefix 'module._orig_mod.'"),
        ({"a": tensor()}, None, ""),
    ],
)
def test_what_is_taken_is_said(tmp_path, capsys, value, key, taken):
    path = tmp_path / "x.pth"
    path.write_bytes(older(value))
    status, _, err = run(capsys, path, tmp_path / "o.npz", *([] if key is None else ["--key", key]))
    assert status == 0
    assert taken in err
    assert bool(taken) == bool(err)
    assert lucid.load(tmp_path / "o.npz").keys() == {"a"}


def test_a_key_that_is_not_there(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(archive({"g": {"a": tensor()}, "d": {"a": tensor()}, "epoch": 3}))
    status, _, err = run(capsys, path, tmp_path / "o.npz", "--key", "h")
    assert (status, "there is no key 'h'; there are 'g', 'd', 'epoch'" in err) == (2, True)
    status, _, err = run(capsys, path, tmp_path / "o.npz", "--key", "epoch")
    assert (status, "epoch is of type int; expected arrays by name" in err) == (1, True)
    status, _, err = run(capsys, path, tmp_path / "o.npz")
    assert (status, "`lucid convert --key` takes one of 'g', 'd'" in err) == (1, True)
    status, _, err = run(capsys, path, tmp_path / "o.npz", "--model", "mobilenetv4_conv_small")
    assert (status, "give --to too" in err) == (2, True)
    assert not (tmp_path / "o.npz").exists()


def test_weights_of_pytorch_into_a_model(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.array(value)) for name, value in small().items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "x.pth")
    model = models.create_model("mobilenetv4_conv_small", weights=tmp_path / "x.pth")
    stem = model.state_dict()["conv0.convbn_0.conv.weight"]
    np.testing.assert_array_equal(stem.numpy(), state["conv_stem.weight"].numpy())
    halves = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    torch.save(halves, tmp_path / "half.bin", _use_new_zipfile_serialization=False)
    half = models.create_model("mobilenetv4_conv_small", weights=tmp_path / "half.bin")
    stem = half.state_dict()["conv0.convbn_0.conv.weight"]
    assert stem.dtype == np.float32
    np.testing.assert_array_equal(stem.numpy(), state["conv_stem.weight"].half().float().numpy())
    assert run(capsys, tmp_path / "x.pth", tmp_path / "o.npz", "--to", "lucid")[0] == 0
    assert "head.convbn_0.conv.weight" in lucid.load(tmp_path / "o.npz")


def test_half_precision_safetensors_into_a_model(tmp_path):
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    for dtype in (torch.float16, torch.bfloat16):
        state = {name: torch.from_numpy(np.array(value)) for name, value in small().items()}
        state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
        files.save_file(state, tmp_path / "x.safetensors")
        model = models.create_model("mobilenetv4_conv_small", weights=tmp_path / "x.safetensors")
        stem = model.state_dict()["conv0.convbn_0.conv.weight"]
        assert stem.dtype == np.float32
        np.testing.assert_array_equal(stem.numpy(), state["conv_stem.weight"].float().numpy())


def test_what_batch_norms_add_is_told_where_timm_is_not(tmp_path, capsys):
    description = {"architecture": "mobilenetv4_conv_small", "bn_eps": 1e-3}
    lucid.save(state_of("conv_small", in_channels=1), tmp_path / "a.npz", as_metadata(description))
    assert models.load_model(tmp_path / "a.npz", tell=str).conv0.convbn_0.norm.eps == 1e-3
    status, _, err = run(capsys, tmp_path / "a.npz", tmp_path / "b.npz", "--to", "timm")
    assert status == 0
    assert (
        "warning: the batch norms add 0.001 to a variance, which timm is not told: give bn" in err
    )
    assert models.load_model(tmp_path / "b.npz", tell=str).conv0.convbn_0.norm.eps == 1e-3
    wrong = as_metadata({**description, "bn_eps": 0})
    lucid.save(lucid.load(tmp_path / "a.npz"), tmp_path / "c.npz", wrong)
    with pytest.raises(ValueError, match=r"c\.npz: 'bn_eps': expected a number in \(0, 1\], got 0"):
        models.load_model(tmp_path / "c.npz")
