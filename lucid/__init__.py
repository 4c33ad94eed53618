"""Lucid: a deep-learning library on NumPy, with a MobileNetV4 model zoo."""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

import numpy as _np

from lucid import autograd as autograd
from lucid import ops as ops
from lucid._check import name_errors as _name_errors
from lucid._random import manual_seed as manual_seed
from lucid._version import __version__ as __version__
from lucid.autograd import Tensor as Tensor
from lucid.autograd import enable_grad as enable_grad
from lucid.autograd import inference_mode as inference_mode
from lucid.autograd import is_grad_enabled as is_grad_enabled
from lucid.autograd import no_grad as no_grad
from lucid.autograd import set_grad_enabled as set_grad_enabled
from lucid.autograd._device import device as device
from lucid.kernels import available_backends as available_backends
from lucid.kernels import get_backend as get_backend
from lucid.kernels import get_num_threads as get_num_threads
from lucid.kernels import set_backend as set_backend
from lucid.kernels import set_num_threads as set_num_threads
from lucid.kernels import warm_up as warm_up
from lucid.ops._activation import log_softmax as log_softmax
from lucid.ops._activation import relu as relu
from lucid.ops._activation import softmax as softmax
from lucid.ops._attributes import *
from lucid.ops._create import *
from lucid.ops._diagonal import *
from lucid.ops._dtypes import *
from lucid.ops._elementwise import *
from lucid.ops._gather import *
from lucid.ops._index import *
from lucid.ops._join import *
from lucid.ops._linalg import *
from lucid.ops._matmul import *
from lucid.ops._random import *
from lucid.ops._reduce import *
from lucid.ops._scan import *
from lucid.ops._scatter import *
from lucid.ops._search import *
from lucid.ops._shape import *
from lucid.ops._statistics import *

_name_errors(globals(), "lucid.ops")

float16 = _np.dtype(_np.float16)
float32 = _np.dtype(_np.float32)
float64 = _np.dtype(_np.float64)
int8 = _np.dtype(_np.int8)
int16 = _np.dtype(_np.int16)
int32 = _np.dtype(_np.int32)
int64 = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
bool = _np.dtype(_np.bool_)
dtype = _np.dtype

# What PyTorch calls them too, and its numbers.
half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
# Orders in memory, which are without effect: that of images is always channels last.
channels_last, contiguous_format = "channels_last", "contiguous_format"
e, inf, nan, pi, newaxis = _np.e, _np.inf, _np.nan, _np.pi, _np.newaxis
finfo, iinfo = _np.finfo, _np.iinfo

# Loaded when first used, so that `import lucid` stays quick: name -> where it is.
_LAZY = {
    "accelerator": "lucid.accelerator",
    "compile": "lucid._compile:compile",
    "cuda": "lucid.cuda",
    "data": "lucid.data",
    "distributed": "lucid.distributed",
    "linalg": "lucid.linalg",
    "load": "lucid._files:load",
    "models": "lucid.models",
    "nn": "lucid.nn",
    "onnx": "lucid.onnx",
    "optim": "lucid.optim",
    "quantization": "lucid.quantization",
    "quantize": "lucid.quantization:quantize",
    "report": "lucid.report",
    "save": "lucid._files:save",
    "sklearn": "lucid.sklearn",
    "special": "lucid.special",
    "summary": "lucid.visual:summary",
    "training": "lucid.training",
    "utils": "lucid.utils",
    "visual": "lucid.visual",
}

if _TYPE_CHECKING:
    from lucid import accelerator as accelerator
    from lucid import cuda as cuda
    from lucid import data as data
    from lucid import distributed as distributed
    from lucid import linalg as linalg
    from lucid import models as models
    from lucid import nn as nn
    from lucid import onnx as onnx
    from lucid import optim as optim
    from lucid import quantization as quantization
    from lucid import report as report
    from lucid import sklearn as sklearn
    from lucid import special as special
    from lucid import training as training
    from lucid import utils as utils
    from lucid import visual as visual
    from lucid._compile import compile as compile
    from lucid._files import load as load
    from lucid._files import save as save
    from lucid.quantization import quantize as quantize
    from lucid.visual import summary as summary
else:

    def __getattr__(name: str) -> _Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'lucid' has no attribute {name!r}")
        module, _, attribute = _LAZY[name].partition(":")
        value: _Any = _importlib.import_module(module)
        if attribute:
            value = getattr(value, attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
