"""Layers that normalise each sample by itself."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn.modules._batch_norm import StatisticsLayer
from lucid.nn.modules._layer import AffineLayer, FunctionLayer, fill
from lucid.ops._common import operand
from lucid.ops._layer_norm import instance_normalized

__all__ = [
    "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm",
    "LocalResponseNorm", "RMSNorm",
]  # fmt: skip


def _last_sizes(shape: Any, who: str) -> tuple[int, ...]:
    """Return the sizes of the last axes.

    Raises:
        ValueError: if there are none.
    """
    sizes = shape if isinstance(shape, (list, tuple)) else (shape,)
    if not sizes:
        raise ValueError(f"{who}: normalized_shape must name at least one axis, got none")
    return tuple(count(size, "normalized_shape", who) for size in sizes)


class LayerNorm(AffineLayer):
    """Normalises over the last axes (Ba et al. 2016); see :func:`lucid.nn.functional.layer_norm`.

    Args:
        normalized_shape: the sizes of the last axes.
        eps: added to the variance, under the root.
        elementwise_affine: whether to learn a factor and a summand for each element.
        bias: with ``elementwise_affine``, whether to learn the summand.
        dtype: of the parameters, float32 by default.

    Shapes: input and output ``(*, normalized_shape)``; ``weight`` and ``bias``
    ``normalized_shape``.

    Example:
        >>> norm = nn.LayerNorm(2, eps=0)
        >>> norm(lucid.tensor([[1.0, 3.0], [10.0, 30.0]])).detach()  # each row by itself
        tensor([[-1.,  1.],
                [-1.,  1.]])
        >>> norm.weight.shape
        (2,)
    """

    _sizes = ("normalized_shape",)
    _shown = ("eps", "elementwise_affine", "bias")

    def __init__(
        self,
        normalized_shape: int | list[int] | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _last_sizes(normalized_shape, "LayerNorm")
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._register_affine(self.normalized_shape, elementwise_affine, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(AffineLayer):
    """Normalises over groups of channels and all positions (Wu & He 2018).

    Args:
        num_groups: into how many groups the channels are split.
        num_channels: C, the number of channels.
        eps: added to the variance, under the root.
        affine: whether to learn a factor and a summand for each channel.
        bias: with ``affine``, whether to learn the summand.
        dtype: of the parameters, float32 by default.

    Shapes: input and output ``(N, C, *)``; ``weight`` and ``bias`` ``(C,)``.
    """

    _sizes = ("num_groups", "num_channels")
    _shown = ("eps", "affine", "bias")

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.num_groups = count(num_groups, "num_groups", "GroupNorm")
        self.num_channels = count(num_channels, "num_channels", "GroupNorm")
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups must divide num_channels={num_channels}, got {num_groups}"
            )
        self.eps = eps
        self.affine = affine
        self._register_affine((self.num_channels,), affine, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        x = self._with_channels(input, self.num_channels)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class RMSNorm(AffineLayer):
    """Divides by the root of the mean square over the last axes (Zhang & Sennrich 2019).

    Args:
        normalized_shape: the sizes of the last axes.
        eps: added to the mean square, under the root; None for the spacing of the dtype at 1.
        elementwise_affine: whether to learn a factor for each element.
        dtype: of the parameter, float32 by default.
    """

    _sizes = ("normalized_shape",)
    _shown = ("eps", "elementwise_affine")

    def __init__(
        self,
        normalized_shape: int | list[int] | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _last_sizes(normalized_shape, "RMSNorm")
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape if elementwise_affine else None
        self._register_empty("weight", shape, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight 1."""
        fill(init.ones_, self.weight)

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)


class _InstanceNorm(StatisticsLayer):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype
        )

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        who = type(self).__name__
        x = operand(input, who)
        (axes,) = self._axes
        if x.ndim == axes - 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        x = self._with_channels(x, self.num_features)
        own = self.training or not self.track_running_stats
        if x.ndim != axes or (own and math.prod(x.shape[2:]) == 1):
            raise ValueError(
                f"{who}: expected an input of shape {self._shapes} with more than one "
                f"position, got {x.shape}"
            )
        return instance_normalized(
            who,
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            own,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each sequence over its positions; see :class:`InstanceNorm2d`.

    Shapes: input and output ``(N, C, L)`` or ``(C, L)``.
    """

    _axes, _shapes = (3,), "(N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each image over its positions (Ulyanov et al. 2016).

    Args:
        num_features: C, the number of channels.
        eps: added to the variance, under the root.
        momentum: weight of the *new* batch in the running statistics.
        affine: whether to learn a factor and a summand for each channel.
        track_running_stats: keep running statistics and use them in evaluation.
        bias: with ``affine``, whether to learn the summand.
        dtype: of the parameters, float32 by default.

    Shapes: input and output ``(N, C, H, W)`` or ``(C, H, W)``; ``weight`` and ``bias`` ``(C,)``.
    """

    _axes, _shapes = (4,), "(N, C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Normalises each channel of each volume over its positions; see :class:`InstanceNorm2d`.

    Shapes: input and output ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
    """

    _axes, _shapes = (5,), "(N, C, D, H, W)"


class LocalResponseNorm(FunctionLayer, function=F.local_response_norm):
    """Divides by what neighbouring channels hold.

    Arguments as in :func:`lucid.nn.functional.local_response_norm`.
    """

    _sizes = ("size",)
    _shown = ("alpha", "beta", "k")
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def _check(self) -> None:
        count(self.size, "size", "LocalResponseNorm")
