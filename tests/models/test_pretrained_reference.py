"""What timm computes from the same weights, as stored results: neither timm nor PyTorch is needed.

``tests/reference`` holds, for weights that ``arrays.py`` rebuilds, timm's logits, stage outputs,
and the loss, gradients and running statistics of one training step.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.models import _timm
from lucid.models._config import read_config
from lucid.models._pretrained import configuration
from tests.reference import arrays

FOLDER = Path(__file__).parents[1] / "reference"
VARIANTS = ["conv_small", "conv_small_050", "conv_medium", "conv_aa_medium", "hybrid_medium"]
TRAINED = ["conv_small", "hybrid_medium"]


@functools.cache
def reference(variant):
    return json.loads((FOLDER / f"mobilenetv4_{variant}.json").read_text())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def write(variant):
        data = reference(variant)
        path = folder / f"{variant}.npz"
        lucid.save({n: arrays.weight(n, tuple(s), data["seed"]) for n, s in data["entries"]}, path)
        return path

    return write


def load(variant, checkpoints, **kwargs):
    return getattr(models, f"mobilenetv4_{variant}")(weights=checkpoints(variant), **kwargs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(variant, checkpoints):
    data = reference(variant)
    model = load(variant, checkpoints).eval()
    assert sum(p.numel() for p in model.parameters()) == data["parameters"]
    with lucid.no_grad():
        logits = model(lucid.tensor(arrays.images(tuple(data["images"]), data["seed"]))).numpy()
    expected = np.array(data["eval"]["logits_first_image"])
    np.testing.assert_allclose(logits[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(
        np.linalg.norm(logits, axis=1), data["eval"]["logits_l2_per_image"], rtol=1e-4
    )
    assert logits.argmax(1).tolist() == data["eval"]["top1"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_stages(variant, checkpoints):
    data = reference(variant)
    model = load(variant, checkpoints, features_only=True, out_indices=(1, 2, 3, 4, 5)).eval()
    with lucid.no_grad():
        maps = model(lucid.tensor(arrays.images(tuple(data["images"]), data["seed"])))
    for output, expected in zip(maps, data["eval"]["stage_outputs"].values()):
        assert list(output.shape) == expected["shape"]
        values = output.numpy().astype(np.float64)
        assert values.mean() == pytest.approx(expected["mean"], rel=1e-3, abs=1e-5)
        assert values.std(ddof=1) == pytest.approx(expected["std"], rel=1e-4)


@pytest.mark.parametrize("dtype", [lucid.float32, lucid.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("variant", TRAINED)
def test_training_step(variant, dtype, checkpoints):
    data, expected = reference(variant), reference(variant)["train"]
    model = load(variant, checkpoints).to(dtype)
    images = lucid.tensor(arrays.images(tuple(data["images"]), data["seed"])).to(dtype)
    labels = arrays.labels(len(images), data["num_classes"])
    assert labels.tolist() == expected["labels"]
    loss = nn.functional.cross_entropy(model(images), lucid.tensor(labels))
    loss.backward()
    assert loss.item() == pytest.approx(expected["cross_entropy"], rel=1e-3)
    modules = _timm.module_names(read_config(configuration(f"mobilenetv4_{variant}")))
    norms = {
        _timm.rename(name, modules): np.linalg.norm(parameter.grad.numpy().astype(np.float64))
        for name, parameter in model.named_parameters()
    }
    assert norms.keys() == expected["grad_l2"].keys()
    # timm's gradients are float32 ones: where a rounding error switches a ReLU they jump. timm
    # itself leaves the stored norms by more than 1e-3 when its convolutions sum in another order:
    # without oneDNN at 13 of 140 parameters (by up to 2.9e-3) and 26 of 344 of the hybrid
    # (4.6e-3), in channels-last memory at 8 (2.4e-3) and 31 (4.2e-3), on one thread at none and 17
    # (2.6e-3), in float64 at 13 (2.9e-3) and 18 (3.0e-3). The hybrid's most sensitive one, which
    # timm without oneDNN misses by 4.6e-3, lucid with OpenBLAS's AVX2 kernels misses by 6.2e-3. So
    # one norm in a hundred gets 1e-2, the others 5e-3, nine in ten 1e-3, and so does that of all.
    # In float64, where no processor's order of sums matters, each gets 5e-3.
    stored = np.array(list(expected["grad_l2"].values()))
    ours = np.array([norms[name] for name in expected["grad_l2"]])
    most = 1e-2 if dtype == lucid.float32 else 5e-3
    np.testing.assert_allclose(ours, stored, rtol=most, atol=1e-4)
    assert np.mean(np.abs(ours - stored) <= 5e-3 * stored + 1e-4) >= 0.99
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(stored), rel=1e-3)
    assert np.mean(np.abs(ours - stored) <= 1e-3 * stored + 1e-4) >= 0.9
    buffers = {_timm.rename(n, modules): b.numpy() for n, b in model.named_buffers()}
    for kind in ("running_mean", "running_var"):
        for name, value in expected[f"{kind}_l2_after"].items():
            assert np.linalg.norm(buffers[name]) == pytest.approx(value, rel=1e-3), name
