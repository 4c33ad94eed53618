"""The figures of the explorer page are lucid's: model.js, run by Node, beside lucid.summary."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lucid
from lucid import models
from lucid.models import configs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "_static" / "explorer" / "model.js"

node = shutil.which("node")
pytestmark = [
    pytest.mark.skipif(node is None, reason="Node.js is not installed"),
    pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source checkout"),
]

RUNNER = """
const model = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = cases.map(([cfg, options]) => {
  try { return model.summary(cfg, options); }
  catch (error) {
    if (!(error instanceof model.ConfigError)) throw error;
    return { error: error.message, path: error.path };
  }
});
console.log(JSON.stringify(answers));
"""

Case = tuple[Any, dict[str, int]]


def in_javascript(cases: list[Case]) -> list[dict[str, Any]]:
    assert node is not None
    done = subprocess.run(
        [node, "-e", RUNNER, str(SCRIPT)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def in_python(cfg: Any, options: dict[str, int]) -> lucid.visual.Summary:
    model = models.MobileNet_V4(cfg, options["numClasses"])
    shape = (options["batch"], model.in_channels, options["height"], options["width"])
    return lucid.summary(model, shape)


def assert_same(theirs: dict[str, Any], ours: lucid.visual.Summary) -> None:
    assert "error" not in theirs, theirs
    rows = [
        (r["name"], r["kind"], tuple(r["input"]), tuple(r["output"]), r["params"], r["macs"])
        for r in theirs["layers"]
    ]
    assert rows == [
        (r.name, r.kind, r.input_shape, r.output_shape, r.params, r.macs) for r in ours.layers
    ]
    assert theirs["params"] == ours.total_params
    assert theirs["macs"] == ours.total_macs
    assert theirs["activations"] == ours.total_activations


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "large" in name else ())
        for name in models.list_models("mobilenet_v4_")
    ],
)
@pytest.mark.parametrize("form", ["paper", "timm"])
def test_the_five_variants(name, form):
    cfg = getattr(configs, name.removeprefix("mobilenet_v4_"))()
    if form == "timm":
        cfg = configs.timm(cfg, "gelu")
    options = {"numClasses": 1000, "batch": 1, "height": 224, "width": 224}
    assert_same(in_javascript([(cfg, options)])[0], in_python(cfg, options))


@pytest.mark.parametrize(
    "name", ["conv_small_050", "conv_aa_medium", "conv_blur_medium", "hybrid_medium_075"]
)
def test_released_architectures(name):
    cfg = configs.released(f"mobilenetv4_{name}")
    options = {"numClasses": 10, "batch": 1, "height": 75, "width": 64}
    assert_same(in_javascript([(cfg, options)])[0], in_python(cfg, options))


def test_an_image_that_is_too_small_to_be_averaged():
    cfg = configs.released("mobilenetv4_conv_aa_medium")
    options = {"numClasses": 10, "batch": 1, "height": 15, "width": 64}
    with pytest.raises(ValueError, match=r"avg_pool2d: .* window of 2×2"):
        in_python(cfg, options)
    error = in_javascript([(cfg, options)])[0]["error"]
    assert "layer4.aa: windows of 2×2 do not fit into a map of 1×4" in error


# -- random configurations --------------------------------------------------------------------


def random_attention(rng: random.Random) -> dict[str, Any]:
    return {
        "num_heads": rng.randint(1, 4),
        "key_dim": rng.choice([4, 8, 10]),
        "value_dim": rng.choice([4, 8, 12]),
        "query_h_stride": rng.choice([1, 1, 2, 3]),
        "query_w_stride": rng.choice([1, 1, 2]),
        "kv_stride": rng.choice([1, 2, 3]),
        "use_layer_scale": rng.random() < 0.5,
        "use_multi_query": rng.random() < 0.5,
        "use_residual": rng.choice([True, False, 0, 1]),
    }


def random_row(rng: random.Random, block_name: str, width: int) -> dict[str, Any]:
    out = width if rng.random() < 0.4 else rng.choice([6, 8, 10, 16, 20])
    stride = rng.choice([1, 1, 1, 2, 3])
    if block_name == "convbn":
        return {"in": width, "out": out, "kernel": rng.choice([1, 3, 5]), "stride": stride}
    expand = rng.choice([0.3, 0.5, 1, 1.7, 2, 3.3, 4, 6])
    if block_name == "fused_ib":
        act = rng.choice([True, False, 0, 1])
        return {"in": width, "out": out, "stride": stride, "expand": expand, "act": act}
    start, mid = rng.choice([0, 3, 5, 7]), rng.choice([0, 3, 5])
    row = {
        "in": width,
        "out": out,
        "start_dw_kernel": start,
        "mid_dw_kernel": mid,
        "mid_dw_downsample": rng.random() < 0.7,
        "stride": stride if start or mid else 1,
        "expand": expand,
    }
    if rng.random() < 0.4:
        row["attention"] = rng.choice([None, random_attention(rng), random_attention(rng)])
    return row


def random_config(rng: random.Random) -> dict[str, Any]:
    """Return a valid configuration that has little to do with the published ones."""
    width, cfg = rng.choice([1, 3, 4]), {}
    stages = ["conv0", "layer1", "layer2", "layer3", "layer4", "layer5"]
    for name in [*stages, *(["head"] if rng.random() < 0.4 else [])]:
        block_name = "convbn" if name == "head" else rng.choice(["convbn", "fused_ib", "uib"])
        rows: list[Any] = []
        for _ in range(rng.randint(1, 3)):
            row = random_row(rng, block_name, width)
            width = row["out"]
            as_list = rng.random() < 0.3
            rows.append(list(row.values()) if as_list else row)
        group = {"block_name": block_name, "num_blocks": len(rows), "block_specs": rows}
        if rng.random() < 0.5:
            group["act"] = rng.choice(["relu6", "relu", "gelu", "silu", "hardswish"])
        if block_name == "uib" and rng.random() < 0.5:
            group["layer_scale"] = rng.choice([None, 1e-5, 1, 0])
        if rng.random() < 0.3:
            group["aa"] = rng.choice([None, "blur"])
        cfg[name] = group
    return cfg


def random_options(rng: random.Random) -> dict[str, int]:
    return {
        "numClasses": rng.choice([0, 1, 10]),
        "batch": rng.randint(1, 2),
        "height": rng.randint(1, 40),
        "width": rng.randint(1, 40),
    }


def edited_variant(rng: random.Random, name: str) -> dict[str, Any]:
    """Return a published configuration after some of the edits that the page offers."""
    cfg = getattr(configs, name)()
    for _ in range(rng.randint(1, 4)):
        group = cfg[rng.choice([key for key, g in cfg.items() if g["block_name"] == "uib"])]
        rows = group["block_specs"]
        index = rng.randrange(len(rows))
        row, kind = rows[index], rng.randrange(5)
        if kind == 0:
            row["expand"] = rng.choice([1, 1.5, 2, 5])
        elif kind == 1:
            row["start_dw_kernel"], row["mid_dw_kernel"] = rng.choice([(3, 3), (0, 5), (7, 0)])
        elif kind == 2 and row["in"] == row["out"]:
            rows.insert(index, copy.deepcopy(row))
        elif kind == 3:
            row["attention"] = random_attention(rng)
        else:
            group["act"] = rng.choice(["silu", "gelu"])
        group["num_blocks"] = len(rows)
    return cfg


@pytest.mark.slow
def test_random_configurations():
    rng = random.Random(0)
    cases = [(random_config(rng), random_options(rng)) for _ in range(120)]
    for (cfg, options), theirs in zip(cases, in_javascript(cases)):
        assert_same(theirs, in_python(cfg, options))


@pytest.mark.parametrize(
    "name", ["conv_small", "conv_medium", pytest.param("hybrid_medium", marks=pytest.mark.slow)]
)
def test_edited_variants(name):
    rng = random.Random(1)
    options = {"numClasses": 10, "batch": 1, "height": 64, "width": 48}
    cases = [(edited_variant(rng, name), options) for _ in range(6)]
    for (cfg, options), theirs in zip(cases, in_javascript(cases)):
        assert_same(theirs, in_python(cfg, options))


# -- configurations that are wrong --------------------------------------------------------------

BAD = [None, True, False, -1, 0, 1, 2, 4, 0.5, 1e-7, "uib", "it's", 'say "x"', "", [], [1, 2], {}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a configuration."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            found += places(part, (*path, index))
    return found


def broken(rng: random.Random, cfg: dict[str, Any]) -> dict[str, Any]:
    cfg = copy.deepcopy(cfg)
    *path, last = rng.choice(places(cfg))
    target: Any = cfg
    for key in path:
        target = target[key]
    kind = rng.randrange(4)
    if kind == 0:
        del target[last]
    elif kind == 1 and isinstance(target, dict):
        target["stide"] = 1
    elif kind == 2 and isinstance(target[last], list):
        target[last].append(rng.choice(BAD))
    else:
        target[last] = rng.choice(BAD)
    return cfg


def error_of(cfg: Any) -> str | None:
    try:
        models.MobileNet_V4(cfg, 10)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def test_errors_are_lucids_words():
    rng = random.Random(2)
    options = {"numClasses": 10, "batch": 1, "height": 8, "width": 8}
    cases: list[Case] = [(broken(rng, random_config(rng)), options) for _ in range(600)]
    cases += [(cfg, options) for cfg in (None, [], "x", 1, 1.5, True, {}, {"conv0": 1})]
    wrong = 0
    for (cfg, _), theirs in zip(cases, in_javascript(cases)):
        ours = error_of(cfg)
        assert theirs.get("error") == ours, cfg
        if ours is not None:
            wrong += 1
            assert theirs["path"] in ours
    assert wrong > 300
