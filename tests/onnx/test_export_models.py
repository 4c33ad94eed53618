"""Models of the zoo, and random ones, as ONNX files run elsewhere: the outputs are lucid's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lucid
import lucid.nn.functional as F  # noqa: N812
from lucid import models, nn

from .runtimes import RUNTIMES, assert_close, calibrated, evaluated, images, trained

pytest.importorskip("onnx")

SMALL = ("mobilenetv4_conv_small_035", "mobilenet_v4_conv_small")


def check(
    model: nn.Module,
    folder: Path,
    shape: tuple[int, ...],
    runtimes: tuple[str, ...] = ("onnxruntime",),
    **options: Any,
) -> None:
    """Export, and compare a batch of 1 and one of 5."""
    path = folder / "model.onnx"
    lucid.onnx.export(model, path, (1, *shape), **options)
    inputs = [images((batch, *shape)) for batch in (1, 5)]
    expected = [evaluated(model, x) for x in inputs]
    for name in runtimes:
        run = RUNTIMES[name](path)
        for x, y in zip(inputs, expected):
            assert_close(run(x)[0], y)


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("name", SMALL)
def test_a_small_model(tmp_path: Path, name: str, fold: bool) -> None:
    lucid.manual_seed(0)
    model = trained(models.create_model(name))
    check(model, tmp_path, (3, 64, 96), ("onnxruntime", "openvino"), fold_batch_norm=fold)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_every_model_in_every_runtime(tmp_path: Path, name: str) -> None:
    lucid.manual_seed(0)
    model = calibrated(trained(models.create_model(name)), (8, 3, 96, 96))
    check(model, tmp_path, (3, 64, 96), ("onnxruntime", "openvino", "reference"))
    check(model, tmp_path, (3, 96, 64), ("onnxruntime", "openvino"), fold_batch_norm=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_every_model_takes_any_size(tmp_path: Path, name: str) -> None:
    lucid.manual_seed(0)
    model = calibrated(trained(models.create_model(name, num_classes=10)), (8, 3, 96, 96))
    path = tmp_path / "model.onnx"
    lucid.onnx.export(model, path, (1, 3, 64, 96), dynamic_size=True)
    inputs = [images(shape) for shape in ((1, 3, 64, 96), (5, 3, 96, 64), (2, 3, 131, 77))]
    expected = [evaluated(model, x) for x in inputs]
    for name in ("onnxruntime", "openvino"):
        run = RUNTIMES[name](path)
        for x, y in zip(inputs, expected):
            assert_close(run(x)[0], y)


# -- random configurations ------------------------------------------------------------------------


def configuration(rng: random.Random) -> dict[str, Any]:
    """Return a small random configuration of MobileNet_V4: any block, with any of its options."""
    channels = rng.choice([3, 3, 1])
    cfg = {}
    names = ["conv0", "layer1", "layer2", "layer3", "layer4", "layer5"]
    for name in names:
        kind = "convbn" if name == "conv0" else rng.choice(["convbn", "uib", "uib", "fused_ib"])
        specs = []
        for index in range(1 if name == "conv0" else rng.choice([1, 2])):
            out = rng.choice([8, 16, 24])
            stride = 2 if index == 0 and name in ("conv0", "layer2", "layer4") else 1
            specs.append(
                _block(rng, kind, channels, channels if rng.random() < 0.4 else out, stride)
            )
            channels = specs[-1]["out"]
        cfg[name] = {"block_name": kind, "num_blocks": len(specs), "block_specs": specs}
        if rng.random() < 0.5:
            cfg[name]["act"] = rng.choice(["relu6", "relu", "gelu", "silu", "hardswish"])
        if kind == "uib" and rng.random() < 0.3:
            cfg[name]["layer_scale"] = 0.5
        if rng.random() < 0.3:
            cfg[name]["aa"] = rng.choice(["avg", "blur"])
    return cfg


def _block(rng: random.Random, kind: str, channels: int, out: int, stride: int) -> dict[str, Any]:
    block: dict[str, Any] = {"in": channels, "out": out, "stride": stride}
    if kind == "convbn":
        return {**block, "kernel": rng.choice([1, 3, 5])}
    if kind == "fused_ib":
        return {**block, "expand": rng.choice([2, 4]), "act": rng.random() < 0.5}
    block |= {
        "expand": rng.choice([1, 2, 3.5]),
        "start_dw_kernel": rng.choice([0, 3, 5]) if stride == 1 else 3,
        "mid_dw_kernel": rng.choice([0, 3, 5]),
        "mid_dw_downsample": rng.random() < 0.5,
    }
    if rng.random() < 0.5:
        block["attention"] = {
            "num_heads": rng.choice([1, 2, 3]),
            "key_dim": rng.choice([4, 8]),
            "value_dim": rng.choice([4, 8]),
            "query_h_stride": rng.choice([1, 1, 2]),
            "query_w_stride": rng.choice([1, 1, 2]),
            "kv_stride": rng.choice([1, 2]),
            "use_layer_scale": rng.random() < 0.5,
            "use_multi_query": rng.random() < 0.5,
            "use_residual": rng.random() < 0.5,
        }
    return block


def _check_random(folder: Path, seed: int, runtimes: tuple[str, ...]) -> None:
    rng = random.Random(seed)
    lucid.manual_seed(seed)
    model = trained(models.MobileNet_V4(configuration(rng), num_classes=7), seed)
    shape = (model.in_channels, rng.choice([32, 40, 47]), rng.choice([24, 33, 56]))
    check(model, folder, shape, runtimes, fold_batch_norm=rng.random() < 0.7)


@pytest.mark.parametrize("seed", range(10))
def test_random_configurations(tmp_path: Path, seed: int) -> None:
    _check_random(tmp_path, seed, ("onnxruntime",))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_random_configurations_in_every_runtime(tmp_path: Path, seed: int) -> None:
    _check_random(tmp_path, seed, ("onnxruntime", "openvino", "reference"))


# -- random networks ------------------------------------------------------------------------------


class Residual(nn.Module):
    """A layer whose input is added to its output, or joined with it."""

    def __init__(self, inner: nn.Module, joins: bool) -> None:
        super().__init__()
        self.inner, self.joins = inner, joins

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        y = self.inner(x)
        return lucid.cat([x, y], 1) if self.joins else x + y


class Tokens(nn.Module):
    """Attention between the places of a map, with layer norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        n, c, h, w = x.shape
        rows = self.norm(x.flatten(2).transpose(1, 2))
        y, _ = self.attention(rows, rows, rows, need_weights=False)
        return x + y.transpose(1, 2).reshape(n, c, h, w)


def network(rng: random.Random) -> nn.Module:
    """Return a classifier of random layers for images of 3 channels."""
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(rng.randint(3, 7)):
        out = rng.choice([4, 8, 12])
        groups = rng.choice([g for g in (1, 2, 4) if channels % g == out % g == 0])
        kernel, stride = rng.choice([1, 3, (3, 5)]), rng.choice([1, 1, 2])
        # OpenVINO drops the padding of a 1×1 convolution with a stride.
        pad: Any = 0 if kernel == 1 else rng.choice([(1, 2), 2])
        layers += [
            nn.Conv2d(channels, out, kernel, stride, pad, groups=groups, bias=rng.random() < 0.5)
        ]
        channels = out
        layers += rng.choice(
            [
                [],
                [nn.BatchNorm2d(out)],
                [nn.GroupNorm(2, out)],
                [nn.InstanceNorm2d(out, affine=True)],
            ]
        )
        layers += [rng.choice([
            nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(),
            nn.LeakyReLU(0.1), nn.PReLU(out), nn.ELU(0.5), nn.Mish(), nn.Softplus(), nn.Tanh(),
            nn.Sigmoid(),
        ])]  # fmt: skip
        layers += rng.choice([
            [], [], [nn.MaxPool2d(3, 2, 1)], [nn.AvgPool2d(2, ceil_mode=True)],
            [nn.AvgPool2d(3, 2, 1, count_include_pad=False)], [nn.Dropout(0.5)], [Tokens(out, 2)],
            [Residual(nn.Conv2d(out, out, 3, 1, 1), joins=False)],
        ])  # fmt: skip
        if rng.random() < 0.2:
            layers += [Residual(nn.Sequential(nn.Conv2d(out, 4, 1), nn.BatchNorm2d(4)), joins=True)]
            channels += 4
    head = rng.choice(
        [[nn.AdaptiveAvgPool2d(1), nn.Flatten()], [nn.AdaptiveAvgPool2d(2), nn.Flatten()]]
    )
    features = channels * (1 if head[0].output_size == 1 else 4)
    return nn.Sequential(*layers, *head, nn.Linear(features, 5))


class Recurrent(nn.Module):
    """The last result of an LSTM of two layers, in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Sampled(nn.Module):
    """Images sampled at places that are learned, or computed of the images themselves."""

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.places = nn.Parameter(lucid.tensor([[[0.7, 0.2, 0.1], [-0.3, 0.8, 0.0]]]))
        self.head = None if learned else nn.Linear(75, 6)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        places = self.places.expand(x.shape[0], 2, 3)
        if self.head is not None:
            places = self.head(x.flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(places, x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


EXPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "LSTM": (Recurrent, (7, 6), True),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), True),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), (3, 6, 5), True),
    "pooled volumes": (lambda: nn.MaxPool3d(3, 2, 1, ceil_mode=True), (3, 6, 5, 4), True),
    "shrunk": (lambda: nn.Sequential(nn.Hardshrink(), nn.Threshold(0.6, 2.0)), (3, 4), True),
    "sampled": (lambda: Sampled(True), (3, 5, 5), False),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_other_layers(tmp_path: Path, name: str) -> None:
    lucid.manual_seed(0)
    make, shape, dynamic = EXPORTED[name]
    model = make().eval()
    x = images((5, *shape))
    assert_close(lucid.compile(model, x.shape)(x), evaluated(model, x))
    if dynamic:
        check(model, tmp_path, shape)
        return
    lucid.onnx.export(model, tmp_path / "model.onnx", x.shape, dynamic_batch=False)
    assert_close(RUNTIMES["onnxruntime"](tmp_path / "model.onnx")(x)[0], evaluated(model, x))
    with pytest.raises(lucid.onnx.ExportError, match="in the model itself GetItem takes elements"):
        lucid.onnx.export(model, tmp_path / "any.onnx", x.shape)
    assert not (tmp_path / "any.onnx").exists()


def test_what_reads_values_is_named_and_compiles(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU(), Sampled(False)).eval()
    x = images((2, 3, 5, 5))
    assert_close(lucid.compile(model, x.shape)(x), evaluated(model, x))
    with pytest.raises(lucid.onnx.ExportError, match=r"in '1' values are read .* in grid_sample"):
        lucid.onnx.export(model, tmp_path / "model.onnx", x.shape)
    assert not any(tmp_path.iterdir())


def _check_network(folder: Path, seed: int, runtimes: tuple[str, ...]) -> None:
    rng = random.Random(seed)
    lucid.manual_seed(seed)
    model = trained(network(rng), seed)
    check(model, folder, (3, 61, 70), runtimes, fold_batch_norm=rng.random() < 0.7)


@pytest.mark.parametrize("seed", range(2, 4))
def test_random_networks(tmp_path: Path, seed: int) -> None:
    _check_network(tmp_path, seed, ("onnxruntime",))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_random_networks_in_every_runtime(tmp_path: Path, seed: int) -> None:
    _check_network(tmp_path, seed, ("onnxruntime", "openvino", "reference"))
