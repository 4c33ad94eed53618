"""Groups of parameters against timm's, for all its architectures that are built in little time."""

from __future__ import annotations

import pytest

from lucid import models, nn, optim, training
from lucid.models import _timm
from lucid.models._config import read_config
from lucid.models._pretrained import configuration

pytest.importorskip("torch")

from tests.timm_import import import_timm


@pytest.mark.parametrize("layer_decay", [0.75, 1.0])
@pytest.mark.parametrize("name", ["conv_small_035", "conv_blur_medium", "hybrid_medium_075"])
def test_layer_decay(name: str, layer_decay: float) -> None:
    timm = import_timm()
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model(f"mobilenetv4_{name}", num_classes=5)
    ours = models.create_model(f"mobilenetv4_{name}", num_classes=5)
    names = {id(p): n for n, p in theirs.named_parameters()}
    expected = {
        names[id(p)]: (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(theirs, 0.05, layer_decay=layer_decay)
        for p in group["params"]
    }
    renamed = _timm.module_names(read_config(configuration(f"mobilenetv4_{name}")))
    names = {id(p): _timm.rename(n, renamed) for n, p in ours.named_parameters()}
    groups = training.decay_groups(ours, 0.05, lr=1.0, layer_decay=layer_decay)
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found.keys() == expected.keys()
    for entry, settings in expected.items():
        assert found[entry] == pytest.approx(settings), entry
    optim.AdamW(groups)


def test_one_rate_as_timm_has_it() -> None:
    timm = import_timm()
    from timm.optim import param_groups_weight_decay

    theirs = timm.create_model("mobilenetv4_conv_small_035", num_classes=5)
    ours = models.create_model("mobilenetv4_conv_small_035", num_classes=5)

    def sizes(groups: list[dict]) -> dict:
        return {g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in groups}

    assert sizes(training.decay_groups(ours, 0.05)) == sizes(
        param_groups_weight_decay(theirs, 0.05)
    )


def test_frozen_parts_are_in_no_group() -> None:
    model = models.mobilenetv4_conv_small_035(num_classes=5)
    training.freeze(model, 7)
    groups = training.decay_groups(model, 0.05, lr=0.1, layer_decay=0.5)
    assert [(g["lr"], len(g["params"])) for g in groups] == [(0.1, 1), (0.1, 1)]


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="layer_decay divides a rate; give the last layer's as lr"):
        training.decay_groups(nn.Linear(2, 2), 0.1, layer_decay=0.5)
    with pytest.raises(ValueError, match=r"expected layer_decay in \(0, 1\], got 1.5"):
        training.decay_groups(nn.Linear(2, 2), 0.1, lr=1.0, layer_decay=1.5)
