"""The network: counts, shapes, names, where strides and residuals sit, attention by definition."""

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.models import configs
from lucid.models._blocks import (
    _InvertedResidual,
    _MobileAttention,
    _UniversalInvertedBottleneck,
    make_divisible,
)
from lucid.models._config import AttentionSpec, FusedIBSpec, UIBSpec
from tests.models.test_config import tiny

PARAMETERS = {
    "mobilenet_v4_conv_small": 3_774_024,
    "mobilenet_v4_conv_medium": 9_715_512,
    "mobilenet_v4_conv_large": 32_590_864,
    "mobilenet_v4_hybrid_medium": 11_070_136,
    "mobilenet_v4_hybrid_large": 37_755_152,
}


def images(*shape, seed=0):
    return lucid.tensor(np.random.default_rng(seed).standard_normal(shape), np.float32)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    model = models.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes(name):
    model = getattr(models, name)(num_classes=7).eval()
    with lucid.no_grad():
        assert model(images(2, 3, 64, 96)).shape == (2, 7)


def test_module_names():
    names = dict(models.mobilenet_v4_conv_medium(num_classes=3).named_modules())
    for name in (
        "conv0.convbn_0.conv",
        "layers.0.fused_ib_0.block",
        "layers.1.uib_0.start_dw.conv",
        "layers.4.convbn_1.act",
        "pool",
        "classifier",
    ):
        assert name in names
    assert type(names["layers.0.fused_ib_0"]).__name__ == "_InvertedResidual"
    assert type(names["layers.1.uib_0"]).__name__ == "_UniversalInvertedBottleneck"
    children = [name for name, _ in models.mobilenet_v4_conv_medium().named_children()]
    assert [c for c in children if c != "flatten"] == ["conv0", "layers", "pool", "classifier"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_activation_is_relu6(name):
    kinds = {
        type(m).__name__
        for m in models.create_model(name).modules()
        if type(m).__name__ in ("ReLU", "ReLU6", "GELU", "SiLU", "Hardswish")
    }
    assert kinds == {"ReLU6"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_gets_a_gradient(name):
    lucid.manual_seed(0)
    model = models.create_model(name, num_classes=5)
    loss = nn.functional.cross_entropy(model(images(4, 3, 64, 64)), lucid.tensor([0, 1, 2, 3]))
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert np.isfinite(parameter.grad.data).all(), key
        assert np.abs(parameter.grad.data).max() > 0, key


def test_no_classes_gives_the_features():
    model = models.mobilenet_v4_conv_small(num_classes=0).eval()
    with lucid.no_grad():
        x = images(2, 3, 64, 64)
        assert model(x).shape == (2, 1280)
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        np.testing.assert_array_equal(model(x).numpy(), features.numpy())
    assert model.num_features == model.head_hidden_size == 1280
    assert not any(isinstance(m, nn.Linear) for m in model.modules())


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels):
    model = models.mobilenet_v4_conv_small(num_classes=3, in_channels=channels).eval()
    with lucid.no_grad():
        assert model(images(1, channels, 32, 40)).shape == (1, 3)
    with pytest.raises(ValueError, match=f"expected {channels} input channels .* got 3"):
        model(images(1, 3, 32, 32))


@pytest.mark.parametrize("name", PARAMETERS)
def test_features_only(name):
    model = models.create_model(name, features_only=True).eval()
    with lucid.no_grad():
        maps = model(images(1, 3, 64, 96))
    assert [info["stride"] for info in model.feature_info] == [2, 4, 8, 16, 32]
    for output, info in zip(maps, model.feature_info):
        assert output.shape == (1, info["channels"], 64 // info["stride"], 96 // info["stride"])


def test_features_are_the_stages_of_the_whole_model():
    lucid.manual_seed(3)
    whole = models.mobilenet_v4_conv_small(num_classes=4).eval()
    part = models.mobilenet_v4_conv_small(features_only=True, out_indices=(1, 3, 5)).eval()
    part.load_state_dict(whole.state_dict(), strict=False)
    x = images(1, 3, 64, 64)
    with lucid.no_grad():
        stage, expected = whole.conv0(x), []
        for index, layer in enumerate(whole.layers, 1):
            stage = layer(stage)
            if index in (1, 3, 5):
                expected.append(stage.numpy())
        for output, value in zip(part(x), expected):
            np.testing.assert_array_equal(output.numpy(), value)


def test_stages_behind_the_last_are_not_built():
    model = models.mobilenet_v4_conv_small(features_only=True, out_indices=[2])
    assert len(model.layers) == 2


@pytest.mark.parametrize("indices", [(), (6,), (-1,), (2, 1), (1, 1), ("1",)])
def test_wrong_out_indices(indices):
    with pytest.raises(ValueError, match="out_indices must"):
        models.mobilenet_v4_conv_small(features_only=True, out_indices=indices)


def test_out_indices_without_features_only():
    with pytest.raises(ValueError, match="belongs to features_only=True"):
        models.mobilenet_v4_conv_small(out_indices=(1,))


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (32, 17), (225, 100)])
def test_odd_sizes(size):
    model = models.MobileNet_V4(tiny(), 3).eval()
    with lucid.no_grad():
        y = model(images(2, 3, *size))
    assert y.shape == (2, 3)
    assert np.isfinite(y.numpy()).all()


def test_one_by_one_equals_the_batch():
    lucid.manual_seed(0)
    model = models.MobileNet_V4(tiny(), 3).eval()
    x = images(3, 3, 40, 24)
    with lucid.no_grad():
        together = model(x).numpy()
        single = np.concatenate([model(x[i : i + 1]).numpy() for i in range(3)])
    np.testing.assert_allclose(together, single, rtol=1e-5, atol=1e-6)


def test_empty_batch():
    model = models.MobileNet_V4(tiny(), 3).eval()
    with lucid.no_grad():
        assert model(lucid.zeros(0, 3, 32, 32)).shape == (0, 3)


def test_initialisation_repeats():
    def state(seed):
        lucid.manual_seed(seed)
        model = models.MobileNet_V4(tiny(), 3)
        return model.conv0.convbn_0.conv.weight.detach().numpy()

    np.testing.assert_array_equal(state(1), state(1))
    assert (state(1) != state(2)).any()


def test_activations_keep_their_variance_at_the_start():
    """He initialisation over 32·3·3 outputs of the stem: weights of deviation sqrt(2 / 288)."""
    lucid.manual_seed(0)
    weight = models.mobilenet_v4_conv_small().layers[4].convbn_1.conv.weight.detach().numpy()
    assert weight.std() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)


# -- blocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    # Multiples of 8 stay; others go to the nearest, but not down by more than 10 %.
    [(96, 96), (100, 104), (99, 96), (3, 8), (20, 24), (19, 24), (12, 16), (11.9, 16)],
)
def test_make_divisible(value, expected):
    assert make_divisible(value) == expected


@pytest.mark.parametrize(
    ("start", "mid", "on_mid", "strides"),
    [
        (3, 5, True, (1, 2)),
        (3, 5, False, (2, 1)),
        (3, 0, True, (2, None)),
        (0, 5, False, (None, 2)),
    ],
)
def test_where_the_stride_sits(start, mid, on_mid, strides):
    block = _UniversalInvertedBottleneck(
        UIBSpec(8, 16, start, mid, on_mid, 2, 2, None), "relu6", None
    )
    for part, stride in zip((block.start_dw, block.mid_dw), strides):
        if stride is None:
            assert isinstance(part, nn.Identity)
        else:
            assert part.conv.stride == (stride, stride)
    with lucid.no_grad():
        assert block.eval()(images(1, 8, 9, 6)).shape == (1, 16, 5, 3)


def zero_last_norm(norm):
    with lucid.no_grad():
        norm.weight.zero_()


@pytest.mark.parametrize("kind", ["uib", "fused_ib"])
@pytest.mark.parametrize(("out", "stride"), [(8, 1), (16, 1), (8, 2)])
def test_residuals(kind, out, stride):
    """With the last batch norm at zero only the residual is left."""
    if kind == "uib":
        block = _UniversalInvertedBottleneck(
            UIBSpec(8, out, 3, 3, True, stride, 2, None), "relu6", None
        )
        zero_last_norm(block.project.norm)
    else:
        block = _InvertedResidual(FusedIBSpec(8, out, stride, 2, False), "relu6")
        zero_last_norm(block.block[1].norm)
    x = images(2, 8, 6, 6)
    with lucid.no_grad():
        y = block.eval()(x).numpy()
    if stride == 1 and out == 8:
        np.testing.assert_array_equal(y, x.numpy())
    else:
        assert not y.any()


def test_layer_scale_of_a_group():
    cfg = tiny(layer2__layer_scale=0.25, layer3__layer_scale=0.5)
    model = models.MobileNet_V4(cfg, 3)
    scales = {k: p for k, p in model.named_parameters() if "layer_scale" in k}
    values = {k: set(p.detach().numpy().tolist()) for k, p in scales.items()}
    assert values["layers.1.uib_0.project.layer_scale.gamma"] == {0.25}
    assert values["layers.2.uib_0.project.layer_scale.gamma"] == {0.5}
    block = model.layers[2].uib_0.eval()
    x = images(1, 16, 5, 5)
    with lucid.no_grad():
        part = block(x).numpy() - x.numpy()
        block.project.layer_scale.gamma.fill_(1.0)
        np.testing.assert_allclose(2 * part, block(x).numpy() - x.numpy(), rtol=1e-5, atol=1e-6)


def test_activation_after_the_projection():
    with_act = _InvertedResidual(FusedIBSpec(8, 16, 2, 2, True), "relu6")
    without = _InvertedResidual(FusedIBSpec(8, 16, 2, 2, False), "relu6")
    without.load_state_dict(with_act.state_dict())
    x = images(1, 8, 8, 8)
    with lucid.no_grad():
        np.testing.assert_allclose(
            with_act.eval()(x).numpy(), np.clip(without.eval()(x).numpy(), 0, 6), rtol=1e-6
        )


@pytest.mark.parametrize("act", ["relu6", "relu", "gelu", "silu", "hardswish"])
def test_activations(act):
    model = models.MobileNet_V4(tiny(conv0__act=act), 3)
    expected = {"relu6": "ReLU6", "relu": "ReLU", "gelu": "GELU", "silu": "SiLU"}.get(
        act, "Hardswish"
    )
    assert type(model.conv0.convbn_0.act).__name__ == expected
    assert type(model.layers[0].fused_ib_0.block[0].act).__name__ == "ReLU6"


def test_head_runs_after_the_pooling():
    head = {"block_name": "convbn", "num_blocks": 1, "block_specs": [[32, 48, 1, 1]], "act": "relu"}
    model = models.MobileNet_V4(tiny(head=head), 3).eval()
    assert (model.num_features, model.head_hidden_size) == (32, 48)
    seen = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    with lucid.no_grad():
        assert model(images(2, 3, 64, 64)).shape == (2, 3)
    assert seen == [(2, 48, 1, 1)]


# -- attention --------------------------------------------------------------------------------


def attention_by_definition(block, x, spec):
    """Multi-query attention position by position, in float64, from the block's weights."""
    state = {k: v.numpy().astype(np.float64) for k, v in block.state_dict().items()}

    def norm(z, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        column = (slice(None), None, None)
        return (z - mean[column]) / np.sqrt(var + 1e-5)[column] * weight[column] + bias[column]

    def proj(z, name):
        return np.einsum("oc,chw->ohw", state[f"{name}.weight"][:, :, 0, 0], z)

    def reduced(z, name):
        if spec.kv_stride > 1:
            s, w = spec.kv_stride, state[f"{name}.down_conv.weight"][:, 0]
            padded = np.pad(z, ((0, 0), (1, 1), (1, 1)))
            h, width = (-(-n // s) for n in z.shape[1:])
            z = sum(
                w[:, i, j, None, None]
                * padded[:, i : i + (h - 1) * s + 1 : s, j : j + (width - 1) * s + 1 : s]
                for i in range(3)
                for j in range(3)
            )
            z = norm(z, f"{name}.norm")
        return proj(z, f"{name}.proj")

    outputs = []
    for image in x.astype(np.float64):
        z = norm(image, "norm")
        q, k, v = proj(z, "query.proj"), reduced(z, "key"), reduced(z, "value")
        mixed = np.zeros((spec.num_heads * spec.value_dim, *image.shape[1:]))
        for head in range(spec.num_heads):
            own = 0 if spec.use_multi_query else head
            keys = k[own * spec.key_dim : (own + 1) * spec.key_dim].reshape(spec.key_dim, -1)
            values = v[own * spec.value_dim : (own + 1) * spec.value_dim]
            values = values.reshape(spec.value_dim, -1)
            for i in range(image.shape[1]):
                for j in range(image.shape[2]):
                    query = q[head * spec.key_dim : (head + 1) * spec.key_dim, i, j]
                    scores = query @ keys / np.sqrt(spec.key_dim)
                    weights = np.exp(scores - scores.max())
                    mixed[head * spec.value_dim : (head + 1) * spec.value_dim, i, j] = (
                        values @ weights / weights.sum()
                    )
        y = proj(mixed, "output")
        if spec.use_layer_scale:
            y = y * state["layer_scale.gamma"][:, None, None]
        outputs.append(image + y if spec.use_residual else y)
    return np.stack(outputs)


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("kv_stride", [1, 2, 3])
@pytest.mark.parametrize("flags", [(True, True), (False, False)])
@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 1)])
def test_attention_by_definition(multi_query, kv_stride, flags, size):
    spec = AttentionSpec(3, 4, 6, 1, 1, kv_stride, flags[0], multi_query, flags[1])
    lucid.manual_seed(1)
    block = _MobileAttention(8, spec).double().eval()
    rng = np.random.default_rng(0)
    with lucid.no_grad():
        for name, value in block.state_dict().items():
            if "num_batches" not in name:
                value.copy_(lucid.tensor(rng.uniform(0.3, 1.5, value.shape), np.float64))
    x = images(2, 8, *size).double()
    with lucid.no_grad():
        y = block(x).numpy()
    expected = attention_by_definition(block, x.numpy(), spec)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (2, 3), (1, 1)])
def test_strided_queries_keep_the_size(size):
    spec = AttentionSpec(2, 4, 6, 2, 3, 2, False, True, True)
    block = _MobileAttention(8, spec).eval()
    with lucid.no_grad():
        assert block(images(2, 8, *size)).shape == (2, 8, *size)


def test_a_constant_map_attends_to_itself():
    """Equal positions have equal keys, so attention returns their value whatever the strides."""
    lucid.manual_seed(0)
    values = []
    for strides in ((1, 1), (2, 2)):
        lucid.manual_seed(0)
        block = _MobileAttention(8, AttentionSpec(2, 4, 4, *strides, 1, False, True, False)).eval()
        x = lucid.ones(1, 8, 6, 6)
        with lucid.no_grad():
            y = block(x).numpy()
        np.testing.assert_allclose(y, np.broadcast_to(y[:, :, :1, :1], y.shape), rtol=1e-5)
        state = block.state_dict()
        z = np.full(8, 1 / np.sqrt(1 + 1e-5))
        value = state["value.proj.weight"].numpy()[:, :, 0, 0] @ z
        expected = state["output.weight"].numpy()[:, :, 0, 0] @ np.tile(value, 2)
        np.testing.assert_allclose(y[0, :, 0, 0], expected, rtol=1e-4, atol=1e-6)
        values.append(y)


def test_gradients_of_a_small_model():
    """The whole chain in float64: attention, residuals, batch norm in training."""
    lucid.manual_seed(0)
    model = models.MobileNet_V4(tiny(), 2).double()
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.forward = lambda x: x.tanh()  # no kinks for the differences to step over
    x = lucid.tensor(
        np.random.default_rng(0).standard_normal((2, 3, 9, 8)), np.float64, requires_grad=True
    )
    assert lucid.autograd.gradcheck(lambda x: model(x), (x,), atol=1e-4)


# -- registry ---------------------------------------------------------------------------------


def test_registry():
    assert models.list_models("mobilenet_v4_") == sorted(PARAMETERS)
    assert models.list_models("*v4_hybrid_large") == [
        "mobilenet_v4_hybrid_large",
        "mobilenetv4_hybrid_large",
    ]
    assert models.list_models("*small") == ["mobilenet_v4_conv_small", "mobilenetv4_conv_small"]
    assert models.list_models("resnet") == []


@pytest.mark.parametrize("variant", ["conv_small", "hybrid_medium"])
def test_the_name_tells_the_form(variant):
    """timm's builds what the authors released, lucid's own what its page draws."""
    released = models.create_model(f"mobilenetv4_{variant}", num_classes=2)
    page = models.create_model(f"mobilenet_v4_{variant}", num_classes=2)
    cfg = getattr(configs, variant)()
    assert repr(released) == repr(models.MobileNet_V4(configs.timm(cfg), 2))
    assert repr(page) == repr(models.MobileNet_V4(cfg, 2))
    assert (released.name, page.name) == (f"mobilenetv4_{variant}", f"mobilenet_v4_{variant}")


def test_unknown_model():
    with pytest.raises(ValueError, match="no model 'mobilenet_v4_conv_smal'; did you mean"):
        models.create_model("mobilenet_v4_conv_smal")
    with pytest.raises(ValueError, match="no model 'resnet50'; known are mobilenet_v4_"):
        models.create_model("resnet50")


def test_registering_twice():
    def mobilenet_v4_conv_small():
        return nn.Identity()

    with pytest.raises(ValueError, match="there is a model 'mobilenet_v4_conv_small' already"):
        models.register(mobilenet_v4_conv_small)


def test_configurations_build_the_variants():
    cfg = configs.conv_small()
    assert repr(models.MobileNet_V4(cfg)) == repr(models.mobilenet_v4_conv_small())
