"""Every ``>>>`` example of a docstring prints what it says, on each backend."""

from __future__ import annotations

import doctest
import importlib
import inspect
from typing import Any

import pytest

import lucid
from lucid import kernels
from tests.docs.docstrings import docstrings_with
from tests.docs.test_docstrings import MODULES

#: What the examples take as given, as docs/reference/index.rst says.
GIVEN = """
import numpy as np
import lucid
from lucid import data, distributed, models, nn, optim, quantization, report, training, visual
from lucid.nn import functional as F
"""

#: The main classes of each public module, and main functions where it has no classes. Each shows
#: what it does in two examples or more that print something.
MAIN = {
    "lucid": ["Tensor", "compile"],
    "lucid.autograd": ["Function", "gradcheck", "no_grad"],
    "lucid.graph": ["trace"],
    "lucid.linalg": ["norm", "solve"],
    "lucid.nn": [
        "BatchNorm2d",
        "Conv2d",
        "CrossEntropyLoss",
        "Dropout",
        "Embedding",
        "LayerNorm",
        "Linear",
        "MSELoss",
        "MaxPool2d",
        "Module",
        "ModuleList",
        "MultiheadAttention",
        "Parameter",
        "ReLU",
        "Sequential",
    ],
    "lucid.nn.functional": ["cosine_similarity", "normalize"],
    "lucid.nn.init": ["calculate_gain", "kaiming_uniform_"],
    "lucid.nn.utils": ["clip_grad_norm_", "parameters_to_vector"],
    "lucid.nn.utils.parametrizations": [],
    "lucid.nn.utils.parametrize": [],
    "lucid.nn.utils.rnn": ["pack_padded_sequence"],
    "lucid.optim": ["AdamW", "SGD"],
    "lucid.optim.lr_scheduler": ["CosineAnnealingLR", "SequentialLR", "StepLR"],
    "lucid.optim.swa_utils": ["AveragedModel"],
    "lucid.models": ["MobileNet_V4", "create_model", "list_models"],
    "lucid.models.configs": ["conv_small", "timm"],
    "lucid.data": [
        "DataLoader",
        "Subset",
        "TensorDataset",
        "hold_out",
        "load_images",
        "random_split",
    ],
    "lucid.data.datasets": ["ImageFolder", "digits"],
    "lucid.data.transforms": ["Compose", "Normalize", "ToTensor"],
    "lucid.distributed": ["DistributedOptimizer"],
    "lucid.training": ["Recipe", "Run", "Score", "decay_groups", "evaluate", "fit"],
    "lucid.report": ["write_report"],
    "lucid.visual": ["gradcam", "mermaid", "summary", "svg"],
    "lucid.onnx": ["export"],
    "lucid.quantization": ["quantize"],
    "lucid.sklearn": ["ImageClassifier", "ImageFeatures"],
    "lucid.special": [],
    "lucid.web": [],
}

#: Examples that need a package which lucid can do without.
EXTRAS = {
    "lucid.data.datasets.ImageFolder": "PIL",
    "lucid.data._load_images.load_images": "sklearn",
    "lucid.data.datasets.digits": "sklearn",
    "lucid.training._evaluation.Evaluation.measure": "sklearn",
    "lucid.training._run.Run": "sklearn",
    "lucid.report._report.write_run_report": "sklearn",
    "lucid.onnx._export.export": "onnx",
}

DOCSTRINGS = docstrings_with(">>>")


@pytest.fixture(params=kernels.available_backends())
def backend(request):
    before = kernels.get_backend()
    kernels.set_backend(request.param)
    yield
    kernels.set_backend(before)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("path", DOCSTRINGS)
def test_example(path, tmp_path, monkeypatch):
    if path in EXTRAS:
        pytest.importorskip(EXTRAS[path])
    monkeypatch.chdir(tmp_path)
    lucid.manual_seed(0)
    names: dict[str, Any] = {}
    exec(GIVEN, names)
    test = doctest.DocTestParser().get_doctest(DOCSTRINGS[path][1], names, path, None, None)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("path", [f"{module}.{name}" for module in MAIN for name in MAIN[module]])
def test_main_class_has_examples(path):
    module, _, name = path.rpartition(".")
    text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    printing = [one for one in doctest.DocTestParser().get_examples(text) if one.want]
    assert len(printing) >= 2, f"{path} has {len(printing)} examples that print something"


def test_every_public_module_is_named():
    assert set(MAIN) == set(MODULES)
