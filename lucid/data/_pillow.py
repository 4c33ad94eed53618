"""The one place that imports Pillow."""

from __future__ import annotations

from typing import Any

from lucid._extras import extra

RESAMPLING = ("nearest", "bilinear", "bicubic")


def pillow() -> Any:
    """Return the module ``PIL.Image``.

    Raises:
        ImportError: if Pillow is not installed; the message names the extra.
    """
    return extra("PIL.Image", "data", "images need Pillow")


def resampling(interpolation: str) -> Any:
    """Return Pillow's constant for the name of an interpolation."""
    return getattr(pillow().Resampling, interpolation.upper())


def check_interpolation(interpolation: str, who: str) -> str:
    """Return ``interpolation`` if there is such a one.

    Raises:
        ValueError: if not.
    """
    if interpolation not in RESAMPLING:
        raise ValueError(
            f"{who}: interpolation must be one of {', '.join(RESAMPLING)}, got {interpolation!r}"
        )
    return interpolation


def is_image(value: Any) -> bool:
    """Return whether ``value`` is a Pillow image; imports nothing."""
    return hasattr(value, "getbands") and hasattr(value, "convert")
