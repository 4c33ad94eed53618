"""The table of timm's checkpoints, beside timm's own, and loading by name, tag and keyword."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.cli import main
from lucid.models import _pretrained, _timm
from lucid.models._checkpoints import as_metadata
from lucid.models._config import read_config
from lucid.models._pretrained import configuration
from lucid.models._published import PARAMETERS, UNTRAINED, described
from tests.models.test_pretrained import timm_state

NAME = "mobilenetv4_conv_small"
TAGS = ["e2400_r224_in1k", "e1200_r224_in1k", "e3600_r256_in1k"]


@pytest.fixture(scope="module")
def timm():
    pytest.importorskip("torch")
    from tests.timm_import import import_timm

    return import_timm()


# -- the table --------------------------------------------------------------------------------


def test_it_has_all_that_timm_publishes(timm):
    assert len(models.list_pretrained()) == 24
    assert sorted(entry.name for entry in models.list_pretrained()) == sorted(
        timm.list_pretrained("mobilenetv4_*")
    )
    for architecture in timm.list_models("mobilenetv4_*"):
        recommended = described(architecture)
        assert recommended is not None
        assert recommended.tag == timm.get_pretrained_cfg(architecture).tag


def test_every_fact_is_timms(timm):
    for architecture in timm.list_models("mobilenetv4_*"):
        names = timm.list_pretrained(f"{architecture}.*") or [f"{architecture}.{UNTRAINED}"]
        for name in names:
            theirs = timm.get_pretrained_cfg(name).to_dict(remove_null=False)
            ours = described(*name.split("."))
            assert ours is not None
            cfg = ours.default_cfg()
            own = {"first_conv": "conv0.convbn_0.conv", "classifier": "classifier"}
            hub = {"hf_hub_id": None if ours.tag == UNTRAINED else ours.hf_hub_id}
            assert cfg == {**{key: theirs[key] for key in cfg}, **own, **hub}, name
            assert (ours.num_classes == 11_821) == name.endswith("in12k")


def test_parameters_are_what_timm_counts(timm):
    import torch

    with torch.device("meta"):
        for name, count in PARAMETERS.items():
            model = timm.create_model(name)
            assert count == sum(parameter.numel() for parameter in model.parameters()), name
        model = timm.create_model("mobilenetv4_conv_medium", num_classes=11_821)
    entry = described("mobilenetv4_conv_medium", "e180_r384_in12k")
    assert entry is not None
    assert entry.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "pattern", ["*hybrid*", "mobilenetv4_conv_aa_large*", "mobilenetv4*in12k", "*none*"]
)
def test_names_with_tags_are_listed_as_timm_lists_them(timm, pattern):
    ours = models.list_models(pattern, pretrained=True)
    assert ours == sorted(timm.list_pretrained(pattern))
    assert ours == [e.name for e in sorted(models.list_pretrained(pattern))]


def test_accuracies():
    """Larger images are better, and all of it is told."""
    for entry in models.list_pretrained():
        if entry.num_classes == 1000:
            assert entry.top1 is not None
            assert 60 < entry.top1 < (entry.test_top1 or 100) < 101
            assert str(entry.input_size[-1]) in entry.accuracies()
        else:
            assert entry.accuracies() == ""
        assert (entry.test_top1 is None) or entry.test_input_size > entry.input_size
    best = max(models.list_pretrained(), key=lambda entry: entry.test_top1 or 0)
    assert best.name == "mobilenetv4_conv_aa_large.e230_r448_in12k_ft_in1k"


# -- loading ----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub in a folder: what is asked of it, and files made for it by their name."""
    asked = []

    def fetch(repo_id):
        asked.append(repo_id)
        name = repo_id.removeprefix("timm/")
        path = tmp_path / f"{name}.npz"
        if not path.exists():
            variant = name.partition(".")[0].removeprefix("mobilenetv4_")
            lucid.save(timm_state(variant, 11_821 if name.endswith("in12k") else 1000), path)
        return path, tmp_path / "config.json"

    monkeypatch.setattr(_pretrained, "_fetch", fetch)
    return asked


@pytest.mark.parametrize(
    ("name", "kwargs", "tag"),
    [
        (NAME, {"weights": True}, TAGS[0]),
        (NAME, {"pretrained": True}, TAGS[0]),
        (NAME, {"weights": "DEFAULT"}, TAGS[0]),
        (NAME, {"weights": TAGS[2]}, TAGS[2]),
        (NAME, {"weights": f"{NAME}.{TAGS[1]}"}, TAGS[1]),
        (f"{NAME}.{TAGS[2]}", {"pretrained": True}, TAGS[2]),
        ("mobilenet_v4_conv_small", {"weights": True}, TAGS[0]),
    ],
)
def test_ways_to_name_weights(hub, name, kwargs, tag):
    model = models.create_model(name, **kwargs)
    assert hub == [f"timm/{NAME}.{tag}"]
    assert model.name == NAME  # what the weights are of
    assert model.default_cfg["tag"] == tag
    assert model.default_cfg["hf_hub_id"] == hub[0]
    entry = described(NAME, tag)
    assert entry is not None
    assert model.pretrained_cfg["input_size"] == entry.input_size
    assert model.pretrained_cfg["mean"] == entry.mean
    np.testing.assert_array_equal(
        model.head.convbn_0.conv.weight.detach().numpy(),
        timm_state("conv_small")["conv_head.weight"],
    )


def test_a_name_with_its_tag_is_enough_where_weights_are_named(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "out.npz")
    assert main(["convert", f"{NAME}.{TAGS[2]}", out, "--to", "lucid"]) == 0
    assert hub == [f"timm/{NAME}.{TAGS[2]}"]
    capsys.readouterr()
    model = models.create_model(NAME, weights=out)
    assert model.pretrained_cfg["input_size"] == (3, 256, 256)
    with pytest.raises(TypeError, match="weights"):
        models.create_model(f"{NAME}.{TAGS[2]}", True, weights=out)


def test_no_weights(hub):
    for kwargs in ({}, {"weights": None}, {"weights": False}, {"pretrained": False}):
        assert models.create_model(NAME, num_classes=2, **kwargs).pretrained_cfg is None
    assert hub == []


def test_classes_are_those_of_the_weights(hub, recwarn):
    model = models.create_model("mobilenetv4_conv_medium", weights="e180_r384_in12k")
    assert model.num_classes == model.default_cfg["num_classes"] == 11_821
    assert not [w for w in recwarn if w.category is UserWarning]
    with pytest.warns(UserWarning, match=r"has a classifier of 11821 classes, the model one of 5"):
        models.create_model("mobilenetv4_conv_medium", weights="e180_r384_in12k", num_classes=5)


def test_a_tag_without_weights_describes_the_model(hub):
    model = models.create_model("mobilenetv4_conv_small.e3600_r256_in1k", num_classes=3)
    assert model.default_cfg["test_input_size"] == (3, 320, 320)
    assert model.num_classes == 3
    model = models.create_model("mobilenetv4_conv_medium.e180_r384_in12k")
    assert model.num_classes == 11_821
    assert hub == []


def test_weights_that_are_not_published(hub):
    with pytest.raises(ValueError, match=r"'e600_r384_in1k' are not of mobilenetv4_conv_small; of"):
        models.create_model(NAME, weights="e600_r384_in1k")
    with pytest.raises(FileNotFoundError, match=r"did you mean e3600_r256_in1k"):
        models.create_model(NAME, weights="e3600_r256_in2k")
    with pytest.raises(ValueError, match=r"no weights with the tag 'e1_r1'; it has e2400_r224"):
        models.create_model(f"{NAME}.e1_r1")
    with pytest.raises(ValueError, match=r"pretrained=True takes the recommended weights, "):
        models.create_model(NAME, True, weights="e2400_r224_in1k")
    assert hub == []


# -- forms ------------------------------------------------------------------------------------


def test_weights_of_the_pages_form_do_not_become_the_released_one(tmp_path):
    path = tmp_path / "page.npz"
    lucid.save(models.create_model("mobilenet_v4_conv_small", num_classes=2).state_dict(), path)
    with pytest.raises(ValueError, match=r"of the documentation page's form, mobilenet_v4_conv_s"):
        models.create_model(NAME, weights=path)
    assert models.create_model("mobilenet_v4_conv_small", weights=path).num_classes == 2


def test_weights_say_whose_they_are(tmp_path):
    """Of architectures with the same entries."""
    path = tmp_path / "w.npz"
    description = as_metadata({"architecture": "mobilenetv4_conv_large"})
    lucid.save(timm_state("conv_small"), path, description)
    with pytest.raises(ValueError, match=r"has the same entries, but they are those of mobile"):
        models.create_model(NAME, weights=path)


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "close"),
    [("in_chan", "in_chans"), ("pretraind", "pretrained"), ("numclasses", "num_classes")],
)
@pytest.mark.parametrize("name", [NAME, "mobilenet_v4_hybrid_large"])
def test_an_unknown_argument_is_answered_with_the_nearest(name, given, close):
    with pytest.raises(TypeError, match=rf"{name}: .*, got '{given}'; did you mean '{close}'\?"):
        models.create_model(name, **{given: 1})
    with pytest.raises(TypeError, match=r"expected arguments num_classes, .*, got 'x{9}'$"):
        models.create_model(name, xxxxxxxxx=1)


def test_all_arguments_of_the_class_are_taken():
    values = {"num_classes": 3, "in_channels": 2, "features_only": False, "out_indices": None}
    others = inspect.signature(models.MobileNet_V4).parameters.keys() - values.keys() - {"cfg"}
    values.update({name: 0.1 for name in others if name.endswith("rate")})
    assert others <= values.keys()
    models.create_model(NAME, **values)


def test_image_channels_by_timms_name(hub):
    assert models.create_model(NAME, in_chans=1, num_classes=2).in_channels == 1
    model = models.create_model(NAME, pretrained=True, in_chans=1)
    whole = timm_state("conv_small")["conv_stem.weight"].sum(1, keepdims=True)
    np.testing.assert_allclose(model.conv0.convbn_0.conv.weight.detach().numpy(), whole, 1e-5)
    with pytest.raises(ValueError, match="in_chans is in_channels by timm's name; give one"):
        models.create_model(NAME, in_chans=1, in_channels=3)


@pytest.mark.parametrize("name", models.list_models("mobilenetv4_"))
def test_default_cfg_names_the_models_own_layers(name):
    model = models.create_model(name, num_classes=2)
    cfg = model.default_cfg
    assert cfg["architecture"] == name
    assert isinstance(model.get_submodule(cfg["first_conv"]), lucid.nn.Conv2d)
    assert model.get_submodule(cfg["first_conv"]).weight.shape[1] == 3
    assert isinstance(model.get_submodule(cfg["classifier"]), lucid.nn.Linear)


def test_default_cfg_of_weights_from_elsewhere_claims_no_tag(tmp_path):
    lucid.save(timm_state("conv_small", 2), tmp_path / "own.npz")
    cfg = models.create_model(NAME, weights=tmp_path / "own.npz").default_cfg
    assert (cfg["tag"], cfg["hf_hub_id"], cfg["test_input_size"]) == (None, None, None)
    assert (cfg["num_classes"], cfg["input_size"]) == (2, (3, 224, 224))
    assert models.MobileNet_V4(models.configs.conv_small(), 2).default_cfg == {}


# -- whose arrays they are --------------------------------------------------------------------


@pytest.mark.parametrize("name", models.configs.RELEASED)
def test_the_arrays_tell_the_architecture(name):
    """Up to anti-aliasing, which has none; then the name of the file does."""
    ours = models.create_model(name, num_classes=2).state_dict()
    modules = _timm.module_names(read_config(configuration(name)))
    theirs = {_timm.rename(entry, modules): value for entry, value in ours.items()}
    for state in (ours, theirs):
        alike = _pretrained.identify(state)
        assert name in alike
        plain = re.sub("_(aa|blur)", "", name)
        assert alike[0] == plain
        assert {re.sub("_(aa|blur)", "", other) for other in alike} == {plain}
        assert _pretrained.identify(state, f"folder/{name}.any_tag.npz")[0] == name


def test_a_repository_of_ones_own_says_the_architecture_in_its_config(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"architecture": "mobilenetv4_conv_aa_medium", "pretrained_cfg": {}}')
    state = models.create_model("mobilenetv4_conv_medium", num_classes=2).state_dict()
    checkpoint = _pretrained.Checkpoint("me/birds", state, config, from_hub=True)
    assert _pretrained.architecture(checkpoint) == "mobilenetv4_conv_aa_medium"
    assert _pretrained.architecture(checkpoint._replace(from_hub=False)) is None
    with pytest.raises(ValueError, match="those of mobilenetv4_conv_aa_medium, which computes"):
        _pretrained.build_from(checkpoint, "mobilenetv4_conv_medium", None)
    model = _pretrained.build_from(checkpoint, "mobilenetv4_conv_aa_medium", None)
    assert (model.name, model.num_classes) == ("mobilenetv4_conv_aa_medium", 2)
