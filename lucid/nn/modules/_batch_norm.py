"""Batch normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn import init
from lucid.nn.modules._layer import AffineLayer, fill
from lucid.nn.modules._module import Module
from lucid.ops._batch_norm import Statistics, normalized, update_running
from lucid.ops._common import operand
from lucid.ops._sync_batch_norm import OverRanks, over_ranks

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]


def _zeros(shape: tuple[int, ...] | None, dtype: DTypeLike | None) -> Tensor | None:
    return None if shape is None else wrap(np.zeros(shape, dtype or np.float32))


class StatisticsLayer(AffineLayer):
    """A norm that may keep running statistics."""

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    _axes: tuple[int, ...]  # how many axes an input may have
    _shapes: str
    _sizes = ("num_features",)
    _shown = ("eps", "momentum", "affine", "bias", "track_running_stats")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.num_features = count(num_features, "num_features", type(self).__name__)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        self._register_affine(shape, affine, bias, dtype)
        statistics = shape if track_running_stats else None
        self.register_buffer("running_mean", _zeros(statistics, dtype))
        self.register_buffer("running_var", _zeros(statistics, dtype))
        self.register_buffer(
            "num_batches_tracked", _zeros(() if track_running_stats else None, np.int64)
        )
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1."""
        fill(init.zeros_, self.running_mean, self.num_batches_tracked)
        fill(init.ones_, self.running_var)

    def reset_parameters(self) -> None:
        """Set weight 1 and bias 0, and forget the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()


class _BatchNorm(StatisticsLayer):
    def forward(self, input: Any) -> Tensor:
        """Return the input normalised, of the same shape."""
        who = type(self).__name__
        x = operand(input, who)
        if x.ndim not in self._axes:
            raise ValueError(f"{who}: expected an input of shape {self._shapes}, got {x.shape}")
        x = self._with_channels(x, self.num_features)
        y, batch = normalized(
            who,
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.eps,
            self._exchange(),
        )
        if self.training:
            self._take_statistics(batch)
        return y

    def _exchange(self) -> OverRanks | None:
        """Return with whom the batch's statistics are exchanged in training."""
        return None

    def _take_statistics(self, batch: Statistics | None) -> None:
        """Move the running statistics on by those of a batch, in training; None if it is empty."""
        batches, momentum = self.num_batches_tracked, self.momentum
        if momentum is None:  # the plain average of all batches
            momentum = 0.0 if batches is None else 1 / (int(batches.data) + 1)
        if batch is not None and self.running_mean is not None and self.running_var is not None:
            update_running(self.running_mean, self.running_var, batch, momentum)
        if batches is not None:
            batches.data += 1


class BatchNorm1d(_BatchNorm):
    """Normalises each channel over the batch and, if there are any, positions.

    Input and output are ``(N, C)`` or ``(N, C, L)``; all else is as in :class:`BatchNorm2d`.
    """

    _axes, _shapes = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Normalises each channel over the batch and all positions (Ioffe & Szegedy 2015).

    Args:
        num_features: C, the number of channels.
        eps: added to the variance, under the root.
        momentum: weight of the *new* batch in the running statistics; None averages all batches
            equally.
        affine: whether to learn a factor (``weight``, begins at 1) and a summand (``bias``,
            begins at 0) for each channel.
        track_running_stats: keep running statistics and use them in evaluation; without, the
            batch's own are always used.
        bias: with ``affine``, whether to learn the summand.
        dtype: of the parameters and statistics, float32 by default.

    Shapes: input and output ``(N, C, H, W)``; ``weight``, ``bias``, ``running_mean`` and
    ``running_var`` ``(C,)``. In training the batch's variance is the biased one; what goes into
    ``running_var`` is unbiased.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> x = lucid.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
        >>> [round(v, 3) for v in norm(x).flatten().tolist()]  # by the batch's mean and variance
        [-1.0, 1.0]
        >>> norm.running_mean, norm.running_var
        (tensor([0.2]), tensor([1.1]))
        >>> [round(v, 3) for v in norm.eval()(x).flatten().tolist()]  # by the running ones
        [0.763, 2.67]
    """

    _axes: tuple[int, ...] = (4,)
    _shapes = "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """Normalises each channel over the batch and all positions of ``(N, C, D, H, W)``.

    All else is as in :class:`BatchNorm2d`.
    """

    _axes, _shapes = (5,), "(N, C, D, H, W)"


class SyncBatchNorm(BatchNorm2d):
    """Normalises each channel over the batches of all ranks, and all positions.

    In training mean and variance are those of all ranks' values together, forward and in the
    gradient, so ranks with parts of a batch compute what one rank does with all of it. The parts
    may differ in size. All ranks have to run the layer, forward and backward. With one rank, and in
    evaluation, it is :class:`BatchNorm2d` (or :class:`BatchNorm1d`), whose state it shares.
    Over several ranks there are no second derivatives.

    Args:
        num_features: C, the number of channels.
        eps: as in :class:`BatchNorm2d`, as are the others.
        momentum: weight of the *new* batch in the running statistics.
        affine: whether to learn ``weight`` and ``bias``.
        track_running_stats: keep running statistics and use them in evaluation.
        process_group: None: all ranks (PyTorch takes groups of them).
        bias: with ``affine``, whether to learn ``bias``.
        dtype: of the parameters and statistics.

    Shapes: input and output ``(N, C)``, ``(N, C, L)`` or ``(N, C, H, W)``. Unlike PyTorch's, the
    class is a :class:`BatchNorm2d`: whatever looks for batch norms finds it.

    Raises:
        ValueError: if ``process_group`` is given; in training, if there is one value a channel
            only on all ranks together.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> type(nn.SyncBatchNorm.convert_sync_batchnorm(model)[1]).__name__
        'SyncBatchNorm'
    """

    _axes, _shapes = (2, 3, 4), "(N, C), (N, C, L) or (N, C, H, W)"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: None = None,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> None:
        _check_group(process_group)
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype
        )

    def _exchange(self) -> OverRanks | None:
        return over_ranks() if self.training else None

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: None = None) -> Module:
        """Replace all batch norms in a model by layers of this class, and return the model.

        They hold the same parameters and buffers, so an optimiser made before stays right. A
        batch norm itself gives the layer.

        Args:
            module: is changed in place.
            process_group: None: all ranks.

        Raises:
            ValueError: if ``process_group`` is given.
        """
        _check_group(process_group)
        for name, child in list(module.named_children()):
            converted = cls.convert_sync_batchnorm(child)
            if converted is not child:
                setattr(module, name, converted)
        if not isinstance(module, _BatchNorm) or isinstance(module, cls):
            return module
        norm = cls(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(norm, name, getattr(module, name))
        norm.training = module.training
        return norm


def _check_group(group: object) -> None:
    if group is not None:
        raise ValueError(
            f"SyncBatchNorm: expected process_group=None, which means all ranks, got {group!r}"
        )
