"""One learned factor a channel."""

from __future__ import annotations

import numpy as np

from lucid.autograd import Tensor
from lucid.nn._parameter import Parameter
from lucid.nn.modules._module import Module


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
