"""The contract of the backends: the kernels that each has, and what they take and return.

A backend is a module with these functions, under these names. What each of them computes is said
once, in the NumPy backend, which is the specification. Images are C-contiguous NHWC arrays, rows
``(M, C)``; a kernel keeps nothing of its arguments and changes none of them.

Two kernels may decline: ``prepare_images`` and ``join_lanes`` return None where a backend gains
nothing by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from lucid.kernels.exchange import Exchange
from lucid.kernels.geometry import NOTHING, PLAIN, Bounds, Conv, Epilogue, Padding, Pair, Shape
from lucid.kernels.prepared import Bound, Link, Prepared

Array = np.ndarray
Result = TypeVar("Result")


class Backend(Protocol):
    """What :func:`lucid.kernels.active` returns."""

    # -- activations, element by element, and their gradients

    def clip(self, x: Array, low: float, high: float) -> Array: ...
    def clip_grad(self, grad: Array, y: Array, low: float, high: float) -> Array: ...
    def elu_grad(
        self, grad: Array, x: Array, negative: float, positive: float, inner: float
    ) -> Array: ...
    def erf(self, x: Array) -> Array: ...
    def gelu(self, x: Array, tanh: bool) -> Array: ...
    def gelu_grad(self, grad: Array, x: Array, tanh: bool) -> Array: ...
    def hardswish(self, x: Array) -> Array: ...
    def hardswish_grad(self, grad: Array, x: Array) -> Array: ...
    def sigmoid(self, x: Array) -> Array: ...
    def silu(self, x: Array) -> Array: ...
    def silu_grad(self, grad: Array, x: Array) -> Array: ...

    # -- sums, softmax and cross entropy

    def sums(self, x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Any: ...
    def variance(self, x: Array, axes: tuple[int, ...], divisor: float) -> Array: ...
    def softmax(self, x: Array, axis: int) -> Array: ...
    def softmax_grad(self, grad: Array, y: Array, axis: int) -> Array: ...
    def log_softmax(self, x: Array, axis: int) -> Array: ...
    def log_softmax_grad(self, grad: Array, y: Array, axis: int) -> Array: ...
    def cross_entropy(
        self, x: Array, target: Array, weight: Array | None, smoothing: float
    ) -> tuple[Array, Array]: ...
    def cross_entropy_grad(
        self, grad: Array, log_p: Array, target: Array, weight: Array | None, smoothing: float
    ) -> Array: ...

    # -- products

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array: ...
    def matmul(self, a: Array, b: Array) -> Array: ...

    # -- convolution

    def conv2d(
        self,
        x: Array,
        weight: Array,
        conv: Conv = PLAIN,
        epilogue: Epilogue = NOTHING,
    ) -> Array: ...
    def keep_conv(
        self, weight: Array, conv: Conv, epilogue: Epilogue
    ) -> Callable[[Array], Array]: ...
    def keep_affine(self, scale: Array, shift: Array) -> Callable[[Array], Array]: ...
    def keep_attention(self, heads: int, scale: float) -> Callable[..., Array]: ...
    def keep_row(self, links: Sequence[Link]) -> Callable[[Array], Array]: ...
    def conv2d_input_grad(
        self,
        grad: Array,
        weight: Array,
        input_shape: Shape,
        conv: Conv = PLAIN,
    ) -> Array: ...
    def conv2d_weight_grad(
        self,
        x: Array,
        grad: Array,
        weight_shape: Shape,
        conv: Conv = PLAIN,
    ) -> Array: ...
    def conv_norm_act_train(
        self,
        x: Array,
        weight: Array,
        norm_weight: Array | None,
        norm_bias: Array | None,
        eps: float,
        bounds: Bounds,
        conv: Conv,
        exchange: Exchange | None = None,
    ) -> tuple[Array, Array, Array, Array, Array | None]: ...
    def conv_norm_act_train_grad(
        self,
        grad: Array,
        x: Array,
        weight: Array,
        z: Array,
        mean: Array,
        variance: Array,
        norm_weight: Array | None,
        norm_bias: Array | None,
        eps: float,
        bounds: Bounds,
        conv: Conv,
        needs_x: bool,
        needs_weight: bool,
        exchange: Exchange | None = None,
        spends_z: bool = False,
        inside: Array | None = None,
    ) -> tuple[Array | None, Array | None, Array, Array]: ...

    # -- batch norm

    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]: ...
    def scale_shift(self, x: Array, scale: Array, shift: Array) -> Array: ...
    def batch_norm_grad(
        self,
        grad: Array,
        x: Array,
        mean: Array,
        inverse_std: Array,
        weight: Array | None,
        exchange: Exchange | None = None,
    ) -> tuple[Array, Array, Array]: ...

    # -- pooling

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, size: Pair
    ) -> tuple[Array, Array]: ...
    def max_pool2d_grad(
        self,
        grad: Array,
        taps: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
    ) -> Array: ...
    def max_pool2d_take(
        self, x: Array, taps: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair
    ) -> Array: ...
    def sum_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Padding, size: Pair
    ) -> Array: ...
    def sum_pool2d_grad(
        self,
        grad: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Padding,
    ) -> Array: ...

    # -- one step of an optimiser, in place

    def optimizer_step(
        self,
        kind: str,
        params: Sequence[Array],
        grads: Sequence[Array],
        states: Mapping[str, Sequence[Array]],
        counts: Sequence[int],
        settings: Mapping[str, Any],
    ) -> None: ...

    # -- inference: steps prepared once for inputs of one shape, and joined to one call

    def pack_conv(self, weight: Array, conv: Conv, shift: Array | None) -> Any: ...
    def prepare_conv(
        self,
        input_shape: Shape,
        weight: Any,
        conv: Conv,
        epilogue: Epilogue,
    ) -> Prepared: ...
    def prepare_attention(
        self,
        q_shape: tuple[int, ...],
        k_shape: tuple[int, ...],
        v_shape: tuple[int, ...],
        scale: float,
        dtype: np.dtype,
    ) -> Prepared: ...
    def prepare_average(self, shape: Shape, dtype: np.dtype) -> Prepared: ...
    def prepare_affine(
        self, shape: Shape, scale: Array, shift: Array, low: float, high: float
    ) -> Prepared: ...
    def prepare_images(self, shape: Shape, dtype: np.dtype) -> Prepared | None: ...
    def divide_images(self, images: int) -> tuple[int, int]: ...
    def join(self, steps: Sequence[Bound]) -> Callable[[Array], None]: ...
    def join_lanes(
        self, lanes: Sequence[tuple[Sequence[Bound], Sequence[Bound]]], groups: int
    ) -> Callable[[Array], None] | None: ...

    # -- what is compiled when it is first used, and threads

    def is_ready(self) -> bool: ...
    def warm_up(self, wait: bool) -> None: ...
    def divide(self, count: int) -> list[slice]: ...
    def in_parts(
        self, function: Callable[[slice], Result], count: int, elements: int
    ) -> list[Result]: ...
    def get_num_threads(self) -> int: ...
    def set_num_threads(self, threads: int) -> None: ...
