"""lucid.quantize: what it computes, and that it stays near to the model in floating point."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lucid
from lucid import nn, quantization
from lucid.quantization._structure import Structure, fold_batch_norms


def batches(shape=(8, 3, 16, 16), count=2, seed=0):
    rng = np.random.default_rng(seed)
    return [lucid.tensor(rng.standard_normal(shape).astype(np.float32)) for _ in range(count)]


def network(act=nn.ReLU, seed=0):
    lucid.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        act(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        act(),
        nn.Conv2d(8, 12, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    model.train()
    for images in batches():
        model(images)
    return model.eval()


def evaluated(model, images):
    with lucid.no_grad():
        return model(images).numpy()


def cosine(a, b):
    a, b = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_stays_near_and_leaves_the_model_alone(calibration, per_channel):
    model, images = network(), batches()
    before = copy.deepcopy(model.state_dict())
    small = lucid.quantize(model, images, calibration=calibration, per_channel=per_channel)
    assert not small.training
    after = model.state_dict()
    assert all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)
    assert type(model[0]) is nn.Conv2d
    held_out = batches(seed=1)[0]
    assert cosine(evaluated(model, held_out), evaluated(small, held_out)) > 0.99
    assert isinstance(small[1], nn.Identity)


def test_values_are_those_of_integer_arithmetic():
    model, images = network(), batches()
    small = lucid.quantize(model, images)
    layer = small[6]
    seen = []
    layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    evaluated(small, images[0])
    ((x, y),) = seen
    scale, zero = layer.input_quantizer.scale.numpy(), int(layer.input_quantizer.zero_point.numpy())
    q = np.clip(np.rint(x.numpy() / scale) + zero, 0, 255).astype(np.int64)
    steps = layer.weight_scale.numpy().astype(np.float64)
    w = np.rint(layer.weight.data[:, :, 0, 0] / steps[:, None]).astype(np.int64)
    b = np.rint(layer.bias.data / (steps * scale)).astype(np.int64)
    sums = np.einsum("nchw,oc->nohw", q - zero, w) + b[:, None, None]
    expected = sums * (steps * scale)[:, None, None]
    np.testing.assert_array_equal(y.numpy(), expected.astype(np.float32))


def test_batch_norms_are_folded_exactly():
    model, (images, _) = network(), batches()
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, images)
    np.testing.assert_allclose(
        evaluated(folded, images), evaluated(model, images), rtol=1e-5, atol=1e-6
    )
    assert [type(layer) for layer in folded[:3]] == [nn.Conv2d, nn.Identity, nn.ReLU]


def test_a_batch_norm_read_by_others_stays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    model = Twice().eval()
    (images, _) = batches()
    small = lucid.quantize(model, [images])
    assert isinstance(small.norm, nn.BatchNorm2d)
    assert cosine(evaluated(model, images), evaluated(small, images)) > 0.999


@pytest.mark.parametrize("act", [nn.ReLU, nn.Identity, lambda: nn.LeakyReLU(0.1)])
def test_equalisation_is_exact_and_brings_ranges_together(act):
    model, (images, _) = network(act), batches()
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, images)
    pairs = Structure(folded, images).pairs()
    assert [(first, second) for first, second in pairs] == [
        (folded[0], folded[3]),
        (folded[3], folded[6]),
    ]
    folded[0].weight.data[0] *= 100
    before = evaluated(folded, images)
    from lucid.quantization._equalize import equalize

    equalize(pairs)
    np.testing.assert_allclose(
        evaluated(folded, images), before, rtol=1e-5, atol=1e-5 * np.abs(before).max()
    )
    first, second = folded[3].weight.data, folded[6].weight.data
    np.testing.assert_allclose(
        np.abs(first).max(axis=(1, 2, 3)), np.abs(second).max(axis=(0, 2, 3)), rtol=1e-2
    )


@pytest.mark.parametrize("act", [nn.ReLU6, nn.GELU, nn.Sigmoid])
def test_no_equalisation_across_what_a_factor_does_not_pass(act):
    model, (images, _) = network(act), batches()
    fold_batch_norms(model, images)
    assert Structure(model, images).pairs() == []


def test_bias_correction_lowers_the_mean_error():
    model, images = network(), batches(count=4)
    exact = np.concatenate([evaluated(model, each) for each in images])
    errors = []
    for corrected in (False, True):
        small = lucid.quantize(model, images, bias_correction=corrected)
        found = np.concatenate([evaluated(small, each) for each in images])
        errors.append(np.abs((found - exact).mean(axis=0)).max())
    assert errors[1] < 0.3 * errors[0]


def test_a_bias_that_would_not_fit_into_int32():
    model = nn.Sequential(nn.Conv2d(2, 3, 1))
    model[0].weight.data[...] = np.array([[1e-9, 1e-9], [0, 0], [0.5, -0.25]])[:, :, None, None]
    model[0].bias.data[...] = 1, -3, 0.125
    images = lucid.ones(2, 2, 4, 4)
    small = lucid.quantize(model, [images])
    np.testing.assert_allclose(evaluated(small, images), evaluated(model, images), atol=0.01)
    layer = small[0]
    steps = layer.weight_scale.numpy() * layer.input_quantizer.scale.numpy()
    assert (np.abs(layer.bias.data) / steps <= 2**30).all()


def test_constant_activations_and_weights_of_zero():
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 2, 1))
    model[0].weight.data[...] = 0
    images = lucid.full((2, 2, 4, 4), 0.7)
    small = lucid.quantize(model, [images])
    np.testing.assert_allclose(evaluated(small, images), evaluated(model, images), atol=1e-4)
    zeros = lucid.zeros(2, 2, 4, 4)
    small = lucid.quantize(model, [zeros])
    assert np.isfinite(evaluated(small, zeros)).all()


def test_skipped_modules_stay():
    model, images = network(), batches()
    small = lucid.quantize(model, images, skip=("0", "9"))
    assert [name for name, _ in quantization.quantized_layers(small)] == ["3", "6"]
    assert type(small[0]) is nn.Conv2d


def test_a_class_of_the_users_own_keeps_its_forward():
    class Padded(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, [0, 1, 0, 1]))

    model = nn.Sequential(Padded(3, 4, 2)).eval()
    (images, _) = batches()
    small = lucid.quantize(model, [images])
    assert evaluated(small, images).shape == evaluated(model, images).shape
    assert cosine(evaluated(model, images), evaluated(small, images)) > 0.999


def test_the_table_begins_with_what_loses_most():
    model, images = network(), batches()
    small = lucid.quantize(model, images)
    ratios = [row.snr for row in small.layer_noise]
    assert ratios == sorted(ratios)
    assert len(small.layer_noise) == 4
    assert str(small.layer_noise).splitlines()[0].split()[:2] == ["layer", "kind"]
    again = quantization.layer_noise(small, images)
    assert [(row.name, row.snr) for row in again] == [
        (row.name, row.snr) for row in small.layer_noise
    ]


def test_what_a_table_says():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model[0].weight.data[...] = [[1.0, 1.0]]
    x = lucid.tensor([[1.0, 0.1]])
    small = lucid.quantize(model, [x], calibration="minmax", bias_correction=False)
    exact, rounded = evaluated(model, x).item(), evaluated(small, x).item()
    (row,) = small.layer_noise
    assert row.snr == pytest.approx(20 * np.log10(exact / abs(rounded - exact)), rel=1e-4)


def test_a_compiled_copy_computes_the_same():
    model, (images, _) = network(), batches()
    small = lucid.quantize(model, [images])
    compiled = lucid.compile(small, images.shape)
    np.testing.assert_array_equal(compiled(images).numpy(), evaluated(small, images))


def test_a_generator_will_do():
    model, images = network(), batches()
    small = lucid.quantize(model, (each for each in images))
    same = lucid.quantize(model, [(each, lucid.zeros(8)) for each in images])
    np.testing.assert_array_equal(evaluated(small, images[0]), evaluated(same, images[0]))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"loader": []}, ValueError, "quantize: the loader has no batch"),
        (
            {"loader": [np.full((1, 3, 16, 16), np.nan, np.float32)]},
            ValueError,
            r"batch 1 .* finite",
        ),
        ({"model": nn.ReLU()}, ValueError, "ReLU has no Conv2d or Linear to quantise"),
        ({"model": 3}, TypeError, "expected a module, got int"),
        ({"calibration": "best"}, ValueError, "calibration must be"),
        ({"skip": ("8",)}, None, ""),
        ({"skip": ("conv",)}, ValueError, "skip names no module 'conv'"),
        ({"skip": "0"}, TypeError, "sequence of paths"),
        ({"skip": ("0", "3", "6", "9")}, ValueError, "beside those in skip"),
    ],
)
def test_errors(change, error, match):
    arguments = {"model": network(), "loader": batches(), **change}
    if error is None:
        lucid.quantize(**arguments)
    else:
        with pytest.raises(error, match=match):
            lucid.quantize(**arguments)


def test_values_that_are_not_finite_are_named_with_their_layer():
    model = network()
    model[6].weight.data[0] = np.inf
    with pytest.raises(ValueError, match="quantize: 9: values in calibration are not finite"):
        lucid.quantize(model, batches())


def test_no_second_quantisation():
    small = lucid.quantize(network(), batches())
    with pytest.raises(ValueError, match="is quantised already"):
        lucid.quantize(small, batches())
    with pytest.raises(ValueError, match=r"layer_noise: .* has no quantised layer"):
        quantization.layer_noise(network(), batches())
