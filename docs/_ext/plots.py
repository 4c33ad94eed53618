"""Plots as SVG: text in the page's font, colours that follow its theme.

They are part of the page, so that they need no file and no script. A plot that would be too small
on a phone is drawn twice, for a wide and for a narrow column, and the style sheet shows one.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

WIDE, NARROW = 640, 330

Point = tuple[str, float, float, str]


class Bar(NamedTuple):
    """A row of a bar chart: ``text`` stands behind the bar, ``dots`` are further values on it."""

    label: str
    value: float
    text: str
    kind: str = "a"
    dots: Sequence[float] = ()


class Line(NamedTuple):
    """A curve; ``kind`` is its class in the style sheet."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    kind: str = "a"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers over a range."""
    step = (high - low) / count
    power = 10 ** math.floor(math.log10(step))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def svg(parts: Sequence[str], width: int, height: float, title: str) -> str:
    """Return a drawing; ``title`` says to a screen reader what it shows."""
    return "\n".join(
        [
            f'<svg viewBox="0 0 {width} {height:g}" width="{width}" role="img" '
            f'aria-label="{html.escape(title)}">',
            *parts,
            "</svg>",
        ]
    )


def figure(drawings: str, caption: str, kind: str = "plot") -> str:
    """Return a drawing or several with their description."""
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="drawing {kind}">\n{drawings}\n{text}\n</figure>'


def both(draw: Callable[[int], str]) -> str:
    """Return a drawing for a wide column and one for a narrow one."""
    return f'<div class="wide-plot">{draw(WIDE)}</div><div class="narrow-plot">{draw(NARROW)}</div>'


def bars(rows: Sequence[Bar], width: int, title: str, limit: str = "") -> str:
    """Return horizontal bars, their labels beside them or, where it is narrow, above.

    ``limit`` names a line at 1.
    """
    stacked = width < 500
    left, right = (2, 96) if stacked else (205, 120)
    step, bar = (40, 14) if stacked else (28, 16)
    top = 22 if limit else 4
    most = max(max([row.value, *row.dots]) for row in rows)
    scale = (width - left - right) / most
    height = top + step * len(rows) + 4
    parts = []
    for index, row in enumerate(rows):
        y = top + index * step + (20 if stacked else 5)
        length = row.value * scale
        name = html.escape(row.label)
        if stacked:
            parts.append(f'<text x="{left}" y="{y - 5}">{name}</text>')
        else:
            parts.append(f'<text x="{left - 10}" y="{y + 13}" text-anchor="end">{name}</text>')
        parts.append(
            f'<rect class="bar-{row.kind}" x="{left}" y="{y}" width="{length:.1f}" '
            f'height="{bar}" rx="2"/>'
        )
        ends = [left + length]
        for value in row.dots:
            ends.append(left + value * scale)
            parts.append(f'<circle class="dot" cx="{ends[-1]:.1f}" cy="{y + bar / 2}" r="3.5"/>')
        if limit:
            x = left + scale
            ends.append(x)
            parts.append(
                f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + bar + 3}"/>'
            )
        text = html.escape(row.text)
        parts.append(f'<text class="small" x="{max(ends) + 8:.1f}" y="{y + 12}">{text}</text>')
    if limit:
        x = left + scale - 4
        parts.append(f'<text class="small" x="{x:.1f}" y="13">{html.escape(limit)}</text>')
    told = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return svg(parts, width, height, f"{title}. {told}")


def lines(
    curves: Sequence[Line], title: str, x_title: str, y_title: str, x_ticks: Sequence[float]
) -> str:
    """Return curves over logarithmic axes, with a legend above."""
    width, left, right, bottom = 320, 40, 12, 36
    top = 26 + 17 * len(curves)
    height = top + 190 + bottom
    xs = [x for curve in curves for x in curve.xs]
    ys = [y for curve in curves for y in curve.ys]
    y_ticks = [m * 10.0**p for p in range(-2, 6) for m in (1, 2, 5)]
    low = max(t for t in y_ticks if t <= min(ys))
    high = min(t for t in y_ticks if t >= max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / min(xs)) / math.log(max(xs) / min(xs))
        up = math.log(y / low) / math.log(high / low)
        return left + across * (width - left - right), top + (1 - up) * (height - top - bottom)

    parts = [f'<text class="strong" x="2" y="14">{html.escape(title)}</text>']
    for tick in y_ticks:
        if low <= tick <= high:
            _, y = at(min(xs), tick)
            parts.append(
                f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="small" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{tick:g}</text>"
            )
    for tick in x_ticks:
        x, y = at(tick, low)
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text class="small" x="{width - right}" y="{height - 3}" text-anchor="end">'
        f"{html.escape(f'{y_title} over {x_title}')}</text>"
    )
    for index, curve in enumerate(curves):
        y = 32 + 17 * index
        parts.append(
            f'<line class="curve-{curve.kind}" x1="4" x2="26" y1="{y - 4}" y2="{y - 4}"/>'
            f'<text class="small" x="32" y="{y}">{html.escape(curve.label)}</text>'
        )
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in zip(curve.xs, curve.ys))
        parts.append(f'<polyline class="curve-{curve.kind}" points="{path}"/>')
    told = "; ".join(
        f"{curve.label}: " + ", ".join(f"{y:.3g} at {x:g}" for x, y in zip(curve.xs, curve.ys))
        for curve in curves
    )
    return svg(parts, width, height, f"{title}, {y_title} over {x_title}. {told}")


def scatter(points: list[Point], x_title: str, y_title: str, title: str, width: int) -> str:
    """Return named points: (label, x, y, class)."""
    height, left, right, top, bottom = 380, 48, 90, 16, 46
    xs, ys = [p[1] for p in points], [p[2] for p in points]
    low, high = math.floor(min(ys)) - 1, math.ceil(max(ys)) + 1
    most = max(xs) * 1.08

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (width - left - right) * x / most,
            top + (height - top - bottom) * (1 - (y - low) / (high - low)),
        )

    parts = []
    for tick in ticks(0, most):
        x, y = at(tick, low)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>'
        )
    for tick in ticks(low, high):
        x, y = at(0, tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="small" x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{x_title}</text>')
    centre = (top + height - bottom) / 2
    parts.append(
        f'<text x="14" y="{centre}" text-anchor="middle" '
        f'transform="rotate(-90 14 {centre})">{y_title}</text>'
    )
    for label, px, py, kind in points:
        x, y = at(px, py)
        parts.append(f'<circle class="dot-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(f'<text class="small" x="{x + 8:.1f}" y="{y + 4:.1f}">{label}</text>')
    told = "; ".join(f"{label}: {y:g} at {x:g}" for label, x, y, _ in points)
    return svg(parts, width, height, f"{title}. {told}")
