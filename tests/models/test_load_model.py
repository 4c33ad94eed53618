"""Models from their weights alone."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.models._checkpoints import as_metadata
from tests.models.test_pretrained import timm_state
from tests.reference import arrays

NAME = "mobilenetv4_conv_small_035"
DESCRIPTION = {
    "architecture": NAME,
    "classes": ["cat", "dog", "eel"],
    "input_size": (1, 96, 96),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.5,),
    "std": (0.25,),
}


def save(path, *classes, description=DESCRIPTION, name=NAME, **kwargs):
    model = models.create_model(name, num_classes=len(classes), **kwargs).eval()
    lucid.save(model.state_dict(), path, as_metadata(description) if description else None)
    return model


def test_weights_that_say_everything(tmp_path):
    path = tmp_path / "weights.npz"
    trained = save(path, *"abc", in_channels=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = models.load_model(path)
    assert (model.name, model.num_classes, model.in_channels) == (NAME, 3, 1)
    assert not any(module.training for module in model.modules())
    assert {**model.pretrained_cfg, **DESCRIPTION} == {
        **model.pretrained_cfg,
        "architecture": NAME,
    }
    x = lucid.tensor(arrays.images((2, 1, 64, 64)))
    with lucid.no_grad():
        np.testing.assert_array_equal(model(x).numpy(), trained(x).numpy())


def test_timms_names_in_a_trainings_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.npz"
    state = timm_state("conv_small", 7)
    lucid.save({"epoch": 3, "state_dict": state, "state_dict_ema": state}, path)
    told = []
    model = models.load_model(path, tell=told.append)
    assert (model.name, model.num_classes) == ("mobilenetv4_conv_small", 7)
    assert told[0].startswith(f"{path}: took 'state_dict'")
    assert told[1].startswith(f"{path} does not say what images it expects: assuming 224×224")
    assert len(told) == 2
    models.load_model(path, key="state_dict_ema", tell=told.append)
    assert told[2] == f"{path}: took 'state_dict_ema'"


def test_without_a_classifier(tmp_path):
    save(tmp_path / "body.npz", description=None)
    with pytest.warns(UserWarning, match="does not say what images it expects"):
        assert models.load_model(tmp_path / "body.npz").num_classes == 0


def test_arrays_of_several_models(tmp_path):
    name = "mobilenetv4_conv_aa_medium"
    save(tmp_path / "birds.npz", *"ab", name=name, description=None)
    told = []
    assert models.load_model(tmp_path / "birds.npz", tell=told.append).name != name
    assert f"or {name}" in told[0]
    assert "name= names another" in told[0]
    assert models.load_model(tmp_path / "birds.npz", name, tell=lambda text: None).name == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mobilenetv4_conv_large", f"name=: the weights in .* are those of {NAME}, not of"),
        ("mobilenetv4_conv_larg", "there is no model .*did you mean mobilenetv4_conv_large"),
    ],
)
def test_another_model_than_named(given, message, tmp_path):
    save(tmp_path / "w.npz", *"abc", in_channels=1)
    with pytest.raises(models.UnknownModelError, match=message):
        models.load_model(tmp_path / "w.npz", given)


def test_weights_of_no_model(tmp_path):
    path = tmp_path / "foreign.npz"
    lucid.save({"x": np.ones(3)}, path)
    with pytest.raises(models.UnknownModelError, match="not have the entries of any model; give n"):
        models.load_model(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} does not fit {NAME}: entry"):
        models.load_model(path, NAME)
    save(tmp_path / "odd.npz", "a", description={**DESCRIPTION, "architecture": "resnet50"})
    with pytest.raises(models.UnknownModelError, match="there is no model 'resnet50'"):
        models.load_model(tmp_path / "odd.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        models.load_model(tmp_path / "none.npz")
