"""What a configuration may say, and what is answered to one that cannot be built."""

import copy
import json
import tracemalloc

import pytest

from lucid import models
from lucid.models import configs
from lucid.models._config import read_config

VARIANTS = {
    "conv_small": configs.conv_small,
    "conv_medium": configs.conv_medium,
    "conv_large": configs.conv_large,
    "hybrid_medium": configs.hybrid_medium,
    "hybrid_large": configs.hybrid_large,
}


def tiny(**changes):
    """A small configuration with every kind of block, as rows in order."""
    cfg = {
        "conv0": {"block_name": "convbn", "num_blocks": 1, "block_specs": [[3, 8, 3, 2]]},
        "layer1": {
            "block_name": "fused_ib",
            "num_blocks": 2,
            "block_specs": [[8, 8, 2, 2, False], [8, 8, 1, 2, True]],
        },
        "layer2": {
            "block_name": "uib",
            "num_blocks": 2,
            "block_specs": [
                [8, 16, 3, 5, True, 2, 2],
                [16, 16, 3, 0, True, 1, 2, [2, 4, 6, 1, 1, 2, True, True, True]],
            ],
        },
        "layer3": {"block_name": "uib", "num_blocks": 1, "block_specs": [[16, 16, 0, 3, 1, 1, 2]]},
        "layer4": {"block_name": "uib", "num_blocks": 1, "block_specs": [[16, 24, 0, 0, 1, 1, 3]]},
        "layer5": {"block_name": "convbn", "num_blocks": 1, "block_specs": [[24, 32, 1, 1]]},
    }
    for path, value in changes.items():
        group, _, rest = path.partition("__")
        if rest:
            cfg[group][rest] = value
        else:
            cfg[group] = value
    return cfg


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_plain_data(name):
    cfg = VARIANTS[name]()
    assert json.loads(json.dumps(cfg)) == cfg
    assert all(isinstance(row, dict) for group in cfg.values() for row in group["block_specs"])


@pytest.mark.parametrize("name", VARIANTS)
def test_each_call_returns_a_new_configuration(name):
    first, second = VARIANTS[name](), VARIANTS[name]()
    for group in first.values():
        for row in group["block_specs"]:
            row["out"] += 1
            if "attention" in row:
                row["attention"]["num_heads"] += 1
    heads = [
        row["attention"]["num_heads"] - 1
        for row in first["layer4"]["block_specs"]
        if "attention" in row
    ]
    # Each row owns its attention: every one was raised exactly once.
    assert heads == [
        row["attention"]["num_heads"]
        for row in second["layer4"]["block_specs"]
        if "attention" in row
    ]
    assert second == VARIANTS[name]()


def test_building_does_not_change_the_configuration():
    cfg = tiny()
    before = copy.deepcopy(cfg)
    models.MobileNet_V4(cfg, 4, in_channels=5)
    models.MobileNet_V4(cfg, 4)
    assert cfg == before


def test_rows_and_dictionaries_build_the_same_model():
    rows = tiny()
    named = tiny()
    names = {
        "convbn": ["in", "out", "kernel", "stride"],
        "fused_ib": ["in", "out", "stride", "expand", "act"],
        "uib": [
            "in",
            "out",
            "start_dw_kernel",
            "mid_dw_kernel",
            "mid_dw_downsample",
            "stride",
            "expand",
            "attention",
        ],
    }
    attention = [
        "num_heads",
        "key_dim",
        "value_dim",
        "query_h_stride",
        "query_w_stride",
        "kv_stride",
        "use_layer_scale",
        "use_multi_query",
        "use_residual",
    ]
    for group in named.values():
        group["block_specs"] = [
            dict(zip(names[group["block_name"]], row)) for row in group["block_specs"]
        ]
        for row in group["block_specs"]:
            if "attention" in row:
                row["attention"] = dict(zip(attention, row["attention"]))
    assert repr(models.MobileNet_V4(rows, 4)) == repr(models.MobileNet_V4(named, 4))


def uib(**changes):
    row = dict(
        zip(
            [
                "in",
                "out",
                "start_dw_kernel",
                "mid_dw_kernel",
                "mid_dw_downsample",
                "stride",
                "expand",
            ],
            [8, 16, 3, 5, True, 2, 2],
        )
    )
    row.update(changes)
    return [row, [16, 16, 3, 0, True, 1, 2]]


def without(row, key):
    return {k: v for k, v in row.items() if k != key}


ATTENTION = {
    "num_heads": 2,
    "key_dim": 4,
    "value_dim": 6,
    "query_h_stride": 1,
    "query_w_stride": 1,
    "kv_stride": 2,
    "use_layer_scale": True,
    "use_multi_query": True,
    "use_residual": True,
}

BAD = {
    # what is wrong: (changes, what the message says)
    "missing stage": (None, r"the key 'layer3' is missing"),
    "unknown stage": ({"layer6": {}}, r"top level: expected only the keys conv0, .* got 'layer6'"),
    "stage is no dictionary": ({"layer1": [1]}, r"layer1: expected a dictionary"),
    "unknown block": (
        {"layer1__block_name": "mbconv"},
        r"layer1\.block_name: expected one of 'convbn', 'fused_ib', 'uib', got 'mbconv'",
    ),
    "unknown group key": (
        {"layer1__stride": 2},
        r"layer1: expected only the keys .*, got 'stride'",
    ),
    "wrong number of blocks": (
        {"layer1__num_blocks": 3},
        r"layer1\.num_blocks: expected 2, the number of rows in block_specs, got 3",
    ),
    "no rows": ({"layer1__block_specs": []}, r"layer1\.block_specs: expected a list with one row"),
    "short row": (
        {"layer3__block_specs": [[16, 16, 0]]},
        r"layer3\.block_specs\[0\]: expected 7 or 8 entries .*got '3 entries",
    ),
    "unknown row key": (
        {"layer2__block_specs": uib(kernel=3)},
        r"layer2\.block_specs\[0\]: expected only the keys in, out, .*, got 'kernel'",
    ),
    "missing row key": (
        {"layer2__block_specs": [without(uib()[0], "stride"), uib()[1]]},
        r"layer2\.block_specs\[0\]: the key 'stride' is missing",
    ),
    "stride of zero": (
        {"layer2__block_specs": uib(stride=0)},
        r"layer2\.block_specs\[0\]\.stride: expected a positive integer, got 0",
    ),
    "stride as text": (
        {"layer2__block_specs": uib(stride="2")},
        r"layer2\.block_specs\[0\]\.stride: expected a positive integer, got '2'",
    ),
    "stride of true": (
        {"layer2__block_specs": uib(stride=True)},
        r"layer2\.block_specs\[0\]\.stride: expected a positive integer, got True",
    ),
    "even kernel": (
        {"layer2__block_specs": uib(mid_dw_kernel=4)},
        r"layer2\.block_specs\[0\]\.mid_dw_kernel: expected a positive odd integer, or 0",
    ),
    "negative expansion": (
        {"layer2__block_specs": uib(expand=-1)},
        r"layer2\.block_specs\[0\]\.expand: expected a number over 0, got -1",
    ),
    "infinite expansion": (
        {"layer2__block_specs": uib(expand=float("inf"))},
        r"layer2\.block_specs\[0\]\.expand: expected a number over 0, got inf",
    ),
    "flag": (
        {"layer2__block_specs": uib(mid_dw_downsample="yes")},
        r"layer2\.block_specs\[0\]\.mid_dw_downsample: expected true or false, got 'yes'",
    ),
    "stride without a depthwise convolution": (
        {"layer2__block_specs": uib(start_dw_kernel=0, mid_dw_kernel=0)},
        r"layer2\.block_specs\[0\]\.stride: expected 1, since no depthwise convolution can carry",
    ),
    "channels between blocks": (
        {"layer2__block_specs": uib(out=24)},
        r"layer2\.block_specs\[1\]\.in: expected 24, the output channels of the row before, got 16",
    ),
    "channels between stages": (
        {"layer2__block_specs": uib(**{"in": 9})},
        r"layer2\.block_specs\[0\]\.in: expected 8, the output channels of layer1, got 9",
    ),
    "endless expansion": (
        {"layer2__block_specs": uib(expand=1e308)},
        r"layer2\.block_specs\[0\]\.expand: expected a number from 0\.001 to 1000, got 1e\+308",
    ),
    "an expansion to nothing": (
        {"layer2__block_specs": uib(expand=1e-300)},
        r"layer2\.block_specs\[0\]\.expand: expected a number from 0\.001 to 1000, got 1e-300",
    ),
    "an expansion that is no float": (
        {"layer2__block_specs": uib(expand=10**400)},
        r"layer2\.block_specs\[0\]\.expand: expected a number from 0\.001 to 1000, got 1000",
    ),
    "a number that Python does not print": (
        {"layer2__block_specs": uib(expand=10**5000)},
        r"layer2\.block_specs\[0\]\.expand: expected a number from 0\.001 to 1000, got a huge int",
    ),
    "huge kernel": (
        {"layer2__block_specs": uib(start_dw_kernel=257)},
        r"layer2\.block_specs\[0\]\.start_dw_kernel: expected a number from 0 to 255, got 257",
    ),
    "huge stride": (
        {"layer2__block_specs": uib(stride=10**9)},
        r"layer2\.block_specs\[0\]\.stride: expected a number from 0 to 65536, got 1000000000",
    ),
    "huge width": (
        {"layer2__block_specs": uib(out=10**400)},
        r"layer2\.block_specs\[0\]\.out: expected a number from 0 to 65536, got 1000",
    ),
    "too many blocks": (
        {"layer2__block_specs": [*uib(), *[[16, 16, 3, 0, True, 1, 2]] * 1000]},
        r"layer2\.block_specs: expected at most 1000 rows, got 1002",
    ),
    "layer scale beyond float32": (
        {"layer2__layer_scale": 10**400},
        r"layer2\.layer_scale: expected a number to start from, .*, got 1000",
    ),
    "activation": ({"layer2__act": "swish"}, r"layer2\.act: expected one of 'relu6', .*'swish'"),
    "layer scale": ({"layer2__layer_scale": "on"}, r"layer2\.layer_scale: expected a number"),
    "layer scale on convbn": ({"layer5__layer_scale": 1e-5}, r"layer5\.layer_scale: expected None"),
    "anti-aliasing": (
        {"layer2__aa": "max"},
        r"layer2\.aa: expected one of 'avg', 'blur', or None, got 'max'",
    ),
    "anti-aliasing as a list": (
        {"layer2__aa": ["avg"]},
        r"layer2\.aa: expected one of 'avg', 'blur', or None, got \['avg'\]",
    ),
    "attention key": (
        {"layer2__block_specs": uib(attention=without(ATTENTION, "key_dim"))},
        r"layer2\.block_specs\[0\]\.attention: the key 'key_dim' is missing",
    ),
    "attention value": (
        {"layer2__block_specs": uib(attention={**ATTENTION, "num_heads": 0})},
        r"layer2\.block_specs\[0\]\.attention\.num_heads: expected a positive integer, got 0",
    ),
    "attention on the wrong block": (
        {"layer5__block_specs": [{"in": 24, "out": 32, "kernel": 1, "stride": 1, "attention": []}]},
        r"layer5\.block_specs\[0\]: expected only the keys in, out, kernel, stride, got",
    ),
    "head of uib": (
        {"head": {"block_name": "uib", "num_blocks": 1, "block_specs": [[32, 32, 0, 0, 1, 1, 2]]}},
        r"head\.block_name: expected 'convbn', got 'uib'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_configurations_name_the_key(case):
    changes, message = BAD[case]
    cfg = tiny(**(changes or {}))
    if changes is None:
        del cfg["layer3"]
    with pytest.raises(ValueError, match=message):
        models.MobileNet_V4(cfg)


@pytest.mark.parametrize(
    ("changes", "num_classes", "message"),
    [
        (
            {},
            10**9,
            "num_classes: 32000000000 weights of .* in all, expected at most 1,000,000,000",
        ),
        (
            # 16,000 channels inside, of which each meets 16 + 255² + 16 weights.
            {"layer2__block_specs": [[8, 16, 3, 5, 1, 2, 2], [16, 16, 0, 255, 1, 1, 1000]]},
            4,
            r"layer2\.block_specs\[1\]: 1040912000 weights of .* in all",
        ),
    ],
)
def test_a_model_that_cannot_be_meant_is_refused_before_it_takes_memory(
    changes, num_classes, message
):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            models.MobileNet_V4(tiny(**changes), num_classes)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_counted_weights_are_those_of_the_built_model(name):
    spec = read_config(VARIANTS[name]())
    model = models.MobileNet_V4(VARIANTS[name](), 7)
    counted = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    groups = (*spec.stages, *([spec.head] if spec.head else []))
    blocks = sum(block.weights for group in groups for block in group.blocks)
    assert blocks + spec.head_hidden_size * 7 == counted


def test_a_configuration_is_a_dictionary():
    with pytest.raises(TypeError, match=r"expected a dictionary with the keys conv0, .* got list"):
        models.MobileNet_V4([])


@pytest.mark.parametrize("num_classes", [-1, 2.5, True, "10", 10**400])
def test_num_classes(num_classes):
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 0"):
        models.MobileNet_V4(tiny(), num_classes)


@pytest.mark.parametrize("in_channels", [0, -3, 1.0, True, 10**400])
def test_in_channels(in_channels):
    with pytest.raises(ValueError, match="in_channels must be a positive integer"):
        models.MobileNet_V4(tiny(), in_channels=in_channels)
