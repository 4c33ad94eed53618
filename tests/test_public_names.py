"""What `import lucid` gives, and what it must not bring along."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lucid

ROOT = Path(__file__).resolve().parents[1]
#: PyTorch's public names, which the documentation compares with lucid's.
TORCH = json.loads((ROOT / "docs" / "_ext" / "torch_names.json").read_text(encoding="utf-8"))

# What lucid has beside PyTorch's names.
LUCIDS = [
    "accelerator", "astype", "autograd", "available_backends", "channels_last", "contiguous",
    "contiguous_format", "cuda", "data", "distributed", "expand", "expand_as", "get_backend",
    "kernels", "linalg", "models", "nn", "onnx", "ops", "optim", "pad", "quantization", "quantize",
    "repeat", "report", "set_backend", "sklearn", "special", "summary", "training", "utils",
    "visual", "warm_up",
]  # fmt: skip
LUCIDS_OPERATIONS = [
    "astype", "contiguous", "expand", "expand_as", "repeat", "size", "view_as",
]  # fmt: skip
# Attributes of PyTorch's that its documentation does not list are among these.
LUCIDS_OF_TENSORS = [
    "astype", "clamp_max", "clamp_max_", "clamp_min", "clamp_min_", "data", "dtype", "grad_fn",
    "is_nonzero", "is_same_size", "log_softmax", "relu", "relu_",
    "split_with_sizes",
]  # fmt: skip

EXTRAS = [
    "llvmlite", "torch", "PIL", "sklearn", "tqdm", "rich", "safetensors", "huggingface_hub",
    "matplotlib", "onnx", "scipy",
]  # fmt: skip


def _public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_names_that_are_not_pytorchs_are_known() -> None:
    public = _python("import lucid; print(*[n for n in dir(lucid) if not n.startswith('_')])")
    assert sorted({*public.split()} - TORCH["torch"].keys()) == LUCIDS
    known = TORCH["torch"].keys() | TORCH["torch.nn.functional"].keys()
    assert sorted(_public(lucid.ops) - known) == LUCIDS_OPERATIONS
    assert sorted(_public(lucid.Tensor) - TORCH["torch.Tensor"].keys()) == LUCIDS_OF_TENSORS


def test_every_name_is_there_and_documented() -> None:
    for name in _public(lucid):
        value = getattr(lucid, name)
        assert not inspect.isroutine(value) or value.__doc__, name


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'lucid' has no attribute 'nonsense'"):
        _ = lucid.nonsense  # type: ignore[attr-defined]


def test_import_brings_no_extra() -> None:
    loaded = _python(
        "import sys, lucid, lucid.nn, lucid.optim, lucid.models, lucid.data, lucid.visual\n"
        f"print(*[name for name in {EXTRAS!r} if name in sys.modules])"
    )
    assert loaded.split() == []


def test_dtypes_are_numpys() -> None:
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"):
        assert getattr(lucid, name) == np.dtype(name)
    assert lucid.bool == np.dtype(bool)
    assert isinstance(lucid.zeros(1).dtype, lucid.dtype)


def test_other_names_of_dtypes_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name in ("half", "float", "double", "short", "int", "long"):
        assert f"torch.{getattr(lucid, name)}" == str(getattr(torch, name))
    for name in ("e", "inf", "nan", "pi", "newaxis"):
        np.testing.assert_equal(getattr(lucid, name), getattr(torch, name))
