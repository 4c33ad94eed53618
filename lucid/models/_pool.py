"""Pooling that the blocks of MobileNetV4 have and PyTorch has not."""

from __future__ import annotations

import numpy as np

from lucid import nn
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn.functional import conv2d


class _BlurPool(nn.Module):
    """The filter 1-2-1 by 1-2-1 on each channel, with a stride (Zhang 2019, "Making Convolutional
    Networks Shift-Invariant Again"), padded with zeros as timm's ``blurpc``.
    """

    filter: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        line = np.array([0.25, 0.5, 0.25], np.float32)
        filters = np.tile(np.outer(line, line), (channels, 1, 1, 1))
        self.register_buffer("filter", wrap(filters), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padding, channels = (self.stride + 1) // 2, len(self.filter)
        return conv2d(x, self.filter, None, self.stride, padding, groups=channels)

    def extra_repr(self) -> str:
        return f"{len(self.filter)}, stride={self.stride}"
