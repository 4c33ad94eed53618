"""ImageNet-1k figures of the paper; those of published weights are in the library."""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """What Qin et al. (2024) report, without distillation."""

    params: float  # millions
    macs: float  # 1e9
    top1: float  # per cent


PAPER = {
    "mobilenet_v4_conv_small": Paper(3.8, 0.2, 73.8),
    "mobilenet_v4_conv_medium": Paper(9.2, 1.0, 79.9),
    "mobilenet_v4_hybrid_medium": Paper(10.5, 1.2, 80.7),
    "mobilenet_v4_conv_large": Paper(31, 5.9, 82.9),
    "mobilenet_v4_hybrid_large": Paper(35.9, 7.2, 83.4),
}
