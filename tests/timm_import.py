"""timm's models without torchvision.

timm imports torchvision for image transforms and data sets as soon as any model is imported, and
the models use none of it. Where torchvision is missing (its wheels want CUDA's PyTorch), empty
classes of the names that timm imports stand in for it, only while timm is imported; timm's own
code runs unchanged, and using one of them would fail.
"""

from __future__ import annotations

import enum
import importlib.util
import sys
import types
import warnings
from typing import Any

import pytest

_MODULES = {
    "torchvision": "",
    "torchvision.transforms": "ToTensor",
    "torchvision.transforms.functional": "",
    "torchvision.datasets": "CIFAR100 CIFAR10 MNIST KMNIST FashionMNIST ImageFolder",
    "torchvision.ops": "",
    "torchvision.ops.misc": "FrozenBatchNorm2d",
}


class _InterpolationMode(enum.Enum):
    NEAREST = 0
    BILINEAR = 1
    BICUBIC = 2
    BOX = 3
    HAMMING = 4
    LANCZOS = 5


def import_timm() -> Any:
    """Return the package timm, or skip the test if it is not installed."""
    if importlib.util.find_spec("torchvision") is not None:
        return pytest.importorskip("timm")
    for name, classes in _MODULES.items():
        module = types.ModuleType(name)
        for entry in classes.split():
            setattr(module, entry, type(entry, (), {}))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    functional = sys.modules["torchvision.transforms.functional"]
    functional.InterpolationMode = _InterpolationMode  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("timm")
    finally:
        for name in _MODULES:
            del sys.modules[name]
