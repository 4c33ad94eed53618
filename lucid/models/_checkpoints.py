"""What the published checkpoints expect of an image, where no ``config.json`` says it.

Facts from the model cards of timm's MobileNetV4 weights (Wightman 2024). ``crop_pct`` is the part
of the resized image's side that the crop keeps.
"""

from __future__ import annotations

from typing import Any

_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

# Preprocessing of a model without weights, and of weights about which nothing is known.
DEFAULT: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    **_IMAGENET,
    "num_classes": 1000,
}


def _entry(size: int, crop_pct: float, num_classes: int = 1000, **other: Any) -> dict[str, Any]:
    return {
        **DEFAULT,
        "input_size": (3, size, size),
        "crop_pct": crop_pct,
        "num_classes": num_classes,
        **other,
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "mobilenetv4_conv_small.e1200_r224_in1k": _entry(224, 0.875),
    "mobilenetv4_conv_small.e2400_r224_in1k": _entry(224, 0.875),
    "mobilenetv4_conv_small.e3600_r256_in1k": _entry(256, 0.95, **_HALF),
    "mobilenetv4_conv_medium.e500_r224_in1k": _entry(224, 0.95),
    "mobilenetv4_conv_medium.e500_r256_in1k": _entry(256, 0.95),
    "mobilenetv4_conv_medium.e250_r384_in12k_ft_in1k": _entry(384, 0.95),
    "mobilenetv4_conv_medium.e180_r384_in12k": _entry(384, 1.0, 11821),
    "mobilenetv4_conv_medium.e180_ad_r384_in12k": _entry(384, 1.0, 11821),
    "mobilenetv4_conv_medium.e250_r384_in12k": _entry(384, 1.0, 11821),
    "mobilenetv4_conv_large.e500_r256_in1k": _entry(256, 0.95),
    "mobilenetv4_conv_large.e600_r384_in1k": _entry(384, 0.95),
    "mobilenetv4_hybrid_medium.e500_r224_in1k": _entry(224, 0.95),
    "mobilenetv4_hybrid_medium.ix_e550_r256_in1k": _entry(256, 0.95),
    "mobilenetv4_hybrid_medium.ix_e550_r384_in1k": _entry(384, 0.95),
    "mobilenetv4_hybrid_medium.e200_r256_in12k": _entry(256, 0.95, 11821),
    "mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k": _entry(256, 0.95),
    "mobilenetv4_hybrid_large.e600_r384_in1k": _entry(384, 0.95),
    "mobilenetv4_hybrid_large.ix_e600_r384_in1k": _entry(384, 0.95),
}
