"""Special functions under PyTorch's names of ``torch.special``.

>>> import lucid
>>> lucid.special.expit(lucid.tensor([0.0]))
tensor([0.5])
"""

from __future__ import annotations

import math

import numpy as np

from lucid._check import name_errors as _name_errors
from lucid.autograd import Tensor
from lucid.ops import _elementwise
from lucid.ops._activation import log_softmax as log_softmax
from lucid.ops._activation import softmax as softmax
from lucid.ops._common import Array
from lucid.ops._elementwise import digamma as digamma
from lucid.ops._elementwise import digamma as psi
from lucid.ops._elementwise import erf as erf
from lucid.ops._elementwise import erfc as erfc
from lucid.ops._elementwise import erfinv as erfinv
from lucid.ops._elementwise import exp2 as exp2
from lucid.ops._elementwise import expm1 as expm1
from lucid.ops._elementwise import i0 as i0
from lucid.ops._elementwise import lgamma as gammaln
from lucid.ops._elementwise import log1p as log1p
from lucid.ops._elementwise import logit as logit
from lucid.ops._elementwise import polygamma as polygamma
from lucid.ops._elementwise import round as round
from lucid.ops._elementwise import sigmoid as expit
from lucid.ops._elementwise import sinc as sinc
from lucid.ops._elementwise import xlogy as xlogy
from lucid.ops._elementwise._special import bessel as _bessel
from lucid.ops._elementwise._special import erfc_of as _erfc_of
from lucid.ops._elementwise._special import i1 as i1
from lucid.ops._elementwise._table import elementwise_pair as _pair
from lucid.ops._elementwise._table import unary as _unary
from lucid.ops._reduce import logsumexp as logsumexp

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammaln", "i0",
    "i0e", "i1", "i1e", "log1p", "log_softmax", "logit", "logsumexp", "polygamma", "psi", "round",
    "sinc", "softmax", "xlog1py", "xlogy",
]  # fmt: skip

_ROOT_PI = math.sqrt(math.pi)


@_unary(lambda grad, x: grad * (-1 - _elementwise.log(x)), keep="input")
def entr(x: Array) -> Array:
    """Return ``-input * log(input)``: 0 at 0, and minus infinity below."""
    return np.where(x < 0, -np.inf, np.where(x == 0, 0, -x * np.log(x))).astype(x.dtype)


def _erfcx_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return grad * (x * erfcx(x) * 2.0 - 2 / _ROOT_PI)


@_unary(_erfcx_gradient, keep="input")
def erfcx(x: Array) -> Array:
    """Return ``exp(input**2) * erfc(input)``; from 25 on by its series (DLMF 7.12.1)."""
    z = x.astype(np.float64)
    near = np.minimum(z, 25)
    inverse = 1 / np.maximum(z, 25) ** 2
    series = np.polyval((105 / 16, -15 / 8, 3 / 4, -1 / 2, 1), inverse) / (z * _ROOT_PI)
    return np.where(z < 25, np.exp(near * near) * _erfc_of(near), series).astype(x.dtype)


def _i0e_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return grad * (i1e(x) - _elementwise.sign(x) * i0e(x))


@_unary(_i0e_gradient, keep="input")
def i0e(x: Array) -> Array:
    """Return ``exp(-|input|) * i0(input)``."""
    return _bessel(0, x).astype(x.dtype)


def _i1e_gradient(grad: Tensor, x: Tensor) -> Tensor:
    zero = ~(np.abs(x.data) > 0)  # and for NaN, as in PyTorch
    inverse = _elementwise.reciprocal(_elementwise.where(zero, 1.0, x))
    slope = i0e(x) - i1e(x) * (_elementwise.sign(x) + inverse)
    return grad * _elementwise.where(zero, 0.5, slope)


@_unary(_i1e_gradient, keep="input")
def i1e(x: Array) -> Array:
    """Return ``exp(-|input|) * i1(input)``."""
    return _bessel(1, x).astype(x.dtype)


def _xlog1py(a: Array, b: Array) -> Array:
    return np.where((a == 0) & ~np.isnan(b), np.zeros_like(a), a * np.log1p(b))


def _xlog1py_gradient(grad: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _elementwise.where((a.data == 0) & (b.data <= -1), 0.0, xlog1py(grad, b))


xlog1py = _pair(
    _xlog1py,
    "Return ``input * log1p(other)``, and 0 where ``input`` is 0.",
    _xlog1py_gradient,
    lambda g, a, b: g * (a / (b + 1)),
    "xlog1py",
)


_name_errors(globals())
