"""Models as Mermaid flowcharts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from lucid.graph import Shape
from lucid.nn import Module
from lucid.visual._chart import Collapse, Edge, Level, Node, chart
from lucid.visual._colours import COLOURS, OTHERS

_LONGEST_NAME = 80
_NOTHING = "\u200b"
_ACTING = ("$$", ":fa-", "ﬂ°", "¶ß")
_ARROWS = {"solid": "-->", "dotted": "-.->", "hidden": "~~~"}


def mermaid(
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    depth: int | None = 4,
    collapse_repeats: Collapse = True,
    show_shapes: bool = True,
    direction: str = "LR",
    title: str | None = None,
    dtype: DTypeLike = np.float32,
    level: Level = "layer",
) -> str:
    """Return a `Mermaid <https://mermaid.js.org>`_ flowchart of ``model``.

    Modules with modules inside are groups; ``Sequential``, ``ModuleList`` and ``ModuleDict`` are
    titled by their attribute if it is no number, all others by their class. Layers are boxes, with
    the shapes of input and output where the two differ. ``Identity``, ``Flatten`` and
    ``Unflatten`` are left out: an arrow says the same.

    The arrows are the ways that data took when the model was run once, in evaluation mode, on
    zeros; the model comes back as it was. An operation outside of the boxes that joins two
    ways is a circle: a residual is an arrow past a block into a ``+``. A module that runs twice
    has two boxes; one that did not run is drawn with a dashed line.

    Args:
        model: any module.
        input_shape: the shape of the input, batch included, such as ``(1, 3, 224, 224)``; a list
            of shapes for a model of several inputs. Without it the model is not run: the chart
            shows its modules as they are registered, without shapes, and arrows only inside
            ``Sequential``.
        depth: draw modules at this depth as one box; 1 shows the model's direct children, None
            opens everything but lucid's own layers.
        collapse_repeats: draw a row of like neighbours, of which each feeds only the next, as
            its first with the count, such as ``Sequential x 3``. True: they are alike if title
            (but for a number at its end), class, and the kinds of what is directly inside are;
            widths, and how often something repeats inside, may differ. The model's direct
            children must have alike names too. ``"exact"``: all shapes and settings are the same,
            all the way down. False: draw each.
        show_shapes: write shapes.
        direction: ``"LR"``, ``"RL"``, ``"TB"`` (or ``"TD"``) or ``"BT"``.
        title: of the whole; by default ``model.name`` if that is a string, else its class.
        dtype: of the zeros: an integer type for models that begin with an embedding.
        level: ``"stage"``: a box a stage, with its blocks' kinds and counts; ``"block"``: a box a
            block, in its stage; ``"layer"``: as ``depth`` says, which counts only here. Stages are
            the modules directly in the model; a ``Sequential`` of stages is opened.

    Returns:
        The chart as text. Whatever names hold (quotes, HTML, Mermaid's own words) is shown as it
        is and never acts.

    Raises:
        TypeError: if ``model`` is no module, ``input_shape`` holds no integers or ``title`` is no
            string.
        ValueError: if a size is negative, another argument is not one of those above, or the
            model does not accept the shape.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        >>> print(visual.mermaid(model))
        %%{init: ...}%%
        flowchart LR
        subgraph m0["<font size=4><b>Sequential</b></font>"]
            direction LR
            m1["Linear"]:::linear
            m2["ReLU"]:::activation
        end
        m1 --> m2
        classDef ...
        >>> "(1,4) → (1,2)" in visual.mermaid(model, (1, 4))  # of an input shape: all shapes
        True
    """
    drawn = chart(
        "mermaid", model, input_shape, depth, collapse_repeats, direction, title, dtype, level
    )
    lines = [
        '%%{init: {"flowchart": {"curve": "monotoneX", "nodeSpacing": 50, "rankSpacing": 50}}}%%',
        f"flowchart {direction}",
    ]
    for node in (drawn.root, *drawn.inputs, *drawn.outputs):
        lines += _node(node, show_shapes, direction)
    lines += [_edge(edge) for edge in drawn.edges]
    nodes = [*drawn.root.walk(), *drawn.inputs, *drawn.outputs]
    used = {style(node) for node in nodes if node.what != "group"}
    used |= {"port" for node in nodes if node.ends is not None}
    lines += [
        f"classDef {name} fill:{c.fill},stroke:{c.line},stroke-width:1px,color:{OTHERS['ink'][0]}"
        for name, c in COLOURS.items()
        if name in used
    ]
    if any(node.what == "unused" for node in nodes):
        lines.append("classDef unused stroke-dasharray:4 3")
    groups = ",".join(node.id for node in nodes if node.what == "group")
    if groups:
        # Grey that lets the page through, so that it suits light and dark.
        lines.append("classDef group fill:#8080801a,stroke:#808080,stroke-width:1px")
        lines.append(f"class {groups} group")
    lines.append("linkStyle default stroke-width:2px")
    return "\n".join(lines) + "\n"


def style(node: Node) -> str:
    """Return the name of a node's colours in :data:`COLOURS`."""
    if node.what == "op":
        return "op"
    if node.what in ("first", "last"):
        return "port"
    return "inout" if node.what in ("input", "output") else node.kind or "other"


def shown_shapes(node: Node) -> str:
    """Return the shapes that stand under a node's title: both if they differ."""
    before, after = node.input_shape, node.output_shape
    if node.what == "input" and after is not None:
        return _shape(after)
    if node.what == "output" and before is not None:
        return _shape(before)
    if node.what != "box" or node.count > 1 or before is None or after is None or before == after:
        return ""
    return f"{_shape(before)} → {_shape(after)}"


def last_line(node: Node, show_shapes: bool) -> str:
    """Return the last line below a node's title."""
    return "not called" if node.what == "unused" else shown_shapes(node) if show_shapes else ""


def shown_title(node: Node) -> str:
    """Return a node's title, with how many it stands for; a very long name is cut."""
    title = node.title
    if len(title) > _LONGEST_NAME:
        title = title[: _LONGEST_NAME - 1] + "…"
    return title if node.count == 1 else f"{title} x {node.count}"


def _shape(shape: Shape) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


def _node(node: Node, show_shapes: bool, direction: str, indent: str = "") -> list[str]:
    # No style attributes: Mermaid takes a semicolon off a line that has one and a code with #.
    # <font> does the same, and GitHub's pages keep it.
    text = escape(shown_title(node))
    if node.what == "group":
        if node.parent is None:
            text = f"<font size=4><b>{text}</b></font>"
        # Groups that no arrow enters would otherwise turn by a right angle.
        lines = [f'{indent}subgraph {node.id}["{text}"]', f"{indent}    direction {direction}"]
        for child in (*(node.ends or ()), *node.children):
            lines += _node(child, show_shapes, direction, indent + "    ")
        return [*lines, f"{indent}end"]
    if node.note:
        text += f"<br/><small>{escape(node.note)}</small>"
    if below := last_line(node, show_shapes):
        text += f"<br/><small><font color={COLOURS[style(node)].line}>{below}</font></small>"
    left, right = "[", "]"
    if node.what == "op":
        left, right = "((", "))"
    elif node.count > 1 or node.what in ("first", "last"):
        left, right = "([", "])"
    lines = [f'{indent}{node.id}{left}"{text}"{right}:::{style(node)}']
    if node.what == "unused":
        lines.append(f"{indent}class {node.id} unused")
    return lines


def _edge(edge: Edge) -> str:
    label = f'|"{escape(edge.label)}"|' if edge.label else ""
    return f"{edge.start.id} {_ARROWS[edge.style]}{label} {edge.end.id}"


def escape(text: str) -> str:
    """Return ``text`` for a quoted label: signs as character codes.

    Mermaid turns ``#60;`` back into the character only when it draws, so that nothing in it is
    read as syntax, HTML or Markdown. What it looks for after that (formulas, icons, its own marks
    for codes) is broken up by a character without a width.
    """
    for sign in _ACTING:
        text = text.replace(sign, sign[0] + _NOTHING + sign[1:])
    return "".join(c if _is_plain(c) else f"#{_code(c)};" for c in text)


def _is_plain(c: str) -> bool:
    # Mermaid marks codes with these two letters inside.
    return c in " _" or (c.isalnum() and c not in "ﬂß")


def _code(c: str) -> int:
    """Return the code of a character, or of the replacement character for what cannot be shown."""
    blank = c in "\t\n\r\v\f\x85\u2028\u2029"
    control = ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0
    surrogate = 0xD800 <= ord(c) <= 0xDFFF
    if blank:
        return 0x20
    return 0xFFFD if control or surrogate or c == "\ufffe" or c == "\uffff" else ord(c)
