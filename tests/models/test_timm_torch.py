"""Beside timm's models: the same weights give the same logits, features and gradients.

Each test runs against timm itself where it is installed, and against timm's structure written out
in ``torch.nn`` layers.
"""

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.cli import main
from lucid.models import _timm
from lucid.models._config import read_config
from lucid.models._pretrained import VARIANTS, configuration
from tests.reference import arrays

torch = pytest.importorskip("torch")

from tests.timm_import import import_timm  # noqa: E402
from tests.timm_torch import TimmMobileNetV4  # noqa: E402


def by_timm(variant, **kwargs):
    return import_timm().create_model(f"mobilenetv4_{variant}", **kwargs)


@pytest.fixture(params=[by_timm, TimmMobileNetV4], ids=["timm", "torch.nn"])
def build(request):
    return request.param


def pair(build, variant, path, seed=1, num_classes=1000):
    """PyTorch's model with weights made from a seed, and the file that they are in."""
    theirs = build(variant, num_classes=num_classes).eval()
    state = {
        name: arrays.weight(name, tuple(value.shape), seed)
        for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    lucid.save(state, path)
    return theirs


def ours(variant, path, **kwargs):
    return models.create_model(f"mobilenetv4_{variant}", weights=path, **kwargs).eval()


def assert_close(a, b, rtol=1e-4):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_stages(build, variant, tmp_path):
    theirs = pair(build, variant, tmp_path / "w.npz", seed=7)
    images = arrays.images((2, 3, 96, 64), seed=3)
    stages = []
    for stage in theirs.blocks:
        stage.register_forward_hook(lambda module, given, output: stages.append(output.numpy()))
    with torch.no_grad():
        logits = theirs(torch.from_numpy(images)).numpy()
    with lucid.no_grad():
        assert_close(ours(variant, tmp_path / "w.npz")(lucid.tensor(images)).numpy(), logits)
        features = ours(
            variant, tmp_path / "w.npz", features_only=True, out_indices=(1, 2, 3, 4, 5)
        )
        for output, expected in zip(features(lucid.tensor(images)), stages, strict=True):
            assert_close(output.numpy(), expected)


@pytest.mark.parametrize("size", [(33, 50), (70, 224)])
@pytest.mark.parametrize("variant", ["conv_small", "hybrid_medium"])
def test_sizes_that_strides_do_not_divide(build, variant, size, tmp_path):
    theirs = pair(build, variant, tmp_path / "w.npz", num_classes=7)
    images = arrays.images((1, 3, *size))
    with torch.no_grad(), lucid.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
        model = ours(variant, tmp_path / "w.npz", num_classes=7)
        assert_close(model(lucid.tensor(images)).numpy(), expected)


@pytest.mark.parametrize("variant", ["conv_small", "hybrid_medium"])
def test_one_training_step(build, variant, tmp_path):
    """In float64: in float32 a ReLU that a rounding error switches moves gradients by percents."""
    theirs = pair(build, variant, tmp_path / "w.npz", num_classes=10).double().train()
    model = ours(variant, tmp_path / "w.npz", num_classes=10).double().train()
    images, labels = arrays.images((4, 3, 64, 64)).astype(np.float64), arrays.labels(4, 10)
    loss = nn.functional.cross_entropy(
        model(lucid.tensor(images, np.float64)), lucid.tensor(labels)
    )
    loss.backward()
    expected = torch.nn.functional.cross_entropy(
        theirs(torch.from_numpy(images)), torch.from_numpy(labels)
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    modules = _timm.module_names(read_config(configuration(f"mobilenetv4_{variant}")))
    parameters = {_timm.rename(n, modules): p.grad.numpy() for n, p in model.named_parameters()}
    buffers = {_timm.rename(n, modules): b.numpy() for n, b in model.named_buffers()}
    assert parameters.keys() == {name for name, _ in theirs.named_parameters()}
    for name, parameter in theirs.named_parameters():
        gradient = parameter.grad.numpy()
        error = np.linalg.norm(parameters[name] - gradient)
        assert error <= 1e-6 * np.linalg.norm(gradient) + 1e-10, name
    for name, buffer in theirs.named_buffers():
        np.testing.assert_allclose(buffers[name], buffer.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_convert_for_timm(build, variant, tmp_path, capsys):
    safetensors = pytest.importorskip("safetensors.torch")
    model = models.MobileNet_V4(configuration(f"mobilenetv4_{variant}"), 5).eval()
    lucid.save(model.state_dict(), tmp_path / "ours.npz")
    there = tmp_path / "there.safetensors"
    named = ["--model", f"mobilenetv4_{variant}"]  # others may have the same arrays
    assert main(["convert", str(tmp_path / "ours.npz"), str(there), "--to", "timm", *named]) == 0
    assert capsys.readouterr().err == ""
    theirs = build(variant, num_classes=5).eval()
    theirs.load_state_dict(safetensors.load_file(there), strict=True)
    images = arrays.images((1, 3, 64, 32))
    with torch.no_grad(), lucid.no_grad():
        expected = theirs(torch.from_numpy(images)).numpy()
        assert_close(model(lucid.tensor(images)).numpy(), expected)


@pytest.mark.parametrize("variant", ["conv_small", "hybrid_medium"])
def test_convert_the_pages_form_for_timm(build, variant, tmp_path, capsys):
    safetensors = pytest.importorskip("safetensors.torch")
    lucid.save(models.create_model(f"mobilenet_v4_{variant}").state_dict(), tmp_path / "ours.npz")
    there = tmp_path / "there.safetensors"
    assert main(["convert", str(tmp_path / "ours.npz"), str(there), "--to", "timm"]) == 0
    assert "computes something else" in capsys.readouterr().err
    build(variant).load_state_dict(safetensors.load_file(there), strict=True)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_image_channels_are_adapted_as_timm_does(channels, tmp_path):
    timm = import_timm()
    theirs = pair(by_timm, "conv_small", tmp_path / "w.npz")
    expected = timm.models.adapt_input_conv(channels, theirs.conv_stem.weight.detach()).numpy()
    model = ours("conv_small", tmp_path / "w.npz", in_channels=channels)
    np.testing.assert_allclose(model.conv0.convbn_0.conv.weight.detach().numpy(), expected, 1e-6)
