"""Plots as SVG, whose colours are those of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lucid.report._html import Markup, join, tag
from lucid.training import Evaluation, ReliabilityBin

Values = Sequence[float | None]

_WIDTH, _HEIGHT = 360.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 20.0, 10.0, 36.0

# Up to so many classes the cells of a confusion matrix have numbers, up to so many it has names.
_NUMBERED, _NAMED = 25, 150

_LONGEST = 18  # of a name, so many signs are shown in a plot


class _Frame:
    """Axes, and where a point is between them."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: float) -> None:
        self._x, self._y, self._height = x, y, height

    def across(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1)

    def up(self, value: float) -> float:
        low, high = self._y
        room = self._height - _TOP - _BOTTOM
        return self._height - _BOTTOM - room * (value - low) / ((high - low) or 1)

    def axes(
        self, x_name: str, x_text: Callable[[float], str], y_text: Callable[[float], str]
    ) -> Markup:
        """Return the lines of a grid with their numbers, and the name of the horizontal axis."""
        base = self._height - _BOTTOM
        parts = []
        for value in ticks(*self._y, 5):
            y = self.up(value)
            parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y, "grid"))
            parts.append(text(_LEFT - 6, y + 4, y_text(value), "end"))
        for value in ticks(*self._x, 6):
            parts.append(text(self.across(value), base + 15, x_text(value), "middle"))
        parts.append(text((_LEFT + _WIDTH - _RIGHT) / 2, self._height - 4, x_name, "middle"))
        return join(*parts)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return tag("line", class_=class_, **ends)


def rectangle(
    x: float, y: float, width: float, height: float, title: str | None = None, **attributes: Any
) -> Markup:
    """Return a rectangle; the title is what is shown of it under the pointer."""
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    return tag("rect", None if title is None else tag("title", title), **place, **attributes)


def text(x: float, y: float, words: str, anchor: str = "start", **attributes: Any) -> Markup:
    """Return a line of text."""
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    return tag("text", words, text_anchor=anchor, **place, **attributes)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def svg(width: float, height: float, name: str, *content: Markup, **attributes: Any) -> Markup:
    """Return an image with a name for those who do not see it."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *content, viewBox=box, role="img", aria_label=name, **attributes)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` round numbers between two, at equal distances."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        power * factor
        for factor in (1, 2, 5, 10, 20)
        if (high - low) / (power * factor) <= most + 1e-9
    )
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def curves(
    name: str, epochs: Sequence[int], series: Mapping[str, Values], best: int | None
) -> Markup:
    """Draw values by epoch: a line for each name, and where the best epoch is."""
    known = [value for values in series.values() for value in values if value is not None]
    if not known:
        return tag("p", f"{name}: no epoch has a number that is finite")
    is_share = name == "accuracy"
    high = 1.0 if is_share else max(known) * 1.05
    frame = _Frame((min(epochs), max(epochs)), (0.0, high), _HEIGHT)
    y_text = _percent if is_share else "{:.4g}".format
    parts = [
        frame.axes("epoch", lambda value: f"{value:.0f}" if value == round(value) else "", y_text)
    ]
    if best is not None:
        x = frame.across(best)
        parts.append(line(x, _TOP, x, _HEIGHT - _BOTTOM, "best"))
        at_end = x > 0.7 * _WIDTH
        parts.append(
            text(x - 4 if at_end else x + 4, _TOP + 10, "best", "end" if at_end else "start")
        )
    for index, (label, values) in enumerate(series.items()):
        points = [
            (frame.across(epoch), frame.up(value), epoch, value)
            for epoch, value in zip(epochs, values)
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in points)
        parts.append(tag("polyline", points=path, class_=f"series s{index}"))
        for x, y, epoch, value in points:
            title = tag("title", f"{label}, epoch {epoch}: {value:.4g}")
            spot = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "data_value": repr(value)}
            parts.append(tag("circle", title, r="2.5", class_=f"point s{index}", **spot))
    legend = tag("p", *(_key(index, label) for index, label in enumerate(series)), class_="legend")
    plot = svg(_WIDTH, _HEIGHT, f"{name} by epoch", *parts)
    return tag("figure", plot, tag("figcaption", tag("b", name), legend))


def _key(index: int, label: str) -> Markup:
    return tag("span", tag("i", class_=f"s{index}"), label)


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Markup:
    """Draw how often the model is right by how sure it is, and how many images there are."""
    most = max(one.count for one in bins) or 1
    shares, counts = _Frame((0, 1), (0, 1), _HEIGHT), _Frame((0, 1), (0, most), _HEIGHT)
    x_name = "probability of the likeliest class"
    upper = [shares.axes(x_name, _percent, _percent)]
    lower = [counts.axes(x_name, _percent, lambda value: f"{value:.0f}")]
    for one in bins:
        if not one.count:
            continue
        left, right = shares.across(one.low) + 1, shares.across(one.high) - 1
        for frame, parts, value, words in (
            (shares, upper, one.accuracy, f"{_percent(one.accuracy)} are right"),
            (counts, lower, one.count, f"{one.count} images"),
        ):
            height = frame.up(0) - frame.up(value)
            place = (left, frame.up(value), right - left, height)
            parts.append(rectangle(*place, words, class_="bar", data_value=repr(value)))
        y = shares.up(one.confidence)
        words = f"mean probability {_percent(one.confidence)}"
        place = (left, y - 1.5, right - left, 3.0)
        upper.append(rectangle(*place, words, class_="mean", data_value=repr(one.confidence)))
    ends = (shares.across(0), shares.up(0), shares.across(1), shares.up(1))
    upper.append(line(*ends, "ideal"))
    legend = tag(
        "p",
        *(tag("span", tag("i", class_=kind), words) for kind, words in _RELIABILITY.items()),
        class_="legend",
    )
    return join(
        tag("figure", svg(_WIDTH, _HEIGHT, "reliability diagram", *upper), legend),
        tag(
            "figure",
            svg(_WIDTH, _HEIGHT, "images by probability", *lower),
            tag("figcaption", "images by probability"),
        ),
    )


_RELIABILITY = {"bar": "share that is right", "mean": "mean probability"}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def confusion_matrix(evaluation: Evaluation) -> Markup:
    """Draw the confusion matrix: a row for what images show, a column for what they are taken for.

    The shade of a cell is its share of the row. With many classes only cells that are not 0 are
    drawn; with very many the names are left out.
    """
    counts, names = evaluation.confusion, list(evaluation.classes)
    size = len(names)
    cell = 34.0 if size <= 12 else 26.0 if size <= _NUMBERED else 11.0 if size <= _NAMED else 3.0
    font = 12 if size <= _NUMBERED else 9
    longest = min(max(map(len, names)), _LONGEST)
    room = 28.0 + (0.7 * font * longest if size <= _NAMED else 0.0)
    side = size * cell
    parts = [rectangle(room, room, side, side, class_="plate")]
    if size <= _NAMED:
        for index, name in enumerate(names):
            middle = room + (index + 0.5) * cell
            parts.append(text(room - 5, middle + font / 3, _short(name), "end"))
            turn = f"translate({middle + font / 3:.1f} {room - 5:.1f}) rotate(-90)"
            parts.append(text(0, 0, _short(name), transform=turn))
    parts.append(text(room + 2, 11, "taken for", class_="axis"))
    parts.append(text(-room - 2, 11, "shows", "end", class_="axis", transform="rotate(-90)"))
    totals = counts.sum(axis=1)
    for row, column in zip(*(axis.tolist() for axis in counts.nonzero())):
        count = int(counts[row, column])
        share = count / int(totals[row])
        x, y = room + column * cell, room + row * cell
        verb = "recognised" if row == column else f"taken for {names[column]}"
        parts.append(
            rectangle(
                x,
                y,
                cell,
                cell,
                class_="good" if row == column else "bad",
                fill_opacity=f"{0.25 + 0.75 * share:.2f}",
                title=f"{names[row]}: {count} of {totals[row]} {verb}",
                data_value=count,
            )
        )
        if size <= _NUMBERED:
            at = (x + cell / 2, y + cell / 2 + font / 3)
            parts.append(text(*at, str(count), "middle"))
    for index in range(0, size + 1, 1 if size <= _NAMED else 50):
        edge = room + index * cell
        parts.append(line(room, edge, room + side, edge, "grid"))
        parts.append(line(edge, room, edge, room + side, "grid"))
    total = room + side + 2
    plot = svg(
        total, total, "confusion matrix", *parts, style=f"width:{total:.0f}px;font-size:{font}px"
    )
    return tag("div", plot, class_="scroll matrix", tabindex="0")
