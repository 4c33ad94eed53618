"""A quantised model as a file: integers in it, and other runtimes compute the same."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import models, nn
from tests.onnx.runtimes import RUNTIMES
from tests.quantization.test_quantize import batches, evaluated, network

onnx = pytest.importorskip("onnx")


def exported(model, path, images):
    lucid.onnx.export(model, path, images.shape)
    return onnx.load(path)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.SiLU])
@pytest.mark.parametrize("per_channel", [True, False])
def test_runtimes_compute_the_same(runtime, act, per_channel, tmp_path):
    model, images = network(act), batches()
    small = lucid.quantize(model, images, per_channel=per_channel)
    path = tmp_path / "small.onnx"
    # ONNX's own evaluator knows these operators from opset 19 on.
    opset = 21 if runtime == "reference" else None
    lucid.onnx.export(small, path, images[0].shape, opset=opset)
    x = images[0].numpy()
    (found,) = RUNTIMES[runtime](path)(x)
    scale = float(small[9].input_quantizer.scale.numpy())
    expected = evaluated(small, images[0])
    assert (np.abs(found - expected) <= scale).mean() >= 0.999
    if act is not nn.SiLU:  # all sums are exact, but for those of the mean over the positions
        np.testing.assert_allclose(found, expected, atol=0.1 * scale)


def test_what_the_file_holds(tmp_path):
    model, images = network(), batches()
    file = exported(lucid.quantize(model, images), tmp_path / "small.onnx", images[0])
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in file.graph.initializer}
    for name in ("0", "3", "6", "9"):
        assert arrays[f"{name}.weight"].dtype == np.int8
        assert arrays[f"{name}.bias"].dtype == np.int32
    kinds = [node.op_type for node in file.graph.node]
    assert kinds.count("QuantizeLinear") == 4
    assert "BatchNormalization" not in kinds
    # The runtimes take a ReLU into the convolution before it where the rounding is behind both.
    makers = {node.output[0]: node for node in file.graph.node}
    rounded = [makers.get(node.input[0]) for node in file.graph.node if "Quant" in node.op_type[:5]]
    assert [node.op_type for node in rounded if node is not None].count("Relu") == 2


def test_what_several_layers_read_is_rounded_once(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.a(x) + self.b(x)

    images = batches()
    file = exported(lucid.quantize(Both(), images), tmp_path / "both.onnx", images[0])
    readers = [node for node in file.graph.node if "image" in node.input]
    assert [node.op_type for node in readers] == ["QuantizeLinear"]


def test_a_sum_of_integers_rounds_as_onnx_runtimes(tmp_path):
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (
                nn.Conv2d(3, 8, 1),
                nn.Conv2d(3, 8, 3, 1, 1),
                nn.Conv2d(8, 4, 1),
            )

        def forward(self, x):
            return self.c(self.a(x) + self.b(x))

    lucid.manual_seed(0)
    images = batches((8, 3, 32, 32))
    small = lucid.quantize(Sums(), images)
    exported(small, tmp_path / "sums.onnx", images[0])
    (found,) = RUNTIMES["onnxruntime"](tmp_path / "sums.onnx")(images[0].numpy())
    np.testing.assert_array_equal(found, evaluated(small, images[0]))


def test_a_mobilenet_is_a_quarter_of_its_size(tmp_path):
    pytest.importorskip("onnxruntime")
    model = models.create_model("mobilenetv4_conv_small").eval()
    images = lucid.tensor(np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32))
    for name, each in (("plain", model), ("small", lucid.quantize(model, [images]))):
        lucid.onnx.export(each, tmp_path / f"{name}.onnx", images.shape)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("small", "plain")]
    assert sizes[0] <= 0.28 * sizes[1]
    (found,) = RUNTIMES["onnxruntime"](tmp_path / "small.onnx")(images.numpy())
    expected = evaluated(each, images)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
