"""The twelve released architectures beside timm's, and what their models can be asked for."""

import numpy as np
import pytest

import lucid
from lucid import kernels, models, nn
from lucid.cli import main
from lucid.graph import Operation
from lucid.models import _timm, configs
from lucid.models._config import read_config
from tests.reference import arrays

torch = pytest.importorskip("torch")

from tests.timm_import import import_timm  # noqa: E402

# As timm counts them.
PARAMETERS = {
    "mobilenetv4_conv_small": 3_774_024,
    "mobilenetv4_conv_small_050": 2_238_952,
    "mobilenetv4_conv_small_035": 1_905_384,
    "mobilenetv4_conv_medium": 9_715_512,
    "mobilenetv4_conv_blur_medium": 9_715_512,
    "mobilenetv4_conv_aa_medium": 9_715_512,
    "mobilenetv4_conv_large": 32_590_864,
    "mobilenetv4_conv_aa_large": 32_590_864,
    "mobilenetv4_hybrid_medium": 11_074_648,
    "mobilenetv4_hybrid_medium_075": 7_313_528,
    "mobilenetv4_hybrid_large": 37_764_624,
    "mobilenetv4_hybrid_large_075": 22_754_984,
}
LARGE = {name for name, count in PARAMETERS.items() if count > 20e6}
NAMES = [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in PARAMETERS]


def anti_aliased_small(aa):
    return configs.timm(configs.scale(configs.conv_small(), 0.35), aa=aa)


def pair(name, cfg, seed=5, num_classes=1000, **kwargs):
    """timm's model and ours, with the same weights made from a seed."""
    theirs = import_timm().create_model(name, num_classes=num_classes, **kwargs).eval()
    state = {
        entry: arrays.weight(entry, tuple(value.shape), seed)
        for entry, value in theirs.state_dict().items()
    }
    theirs.load_state_dict({entry: torch.from_numpy(array) for entry, array in state.items()})
    model = models.MobileNet_V4(cfg, num_classes).eval()
    modules = _timm.module_names(read_config(cfg))
    entries = {entry: _timm.rename(entry, modules) for entry in model.state_dict()}
    assert sorted(entries.values()) == sorted(state)
    model.load_state_dict({ours: lucid.tensor(state[name]) for ours, name in entries.items()})
    return theirs, model


@pytest.fixture
def backends():
    before = kernels.get_backend()
    yield kernels.available_backends()
    kernels.set_backend(before)


def assert_close(a, b, rtol=1e-4):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_the_names_are_timms():
    assert sorted(configs.RELEASED) == sorted(PARAMETERS)
    assert sorted(configs.RELEASED) == import_timm().list_models("mobilenetv4_*")


@pytest.mark.parametrize("name", NAMES)
def test_logits_stages_and_compiled_on_both_backends(name, backends):
    theirs, model = pair(name, configs.released(name))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert model.num_features == theirs.num_features
    assert model.head_hidden_size == theirs.head_hidden_size
    for size in [(64, 64), (45, 70)]:
        images = arrays.images((1, 3, *size), seed=3)
        with torch.no_grad():
            image = torch.from_numpy(images)
            stages = [theirs.bn1(theirs.conv_stem(image))]
            for stage in theirs.blocks:
                stages.append(stage(stages[-1]))
            logits = theirs(image).numpy()
        for backend in backends:
            kernels.set_backend(backend)
            with lucid.no_grad():
                x = model.conv0(lucid.tensor(images))
                assert_close(x.numpy(), stages[0].numpy())
                for stage, expected in zip(model.layers, stages[1:], strict=True):
                    x = stage(x)
                    assert_close(x.numpy(), expected.numpy())
                assert_close(model(lucid.tensor(images)).numpy(), logits)
            compiled = lucid.compile(model, images.shape)
            assert_close(compiled(images), logits)
            (plan,) = compiled._plans.values()
            assert not plan.has_opaque_steps
            kinds = {step.name for step in plan.steps if isinstance(step, Operation)}
            assert kinds <= {"Permute", "Reshape"}


@pytest.mark.parametrize("name", NAMES)
def test_converted_for_timm_and_back(name, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = models.create_model(name, num_classes=5).eval()
    first, there, back = (tmp_path / f"{n}.safetensors" for n in ("first", "there", "back"))
    lucid.save(model.state_dict(), first)
    assert main(["convert", str(first), str(there), "--to", "timm", "--model", name]) == 0
    theirs = import_timm().create_model(name, num_classes=5).eval()
    theirs.load_state_dict(safetensors.load_file(there), strict=True)
    images = arrays.images((1, 3, 64, 32))
    with torch.no_grad(), lucid.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
        assert_close(model(lucid.tensor(images)).numpy(), expected)
    assert main(["convert", str(there), str(back), "--to", "lucid"]) == 0
    loaded, state = lucid.load(back), model.state_dict()
    assert loaded.keys() == state.keys()
    for entry, array in state.items():
        np.testing.assert_array_equal(loaded[entry].numpy(), array.numpy())


@pytest.mark.parametrize("aa", ["avg", "blurpc"])
def test_one_training_step_with_anti_aliasing(aa):
    """In float64: in float32 a ReLU that a rounding error switches moves gradients by percents."""
    cfg = anti_aliased_small("avg" if aa == "avg" else "blur")
    theirs, model = pair("mobilenetv4_conv_small_035", cfg, num_classes=10, aa_layer=aa)
    theirs, model = theirs.double().train(), model.double().train()
    images, labels = arrays.images((4, 3, 64, 75)).astype(np.float64), arrays.labels(4, 10)
    loss = nn.functional.cross_entropy(
        model(lucid.tensor(images, np.float64)), lucid.tensor(labels)
    )
    loss.backward()
    torch.nn.functional.cross_entropy(
        theirs(torch.from_numpy(images)), torch.from_numpy(labels)
    ).backward()
    modules = _timm.module_names(read_config(cfg))
    ours = {_timm.rename(n, modules): p.grad.numpy() for n, p in model.named_parameters()}
    for name, parameter in theirs.named_parameters():
        gradient = parameter.grad.numpy()
        error = np.linalg.norm(ours[name] - gradient)
        assert error <= 1e-6 * np.linalg.norm(gradient) + 1e-10, name


def test_features_and_head_are_timms():
    name = "mobilenetv4_conv_small_050"
    theirs, model = pair(name, configs.released(name), num_classes=7)
    images = arrays.images((2, 3, 64, 96))
    with torch.no_grad(), lucid.no_grad():
        features = theirs.forward_features(torch.from_numpy(images))
        ours = model.forward_features(lucid.tensor(images))
        assert ours.shape == (2, model.num_features, 2, 3)
        assert_close(ours.numpy(), features.numpy())
        for pre_logits in (False, True):
            expected = theirs.forward_head(features, pre_logits=pre_logits).numpy()
            assert_close(model.forward_head(ours, pre_logits=pre_logits).numpy(), expected)


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "mobilenetv4_hybrid_medium_075"])
def test_drop_path_grows_as_in_timm(name):
    theirs = import_timm().create_model(name, drop_path_rate=0.3)
    model = models.MobileNet_V4(configs.released(name), drop_path_rate=0.3)
    expected = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for block in theirs.blocks.modules()
        if getattr(block, "has_skip", False)
    ]
    ours = [block.drop_path for block in model.modules() if getattr(block, "use_residual", False)]
    assert ours == pytest.approx(expected)
    whole = [block.drop_path for block in model.layers[2]]
    part = models.MobileNet_V4(
        configs.released(name), drop_path_rate=0.3, features_only=True, out_indices=[3]
    )
    assert [block.drop_path for block in part.layers[2]] == whole


def test_drop_path_drops_the_branch_of_a_sample():
    cfg = configs.released("mobilenetv4_conv_small_035")
    model = models.MobileNet_V4(cfg, drop_path_rate=0.9).eval()
    block = model.layers[3][5]
    x = lucid.tensor(arrays.images((200, cfg["layer4"]["block_specs"][5]["in"], 2, 2)))
    with lucid.no_grad():
        branch = (block(x) - x).numpy()
        block.training = True  # its batch norms stay as they are
        change = (block(x) - x).numpy()
    kept = np.abs(change).max((1, 2, 3)) > 0
    rate = block.drop_path
    assert 0.5 < rate < 0.9
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / len(kept)) ** 0.5
    np.testing.assert_allclose(change[kept], branch[kept] / (1 - rate), atol=1e-5)
    assert not change[~kept].any()


def test_without_rates_the_model_is_as_it_was():
    def outputs(**kwargs):
        lucid.manual_seed(3)
        cfg = configs.released("mobilenetv4_conv_small_035")
        model = models.MobileNet_V4(cfg, 5, **kwargs)
        return repr(model), model(lucid.tensor(arrays.images((2, 3, 64, 64)))).detach().numpy()

    (text, plain), (text_of_zero, of_zero) = outputs(), outputs(drop_rate=0, drop_path_rate=0.0)
    assert text == text_of_zero
    np.testing.assert_array_equal(plain, of_zero)
    assert not np.array_equal(plain, outputs(drop_path_rate=0.5)[1])


def test_dropout_before_the_classifier():
    cfg = configs.released("mobilenetv4_conv_small_035")
    model = models.MobileNet_V4(cfg, 5, drop_rate=0.25)
    features = lucid.tensor(arrays.images((8, model.num_features, 1, 1)))
    model.head.eval()
    with lucid.no_grad():
        dropped = model.forward_head(features, pre_logits=True).numpy()
        whole = model.eval().forward_head(features, pre_logits=True).numpy()
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-5)
    assert abs(kept[whole != 0].mean() - 0.75) < 0.05


@pytest.mark.parametrize("rate", ["drop_rate", "drop_path_rate"])
def test_rates_are_probabilities(rate):
    cfg = configs.conv_small()
    with pytest.raises(ValueError, match=f"MobileNet_V4: {rate} must be between 0 and 1, got 1.5"):
        models.MobileNet_V4(cfg, **{rate: 1.5})
    with pytest.raises(TypeError, match=f"MobileNet_V4: {rate} must be a number, got '0.1'"):
        models.MobileNet_V4(cfg, **{rate: "0.1"})


def test_the_classifier_is_reset():
    model = models.MobileNet_V4(configs.released("mobilenetv4_conv_small_035"), 4).double().eval()
    assert model.get_classifier() is model.classifier
    x = lucid.tensor(arrays.images((1, 3, 64, 64)), np.float64)
    features = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(6)
    assert (model.num_classes, model.classifier.out_features) == (6, 6)
    assert model.classifier.weight.dtype == np.float64
    assert not model.classifier.training
    assert 0 < np.abs(model.classifier.weight.data).max() < 0.1
    assert model(x).shape == (1, 6)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    np.testing.assert_array_equal(model(x).data, features.data)
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 0, got -1"):
        model.reset_classifier(-1)
    assert model.num_classes == 0


def test_features_have_no_classifier():
    model = models.MobileNet_V4(configs.conv_small(), features_only=True)
    for call in [model.get_classifier, lambda: model.reset_classifier(3)]:
        with pytest.raises(ValueError, match="a model with features_only=True has no classifier"):
            call()


@pytest.mark.parametrize("multiplier", [0, -0.5, "0.5", float("nan"), float("inf"), True])
def test_a_multiplier_is_a_number_over_0(multiplier):
    with pytest.raises(ValueError, match="scale: multiplier must be a number over 0, got"):
        configs.scale(configs.conv_small(), multiplier)


def test_rows_without_names_are_scaled_too():
    cfg = configs.hybrid_medium()
    rows = configs.hybrid_medium()
    for group in rows.values():
        group["block_specs"] = [list(row.values()) for row in group["block_specs"]]
    named, unnamed = configs.scale(cfg, 1.25), configs.scale(rows, 1.25)
    assert read_config(named) == read_config(unnamed)
    assert named["conv0"]["block_specs"][0] == {"in": 3, "out": 40, "kernel": 3, "stride": 2}
    assert cfg == configs.hybrid_medium()


def test_an_unknown_architecture():
    with pytest.raises(ValueError, match=r"released: name must be one of .*, got 'conv_tiny'"):
        configs.released("conv_tiny")


@pytest.mark.parametrize(("aa", "kind"), [("avg", "AvgPool2d"), ("blur", "_BlurPool")])
def test_the_pooling_is_counted_where_timm_has_it_and_no_part_of_the_state(aa, kind):
    name, timms = "mobilenetv4_conv_small_035", {"avg": "AvgPool2d", "blur": "BlurPool2d"}[aa]
    theirs = import_timm().create_model(name, aa_layer={"avg": "avg", "blur": "blurpc"}[aa]).eval()
    shapes = []
    for module in theirs.modules():
        if type(module).__name__ == timms:
            module.register_forward_hook(lambda module, given, y: shapes.append(tuple(y.shape)))
    with torch.no_grad():
        theirs(torch.zeros(1, 3, 64, 64))
    plain = models.MobileNet_V4(anti_aliased_small(None))
    model = models.MobileNet_V4(anti_aliased_small(aa))
    assert list(model.state_dict()) == list(plain.state_dict())
    layers = lucid.summary(model, (1, 3, 64, 64)).layers
    found = [(x.output_shape, x.macs, x.params) for x in layers if x.kind == kind]
    # A blur is a convolution by 3×3 weights, which nobody learns.
    taps = {"avg": 0, "blur": 9}[aa]
    assert found == [(shape, taps * int(np.prod(shape)), 0) for shape in shapes]
    assert len(found) == 4
