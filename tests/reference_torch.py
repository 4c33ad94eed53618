"""MobileNetV4-Conv-S from ``torch.nn`` layers, to compare with.

Written out by hand from the table of the paper, not from lucid's configuration; the names are
lucid's, so that a state dict goes across.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def convbn(
    in_: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Return convolution, batch norm and, unless switched off, ReLU6."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out),
    )
    if act:
        layers["act"] = nn.ReLU6()
    return nn.Sequential(layers)


class UIB(nn.Module):
    """Universal inverted bottleneck; the stride sits on the middle convolution if there is one."""

    def __init__(self, in_: int, out: int, start: int, mid: int, expand: int, stride: int = 1):
        super().__init__()
        hidden = in_ * expand
        self.residual = stride == 1 and in_ == out
        self.start_dw = (
            convbn(in_, in_, start, 1 if mid else stride, in_, act=False)
            if start
            else nn.Identity()
        )
        self.expand = convbn(in_, hidden, 1)
        self.mid_dw = convbn(hidden, hidden, mid, stride, hidden) if mid else nn.Identity()
        self.project = convbn(hidden, out, 1, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, with the input added where shapes allow."""
        y = self.project(self.mid_dw(self.expand(self.start_dw(x))))
        return x + y if self.residual else y


class ConvSmall(nn.Module):
    """The whole network: ``(N, 3, H, W) -> (N, num_classes)``."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()

        def group(*blocks: tuple[str, nn.Module]) -> nn.Sequential:
            return nn.Sequential(OrderedDict(blocks))

        self.conv0 = group(("convbn_0", convbn(in_channels, 32, 3, 2)))
        self.layers = nn.Sequential(
            group(("convbn_0", convbn(32, 32, 3, 2)), ("convbn_1", convbn(32, 32, 1))),
            group(("convbn_0", convbn(32, 96, 3, 2)), ("convbn_1", convbn(96, 64, 1))),
            group(
                ("uib_0", UIB(64, 96, 5, 5, 3, 2)),
                ("uib_1", UIB(96, 96, 0, 3, 2)),
                ("uib_2", UIB(96, 96, 0, 3, 2)),
                ("uib_3", UIB(96, 96, 0, 3, 2)),
                ("uib_4", UIB(96, 96, 0, 3, 2)),
                ("uib_5", UIB(96, 96, 3, 0, 4)),
            ),
            group(
                ("uib_0", UIB(96, 128, 3, 3, 6, 2)),
                ("uib_1", UIB(128, 128, 5, 5, 4)),
                ("uib_2", UIB(128, 128, 0, 5, 4)),
                ("uib_3", UIB(128, 128, 0, 5, 3)),
                ("uib_4", UIB(128, 128, 0, 3, 4)),
                ("uib_5", UIB(128, 128, 0, 3, 4)),
            ),
            group(("convbn_0", convbn(128, 960, 1)), ("convbn_1", convbn(960, 1280, 1))),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.classifier(self.pool(self.layers(self.conv0(x))).flatten(1))


def build_conv_small(num_classes: int = 1000, in_channels: int = 3) -> ConvSmall:
    """Return the network with PyTorch's own initial weights."""
    return ConvSmall(num_classes, in_channels)
