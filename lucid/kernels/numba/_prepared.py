"""A convolution prepared for many calls on inputs of one shape: inference with fixed weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels import numpy as reference
from lucid.kernels.numba import _threads
from lucid.kernels.numba._activation import KINDS
from lucid.kernels.numba._conv import conv_row, conv_scratch, is_fast, pack
from lucid.kernels.numba._native import address, empty
from lucid.kernels.numba._tile import ACTIVATION
from lucid.kernels.numpy._conv import Padding, Pair, output_size
from lucid.kernels.numpy._prepared import Run

Array = np.ndarray


def prepare_conv(
    input_shape: tuple[int, int, int, int],
    weight: Array,
    bias: Array,
    activation: tuple[Any, ...] | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[tuple[int, int, int, int], Run]:
    """Return the output's shape and a function ``run(x, out, residual)``.

    ``run`` writes ``act(conv(x) + bias) + residual`` into ``out``. Clipping and the residual are
    applied to the sums while they are in registers, other activations to each tile in the nearest
    cache. See the NumPy backend for the arguments.
    """
    if not is_fast(weight, weight, dilation, groups):
        return reference.prepare_conv(
            input_shape, weight, bias, activation, stride, padding, dilation, groups
        )
    n, h, w, _ = input_shape
    o, _, kh, kw = weight.shape
    shape = (
        n,
        output_size(h, kh, stride[0], padding[0], dilation[0]),
        output_size(w, kw, stride[1], padding[1], dilation[1]),
        o,
    )
    packed = pack(weight, None, bias, groups)
    low = high = None
    kind = 0
    if activation is not None:
        if activation[0] == "clip":
            _, low, high = activation
        else:
            kind = KINDS[activation]
    inside = not packed.is_depthwise
    bound: tuple[Any, ...] = ()
    plan = np.empty(0, np.int64)
    kept: Array | None = None

    def bind(x: Array, out: Array, residual: Array | None) -> None:
        nonlocal plan, kept
        size = conv_scratch(packed, input_shape, shape, stride, padding)
        kept = empty((size,)) if size else None
        plan = _threads.plan(
            conv_row(packed, x, out, stride, padding, dilation, low, high, residual, kept)
        )
        plan[0, _threads.ARGUMENTS + ACTIVATION] = kind

    def run(x: Array, out: Array, residual: Array | None) -> None:
        nonlocal bound
        fused = residual if inside else None
        now = (
            address(x),
            address(out),
            None if fused is None else address(fused),
            _threads.get_num_threads(),
        )
        if now != bound:
            bind(x, out, fused)
            bound = now
        _threads.run(plan)
        if residual is not None and not inside:
            np.add(out, residual, out=out)

    return shape, run
