"""Layers that normalise each sample by itself."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn.modules._layer import AffineLayer, FunctionLayer
from lucid.ops._common import operand

__all__ = ["GroupNorm", "InstanceNorm2d", "LayerNorm", "LocalResponseNorm"]


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
        sizes = (
            normalized_shape if isinstance(normalized_shape, (list, tuple)) else (normalized_shape,)
        )
        if not sizes:
            raise ValueError("LayerNorm: normalized_shape must name at least one axis, got none")
        self.normalized_shape = tuple(count(s, "normalized_shape", "LayerNorm") for s in sizes)
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


class InstanceNorm2d(AffineLayer):
    """Normalises each channel of each image over its positions (Ulyanov et al. 2016).

    Args:
        num_features: C, the number of channels.
        momentum: without effect: there are no running statistics.
        track_running_stats: only False.

    The other arguments are those of :class:`GroupNorm`.

    Shapes: input and output ``(N, C, H, W)`` or ``(C, H, W)``; ``weight`` and ``bias`` ``(C,)``.
    """

    _sizes = ("num_features",)
    _shown = ("eps", "momentum", "affine", "bias", "track_running_stats")

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
        super().__init__()
        if track_running_stats:
            raise ValueError("InstanceNorm2d: track_running_stats=True is not supported")
        self.num_features = count(num_features, "num_features", "InstanceNorm2d")
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = False
        self._register_affine((self.num_features,), affine, bias, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        x = operand(input, "InstanceNorm2d")
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        x = self._with_channels(x, self.num_features)
        if x.ndim != 4 or x.shape[2] * x.shape[3] == 1:
            raise ValueError(
                "InstanceNorm2d: expected an input of shape (N, C, H, W) with more than one "
                f"position, got {x.shape}"
            )
        return F.instance_norm(x, self.weight, self.bias, self.eps)


class LocalResponseNorm(FunctionLayer, function=F.local_response_norm):
    """Divides by what neighbouring channels hold.

    Arguments as in :func:`lucid.nn.functional.local_response_norm`.
    """

    _sizes = ("size",)
    _shown = ("alpha", "beta", "k")
    _settings = ("size", *_shown)

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = count(size, "size", "LocalResponseNorm")
        self.alpha = alpha
        self.beta = beta
        self.k = k
