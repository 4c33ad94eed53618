"""Weights whose lengths, or whose largest singular value, are parameters or 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.kernels import _blas
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn._parameter import overwrite
from lucid.nn.modules._module import Module
from lucid.nn.utils.parametrize import register_parametrization
from lucid.ops._common import normalize_axis


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def _length(self, v: Tensor) -> Tensor:
        if self.dim is None or self.dim == -1:  # as in PyTorch, of the whole
            return v.norm()
        at = normalize_axis(self.dim, v.ndim, "weight_norm")
        return v.norm(2, tuple(axis for axis in range(v.ndim) if axis != at), keepdim=True)

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / self._length(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self._length(weight), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    r"""Learn a weight as a length and a direction, :math:`g\,v / |v|` (Salimans & Kingma 2016).

    Args:
        module: is changed in place, and returned.
        name: its parameter; g and v are saved as ``parametrizations.weight.original0`` and ``1``.
        dim: the axis whose slices have a length each; None for one length.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        >>> [p.shape for p in layer.parametrizations.parameters()]
        [(3, 1), (3, 2)]
    """
    return register_parametrization(module, name, _WeightNorm(dim))


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        self.dim, self.eps = normalize_axis(dim, weight.ndim, "spectral_norm"), eps
        self.n_power_iterations = n_power_iterations
        if weight.ndim > 1:
            for name, size in zip(("_u", "_v"), self._matrix(weight).shape):
                start = init.normal_(wrap(np.zeros(size, weight.dtype)))
                self.register_buffer(name, F.normalize(start, dim=0, eps=eps))
            _blas.call(self._iterate, self._matrix(weight.detach()).data, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    def _iterate(self, matrix: Any, times: int) -> None:
        """Come nearer to the singular vectors of the largest singular value."""
        u, v = self._u.data, self._v.data
        for _ in range(times):
            u = matrix @ v
            u /= max(np.linalg.norm(u), self.eps)
            v = matrix.T @ u
            v /= max(np.linalg.norm(v), self.eps)
        overwrite(self._u, u)
        overwrite(self._v, v)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            _blas.call(self._iterate, matrix.data, self.n_power_iterations)
        u, v = wrap(self._u.data.copy()), wrap(self._v.data.copy())
        return weight / (u @ (matrix @ v))


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018).

    Args:
        module: is changed in place, and returned.
        name: its parameter.
        n_power_iterations: how often the singular vectors are made better at a call in training.
        eps: the smallest norm to divide by.
        dim: the axis of the outputs: 0, and 1 for transposed convolutions.
    """
    count(n_power_iterations, "n_power_iterations", "spectral_norm")
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    weight = module.get_parameter(name)
    return register_parametrization(
        module, name, _SpectralNorm(weight, n_power_iterations, dim, eps)
    )
