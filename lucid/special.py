"""Special functions under PyTorch's names of ``torch.special``.

>>> import lucid
>>> lucid.special.expit(lucid.tensor([0.0]))
tensor([0.5])
"""

from __future__ import annotations

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
from lucid.ops._elementwise import lgamma as gammaln
from lucid.ops._elementwise import log1p as log1p
from lucid.ops._elementwise import logit as logit
from lucid.ops._elementwise import polygamma as polygamma
from lucid.ops._elementwise import round as round
from lucid.ops._elementwise import sigmoid as expit
from lucid.ops._elementwise import sinc as sinc
from lucid.ops._elementwise import xlogy as xlogy
from lucid.ops._elementwise._table import elementwise_pair as _pair
from lucid.ops._elementwise._table import unary as _unary
from lucid.ops._reduce import logsumexp as logsumexp

__all__ = [
    "digamma", "entr", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammaln", "log1p",
    "log_softmax", "logit", "logsumexp", "polygamma", "psi", "round", "sinc", "softmax", "xlog1py",
    "xlogy",
]  # fmt: skip


@_unary(lambda grad, x: grad * (-1 - _elementwise.log(x)), keep="input")
def entr(x: Array) -> Array:
    """Return ``-input * log(input)``: 0 at 0, and minus infinity below."""
    return np.where(x < 0, -np.inf, np.where(x == 0, 0, -x * np.log(x))).astype(x.dtype)


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
