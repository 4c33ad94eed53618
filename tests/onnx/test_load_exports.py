"""Files that lucid wrote, read again: nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn

from .runtimes import RUNTIMES, images, trained

onnx = pytest.importorskip("onnx")


def values(model: Any, x: np.ndarray) -> np.ndarray:
    """Return the outputs in float64, in which rounding does not count."""
    with lucid.no_grad():
        return model.double()(lucid.tensor(x, dtype=np.float64)).data


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a - b).max() <= 1e-6 * max(1.0, np.abs(a).max())


NAMES = [
    "mobilenetv4_conv_small_035",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mobilenet_v4_hybrid_medium", "mobilenetv4_conv_aa_medium")
    ),
]


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("name", NAMES)
def test_an_import_of_an_export_is_the_model(tmp_path: Path, name: str, fold: bool) -> None:
    lucid.manual_seed(0)
    model = trained(models.create_model(name, num_classes=7)).eval()
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    lucid.onnx.export(model, first, (1, 3, 64, 96), fold_batch_norm=fold)
    net = lucid.onnx.load(first)
    lucid.onnx.export(net, second, (1, 3, 64, 96), fold_batch_norm=fold)
    x = images((3, 3, 64, 96))
    if not fold:
        state = model.state_dict()
        assert list(net.state_dict()) == list(state)
        for key, value in net.state_dict().items():  # a layer scale's axes may be others
            assert (
                key.endswith("num_batches_tracked")
                or value.tolist() == state[key].reshape(value.shape).tolist()
            )
    again = lucid.onnx.load(second)
    assert_same(values(net, x), values(again, x))
    if not fold:  # folded weights are rounded to float32
        assert_same(values(model, x), values(net, x))


def test_the_description_is_kept(tmp_path: Path) -> None:
    model = models.mobilenetv4_conv_small_035(3).eval()
    given = {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3), "crop_pct": 0.9}
    lucid.onnx.export(
        model, tmp_path / "a.onnx", (1, 3, 64, 96), preprocessing=given, classes=["a", "b", "c"]
    )
    net = lucid.onnx.load(tmp_path / "a.onnx")
    assert net.pretrained_cfg is not None
    assert given.items() <= net.pretrained_cfg.items()
    assert net.pretrained_cfg["classes"] == ["a", "b", "c"]
    assert net.pretrained_cfg["input_size"] == (3, 64, 96)
    assert net.name == "mobilenetv4_conv_small_035"
    lucid.onnx.export(net, tmp_path / "b.onnx", (1, 3, 64, 96))
    assert lucid.onnx.load(tmp_path / "b.onnx").pretrained_cfg == net.pretrained_cfg


def test_rounding_to_integers_comes_back_and_passes_gradients(tmp_path: Path) -> None:
    lucid.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(144, 5)
    ).eval()
    quantized = lucid.quantize(net, [lucid.tensor(images((4, 3, 8, 8)))])
    lucid.onnx.export(quantized, tmp_path / "int8.onnx", (1, 3, 8, 8))
    loaded = lucid.onnx.load(tmp_path / "int8.onnx")
    x = images((3, 3, 8, 8), 1)
    np.testing.assert_allclose(loaded(x).data, quantized(x).data, atol=1e-6)
    loaded(x).sum().backward()
    for name, parameter in loaded.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.data.any(), name
    # Exported again, it is the same file: integers, under the same names.
    lucid.onnx.export(loaded, tmp_path / "again.onnx", (1, 3, 8, 8))
    files = [onnx.load(tmp_path / f"{name}.onnx") for name in ("int8", "again")]
    assert_same_integers(*files)
    assert [node.op_type for node in files[0].graph.node] == [
        node.op_type for node in files[1].graph.node
    ]
    first, second = (RUNTIMES["onnxruntime"](tmp_path / f"{n}.onnx")(x) for n in ("int8", "again"))
    np.testing.assert_array_equal(first, second)


def assert_same_integers(one: Any, other: Any) -> None:
    stored = [
        {
            each.name: onnx.numpy_helper.to_array(each)
            for each in file.graph.initializer
            if each.name.endswith(("weight", "bias"))
        }
        for file in (one, other)
    ]
    assert stored[0].keys() == stored[1].keys()
    for name, array in stored[0].items():
        assert array.dtype.kind == "i"
        np.testing.assert_array_equal(array, stored[1][name])


@pytest.mark.parametrize(
    ("activations", "weights", "per_channel"),
    [("QUInt8", "QInt8", True), ("QUInt8", "QUInt8", False), ("QInt8", "QInt8", True)],
)
def test_what_onnx_runtime_quantised(
    tmp_path: Path, activations: str, weights: str, per_channel: bool
) -> None:
    tools = pytest.importorskip("onnxruntime.quantization")
    lucid.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(144, 5)
    ).eval()
    x = images((4, 3, 8, 8))
    plain, small, again = (tmp_path / f"{name}.onnx" for name in ("plain", "small", "again"))
    lucid.onnx.export(net, plain, (1, 3, 8, 8))

    class Reader(tools.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = [{"image": x}]

        def get_next(self) -> Any:
            return self.rest.pop() if self.rest else None

    kinds = {
        "activation_type": getattr(tools.QuantType, activations),
        "weight_type": getattr(tools.QuantType, weights),
    }
    tools.quantize_static(plain, small, Reader(), per_channel=per_channel, **kinds)
    (expected,) = RUNTIMES["onnxruntime"](small)(x)
    loaded = lucid.onnx.load(small)
    close = {"rtol": 0, "atol": 0.02 * np.abs(expected).max()}  # two steps of rounding
    np.testing.assert_allclose(loaded(x).data, expected, **close)
    lucid.onnx.export(loaded, again, (1, 3, 8, 8))
    np.testing.assert_allclose(RUNTIMES["onnxruntime"](again)(x)[0], expected, **close)
    assert again.stat().st_size < 1.2 * small.stat().st_size
