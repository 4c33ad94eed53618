"""Models of the zoo as ONNX files, run elsewhere: the outputs are lucid's."""

from __future__ import annotations

from pathlib import Path

import pytest

import lucid
from lucid import models

from .runtimes import RUNTIMES, assert_close, evaluated, images, trained

pytest.importorskip("onnx")


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "kept"])
@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_035", "mobilenet_v4_conv_small"])
def test_a_small_model_is_the_same_in_onnx_runtime(tmp_path: Path, name: str, fold: bool) -> None:
    lucid.manual_seed(0)
    model = trained(models.create_model(name))
    path = tmp_path / "model.onnx"
    lucid.onnx.export(model, path, (1, 3, 64, 96), fold_batch_norm=fold)
    for batch in (1, 5):
        x = images((batch, 3, 64, 96))
        (found,) = RUNTIMES["onnxruntime"](path, x)
        assert_close(found, evaluated(model, x))
