"""The functions that build the models, each under its name.

timm's names, ``mobilenetv4_conv_small`` and its like, build the form that the authors released and
that the published weights are of. lucid's own names, ``mobilenet_v4_conv_small`` and its like,
build the form of the documentation page: ReLU6 everywhere, and the last convolution before the
pooling.

:mod:`lucid.models` tells what ``weights`` may be.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.models._pretrained import build
from lucid.models._published import PARAMETERS
from lucid.models._registry import register

Weights = str | os.PathLike[str] | bool | None


def _model(name: str, title: str, parameters: int = 0) -> Callable[..., MobileNet_V4]:
    """Register the function that builds a model, and return it.

    Args:
        name: of the model.
        title: of its architecture.
        parameters: at 1000 classes; by default those of the released architecture of that name.
    """

    def factory(
        num_classes: int | None = None, *, weights: Weights = None, **kwargs: Any
    ) -> MobileNet_V4:
        return build(name, num_classes, weights, **kwargs)

    factory.__name__ = factory.__qualname__ = name
    form = "page's" if parameters else "released"
    count = f"{parameters or PARAMETERS[name]:,} parameters at 1000 classes"
    factory.__doc__ = f"""Build {title} in the {form} form: {count}.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``. By default
            that of the weights, or 1000.
        weights: True, a tag, a file or a Hugging Face repo id: :mod:`lucid.models` tells of each.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``, …
    """
    return register(factory)


mobilenet_v4_conv_small = _model("mobilenet_v4_conv_small", "MobileNetV4-Conv-S", 3_774_024)
mobilenet_v4_conv_medium = _model("mobilenet_v4_conv_medium", "MobileNetV4-Conv-M", 9_715_512)
mobilenet_v4_conv_large = _model("mobilenet_v4_conv_large", "MobileNetV4-Conv-L", 32_590_864)
mobilenet_v4_hybrid_medium = _model(
    "mobilenet_v4_hybrid_medium", "MobileNetV4-Hybrid-M", 11_070_136
)
mobilenet_v4_hybrid_large = _model("mobilenet_v4_hybrid_large", "MobileNetV4-Hybrid-L", 37_755_152)

mobilenetv4_conv_small = _model("mobilenetv4_conv_small", "MobileNetV4-Conv-S")
mobilenetv4_conv_small_035 = _model(
    "mobilenetv4_conv_small_035", "MobileNetV4-Conv-S, 0.35 as wide,"
)
mobilenetv4_conv_small_050 = _model(
    "mobilenetv4_conv_small_050", "MobileNetV4-Conv-S, half as wide,"
)
mobilenetv4_conv_medium = _model("mobilenetv4_conv_medium", "MobileNetV4-Conv-M")
mobilenetv4_conv_aa_medium = _model(
    "mobilenetv4_conv_aa_medium", "MobileNetV4-Conv-M, average-pooled,"
)
mobilenetv4_conv_blur_medium = _model(
    "mobilenetv4_conv_blur_medium", "MobileNetV4-Conv-M, blur-pooled,"
)
mobilenetv4_conv_large = _model("mobilenetv4_conv_large", "MobileNetV4-Conv-L")
mobilenetv4_conv_aa_large = _model(
    "mobilenetv4_conv_aa_large", "MobileNetV4-Conv-L, average-pooled,"
)
mobilenetv4_hybrid_medium = _model("mobilenetv4_hybrid_medium", "MobileNetV4-Hybrid-M")
mobilenetv4_hybrid_medium_075 = _model(
    "mobilenetv4_hybrid_medium_075", "MobileNetV4-Hybrid-M, 0.75 as wide,"
)
mobilenetv4_hybrid_large = _model("mobilenetv4_hybrid_large", "MobileNetV4-Hybrid-L")
mobilenetv4_hybrid_large_075 = _model(
    "mobilenetv4_hybrid_large_075", "MobileNetV4-Hybrid-L, 0.75 as wide,"
)
