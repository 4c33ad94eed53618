"""Whole networks: near to floating point, small as files, and the same numbers elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.models import _timm
from lucid.models._config import read_config
from lucid.models._pretrained import configuration
from tests.onnx.runtimes import RUNTIMES
from tests.quantization.test_quantize import cosine, evaluated
from tests.reference import arrays

# Large ones take a minute each.
SMALL = ["conv_small"]
LARGE = ["conv_medium", "conv_aa_medium", "hybrid_medium", "conv_large", "hybrid_large"]
VARIANTS = [*SMALL, *[pytest.param(name, marks=pytest.mark.slow) for name in LARGE]]


def rebuilt(variant):
    """Return a variant with weights that depend on their names alone."""
    name = f"mobilenetv4_{variant}"
    model = models.create_model(name)
    modules = _timm.module_names(read_config(configuration(name)))
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        tensor.data[...] = arrays.weight(_timm.rename(path, modules), tensor.shape)
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    *images, held_out = [lucid.tensor(arrays.images((8, 3, 128, 128), seed)) for seed in range(3)]
    model = rebuilt(variant)
    small = lucid.quantize(model, images)
    exact, found = evaluated(model, held_out), evaluated(small, held_out)
    assert cosine(exact, found) >= 0.99
    for name, each in (("plain", model), ("small", small)):
        lucid.onnx.export(each, tmp_path / f"{name}.onnx", held_out.shape)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("small", "plain")]
    assert sizes[0] <= 0.28 * sizes[1]
    # With all its optimisations, which replace most nodes by some of integers.
    (elsewhere,) = RUNTIMES["onnxruntime"](tmp_path / "small.onnx")(held_out.numpy())
    assert (elsewhere.argmax(1) == found.argmax(1)).mean() >= 0.99
    step = float(small.classifier.input_quantizer.scale.numpy())
    assert (np.abs(elsewhere - found) <= step).mean() >= 0.999
