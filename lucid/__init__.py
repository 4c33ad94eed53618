"""Lucid: a deep-learning library on NumPy, with a MobileNetV4 model zoo."""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

import numpy as _np

from lucid import autograd as autograd
from lucid._random import manual_seed as manual_seed
from lucid.autograd import Tensor as Tensor
from lucid.autograd import enable_grad as enable_grad
from lucid.autograd import is_grad_enabled as is_grad_enabled
from lucid.autograd import no_grad as no_grad
from lucid.autograd import set_grad_enabled as set_grad_enabled
from lucid.kernels import available_backends as available_backends
from lucid.kernels import get_backend as get_backend
from lucid.kernels import get_num_threads as get_num_threads
from lucid.kernels import set_backend as set_backend
from lucid.kernels import set_num_threads as set_num_threads
from lucid.ops import abs as abs
from lucid.ops import add as add
from lucid.ops import all as all
from lucid.ops import allclose as allclose
from lucid.ops import amax as amax
from lucid.ops import amin as amin
from lucid.ops import any as any
from lucid.ops import arange as arange
from lucid.ops import argmax as argmax
from lucid.ops import argmin as argmin
from lucid.ops import argsort as argsort
from lucid.ops import astype as astype
from lucid.ops import bitwise_and as bitwise_and
from lucid.ops import bitwise_not as bitwise_not
from lucid.ops import bitwise_or as bitwise_or
from lucid.ops import bitwise_xor as bitwise_xor
from lucid.ops import bmm as bmm
from lucid.ops import broadcast_to as broadcast_to
from lucid.ops import cat as cat
from lucid.ops import ceil as ceil
from lucid.ops import chunk as chunk
from lucid.ops import clamp as clamp
from lucid.ops import clone as clone
from lucid.ops import contiguous as contiguous
from lucid.ops import cos as cos
from lucid.ops import count_nonzero as count_nonzero
from lucid.ops import cumsum as cumsum
from lucid.ops import div as div
from lucid.ops import dot as dot
from lucid.ops import einsum as einsum
from lucid.ops import empty as empty
from lucid.ops import empty_like as empty_like
from lucid.ops import eq as eq
from lucid.ops import equal as equal
from lucid.ops import erf as erf
from lucid.ops import exp as exp
from lucid.ops import expand as expand
from lucid.ops import expand_as as expand_as
from lucid.ops import expm1 as expm1
from lucid.ops import eye as eye
from lucid.ops import flatten as flatten
from lucid.ops import flip as flip
from lucid.ops import floor as floor
from lucid.ops import floor_divide as floor_divide
from lucid.ops import from_numpy as from_numpy
from lucid.ops import full as full
from lucid.ops import full_like as full_like
from lucid.ops import gather as gather
from lucid.ops import ge as ge
from lucid.ops import gt as gt
from lucid.ops import index_select as index_select
from lucid.ops import isclose as isclose
from lucid.ops import isfinite as isfinite
from lucid.ops import isinf as isinf
from lucid.ops import isnan as isnan
from lucid.ops import le as le
from lucid.ops import linspace as linspace
from lucid.ops import log as log
from lucid.ops import log1p as log1p
from lucid.ops import log_softmax as log_softmax
from lucid.ops import logical_and as logical_and
from lucid.ops import logical_not as logical_not
from lucid.ops import logical_or as logical_or
from lucid.ops import logical_xor as logical_xor
from lucid.ops import logsumexp as logsumexp
from lucid.ops import lt as lt
from lucid.ops import masked_fill as masked_fill
from lucid.ops import matmul as matmul
from lucid.ops import max as max
from lucid.ops import maximum as maximum
from lucid.ops import mean as mean
from lucid.ops import min as min
from lucid.ops import minimum as minimum
from lucid.ops import mm as mm
from lucid.ops import movedim as movedim
from lucid.ops import mul as mul
from lucid.ops import ne as ne
from lucid.ops import neg as neg
from lucid.ops import norm as norm
from lucid.ops import numel as numel
from lucid.ops import ones as ones
from lucid.ops import ones_like as ones_like
from lucid.ops import outer as outer
from lucid.ops import pad as pad
from lucid.ops import permute as permute
from lucid.ops import pow as pow
from lucid.ops import prod as prod
from lucid.ops import rand as rand
from lucid.ops import rand_like as rand_like
from lucid.ops import randint as randint
from lucid.ops import randn as randn
from lucid.ops import randn_like as randn_like
from lucid.ops import randperm as randperm
from lucid.ops import reciprocal as reciprocal
from lucid.ops import relu as relu
from lucid.ops import remainder as remainder
from lucid.ops import repeat as repeat
from lucid.ops import reshape as reshape
from lucid.ops import roll as roll
from lucid.ops import round as round
from lucid.ops import rsqrt as rsqrt
from lucid.ops import scatter as scatter
from lucid.ops import scatter_add as scatter_add
from lucid.ops import sigmoid as sigmoid
from lucid.ops import sign as sign
from lucid.ops import sin as sin
from lucid.ops import softmax as softmax
from lucid.ops import sort as sort
from lucid.ops import split as split
from lucid.ops import sqrt as sqrt
from lucid.ops import square as square
from lucid.ops import squeeze as squeeze
from lucid.ops import stack as stack
from lucid.ops import std as std
from lucid.ops import sub as sub
from lucid.ops import sum as sum
from lucid.ops import swapaxes as swapaxes
from lucid.ops import t as t
from lucid.ops import take_along_dim as take_along_dim
from lucid.ops import tan as tan
from lucid.ops import tanh as tanh
from lucid.ops import tensor as tensor
from lucid.ops import tile as tile
from lucid.ops import topk as topk
from lucid.ops import transpose as transpose
from lucid.ops import tril as tril
from lucid.ops import triu as triu
from lucid.ops import unbind as unbind
from lucid.ops import unflatten as unflatten
from lucid.ops import unsqueeze as unsqueeze
from lucid.ops import var as var
from lucid.ops import where as where
from lucid.ops import zeros as zeros
from lucid.ops import zeros_like as zeros_like

__version__ = "0.1.0"

float16 = _np.dtype(_np.float16)
float32 = _np.dtype(_np.float32)
float64 = _np.dtype(_np.float64)
int8 = _np.dtype(_np.int8)
int16 = _np.dtype(_np.int16)
int32 = _np.dtype(_np.int32)
int64 = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
bool = _np.dtype(_np.bool_)

# Loaded when first used, so that `import lucid` stays quick: name -> where it is.
_LAZY = {
    "compile": "lucid._compile:compile",
    "data": "lucid.data",
    "load": "lucid._files:load",
    "models": "lucid.models",
    "nn": "lucid.nn",
    "optim": "lucid.optim",
    "save": "lucid._files:save",
    "summary": "lucid.visual:summary",
    "training": "lucid.training",
    "visual": "lucid.visual",
}

if _TYPE_CHECKING:
    from lucid import data as data
    from lucid import models as models
    from lucid import nn as nn
    from lucid import optim as optim
    from lucid import training as training
    from lucid import visual as visual
    from lucid._compile import compile as compile
    from lucid._files import load as load
    from lucid._files import save as save
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
