"""Networks exported by PyTorch, read by lucid: values and gradients are PyTorch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lucid

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from tests.onnx.exports_torch import export, network  # noqa: E402
from tests.timm_import import import_timm  # noqa: E402

NETWORKS = ["resnet", "mobilenet_v2", "mobilenet_v3", "efficientnet", "vit"]
# The published networks of those kinds, as timm calls them.
PUBLISHED = {
    "resnet18": 64,
    "efficientnet_b0": 64,
    "efficientnet_lite0": 64,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "mobilenetv4_hybrid_medium": 96,
    "vit_tiny_patch16_224": 64,
}
# Exporter by dynamo or not, and the opset; the new exporter has nothing before 18.
SLOW = pytest.mark.slow
EXPORTS = [
    (False, 11),
    (False, 17),
    pytest.param(False, 13, marks=SLOW),
    pytest.param(True, 18, marks=SLOW),
]


def assert_close(result: np.ndarray, expected: torch.Tensor) -> None:
    values = expected.detach().numpy()
    assert np.abs(result - values).max() <= 1e-4 * max(1.0, float(np.abs(values).max()))


def assert_same_values(net: torch.nn.Module, path: Path, size: int) -> None:
    loaded = lucid.onnx.load(path)
    for batch in (1, 3):
        x = torch.randn(batch, 3, size, size)
        with torch.no_grad():
            expected = net(x)
        assert_close(loaded(x.numpy()).data, expected)
        compiled = lucid.compile(loaded, (batch, 3, size, size))
        assert not compiled._runs_as_itself
        assert_close(compiled(x.numpy()), expected)


@pytest.mark.parametrize(("dynamo", "opset"), EXPORTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_those_of_pytorch(tmp_path: Path, name: str, dynamo: bool, opset: int) -> None:
    net, path = network(name), tmp_path / "net.onnx"
    export(net, torch.randn(2, 3, 32, 32), path, opset, dynamo=dynamo)
    assert_same_values(net, path, 32)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_those_of_timm(tmp_path: Path, name: str, dynamo: bool) -> None:
    timm, size = import_timm(), PUBLISHED[name]
    torch.manual_seed(0)
    more = {"img_size": size} if name.startswith("vit") else {}
    net, path = timm.create_model(name, **more).eval(), tmp_path / "net.onnx"
    export(net, torch.randn(2, 3, size, size), path, 18 if dynamo else 17, dynamo=dynamo)
    assert_same_values(net, path, size)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_those_of_pytorch(
    tmp_path: Path, name: str, training: bool
) -> None:
    net, path = network(name), tmp_path / "net.onnx"
    export(net, torch.randn(2, 3, 32, 32), path, 17, dynamo=False, training=True)
    loaded = lucid.onnx.load(path)
    for each in (net, loaded):
        each.train(training)
    x, labels = torch.randn(4, 3, 32, 32), torch.arange(4) % 6
    torch.nn.functional.cross_entropy(net(x), labels).backward()
    lucid.nn.functional.cross_entropy(loaded(x.numpy()), labels.numpy()).backward()
    parameters, expected = dict(loaded.named_parameters()), dict(net.named_parameters())
    assert set(parameters) == set(expected)
    for key, parameter in parameters.items():
        assert parameter.grad is not None, key
        assert_close(parameter.grad.data, expected[key].grad)
    buffers = dict(net.named_buffers())
    for key, buffer in loaded.named_buffers():
        if not key.endswith("num_batches_tracked"):
            assert_close(buffer.data, buffers[key])


@pytest.mark.parametrize("name", NETWORKS)
def test_they_learn(tmp_path: Path, name: str) -> None:
    net, path = network(name), tmp_path / "net.onnx"
    export(net, torch.randn(2, 3, 32, 32), path, 17, dynamo=False)  # batch norms folded
    loaded = lucid.onnx.load(path).train()
    lucid.manual_seed(0)
    x, labels = lucid.randn(8, 3, 32, 32), lucid.arange(8) % 6
    optimizer = lucid.optim.SGD(loaded.parameters(), 0.02)
    losses = []
    for _ in range(10):
        loss = lucid.nn.functional.cross_entropy(loaded(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
