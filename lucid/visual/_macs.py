"""Multiply-adds of one call of a module, from the shapes that went in and came out.

One multiply-add is one multiplication with the addition that follows it (two floating-point
operations). Only products are counted: convolutions, linear layers, attention. Additions,
activations, normalisations and pooling count as nothing, as is usual in papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lucid import nn
from lucid.models._blocks import _MobileAttention

Shape = tuple[int, ...]
Formula = Callable[[Any, tuple[Shape, ...], Shape], int]

#: Kind of module -> formula(module, shapes of its inputs, shape of its output).
FORMULAS: dict[type[nn.Module], Formula] = {}


def formula(kind: type[nn.Module]) -> Callable[[Formula], Formula]:
    """Register the multiply-adds of a kind of module, its subclasses included."""

    def register(function: Formula) -> Formula:
        FORMULAS[kind] = function
        return function

    return register


def count_macs(module: nn.Module, inputs: tuple[Shape, ...], output: Shape) -> int:
    """Return the multiply-adds of one call, without those of the modules it calls.

    A module may bring its own count as a method ``macs(input_shapes, output_shape)``; otherwise
    the formula of its nearest registered ancestor is used, and a module without one counts 0.
    """
    own = getattr(module, "macs", None)
    if callable(own):
        return int(own(inputs, output))
    for kind in type(module).__mro__:
        if kind in FORMULAS:
            return FORMULAS[kind](module, inputs, output)
    return 0


@formula(nn.Conv2d)
def _conv2d(module: nn.Conv2d, inputs: tuple[Shape, ...], output: Shape) -> int:
    # (O, I / groups, kh, kw): each output value sums over all but the first axis.
    return math.prod(output) * math.prod(module.weight.shape[1:])


@formula(nn.Linear)
def _linear(module: nn.Linear, inputs: tuple[Shape, ...], output: Shape) -> int:
    return math.prod(output) * module.in_features


@formula(_MobileAttention)
def _mobile_attention(module: _MobileAttention, inputs: tuple[Shape, ...], output: Shape) -> int:
    # q·kᵀ and its product with v; the projections are convolutions and count themselves.
    n, _, height, width = inputs[0]
    query_h, query_w = module.query_strides
    queries = math.ceil(height / query_h) * math.ceil(width / query_w)
    keys = math.ceil(height / module.kv_stride) * math.ceil(width / module.kv_stride)
    return n * module.num_heads * queries * keys * (module.key_dim + module.value_dim)


@formula(nn.MultiheadAttention)
def _multihead_attention(
    module: nn.MultiheadAttention, inputs: tuple[Shape, ...], output: Shape
) -> int:
    # The output projection is a linear layer and counts itself.
    width = module.embed_dim
    projections = sum(math.prod(shape) * width for shape in inputs[:3])
    query, key, _ = inputs[:3]
    batch = 1 if len(query) == 2 else query[0 if module.batch_first else 1]
    queries, keys = (math.prod(shape[:-1]) // max(batch, 1) for shape in (query, key))
    keys += (module.bias_k is not None) + module.add_zero_attn
    return projections + 2 * batch * queries * keys * width
