"""Layers as functions: ``lucid.nn.functional``, usually imported as ``F``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import name_errors as _name_errors
from lucid.autograd import Tensor
from lucid.ops import pad as pad
from lucid.ops import sigmoid as sigmoid
from lucid.ops import tanh as tanh
from lucid.ops._activation import *
from lucid.ops._attention import *
from lucid.ops._batch_norm import *
from lucid.ops._common import floating as _floating
from lucid.ops._common import operands as _operands
from lucid.ops._conv import *
from lucid.ops._conv_transpose import *
from lucid.ops._dropout import *
from lucid.ops._embedding import *
from lucid.ops._fold import *
from lucid.ops._grid import *
from lucid.ops._layer_norm import *
from lucid.ops._linear import *
from lucid.ops._loss import *
from lucid.ops._pool import *
from lucid.ops._resize import *


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along an axis, or by ``eps`` where that is larger.

    Args:
        input: any shape.
        p: the exponent of the norm.
        dim: the axis.
        eps: the smallest divisor.

    Example:
        >>> F.normalize(lucid.tensor([[3.0, 4.0]]))
        tensor([[0.6, 0.8]])
        >>> F.normalize(lucid.tensor([[3.0, 1.0]]), p=1)
        tensor([[0.75, 0.25]])
    """
    x = _floating(input, "normalize")
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between vectors along an axis; each norm is at least ``eps``.

    Args:
        x1: vectors along the axis.
        x2: the others; the shapes broadcast.
        dim: the axis of the vectors, counted in the broadcast shape.
        eps: the smallest norm to divide by.

    Example:
        >>> F.cosine_similarity(lucid.tensor([[1.0, 0.0]]), lucid.tensor([[0.0, 2.0]]))
        tensor([0.])
        >>> F.cosine_similarity(lucid.tensor([[1.0, 0.0]]), lucid.tensor([[5.0, 0.0]]))
        tensor([1.])
    """
    who = "cosine_similarity"
    a, b = _operands(_floating(x1, who), _floating(x2, who), who)
    if a.shape != b.shape:
        shape = np.broadcast_shapes(a.shape, b.shape)  # whose axes dim counts
        a, b = a.expand(shape), b.expand(shape)
    return (normalize(a, dim=dim, eps=eps) * normalize(b, dim=dim, eps=eps)).sum(dim)


_name_errors(globals())
