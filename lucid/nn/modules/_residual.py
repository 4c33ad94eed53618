"""What blocks with a way past them are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lucid import ops
from lucid.autograd import Tensor
from lucid.nn._parameter import Parameter
from lucid.nn.functional import dropout
from lucid.nn.modules._module import Module


class Residual(Module):
    """Modules one after the other, to whose output the input is added if ``use_residual`` is true.

    A subclass says which ones by :meth:`branch`.
    """

    use_residual: bool
    drop_path: float = 0.0  # how likely a sample goes past them in training

    def branch(self) -> Sequence[Module]:
        """Return the modules, in the order of their calls."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the output ``(N, C, H, W)`` of the last module, with the input added to it."""
        y = x
        for module in self.branch():
            y = module(y)
        return joined(self, x, y)


def joined(block: Residual, x: Tensor, y: Tensor) -> Tensor:
    """Return a block's output, given its input and what its modules made of it.

    Stochastic depth (Huang et al. 2016) multiplies what is kept by ``1 / (1 - drop_path)``.
    """
    if not block.use_residual:
        return y
    if block.training and block.drop_path:
        y = y * dropout(ops.ones(len(y), 1, 1, 1, dtype=y.dtype), block.drop_path)
    return x + y


class LayerScale(Module):
    """One learned factor a channel, ``(N, C, H, W) -> (N, C, H, W)`` (Touvron et al. 2021)."""

    gamma: Parameter

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.gamma = Parameter(np.full(channels, start, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return str(self.gamma.shape[0])
