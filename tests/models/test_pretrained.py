"""Loading weights from files: both namings, parts, other classes, and all that can be wrong."""

import json
import struct
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lucid
from lucid import models, nn
from lucid.models import _timm
from lucid.models._checkpoints import as_metadata
from lucid.models._config import read_config
from lucid.models._pretrained import VARIANTS, Checkpoint, configuration, fit
from tests.models.test_pretrained_reference import reference
from tests.reference import arrays

CLASSES = 4


def timm_state(variant, classes=CLASSES):
    """Arrays under timm's names, as the stored reference lists them."""
    state = {}
    for name, shape in reference(variant)["entries"]:
        if name.startswith("classifier."):
            shape = [classes, *shape[1:]]
        state[name] = arrays.weight(name, tuple(shape))
    return state


def lucid_state(variant, state):
    modules = _timm.module_names(read_config(configuration(f"mobilenetv4_{variant}")))
    back = {theirs: ours for ours, theirs in modules.items()}
    return {_timm.rename(name, back): array for name, array in state.items()}


@pytest.fixture(scope="module")
def state():
    return timm_state("conv_small")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.npz"


def load(path, classes=CLASSES, **kwargs):
    return models.mobilenet_v4_conv_small(classes, weights=path, **kwargs).eval()


def logits(model, channels=3):
    with lucid.no_grad():
        return model(lucid.tensor(arrays.images((2, channels, 64, 48)))).numpy()


# -- what loads -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_both_namings_and_formats_are_the_same_model(state, tmp_path, suffix):
    lucid.save(state, tmp_path / f"timm{suffix}")
    lucid.save(lucid_state("conv_small", state), tmp_path / f"ours{suffix}")
    first, second = load(tmp_path / f"timm{suffix}"), load(str(tmp_path / f"ours{suffix}"))
    np.testing.assert_array_equal(logits(first), logits(second))
    # What is saved from it is in timm's form still, under lucid's names.
    lucid.save(first.state_dict(), tmp_path / f"again{suffix}")
    np.testing.assert_array_equal(logits(load(tmp_path / f"again{suffix}")), logits(first))


def test_lucids_own_form_stays_the_pages(path):
    own = models.mobilenet_v4_hybrid_medium(2)
    lucid.save(own.state_dict(), path)
    loaded = models.mobilenet_v4_hybrid_medium(2, weights=path)
    for a, b in zip(own.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert a[0] == b[0]
        np.testing.assert_array_equal(a[1].numpy(), b[1].numpy())
    assert any(isinstance(module, nn.ReLU6) for module in loaded.modules())
    np.testing.assert_array_equal(logits(own.eval()), logits(loaded.eval()))


def test_timms_form_of_a_hybrid_under_lucids_names(path):
    state = lucid_state("hybrid_medium", timm_state("hybrid_medium"))
    lucid.save(state, path)
    loaded = models.mobilenet_v4_hybrid_medium(CLASSES, weights=path)
    assert not any(isinstance(module, nn.ReLU6) for module in loaded.modules())
    name = "layers.2.uib_1.project.layer_scale.gamma"
    np.testing.assert_array_equal(loaded.state_dict()[name].numpy(), state[name])


def test_half_precision_becomes_float32(state, path):
    lucid.save({name: a.astype("f2") if a.ndim else a for name, a in state.items()}, path)
    model = load(path)
    assert {p.dtype for p in model.parameters()} == {np.dtype("f4")}
    weight = state["conv_head.weight"].astype("f2").astype("f4")
    np.testing.assert_array_equal(model.head.convbn_0.conv.weight.detach().numpy(), weight)
    assert load(path, in_channels=1).conv0.convbn_0.conv.weight.dtype == np.float32


def test_bfloat16_becomes_float32(state, tmp_path):
    header, parts, start = {}, [], 0
    for name, array in state.items():
        kind, data = "I64", array.tobytes()
        if array.dtype == np.float32:
            kind, data = "BF16", (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        offsets = [start, start + len(data)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        parts.append(data)
        start += len(data)
    write_safetensors(tmp_path / "bf16.safetensors", header, b"".join(parts))
    weight = load(tmp_path / "bf16.safetensors").head.convbn_0.conv.weight.detach().numpy()
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, state["conv_head.weight"], rtol=2**-7)


def test_another_number_of_classes_gets_a_fresh_classifier(state, path):
    lucid.save(state, path)
    message = r"conv_small: .*weights\.npz has a classifier of 4 classes, the model one of 7"
    with pytest.warns(UserWarning, match=message) as caught:
        model = load(path, 7)
    assert caught[0].filename == __file__
    whole = load(path)
    ours, theirs = model.state_dict(), whole.state_dict()
    for name in theirs:
        if not name.startswith("classifier."):
            np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())
    assert ours["classifier.weight"].shape == (7, 1280)
    assert 0 < np.abs(ours["classifier.weight"].numpy()).max() < 0.1
    assert logits(model).shape == (2, 7)
    assert model.pretrained_cfg["num_classes"] == CLASSES


def test_weights_are_drawn_only_where_something_starts_fresh(state, path):
    """Then all are, as without a file: a seed gives the classifier that it always gave."""
    lucid.save(state, path)
    seeded = lucid.manual_seed(1).bit_generator.state
    load(path)
    assert lucid._random.generator().bit_generator.state == seeded
    lucid.manual_seed(1)
    fresh = models.mobilenetv4_conv_small(CLASSES + 1)
    after = lucid._random.generator().bit_generator.state
    lucid.manual_seed(1)
    with pytest.warns(UserWarning, match="which starts from fresh weights"):
        loaded = load(path, CLASSES + 1)
    assert lucid._random.generator().bit_generator.state == after
    np.testing.assert_array_equal(
        loaded.classifier.weight.tolist(), fresh.classifier.weight.tolist()
    )


def test_without_a_classifier(state, path):
    body = {name: array for name, array in state.items() if not name.startswith("classifier.")}
    lucid.save(body, path)
    with pytest.warns(UserWarning, match="has no classifier, the model one of 3"):
        model = load(path, 3)
    assert model.pretrained_cfg["num_classes"] == 0
    lucid.save(state, path)
    # A model without one: nothing to say.
    np.testing.assert_array_equal(logits(load(path, 0)), np.asarray(pooled(load(path))))


def pooled(model):
    with lucid.no_grad():
        features = model.forward_features(lucid.tensor(arrays.images((2, 3, 64, 48))))
        return model.forward_head(features, pre_logits=True).numpy()


@pytest.mark.parametrize("names", ["timm", "lucid"])
def test_features_only(state, path, names):
    lucid.save(state if names == "timm" else lucid_state("conv_small", state), path)
    x = lucid.tensor(arrays.images((1, 3, 64, 64)))
    with lucid.no_grad():
        whole = load(path)
        outputs = [whole.conv0(x)]
        for stage in whole.layers:
            outputs.append(stage(outputs[-1]))
        for indices in [None, (1, 3), (5,)]:
            model = load(path, features_only=True, out_indices=indices)
            for index, output in zip(indices or range(5), model(x), strict=True):
                np.testing.assert_array_equal(output.numpy(), outputs[index].numpy())


def test_a_part_of_a_model_must_show_whose_form_it_is(state, path):
    """Stages alone are alike in the page's form and in timm's, which compute different things."""
    lucid.save(state, path)
    part = load(path, features_only=True)
    lucid.save(part.state_dict(), path)
    with pytest.raises(ValueError, match=r"entry 'layers\.4\.convbn_1\.conv\.weight' is missing"):
        load(path, features_only=True)
    stages = {name: a for name, a in state.items() if not name.startswith(("conv_head", "norm_h"))}
    lucid.save(stages, path)
    again = load(path, features_only=True)  # timm's names show it
    for name, value in part.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), value.numpy())


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_image_channels(state, path, channels):
    """A grey image gives the logits of its three equal channels, and so do repeated channels."""
    lucid.save(state, path)
    grey = arrays.images((2, 1, 64, 48))
    model, colour = load(path, in_channels=channels), load(path)
    assert model.conv0.convbn_0.conv.weight.shape == (32, channels, 3, 3)
    if channels in (1, 6):
        with lucid.no_grad():
            expected = colour(lucid.tensor(np.repeat(grey, 3, axis=1))).numpy()
            given = model(lucid.tensor(np.repeat(grey, channels, axis=1))).numpy()
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_a_file_of_other_image_channels(path):
    lucid.save(models.mobilenet_v4_conv_small(2, in_channels=1).state_dict(), path)
    load(path, 2, in_channels=1)
    message = r"convbn_0\.conv\.weight': expected shape \(32, 3, 3, 3\), got \(32, 1, 3, 3\)"
    with pytest.raises(ValueError, match=message):
        load(path, 2)


def test_a_model_without_weights_has_no_settings():
    assert models.mobilenet_v4_conv_small(2).pretrained_cfg is None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("timm", [False, True])
def test_module_names_are_just_those_that_own_arrays(variant, timm):
    cfg = configuration(f"{'mobilenetv4' if timm else 'mobilenet_v4'}_{variant}")
    modules = _timm.module_names(read_config(cfg))
    own = {name.rpartition(".")[0] for name in models.MobileNet_V4(cfg, 2).state_dict()}
    assert own == modules.keys()
    assert len(set(modules.values())) == len(modules)


# -- what is refused --------------------------------------------------------------------------


def test_files_that_are_not_there(tmp_path):
    for missing in ["missing.safetensors", "folder/missing.npz", "missing", "a/b/c"]:
        with pytest.raises(FileNotFoundError, match=f"there is no file '.*{missing}'"):
            models.mobilenet_v4_conv_small(weights=str(tmp_path / missing))
    with pytest.raises(FileNotFoundError, match=r"there is no file 'runs/missing\.npz'"):
        models.mobilenet_v4_conv_small(weights="runs/missing.npz")
    with pytest.raises(ValueError, match="is a folder; name the file in it"):
        models.mobilenet_v4_conv_small(weights=tmp_path)
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ending in .safetensors or .npz, got .*weights\.h5"):
        models.mobilenet_v4_conv_small(weights=tmp_path / "weights.h5")
    with pytest.raises(TypeError, match="expected a path or a Hugging Face repo id, got int"):
        models.mobilenet_v4_conv_small(weights=3)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_truncated(state, tmp_path, suffix, part):
    path = tmp_path / f"cut{suffix}"
    lucid.save({name: state[name] for name in list(state)[:20]}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ValueError, match=rf"cut\{suffix} is not a \{suffix} file .*or damaged: ."):
        load(path)


def write_safetensors(path, header, data=b"", length=None):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


STEM = {"dtype": "F32", "shape": [32, 3, 3, 3], "data_offsets": [0, 3456]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"conv_stem.weight": STEM}, 2**63),
        ({"conv_stem.weight": STEM}, 2**40),
        ({"conv_stem.weight": STEM}, 7),
        ({"conv_stem.weight": {**STEM, "shape": [2**50, 2**50]}}, None),
        ({"conv_stem.weight": {**STEM, "data_offsets": [0, 10**12]}}, None),
        ({"conv_stem.weight": {**STEM, "data_offsets": [3456, 0]}}, None),
        ({"conv_stem.weight": {**STEM, "data_offsets": [-3456, 0]}}, None),
        ({"conv_stem.weight": STEM, "bn1.weight": STEM}, None),
    ],
    ids=["huge", "large", "short", "shape", "beyond", "backwards", "negative", "overlap"],
)
def test_hostile_headers(tmp_path, header, length):
    path = tmp_path / "hostile.safetensors"
    write_safetensors(path, header, bytes(3456), length)
    with pytest.raises(ValueError, match=r"hostile\.safetensors is not a .* or damaged: ."):
        load(path)


def test_nested_files_without_a_model_are_refused(state, path):
    lucid.save({"net": {"conv_stem.weight": state["conv_stem.weight"]}, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"weights\.npz: 'net' is of type dict, not an array"):
        load(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": array for name, array in state.items()},
        lambda state: {f"_orig_mod.{name}": array for name, array in state.items()},
        lambda state: {f"module._orig_mod.{name}": array for name, array in state.items()},
        lambda state: {f"model.{name}": array for name, array in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": [1, 2]}},
        lambda state: {"model": {f"module.{name}": array for name, array in state.items()}},
        lambda state: {
            name: array for name, array in state.items() if "num_batches_tracked" not in name
        },
    ],
)
@pytest.mark.parametrize("names", ["timm", "lucid"])
def test_wrapped_weights(state, path, wrap, names):
    """As DataParallel, `torch.compile` and training scripts leave them, or without counters."""
    lucid.save(wrap(state if names == "timm" else lucid_state("conv_small", state)), path)
    loaded = load(path).state_dict()
    for name, array in lucid_state("conv_small", state).items():
        if "num_batches_tracked" not in name:
            np.testing.assert_array_equal(loaded[name].numpy(), array)


WRONG = [
    (
        {"blocks.0.0.conv.weight": np.ones((32, 32, 5, 5))},
        r"'blocks\.0\.0\.conv\.weight': expected shape \(32, 32, 3, 3\), got \(32, 32, 5, 5\)",
    ),
    ({"conv_stem.weight": np.ones(())}, r"'conv_stem\.weight': expected .* got \(\)"),
    ({"conv_stem.weight": np.ones((32, 4, 3, 3))}, r"got \(32, 4, 3, 3\)"),
    ({"norm_head.bias": None}, r"'norm_head\.bias' of shape \(1280,\) is missing"),
    ({"norm_head.extra": np.ones(2)}, r"'norm_head\.extra' of shape \(2,\) belongs to no part"),
    ({"blocks.0.0.layer_scale.gamma": np.ones(32)}, r"'blocks\.0\.0\.layer_scale.gamma' of shape"),
    ({"classifier.bias": None}, r"'classifier\.bias' of shape \(4,\) is missing"),
    ({"classifier.weight": None}, r"'classifier\.weight' of shape \(4, 1280\) is missing"),
    ({"classifier.weight": np.ones((7, 1280))}, r"expected shape \(4, 1280\), got \(7, 1280\)"),
    ({"classifier.weight": np.ones((4, 960))}, r"expected shape \(4, 1280\), got \(4, 960\)"),
    ({"classifier.weight": np.ones(())}, r"expected shape \(4, 1280\), got \(\)"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_the_first_misfit_is_named_as_the_file_names_it(state, path, change, message):
    changed = {name: array for name, array in {**state, **change}.items() if array is not None}
    lucid.save(changed, path)
    with pytest.raises(
        ValueError, match=r"weights\.npz does not fit mobilenet_v4_conv_small: "
    ) as e:
        load(path)
    assert __import__("re").search(message, str(e.value)), e.value


@pytest.mark.parametrize("other", ["conv_medium", "hybrid_medium"])
def test_another_variants_weights(path, other):
    lucid.save(timm_state(other), path)
    message = (
        r"weights\.npz does not fit mobilenet_v4_conv_small: entry 'blocks\.0\.0\.bn1\.weight': "
        rf"expected shape \(32,\), got \(128,\) \(its entries are those of mobilenetv4_{other}\)"
    )
    with pytest.raises(ValueError, match=message):
        load(path)


def test_foreign_weights(path):
    lucid.save({"fc.weight": np.ones((2, 3))}, path)
    with pytest.raises(ValueError, match=r"entry 'conv0\.convbn_0\.conv\.weight' .* is missing$"):
        load(path)


MODEL = models.MobileNet_V4(configuration("mobilenetv4_conv_small"), CLASSES)
SPEC = read_config(configuration("mobilenetv4_conv_small"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_single_change_is_found(data):
    """Whatever entry is dropped, renamed or reshaped: one error, which names it."""
    modules = _timm.module_names(SPEC)
    own = MODEL.state_dict()
    names = sorted(own)
    if data.draw(st.booleans(), label="timm's names"):
        own = {_timm.rename(name, modules): value for name, value in own.items()}
        names = sorted(own)
    name = data.draw(st.sampled_from(names))
    kind = data.draw(st.sampled_from(["drop", "rename", "reshape"]))
    value = own.pop(name)
    if kind == "rename":
        own[name + data.draw(st.sampled_from(["_", ".x", "é"]))] = value
    elif kind == "reshape":
        shape = data.draw(st.lists(st.integers(0, 3), max_size=5).map(tuple))
        own[name] = lucid.zeros(*shape) if shape else lucid.tensor(0.0)
        if shape == value.shape:
            return
    if name.endswith(".num_batches_tracked") and kind == "drop":
        return  # they may be missing
    if kind == "drop" and name == "conv_stem.weight":
        return  # then the names are not timm's, and the first of lucid's is missing
    with pytest.raises(ValueError, match=r"some\.npz does not fit MODEL: entry ") as error:
        fit(MODEL, SPEC, Checkpoint("some.npz", own, None, False), "MODEL")
    optional = name == "conv_stem.weight" or name.endswith(".num_batches_tracked")
    if not (kind == "rename" and optional):
        assert f"'{name}'" in str(error.value)


# -- what images should be --------------------------------------------------------------------

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def cfg_of(state, folder, name="weights.npz", config=None):
    lucid.save(state, folder / name)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "config.json").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(folder / name).pretrained_cfg


def test_settings_of_an_unknown_file_are_the_usual_ones(state, tmp_path):
    assert cfg_of(state, tmp_path) == {
        "input_size": (3, 224, 224),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "num_classes": CLASSES,
        **IMAGENET,
    }


def test_settings_of_a_published_file(state, tmp_path):
    found = cfg_of(state, tmp_path, "mobilenetv4_conv_small.e3600_r256_in1k.npz")
    assert found["input_size"] == (3, 256, 256)
    assert found["crop_pct"] == 0.95
    assert found["std"] == (0.5, 0.5, 0.5)


TIMM = {"input_size": [3, 320, 256], "crop_pct": 1.0, "interpolation": "bilinear"}
TIMM |= {"mean": [0.5] * 3, "std": [0.25] * 3, "pool_size": [8, 8], "crop_mode": "center"}


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "mobilenetv4_conv_small", "num_classes": 9, "pretrained_cfg": TIMM},
        {"architecture": "mobilenetv4_conv_small", **TIMM},
        {"pretrained_cfg": TIMM},
    ],
    ids=["nested", "flat", "unnamed"],
)
def test_settings_from_the_config_beside_the_file(state, tmp_path, config):
    assert cfg_of(state, tmp_path, config=config) == {
        "input_size": (3, 320, 256),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "num_classes": CLASSES,
    }


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet50", "pretrained_cfg": TIMM},
        {"architecture": "mobilenetv4_conv_large", **TIMM},
        {"architectures": ["BertModel"], "mean": "nonsense"},
        TIMM,
        [1, 2],
        "{not json",
        '{"a":' * 100_000,
        "",
    ],
    ids=["other", "variant", "transformers", "unknown", "list", "broken", "deep", "empty"],
)
def test_a_foreign_config_beside_the_file_counts_for_nothing(state, tmp_path, config):
    (tmp_path / "alone").mkdir()
    assert cfg_of(state, tmp_path, config=config) == cfg_of(state, tmp_path / "alone")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_size", [3, 224]),
        ("input_size", [3, -1, 224]),
        ("input_size", [3, 224.0, 224]),
        ("input_size", [3, 10**9, 224]),
        ("input_size", [3, 224, 10**400]),
        ("crop_pct", 1e-300),
        ("crop_pct", 10**400),
        ("mean", [0.5, 1e308, 0.5]),
        ("mean", [10**400]),
        ("std", [1e-300]),
        ("std", [0.5, 0.5, 10**400]),
        ("crop_pct", 0),
        ("crop_pct", 7),
        ("crop_pct", "0.9"),
        ("crop_pct", float("nan")),
        ("interpolation", "random"),
        ("interpolation", ["bicubic"]),
        ("mean", [0.5, 0.5]),
        ("mean", 0.5),
        ("mean", [0.5, None, 0.5]),
        ("std", [0.5, 0, 0.5]),
        ("std", [float("inf")] * 3),
        ("std", [True] * 3),
    ],
)
def test_settings_that_cannot_be_are_named(state, tmp_path, key, value):
    with pytest.raises(ValueError, match=rf"config\.json: '{key}': expected .*, got "):
        cfg_of(state, tmp_path, config={"pretrained_cfg": {**TIMM, key: value}})


def test_settings_of_null_are_taken_from_the_table(state, tmp_path):
    config = {"architecture": "mobilenetv4_conv_small", "pretrained_cfg": {**TIMM, "std": None}}
    assert cfg_of(state, tmp_path, config=config)["std"] == IMAGENET["std"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its description is no JSON"),
        ("[1]", "its description is no JSON object but list"),
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ("[" * 100_000, "its description is no JSON"),
        ('{"classes": "cat"}', "'classes': expected a list of texts, got 'cat'"),
        ('{"classes": [1]}', "'classes': expected a list of texts"),
        ('{"architecture": 3}', "'architecture': expected a text, got 3"),
        ('{"input_size": [3, 0, 1]}', "'input_size': expected three positive integers"),
        ('{"mean": [NaN, 0, 0]}', "'mean': expected one number or three"),
        ('{"std": [1e999, 1, 1]}', "'std': expected"),
    ],
)
def test_a_description_that_cannot_be(state, path, text, message):
    lucid.save(state, path, {"lucid": text})
    with pytest.raises(ValueError, match=rf"weights: .*weights\.npz: .*{message}"):
        load(path)


def test_the_description_in_the_file_comes_before_the_config_beside_it(state, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": TIMM}))
    path = tmp_path / "w.npz"
    lucid.save(state, path, as_metadata({"mean": (0.1, 0.1, 0.1), "classes": list("abcd")}))
    found = load(path).pretrained_cfg
    assert found["mean"] == (0.1, 0.1, 0.1)
    assert found["std"] == (0.25, 0.25, 0.25)
    assert found["classes"] == list("abcd")
