"""The rows of a model's stages, of their blocks and of the layers in those: as SVG and as HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten, wrap
from xml.sax.saxutils import escape, quoteattr

from lucid._check import printable
from lucid.visual._colours import COLOURS, variables
from lucid.visual._outline import Row

#: What pages with rows need.
STATIC = Path(__file__).with_name("static")

_STYLE = """\
.lucid text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: var(--ink); }
.lucid text.title { font-weight: 700; font-size: 20px; }
.lucid text.name { font-weight: 700; font-size: 14px; }
.lucid text.faint { fill: var(--faint); font-size: 12px; }
.lucid text.right { text-anchor: end; }
.lucid .page { fill: var(--page); }
.lucid .row { fill: none; stroke: var(--line); }
.lucid .flow { fill: none; stroke: var(--faint); stroke-width: 1.5; }
.lucid .map { fill-opacity: .2; stroke-width: 1.2; }
"""

_MAP_WIDTH, _MAP_HEIGHT = 112.0, 40.0
_CELL = 11.0  # a block
_WIDTH, _TEXT, _SHAPE, _BARS, _BAR = 700.0, 144.0, 536.0, 552.0, 76.0  # where columns are
_CHARACTERS = 46  # of a stage's contents, in a line


def size_text(row: Row) -> str:
    """Return the shape of the output, such as ``96 × 14 × 14``; empty where it was not run."""
    return "" if row.shape is None else " × ".join(map(str, row.shape))


def count_text(number: int) -> str:
    """Return a number in three digits, such as ``1.24 M``."""
    rounded = float(f"{number:.3g}")
    for unit, power in (("G", 9), ("M", 6), ("k", 3)):
        if rounded >= 10**power:
            value = rounded / 10**power
            return f"{value:.{max(0, 2 - int(math.log10(value)))}f} {unit}"
    return str(number)


def in_numbers(whole: Row) -> str:
    """Return a model's parameters and multiply-adds in words."""
    words = [f"{count_text(whole.params)} parameters"]
    if whole.shape is not None:
        words.append(f"{count_text(whole.macs)} multiply-adds")
    return ", ".join(words)


def static(name: str) -> str:
    """Return the style or the script that :func:`rows_html` needs, by the name of its file."""
    return (STATIC / name).read_text(encoding="utf-8")


# -- the pictures in a row --------------------------------------------------------------------


class _Scale:
    """What is drawn in full length: of all stages the widest, the deepest, the most."""

    def __init__(self, whole: Row) -> None:
        rows = [row for row in whole.rows if row is not whole]
        self._side = max(whole.side, *(row.side for row in rows))
        self._channels = max(1, *(row.channels for row in rows))
        self.params = max(1, *(row.params for row in rows))
        self.macs = max(1, *(row.macs for row in rows))

    def map(self, row: Row, x: float = 0.0, y: float = 0.0) -> str:
        """Return the output as a box, the wider the map, the taller the more channels.

        Lengths are square roots: as they are, the last maps would be lines.
        """
        width = _MAP_WIDTH * math.sqrt(row.side / self._side)
        height = max(4.0, _MAP_HEIGHT * math.sqrt(min(row.channels / self._channels, 1.0)))
        left, top = x + (_MAP_WIDTH - width) / 2, y + (_MAP_HEIGHT - height) / 2
        return f'<rect class="map {_kind(row)}" {_box(left, top, width, height)}/>'


def _kind(row: Row) -> str:
    return row.kind if row.kind in COLOURS else "other"


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'


def _cells(rows: list[Row], x: float = 0.0, y: float = 0.0) -> str:
    """Return a square for each block, a lozenge for one with attention."""
    cells = []
    for index, row in enumerate(rows):
        left, half = x + index * (_CELL + 3), _CELL / 2
        if row.kind == "attention":
            path = f"M{left:.1f} {y + half:.1f}l{half} {-half}l{half} {half}l{-half} {half}z"
            cells.append(f'<path class="attention" d="{path}"/>')
        else:
            cells.append(f'<rect class="{_kind(row)}" {_box(left, y, _CELL, _CELL)} rx="2"/>')
    return "".join(cells)


# -- SVG --------------------------------------------------------------------------------------


def rows_svg(whole: Row, level: str) -> str:
    """Return the stages of a model as an image; with ``level="block"`` their blocks too."""
    scale = _Scale(whole)
    name = printable(whole.title, " ")
    body = [_text(12, 28, name, "title"), _text(12, 48, in_numbers(whole), "faint")]
    y = 62.0
    if whole.shape is not None:
        body.append(_text(12 + _MAP_WIDTH + 20, y + 15, "Input", "name"))
        body.append(_text(_SHAPE, y + 15, size_text(whole), "faint right"))
        body.append(scale.map(whole, 12, y - 10))
        for index, what in enumerate(("params", "macs")):
            name = ("parameters", "multiply-adds")[index]
            body.append(f'<rect class="{what}" {_box(_BARS, y - 4 + 16 * index, 8, 8)}/>')
            body.append(_text(_BARS + 13, y + 4 + 16 * index, name, "faint"))
        y += 26.0
    for index, stage in enumerate(whole.rows):
        if index or whole.shape is not None:
            body.append(
                f'<path class="flow" d="M{12 + _MAP_WIDTH / 2} {y + 0.5}v6m-3 -3l3 3l3 -3"/>'
            )
        y += 8.0
        lines = wrap(printable(stage.text, " "), _CHARACTERS)
        inner = stage.rows if level == "block" else []
        height = max(_MAP_HEIGHT + 8, 26.0 + 16.0 * len(lines))
        body.append(
            f'<rect class="row" {_box(0.5, y, _WIDTH - 1, height + 22 * len(inner))} rx="6"/>'
        )
        body.append(_row(stage, scale, y, height, lines))
        y += height
        for block in inner:
            body.append(_row(block, scale, y - 4, 22, [shorten(printable(block.text, " "), 62)]))
            y += 22.0
    y += 12.0
    style = variables() + _STYLE
    style += "".join(
        f".lucid .{k} {{ fill: var(--{k}); stroke: var(--{k}); }}\n"
        for k in (*COLOURS, "params", "macs")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lucid" role="img" '
        f'aria-label={quoteattr(f"Diagram of {name}")} width="{_WIDTH:.0f}" height="{y:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {y:.0f}">\n<style>\n{style}</style>\n'
        '<rect class="page" width="100%" height="100%"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _row(row: Row, scale: _Scale, y: float, height: float, lines: list[str]) -> str:
    """Return a stage, or a lower row: a block."""
    stage = height > 22
    parts = []
    if stage:
        name = printable(row.title, " ")
        parts.append(scale.map(row, 12, y + (height - _MAP_HEIGHT) / 2))
        parts.append(_text(_TEXT, y + 20, name, "name"))
        parts.append(_cells(row.rows, _TEXT + 9 * len(name) + 8, y + 10))
        for index, line in enumerate(lines):
            parts.append(_text(_TEXT, y + 38 + 16 * index, line, "faint"))
        parts.append(_text(_SHAPE, y + height / 2 + 4, size_text(row), "faint right"))
    else:
        parts.append(_cells([row], _TEXT, y + 6))
        parts += [_text(_TEXT + 18, y + 16, line, "faint") for line in lines]
    for index, (what, most) in enumerate((("params", scale.params), ("macs", scale.macs))):
        number = getattr(row, what)
        if stage:
            top, length = y + height / 2 - 14 + 20 * index, _BAR * number / most
            parts.append(f'<rect class="{what}" {_box(_BARS, top, length, 8)}/>')
            parts.append(_text(_BARS + length + 5, top + 8, count_text(number), "faint"))
        else:
            parts.append(_text(_WIDTH - 76 + 66 * index, y + 16, count_text(number), "faint right"))
    return "".join(parts)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


# -- HTML -------------------------------------------------------------------------------------


def rows_html(whole: Row, files: Sequence[tuple[str, str, str]] = ()) -> str:
    """Return the stages of a model as a list that opens, row by row, with no script.

    Args:
        whole: the model.
        files: what can be saved: the words of the link, the file's name, its text.
    """
    scale = _Scale(whole)
    stages = f"{len(whole.rows)} stages" if len(whole.rows) != 1 else "1 stage"
    rows = "\n".join(_html_row(row, scale, "stage") for row in whole.rows)
    given = "" if whole.shape is None else f"Input <b>{size_text(whole)}</b>"
    links = "".join(_link(*file) for file in files)
    label = quoteattr(f"{printable(whole.title, ' ')}: {stages}, {in_numbers(whole)}")
    return (
        f'<div class="lucid-stages"><p class="lucid-tools">{links}</p>'
        f'<p class="lucid-input"><span>{given}</span>'
        f'<span class="lucid-numbers">{in_numbers(whole)}</span>'
        '<span class="lucid-key"><i class="params"></i> parameters<br/>'
        '<i class="macs"></i> multiply-adds</span>'
        f"</p>\n<ol aria-label={label}>\n{rows}\n</ol></div>\n"
    )


def _link(words: str, name: str, text: str) -> str:
    content = base64.b64encode(text.encode()).decode()
    kind = "image/svg+xml" if name.endswith(".svg") else "text/plain"
    href = f"data:{kind};charset=utf-8;base64,{content}"
    return f'<a download={quoteattr(name)} href="{href}">{escape(words)}</a>'


def _html_row(row: Row, scale: _Scale, level: str) -> str:
    words = [
        f"<b>{escape(printable(row.title, ' '))}</b>",
        f"<span>{escape(printable(row.text, ' '))}</span>",
    ]
    picture = ""
    if level == "stage":
        picture = (
            f'<svg class="lucid-map" viewBox="0 0 {_MAP_WIDTH:.0f} {_MAP_HEIGHT:.0f}" '
            f'aria-hidden="true">{scale.map(row)}</svg>'
        )
        if row.rows:
            width = len(row.rows) * (_CELL + 3)
            cells = f'<svg class="lucid-cells" width="{width:.0f}" height="{_CELL:.0f}" '
            words.insert(1, f'{cells}aria-hidden="true">{_cells(row.rows)}</svg>')
    bars = "".join(
        f'<span class="lucid-bar {what}" style="--part: {getattr(row, what) / most:.3f}">'
        f'{count_text(getattr(row, what))}<span class="lucid-aside"> {name}</span></span>'
        for what, most, name in (
            ("params", scale.params, "parameters"),
            ("macs", scale.macs, "multiply-adds"),
        )
    )
    inside = (
        f'{picture}<span class="lucid-words">{" ".join(words)}</span> '
        f'<span class="lucid-shape">{size_text(row)}</span> <span class="lucid-bars">{bars}</span>'
    )
    kinds = f"lucid-row lucid-{level} {_kind(row)}"
    if not row.rows:
        return f'<li><div class="{kinds}">{inside}</div></li>'
    below = {"stage": "block", "block": "layer"}.get(level, "layer")
    rows = "".join(_html_row(inner, scale, below) for inner in row.rows)
    return (
        f'<li><details data-part={quoteattr(row.where)}><summary class="{kinds}">{inside}</summary>'
        f"<ol>{rows}</ol></details></li>"
    )
