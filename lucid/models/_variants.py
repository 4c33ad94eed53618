"""The functions that build the five published variants.

``weights`` is a path to a ``.safetensors`` or ``.npz`` file in lucid's names or in timm's (they are
told apart by the names), or a Hugging Face repo id such as
``"timm/mobilenetv4_conv_small.e2400_r224_in1k"``, which is fetched into the hub's usual cache
(extra ``hub``). With timm's weights the model is built in timm's form
(:func:`lucid.models.configs.timm`) and computes what timm's does; a file that ``lucid.save`` makes
of it keeps that form. Arrays of other dtypes become float32.

A number of classes other than the checkpoint's leaves the classifier fresh, with a warning. Other
``in_channels`` than 3 adapt the first convolution as timm does: a single channel gets the sum over
the three, more get them repeated and scaled. A file that does not fit raises a ValueError that
names the file and the first such entry.

``model.pretrained_cfg`` then tells what the images should be. It is read from the repository's
``config.json``, or from one beside a local file if it is in timm's layout and not another
architecture's; what it does not say is taken from a table of the published checkpoints, by the
name of the repository or file.
"""

from __future__ import annotations

import os
from typing import Any

from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.models._pretrained import build
from lucid.models._registry import register

Weights = str | os.PathLike[str] | None


@register
def mobilenet_v4_conv_small(
    num_classes: int = 1000, *, weights: Weights = None, **kwargs: Any
) -> MobileNet_V4:
    """Build MobileNetV4-Conv-S: 3,774,024 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        weights: a file or a Hugging Face repo id, as the module's first lines tell.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return build("conv_small", num_classes, weights, **kwargs)


@register
def mobilenet_v4_conv_medium(
    num_classes: int = 1000, *, weights: Weights = None, **kwargs: Any
) -> MobileNet_V4:
    """Build MobileNetV4-Conv-M: 9,715,512 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        weights: a file or a Hugging Face repo id, as the module's first lines tell.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return build("conv_medium", num_classes, weights, **kwargs)


@register
def mobilenet_v4_conv_large(
    num_classes: int = 1000, *, weights: Weights = None, **kwargs: Any
) -> MobileNet_V4:
    """Build MobileNetV4-Conv-L: 32,590,864 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        weights: a file or a Hugging Face repo id, as the module's first lines tell.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return build("conv_large", num_classes, weights, **kwargs)


@register
def mobilenet_v4_hybrid_medium(
    num_classes: int = 1000, *, weights: Weights = None, **kwargs: Any
) -> MobileNet_V4:
    """Build MobileNetV4-Hybrid-M, with attention: 11,070,136 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        weights: a file or a Hugging Face repo id, as the module's first lines tell.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return build("hybrid_medium", num_classes, weights, **kwargs)


@register
def mobilenet_v4_hybrid_large(
    num_classes: int = 1000, *, weights: Weights = None, **kwargs: Any
) -> MobileNet_V4:
    """Build MobileNetV4-Hybrid-L, with attention: 37,755,152 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        weights: a file or a Hugging Face repo id, as the module's first lines tell.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return build("hybrid_large", num_classes, weights, **kwargs)
