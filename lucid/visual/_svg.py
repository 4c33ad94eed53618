"""Charts as SVG images: each group is laid out by itself, in columns along the flow of data."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import printable
from lucid.nn import Module
from lucid.visual._chart import Chart, Collapse, Edge, Level, Node, chart, layers_of, shared
from lucid.visual._colours import COLOURS, variables
from lucid.visual._mermaid import last_line, shown_title, style
from lucid.visual._outline import outline
from lucid.visual._picture import rows_svg

_FONT = "13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
_PAD, _TITLE = 12.0, 28.0  # around what is in a group; above it, with its title
_ALONG, _ACROSS = 36.0, 16.0  # gaps between boxes: along the flow, across it
_LANE = 20.0  # room for one arrow that goes past boxes
_TURN = 14.0  # the length in which such an arrow turns

_STYLE = """\
.lucid .page { fill: var(--page); }
.lucid text { font: FONT; text-anchor: middle; dominant-baseline: central; fill: var(--ink); }
.lucid text.small { font-size: 11px; }
.lucid text.title { font-weight: 700; font-size: 20px; }
.lucid .group > rect { fill: #808080; fill-opacity: .1; stroke: #808080; }
.lucid path.edge { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.lucid path.dotted { stroke-dasharray: 3 3; }
.lucid .unused rect { stroke-dasharray: 4 3; }
.lucid .tip { fill: var(--ink); }
""".replace("FONT", _FONT)
_STYLE += "".join(
    f".lucid .{kind} rect {{ fill: var(--{kind}-fill); stroke: var(--{kind}); }}\n"
    f".lucid .{kind} text.small {{ fill: var(--{kind}); }}\n"
    for kind in COLOURS
)


@dataclass
class _Place:
    """Where a node is: along the flow and across it, within its group until all is known."""

    size: tuple[float, float]
    start: tuple[float, float] = (0.0, 0.0)


def svg(
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    depth: int | None = 4,
    collapse_repeats: Collapse = True,
    show_shapes: bool = True,
    direction: str | None = None,
    title: str | None = None,
    dtype: DTypeLike = np.float32,
    level: Level = "layer",
) -> str:
    """Return the diagram of ``model`` as an SVG image that needs nothing else to be shown.

    It has the boxes and arrows of :func:`mermaid`, in a layout of lucid's own, and is light or
    dark as the reader's system is.

    Args:
        model: any module.
        input_shape: see :func:`mermaid`, as for all the others.
        depth: how deep modules are opened.
        collapse_repeats: whether like neighbours are drawn as one.
        show_shapes: write shapes.
        direction: in which the data flow. By default layers run from left to right; stages and
            blocks are rows from top to bottom, each with its parameters, its multiply-adds and the
            shape of its output: a box, the wider the map, the taller the more channels.
        title: of the whole.
        dtype: of the input.
        level: ``"stage"``, ``"block"`` or ``"layer"``.

    Raises:
        TypeError, ValueError: as :func:`mermaid` does.

    Example:
        >>> drawing = visual.svg(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), (1, 4))
        >>> drawing.startswith("<svg ")
        True
        >>> "Linear" in drawing
        True
    """
    if level in ("stage", "block") and direction is None:
        return rows_svg(outline(layers_of("svg", model, input_shape, title, dtype)), level)
    drawn = chart(
        "svg", model, input_shape, depth, collapse_repeats, direction, title, dtype, level
    )
    return _Layout(drawn, show_shapes, "TB" if direction == "TD" else direction or "LR").write()


class _Layout:
    def __init__(self, drawn: Chart, show_shapes: bool, direction: str) -> None:
        self._chart = drawn
        self._show_shapes = show_shapes
        self._direction = direction
        self._places: dict[Node, _Place] = {}
        # The whole: a group around the ends and the model.
        self._all = Node("", None, "group", children=[*drawn.inputs, drawn.root, *drawn.outputs])
        self._siblings = {edge: self._where(edge) for edge in drawn.edges}
        self._ranks = {n: self._columns(n) for n in self._all.walk() if n.what == "group"}
        # Edges that go past boxes: in which group, before its content or behind, in which lane.
        self._lanes: dict[Edge, tuple[Node, bool, int]] = {}
        self._lane_counts: dict[tuple[Node, bool], int] = {}
        for edge in drawn.edges:
            if edge.style != "hidden":
                self._find_lane(edge)

    # -- columns and lanes ------------------------------------------------------------------

    def _path(self, node: Node) -> list[Node]:
        return [self._all, *node.path()]

    def _where(self, edge: Edge) -> tuple[Node, Node, Node]:
        """Return the group in which an edge runs, and the two in it that it joins."""
        start, end = self._path(edge.start), self._path(edge.end)
        common = shared(start, end)
        return start[common - 1], start[common], end[common]

    def _columns(self, group: Node) -> dict[Node, int]:
        """Return the column of each child: one behind the last of those it takes data from."""
        children = _inside(group)
        sources: dict[Node, list[Node]] = {child: [] for child in children}
        for edge, (where, start, end) in self._siblings.items():
            if where is group and edge.style != "dotted":
                sources[end].append(start)
        ranks: dict[Node, int] = {}
        for child in children:  # the order they ran in: what comes later is a way back
            ranks[child] = max((ranks[s] + 1 for s in sources[child] if s in ranks), default=0)
        last = max(ranks.values(), default=0)
        for child in children:
            if child.what == "unused":
                ranks[child] = last
        return ranks

    def _find_lane(self, edge: Edge) -> None:
        """Give an edge that would cross boxes a lane: in the outermost group where it would."""
        group, start, end = self._siblings[edge]
        step = self._ranks[group][end] - self._ranks[group][start]
        leaving, entering = (
            [
                (outer, self._ranks[outer][inner])
                for outer, inner in pairwise(path[path.index(group) + 1 :])
            ]
            for path in (self._path(edge.start), self._path(edge.end))
        )
        left = [outer for outer, rank in leaving if rank < max(self._ranks[outer].values())]
        entered = [outer for outer, rank in entering if rank > 0]
        if step != 1 or (left and entered):
            key = group, step > 0
        elif left or entered:
            key = (left or entered)[0], True
        else:
            return
        number = self._lane_counts.get(key, 0)
        self._lane_counts[key] = number + 1
        self._lanes[edge] = (*key, number)

    # -- sizes ------------------------------------------------------------------------------

    def _measure(self, node: Node) -> None:
        if node.what == "group":
            self._places[node] = self._measure_group(node)
        else:
            self._places[node] = _Place(self._turn(self._box_size(node)))

    def _turn(self, size: tuple[float, float]) -> tuple[float, float]:
        return size if self._direction in ("LR", "RL") else size[::-1]

    def _box_size(self, node: Node) -> tuple[float, float]:
        lines = self._lines(node)
        if node.what == "op":
            width = max(28.0, _width(lines[0], 13) + 14)
            return width, 28.0
        width = max(_width(line, 13 if i == 0 else 11) for i, line in enumerate(lines)) + 24
        return max(width, 56.0), 18.0 + 18.0 * len(lines)

    def _lines(self, node: Node) -> list[str]:
        lines = [shown_title(node), node.note, last_line(node, self._show_shapes)]
        return [printable(line, " ") for line in lines if line]

    def _measure_group(self, group: Node) -> _Place:
        children = _inside(group)
        for child in children:
            self._measure(child)
        ranks = self._ranks[group]
        columns: list[list[Node]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
        for child in children:
            columns[ranks[child]].append(child)
        columns = [column for column in columns if column]
        before, behind = (_LANE * self._lane_counts.get((group, b), 0) for b in (True, False))
        sides = self._sides(group)
        thickness = [
            sum(self._places[node].size[1] for node in column) + _ACROSS * (len(column) - 1)
            for column in columns
        ]
        across = max([*thickness, 0.0])
        along = sides[0]
        for column, thick in zip(columns, thickness):
            length = max(self._places[node].size[0] for node in column)
            position = sides[2] + before + (across - thick) / 2
            for node in column:
                size = self._places[node].size
                self._places[node].start = (along + (length - size[0]) / 2, position)
                position += size[1] + _ACROSS
            along += length + _ALONG
        letters = 15 if group.parent else 20
        title = _width(shown_title(group), letters) + 2 * _PAD if group is not self._all else 0.0
        width = along - _ALONG + sides[1]
        height = sides[2] + before + across + behind + sides[3]
        least = self._turn((title, 0.0))
        place = _Place((max(width, least[0]), max(height, least[1])))
        extra = ((place.size[0] - width) / 2, (place.size[1] - height) / 2)
        for child in children:  # in the middle, if the title is the widest
            start = self._places[child].start
            self._places[child].start = (start[0] + extra[0], start[1] + extra[1])
        return place

    def _sides(self, group: Node) -> tuple[float, float, float, float]:
        """Return the margins before, behind (along), and on the two sides (across)."""
        if group is self._all:
            return (_PAD, _PAD, _PAD, _PAD)
        room = _PAD + 14.0 if group.ends else _PAD  # for the way back
        return {
            "LR": (room, room, _TITLE, _PAD),
            "RL": (room, room, _TITLE, _PAD),
            "TB": (_TITLE + room - _PAD, room, _PAD, _PAD),
            "BT": (room, _TITLE + room - _PAD, _PAD, _PAD),
        }[self._direction]

    # -- drawing ----------------------------------------------------------------------------

    def write(self) -> str:
        """Return the image."""
        self._measure(self._all)
        self._fix(self._all, (0.0, 0.0))
        width, height = self._turn(self._places[self._all].size)
        body: list[str] = []
        for node in self._all.children:
            self._draw(node, body)
        for edge in self._chart.edges:
            if edge.style != "hidden":
                self._draw_edge(edge, body)
        title = quoteattr(f"Diagram of {printable(self._chart.root.title, ' ')}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lucid" role="img" '
            f'aria-label={title} width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}">\n<style>\n{variables()}{_STYLE}</style>\n'
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            'markerHeight="6" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>\n'
            '<rect class="page" width="100%" height="100%"/>\n' + "\n".join(body) + "\n</svg>\n"
        )

    def _fix(self, node: Node, origin: tuple[float, float]) -> None:
        place = self._places[node]
        place.start = (place.start[0] + origin[0], place.start[1] + origin[1])
        if node.what == "group":
            for child in _inside(node):
                self._fix(child, place.start)

    def _point(self, along: float, across: float) -> tuple[float, float]:
        length = self._places[self._all].size[0]
        if self._direction in ("RL", "BT"):
            along = length - along
        return (along, across) if self._direction in ("LR", "RL") else (across, along)

    def _rectangle(self, node: Node) -> tuple[float, float, float, float]:
        place = self._places[node]
        x1, y1 = self._point(*place.start)
        x2, y2 = self._point(place.start[0] + place.size[0], place.start[1] + place.size[1])
        return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)

    def _draw(self, node: Node, body: list[str]) -> None:
        x, y, width, height = self._rectangle(node)
        rect = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        middle = x + width / 2
        if node.what == "group":
            kind = "title" if node.parent is None else ""
            title = _text(middle, y + _TITLE / 2, printable(shown_title(node), " "), kind)
            body.append(f'<g class="group"><rect {rect} rx="4"/>{title}')
            for child in _inside(node):
                self._draw(child, body)
            body.append("</g>")
            return
        colour = COLOURS[style(node)]
        round_ = node.what in ("op", "first", "last") or node.count > 1
        corner = height / 2 if round_ else 3
        lines = self._lines(node)
        first = y + height / 2 - 8 * (len(lines) - 1)
        text = "".join(
            _text(middle, first + 16 * i, line_, "small" if i else "")
            for i, line_ in enumerate(lines)
        )
        kind = f"node {style(node)}{' unused' if node.what == 'unused' else ''}"
        body.append(  # the attributes are for programs that know no variables
            f'<g class="{kind}"><rect {rect} rx="{corner:.1f}" fill="{colour.fill}" '
            f'stroke="{colour.line}"/>{text}</g>'
        )

    def _draw_edge(self, edge: Edge, body: list[str]) -> None:
        start, end = self._places[edge.start], self._places[edge.end]
        a = (start.start[0] + start.size[0], start.start[1] + start.size[1] / 2)
        b = (end.start[0], end.start[1] + end.size[1] / 2)
        label_at: tuple[float, float] | None = None
        if edge not in self._lanes:
            half = max((b[0] - a[0]) / 2, 1.0)
            bend = self._points((a[0] + half, a[1]), (b[0] - half, b[1]), b)
            path = f"M{self._points(a)}C{bend}"
        else:
            level = self._level(*self._lanes[edge])
            c, d = (a[0] + _TURN, level), (b[0] - _TURN, level)
            path = (
                f"M{self._points(a)}C{self._points((c[0], a[1]), (a[0] + _TURN / 2, level), c)}"
                f"L{self._points(d)}C{self._points((b[0] - _TURN / 2, level), (d[0], b[1]), b)}"
            )
            label_at = ((c[0] + d[0]) / 2, level)
        kind = "edge dotted" if edge.style == "dotted" else "edge"
        body.append(f'<path class="{kind}" marker-end="url(#tip)" d="{path}"/>')
        if edge.label and label_at is not None:
            x, y = self._point(*label_at)
            body.append(_text(x, y - 8, edge.label, "small"))

    def _level(self, group: Node, before: bool, lane: int) -> float:
        """Return where, across the flow, a lane of ``group`` is; the first is at the content."""
        content = [self._places[child] for child in _inside(group)]
        if before:
            return min(place.start[1] for place in content) - _LANE * (lane + 0.6)
        return max(place.start[1] + place.size[1] for place in content) + _LANE * (lane + 0.4)

    def _points(self, *points: tuple[float, float]) -> str:
        return ", ".join("{:.1f} {:.1f}".format(*self._point(*point)) for point in points)


def _inside(group: Node) -> list[Node]:
    if group.ends is None:
        return group.children
    return [group.ends[0], *group.children, group.ends[1]]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _width(text: str, size: float) -> float:
    """Return about how wide a text is: no font is asked."""
    return sum(size * (1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58) for c in text)
