"""The functions that build the five published variants."""

from __future__ import annotations

from typing import Any

from lucid.models import configs
from lucid.models._mobilenet_v4 import MobileNet_V4
from lucid.models._registry import register


@register
def mobilenet_v4_conv_small(num_classes: int = 1000, **kwargs: Any) -> MobileNet_V4:
    """Build MobileNetV4-Conv-S: 3,774,024 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return MobileNet_V4(configs.conv_small(), num_classes, **kwargs)


@register
def mobilenet_v4_conv_medium(num_classes: int = 1000, **kwargs: Any) -> MobileNet_V4:
    """Build MobileNetV4-Conv-M: 9,715,512 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return MobileNet_V4(configs.conv_medium(), num_classes, **kwargs)


@register
def mobilenet_v4_conv_large(num_classes: int = 1000, **kwargs: Any) -> MobileNet_V4:
    """Build MobileNetV4-Conv-L: 32,590,864 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return MobileNet_V4(configs.conv_large(), num_classes, **kwargs)


@register
def mobilenet_v4_hybrid_medium(num_classes: int = 1000, **kwargs: Any) -> MobileNet_V4:
    """Build MobileNetV4-Hybrid-M, with attention: 11,070,136 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return MobileNet_V4(configs.hybrid_medium(), num_classes, **kwargs)


@register
def mobilenet_v4_hybrid_large(num_classes: int = 1000, **kwargs: Any) -> MobileNet_V4:
    """Build MobileNetV4-Hybrid-L, with attention: 37,755,152 parameters at 1000 classes.

    Args:
        num_classes: width of the classifier; 0 returns the features ``(N, 1280)``.
        **kwargs: see :class:`MobileNet_V4`: ``in_channels``, ``features_only``, ``out_indices``.
    """
    return MobileNet_V4(configs.hybrid_large(), num_classes, **kwargs)
