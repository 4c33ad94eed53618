"""Layers as functions: ``lucid.nn.functional``, usually imported as ``F``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import name_errors as _name_errors
from lucid.autograd import Tensor
from lucid.ops import pad as pad
from lucid.ops import sigmoid as sigmoid
from lucid.ops import tanh as tanh
from lucid.ops._activation import celu as celu
from lucid.ops._activation import elu as elu
from lucid.ops._activation import gelu as gelu
from lucid.ops._activation import glu as glu
from lucid.ops._activation import hardsigmoid as hardsigmoid
from lucid.ops._activation import hardswish as hardswish
from lucid.ops._activation import hardtanh as hardtanh
from lucid.ops._activation import leaky_relu as leaky_relu
from lucid.ops._activation import log_softmax as log_softmax
from lucid.ops._activation import logsigmoid as logsigmoid
from lucid.ops._activation import mish as mish
from lucid.ops._activation import prelu as prelu
from lucid.ops._activation import relu as relu
from lucid.ops._activation import relu6 as relu6
from lucid.ops._activation import selu as selu
from lucid.ops._activation import silu as silu
from lucid.ops._activation import softmax as softmax
from lucid.ops._activation import softmin as softmin
from lucid.ops._activation import softplus as softplus
from lucid.ops._activation import softsign as softsign
from lucid.ops._attention import scaled_dot_product_attention as scaled_dot_product_attention
from lucid.ops._batch_norm import batch_norm as batch_norm
from lucid.ops._common import floating as _floating
from lucid.ops._common import operands as _operands
from lucid.ops._conv import conv2d as conv2d
from lucid.ops._dropout import dropout as dropout
from lucid.ops._dropout import dropout2d as dropout2d
from lucid.ops._embedding import embedding as embedding
from lucid.ops._embedding import one_hot as one_hot
from lucid.ops._layer_norm import group_norm as group_norm
from lucid.ops._layer_norm import instance_norm as instance_norm
from lucid.ops._layer_norm import layer_norm as layer_norm
from lucid.ops._linear import linear as linear
from lucid.ops._loss import binary_cross_entropy as binary_cross_entropy
from lucid.ops._loss import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from lucid.ops._loss import cross_entropy as cross_entropy
from lucid.ops._loss import huber_loss as huber_loss
from lucid.ops._loss import kl_div as kl_div
from lucid.ops._loss import l1_loss as l1_loss
from lucid.ops._loss import mse_loss as mse_loss
from lucid.ops._loss import nll_loss as nll_loss
from lucid.ops._loss import smooth_l1_loss as smooth_l1_loss
from lucid.ops._pool import adaptive_avg_pool2d as adaptive_avg_pool2d
from lucid.ops._pool import avg_pool2d as avg_pool2d
from lucid.ops._pool import max_pool2d as max_pool2d
from lucid.ops._resize import interpolate as interpolate


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
    shape = np.broadcast_shapes(a.shape, b.shape)  # whose axes dim counts
    a, b = a.expand(shape), b.expand(shape)
    return (normalize(a, dim=dim, eps=eps) * normalize(b, dim=dim, eps=eps)).sum(dim)


_name_errors(globals())
