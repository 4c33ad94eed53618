"""A picture of predictions: what speaks for the likeliest class, beside the likeliest classes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from lucid._extras import extra
from lucid.visual._gradcam import GradCAM

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg", ".pdf")

_INK, _BAR, _FAINT = "#222222", "#d9662b", "#c9cdd2"

# Longest side of a photograph in the picture; more would not be seen.
_PIXELS = 1200


def matplotlib_figure() -> Any:
    """Return matplotlib's figures, which need no display; an ImportError names the extra."""
    return extra("matplotlib.figure", "plot", "drawing needs matplotlib").Figure


def explain(rows: Sequence[tuple[str, GradCAM, Sequence[tuple[str, float]]]]) -> Any:
    """Draw each picture with its heat map, beside it its likeliest classes as bars.

    Args:
        rows: the name of an image, what :func:`lucid.visual.gradcam` found in it, and its classes
            with their probabilities; the first one is what the heat map is about.

    Returns:
        A matplotlib figure, one row of axes an image.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure = matplotlib_figure()(figsize=(9.5, 3.4 * len(rows)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=(1.25, 1))
    for (photo, bars), (name, result, classes) in zip(axes, rows):
        picture = result.overlay()
        picture.thumbnail((_PIXELS, _PIXELS))
        photo.imshow(picture)
        title = f"{_plain(name, 56)}\nheat map: {_plain(classes[0][0], 44)}"
        photo.set_title(title, loc="left", fontsize=10, color=_INK)
        photo.set_axis_off()
        _draw_bars(bars, classes)
    return figure


def _draw_bars(axes: Any, classes: Sequence[tuple[str, float]]) -> None:
    # At least five places, so that the bars of one class are not as high as the photograph.
    places = range(len(classes))
    labels = ["\n".join(textwrap.wrap(_plain(label, 70), 24)) for label, _ in classes]
    values = [probability for _, probability in classes]
    axes.barh(places, values, height=0.62, color=[_BAR, *[_FAINT] * (len(classes) - 1)])
    for place, value in zip(places, values):
        axes.text(value, place, f" {100 * value:.1f} %", va="center", fontsize=9, color=_INK)
    axes.set_yticks(places, labels, fontsize=10, color=_INK)
    axes.set_ylim(max(len(classes), 5) - 0.4, -0.6)
    axes.set_xlim(0, 1.25)  # the same for all images, with room for the numbers
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(_FAINT)


def _plain(text: str, length: int) -> str:
    """Return a text on one line, not too long, with nothing that matplotlib takes for a formula."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    line = line if len(line) <= length else line[: length - 1] + "…"
    return line.replace("$", r"\$")
