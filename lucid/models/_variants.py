"""The functions that build the models, each under its name.

timm's names, ``mobilenetv4_conv_small`` and its like, build the form that the authors released and
that the published weights are of. lucid's own names, ``mobilenet_v4_conv_small`` and its like,
build the form of the documentation page: ReLU6 everywhere, and the last convolution before the
pooling.

``weights`` is one of

- True (or ``pretrained=True``): the recommended ones of :func:`list_pretrained`;
- a tag such as ``"e2400_r224_in1k"``, a name with its tag, or a Hugging Face repo id such as
  ``"timm/mobilenetv4_conv_small.e2400_r224_in1k"``: these are fetched into the hub's usual cache
  (extra ``hub``), and their sha256 is compared with the one that the hub reports;
- a path to a ``.safetensors`` or ``.npz`` file, or to one of PyTorch's (``.pth``, ``.pt``,
  ``.bin``, ``.pth.tar``), in lucid's names or in timm's, which are told apart.

The form is that of the weights: lucid's names build the released form for released weights, and the
model's ``name`` tells. timm's names take no weights of the page's form. A file that ``lucid.save``
makes keeps its form. Arrays of other dtypes become float32.

The number of classes is that of the weights, 11,821 for those tagged ``in12k``. Another number
leaves the classifier fresh, with a warning. Other ``in_channels`` (``in_chans``) than 3 adapt the
first convolution as timm does: a single channel gets the sum over the three, more get them repeated
and scaled. A file that does not fit raises a ValueError that names it and the first such entry.

``model.pretrained_cfg`` then tells what the images should be. It is read from the repository's
``config.json``, or from one beside a local file if it is in timm's layout and not another
architecture's; what it does not say is taken from a table of the published checkpoints, by the
name of the repository or file. ``model.default_cfg`` has all of timm's keys, also without weights.
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
        weights: True, a tag, a file or a Hugging Face repo id, as the module's first lines tell.
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
