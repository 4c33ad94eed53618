"""Published ImageNet-1k figures: facts from the paper and from timm's model cards."""

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


class Checkpoint(NamedTuple):
    """Weights that timm publishes: their name on the hub, image size, accuracy."""

    name: str
    size: int
    top1: float


TIMM = {
    "mobilenet_v4_conv_small": Checkpoint("timm/mobilenetv4_conv_small.e3600_r256_in1k", 320, 75.6),
    "mobilenet_v4_conv_medium": Checkpoint(
        "timm/mobilenetv4_conv_medium.e500_r256_in1k", 256, 79.9
    ),
    "mobilenet_v4_hybrid_medium": Checkpoint(
        "timm/mobilenetv4_hybrid_medium.ix_e550_r384_in1k", 384, 83.0
    ),
    "mobilenet_v4_conv_large": Checkpoint("timm/mobilenetv4_conv_large.e600_r384_in1k", 384, 83.0),
    "mobilenet_v4_hybrid_large": Checkpoint(
        "timm/mobilenetv4_hybrid_large.ix_e600_r384_in1k", 384, 84.0
    ),
}
